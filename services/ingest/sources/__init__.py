"""The formats that ingest takes: one pure file each."""
