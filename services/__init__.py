"""Ripeline's services: ingest, scorer, nurture, the command line, and what they share."""
