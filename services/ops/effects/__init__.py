"""Lift of a table: its mapping, reading it, and what is reported."""
