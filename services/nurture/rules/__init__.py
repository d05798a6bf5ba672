"""The decision, pure: which touch, when, or on which ground none."""
