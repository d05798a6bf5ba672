"""Failure for real: kill -9, SIGSTOP, broker and database restarts, and the verifier."""
