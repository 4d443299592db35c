"""Reads the environment and files, names the adapters, starts things."""
