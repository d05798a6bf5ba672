"""HTTP for all services: problem documents, limits, API keys, sign-in, cursors, signed webhooks,
the server.
"""
