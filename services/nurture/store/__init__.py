"""Nurture's SQL, by what it keeps: leads, consents, touches. In batches; nothing here commits."""
