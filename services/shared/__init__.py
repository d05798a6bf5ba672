"""Contracts and plumbing that every service imports; imports no service."""
