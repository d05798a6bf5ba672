"""What came of calls: answered by people, or expired; each published once."""

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture import touch_events
from services.nurture.store.calls import CallStore
from services.shared.clock import Clock
from services.shared.contracts.events import Touch
from services.shared.contracts.touch_reasons import CallOutcome
from services.shared.errors import Reject
from services.shared.messaging import outbox
from services.shared.people.audit import Actor, record

BATCH = 50
EXPIRED: CallOutcome = "expired"


class Calls:
    """Outcomes of calls; `notify_relay` is called when there are events to publish."""

    def __init__(self, engine: AsyncEngine, clock: Clock, notify_relay: Callable[[], None]) -> None:
        self._engine, self._clock, self._notify_relay = engine, clock, notify_relay

    async def answer(self, task: uuid.UUID, outcome: CallOutcome, note: str, actor: Actor) -> Any:
        """Writes an outcome, and returns the call with it; the same outcome again changes nothing.
        Raises Reject `not-found` for no call, `conflict` for one that has another outcome.
        """
        now = self._clock.now()
        async with self._engine.begin() as connection:
            store = CallStore(connection)
            call = await store.locked(task)
            if call is None:
                remedy = "use an `id` of /v1/tasks"
                raise Reject("no such task", where="task", remedy=remedy, kind="not-found")
            if call.outcome and call.outcome != outcome:
                raise Reject(
                    f"the task has the outcome {call.outcome!r}", where="outcome",
                    remedy="a task is answered once", kind="invalid",
                )  # fmt: skip
            if not call.outcome:
                await store.answer(task, outcome, note, now)
                await outbox.enqueue(connection, "nurture", [_event(call, outcome, now)])
                details = {"outcome": outcome, "lead": str(call.lead_id)}
                await record(connection, actor, "answer", f"task {task}", details)
                call = await store.locked(task)
        self._notify_relay()
        return call

    async def expire(self) -> None:
        """Calls whose time is over, and that nobody has answered, have the outcome `expired`."""
        now = self._clock.now()
        async with self._engine.begin() as connection:
            store = CallStore(connection)
            found = await store.expired(now, BATCH)
            for call in found:
                await store.answer(call.touch_id, EXPIRED, "", now)
            events = [_event(call, EXPIRED, now) for call in found]
            await outbox.enqueue(connection, "nurture", events)
        if found:
            self._notify_relay()


def _event(call: Any, outcome: CallOutcome, at: datetime) -> Any:
    touch = Touch(
        id=str(call.touch_id), lead=str(call.lead_id), product=call.product, program=call.program,
        stage=call.stage, content=call.content, channel="call", status="sent",
        sent_at=call.created_at, recipient=call.recipient, outcome=outcome,
    )  # fmt: skip
    return touch_events.answered(touch, at)
