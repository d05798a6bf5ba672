"""Reads for the API and the page, and what sales reports of a lead."""
