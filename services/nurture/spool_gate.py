"""Nothing is sent past a refusal that waits in a spool of ingest."""

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from services.shared.messaging import spool_leases
from services.shared.telemetry import HOLDING_INGESTS

log = structlog.get_logger()


class SpoolGate:
    """Open while every ingest says that its spool is empty; logs what it waits for, once each."""

    def __init__(self) -> None:
        self._logged: set[tuple[str, bool]] = set()

    async def is_open(self, connection: AsyncConnection) -> bool:
        """Whether sending may go on at this moment, by the database's clock."""
        held_by = await spool_leases.held_by(connection)
        HOLDING_INGESTS.set(len(held_by))
        for lease in held_by:
            if (lease.instance, lease.spooled) not in self._logged:
                log.warning("spool_gate_waits", instance=lease.instance, reason=lease.reason)
        if self._logged and not held_by:
            log.info("spool_gate_open")
        self._logged = {(lease.instance, lease.spooled) for lease in held_by}
        return not held_by
