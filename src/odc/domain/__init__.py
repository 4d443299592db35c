"""Nouns and rules: no I/O, no clock; time is an argument."""
