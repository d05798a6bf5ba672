"""Kafka, the only room that imports aiokafka: publishing with acknowledgement, consuming with
offsets committed by hand, end offsets, topics.
"""

from aiokafka import TopicPartition

from services.shared.messaging.kafka.admin import EndOffsets, create_topics
from services.shared.messaging.kafka.publisher import Publisher
from services.shared.messaging.kafka.records import Outgoing, Record
from services.shared.messaging.kafka.subscription import Subscription

__all__ = [
    "EndOffsets",
    "Outgoing",
    "Publisher",
    "Record",
    "Subscription",
    "TopicPartition",
    "create_topics",
]
