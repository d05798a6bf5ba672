"""People who sign in, what their roles allow, and the audit log of what was done by whom."""
