"""Figures beside their floors, against the budgets. `python -m bench`."""
