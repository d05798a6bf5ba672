"""Contracts: the types of the four topics, and what all services agree on about identity, consent
and sales.
"""
