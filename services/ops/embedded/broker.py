"""An in-memory broker that speaks Kafka's protocol, for trying out; its first line is its address
as JSON.
"""

import json
import signal
import sys

from confluent_kafka import Producer

from services.ops.embedded.processes import die_with_parent

STOPPING = {signal.SIGTERM, signal.SIGINT}
NOTICE = (
    "in-memory broker, for trying out: one consumer a group, 5 MB a partition, and nothing "
    "survives it; "
    "use Apache Kafka for anything that matters"
)


def main() -> None:
    """Serve on a port of its own choice until SIGTERM, or until the process that started it
    ends.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    die_with_parent()
    cluster = Producer({"bootstrap.servers": "unused", "test.mock.num.brokers": 1, "log_level": 3})
    broker = next(iter(cluster.list_topics(timeout=10).brokers.values()))
    print(json.dumps({"bootstrap": f"{broker.host}:{broker.port}"}), flush=True)
    print(NOTICE, file=sys.stderr, flush=True)
    signal.sigwait(STOPPING)


if __name__ == "__main__":
    main()
