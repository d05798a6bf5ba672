"""Decisions as touches, and how they are kept and published."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture import touch_events
from services.nurture.rules.decision import Send
from services.nurture.rules.grounds import Withhold
from services.nurture.rules.lead import Lead, Trigger
from services.nurture.store.touches import Decision, TouchStore
from services.shared.contracts.events import Touch
from services.shared.contracts.provenance import encode_provenance
from services.shared.messaging import outbox
from services.shared.playbook.programs import Program
from services.shared.telemetry import DECISION_SECONDS, TOUCHES_DECIDED


def touch_of(
    touch_id: str,
    cause_id: str,
    lead: Lead,
    trigger: Trigger,
    program: Program | None,
    decision: Send | Withhold,
    now: datetime,
) -> Touch:
    """The touch of a decision; `cause_id` is what it answers, or the touch that it follows."""
    send = decision if isinstance(decision, Send) else None
    return Touch(
        id=touch_id,
        lead=lead.id,
        product=trigger.product,
        announcement="" if trigger.follows else cause_id,
        program=program.id if program else "",
        stage=trigger.stage,
        content=send.content.id if send else "",
        channel=program.channel if program and send else "",
        status="due" if send else "withheld",
        reason=decision.reason,
        why=decision.why,
        propensity=send.propensity if send else None,
        decided_at=now,
        cause_at=trigger.cause_at,
        imported=encode_provenance(trigger.imported),
        requested=False,
        follows=cause_id if trigger.follows else "",
        persona=trigger.persona,
        due_at=send.due_at if send else None,
    )


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
