"""Benchmarks: what the system does, beside the plain limit of the same machine in the same run."""
