"""How decided touches are kept and published."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture import touch_events
from services.nurture.store.touches import Decision, TouchStore
from services.shared.messaging import outbox
from services.shared.telemetry import DECISION_SECONDS, TOUCHES_DECIDED


async def record(connection: AsyncConnection, decisions: Sequence[Decision]) -> set[str]:
    """Adds decisions with their events; returns the ids of those that are new."""
    added = await TouchStore(connection).add(decisions)
    new = [decision for decision in decisions if decision.touch.id in added]
    for touch, elapsed_ms in new:
        TOUCHES_DECIDED.labels(touch.status, touch.reason).inc()
        if elapsed_ms is not None:
            DECISION_SECONDS.observe(elapsed_ms / 1000)
    await outbox.enqueue(
        connection, "nurture", [touch_events.decided(decision.touch) for decision in new]
    )
    return added
