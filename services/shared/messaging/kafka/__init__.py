"""Kafka, the only room that imports aiokafka: publishing with acknowledgement, consuming from
where a ledger says, end offsets, topics and their ids, whether the broker answers.
"""

from aiokafka import TopicPartition

from services.shared.messaging.kafka.admin import EndOffsets, create_topics
from services.shared.messaging.kafka.publisher import Publisher
from services.shared.messaging.kafka.records import Extent, Log, Outgoing, Record
from services.shared.messaging.kafka.subscription import NOTHING, Ledger, Polled, Subscription
from services.shared.messaging.kafka.watch import BrokerWatch

__all__ = [
    "NOTHING",
    "BrokerWatch",
    "EndOffsets",
    "Extent",
    "Ledger",
    "Log",
    "Outgoing",
    "Polled",
    "Publisher",
    "Record",
    "Subscription",
    "TopicPartition",
    "create_topics",
]
