"""Simulated people, the traffic they make, and how well the system estimated them."""
