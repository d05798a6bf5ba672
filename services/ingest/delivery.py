"""Where accepted records go: to the broker; from senders who never repeat, else to the spool."""

from collections.abc import Sequence

from services.ingest.spool import Spool
from services.ingest.spool_lease import SpoolLease
from services.shared.contracts.events import CONSENTS
from services.shared.errors import Retry
from services.shared.messaging.kafka import Outgoing, Publisher

BROWSER_WAIT_S = 1.0  # how long somebody in front of a browser waits for the broker


class Delivery:
    """Both ways return only when the records are safe."""

    def __init__(self, publisher: Publisher, spool: Spool, lease: SpoolLease) -> None:
        self._publisher, self._spool, self._lease = publisher, spool, lease

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """For senders who repeat. Raises Retry when the broker has not acknowledged all in 5 s."""
        await self._publisher.publish(records)

    async def publish_or_spool(self, records: Sequence[Outgoing], owner: str) -> None:
        """For senders who never repeat: acknowledged within `BROWSER_WAIT_S`, or on disk. What is
        on disk holds up sending before a consent among it is acknowledged. Raises Reject
        `spool-full`, `spool-share`, `away`.

        `owner` is whose share of the spool is used.
        """
        if not self._publisher.away:
            try:
                await self._publisher.publish(records, BROWSER_WAIT_S)
                return
            except Retry:
                pass
        has_consents = any(record.topic == CONSENTS for record in records)
        if has_consents:
            self._lease.check()
        await self._spool.append(records, owner)
        if has_consents:
            await self._lease.declare()
