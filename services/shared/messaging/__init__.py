"""Kafka and the transactional outbox; the only room that knows aiokafka."""
