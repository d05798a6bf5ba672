"""Kafka, the consumers of its topics, and the transactional outbox."""
