"""Ingest: takes interactions in every format, in one contract, and answers when they are safe."""
