"""What starts and stops processes: PostgreSQL, the in-memory broker, the mail sink, the
services.
"""
