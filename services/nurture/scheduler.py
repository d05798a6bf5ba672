"""Sending: touches whose time has come, every ground checked again, `sending` committed before the
wire.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec
import structlog
from jinja2 import TemplateError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.nurture.channels import Uncertain
from services.nurture.channels.email import Email
from services.nurture.channels.message import Message, render
from services.nurture.channels.webhook import Webhook
from services.nurture.handler import told
from services.nurture.rules.choice import Chooser, Lead, wanted
from services.nurture.store import Store
from services.shared.clock import Clock
from services.shared.contracts.events import CONSENTS, Touch
from services.shared.db import is_transient, rows
from services.shared.errors import Reject, Retry
from services.shared.messaging import outbox
from services.shared.messaging.kafka import EndOffsets
from services.shared.runtime import Heartbeat, fault_point
from services.shared.settings import Settings
from services.shared.telemetry import TOUCHES_SENT

log = structlog.get_logger()
BATCH = 50
ATTEMPTS = 6
PATIENCE_SECONDS = 2.0


class ConsentGate:
    """Passed when everything on `lead.consents` up to now has been read: no mail goes out past a
    refusal.
    """

    def __init__(self, engine: AsyncEngine, ends: EndOffsets) -> None:
        self._engine, self._ends = engine, ends

    async def passed(self) -> bool:
        """Waits a little for the reading to reach where the topic ends now; False where it does
        not, or nobody can tell.
        """
        try:
            ends = await self._ends.of([CONSENTS])
        except Retry as error:
            log.warning("consent_gate_waits", reason=str(error))
            return False
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not await self._reached(ends):
            if time.monotonic() > give_up:
                log.warning("consent_gate_waits", reason="the reading of lead.consents lags")
                return False
            await asyncio.sleep(0.05)
        return True

    async def _reached(self, ends: dict[tuple[str, int], int]) -> bool:
        async with self._engine.connect() as connection:
            found = await rows(
                connection,
                "SELECT partition, next_offset FROM nurture.progress WHERE topic = :topic",
                topic=CONSENTS,
            )
        applied = {row.partition: row.next_offset for row in found}
        return all(applied.get(part, 0) >= end for (_, part), end in ends.items())


class Scheduler:
    """Takes due touches, checks them again, and sends them."""

    def __init__(
        self,
        settings: Settings,
        engine: AsyncEngine,
        chooser: Chooser,
        clock: Clock,
        gate: ConsentGate,
        wake: Callable[[], None],
    ) -> None:
        self._settings, self._engine, self._chooser, self._clock = settings, engine, chooser, clock
        self._gate, self._wake = gate, wake
        self._pepper = settings.pepper.get_secret_value().encode()
        self._email, self._webhook = Email(settings), Webhook(settings)
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Says that something may be due."""
        self._woken.set()

    async def run(self, heartbeat: Heartbeat) -> None:
        """Sends until cancelled."""
        while True:
            heartbeat()
            taken = 0
            try:
                await self.recover()
                taken = await self.turn()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("scheduler_waits", reason=type(error).__name__)
            if taken < BATCH:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), self._settings.poll_ms / 1000)
                self._woken.clear()

    async def recover(self) -> None:
        """What was on the wire when its process died: a webhook is repeated, a mail may have
        arrived and stays unknown.
        """
        async with self._engine.begin() as connection:
            store, said = self._store(connection), []
            for touch in await store.interrupted(self._settings.sending_timeout_s * 1.5 + 5):
                if touch.channel == "webhook":
                    await store.mark(_with(touch, status="due"), was=["sending"])
                    continue
                lost = _with(
                    touch,
                    status="unknown",
                    why="the process ended while the mail was on the wire",
                    sent_at=touch.due_at,
                )
                await store.mark(lost, was=["sending"])
                said.append(told("touch.failed.v1", lost))
                log.warning("touch_unknown", touch_id=touch.id)
            await outbox.enqueue(connection, "nurture", said)
        if said:
            self._wake()

    async def turn(self) -> int:
        """One batch: check and mark in one transaction, then the wire, then the outcome."""
        async with self._engine.connect() as connection:
            if not await self._store(connection).anything_due(self._clock.now()):
                return 0
        if not await self._gate.passed():
            return 0
        began = time.monotonic()
        ready, seen = await self._take()
        if ready:
            fault_point("between_sending_and_wire")
            await asyncio.gather(*(self._send(touch, lead, began) for touch, lead in ready))
        return seen

    async def _take(self) -> tuple[list[tuple[Touch, Lead]], int]:
        now = self._clock.now()
        ready: list[tuple[Touch, Lead]] = []
        said = []
        async with self._engine.begin() as connection:
            store = self._store(connection)
            if await store.braked():
                return [], 0
            due = await store.due(now, BATCH)
            await store.lock(touch.lead for touch in due)
            leads = (
                await store.leads({(touch.lead, touch.product) for touch in due}, now)
                if due
                else {}
            )
            taken: set[str] = set()
            for touch in due:
                lead = leads.get((touch.lead, touch.product))
                checked = self._checked(touch, lead, now)
                if checked.status == "sending" and touch.lead in taken:
                    continue
                await store.mark(checked, was=["due"], attempt=int(checked.status == "sending"))
                if checked.status == "withheld":
                    said.append(told("touch.decided.v1", _with(checked, decided_at=now)))
                elif checked.status == "sending" and lead:
                    taken.add(touch.lead)
                    ready.append((checked, lead))
            await outbox.enqueue(connection, "nurture", said)
        if said:
            self._wake()
        return ready, len(due)

    def _checked(self, touch: Touch, lead: Lead | None, now: datetime) -> Touch:
        """The touch as it stands now: to be sent, later, or withheld because something has
        overtaken it.
        """
        chooser = self._chooser
        content = chooser.playbook.content_by_id.get(touch.content)
        if lead is None or content is None or not chooser.is_live(touch.program):
            return _with(
                touch,
                status="withheld",
                reason="superseded",
                why="the lead, the content or the program is gone",
            )
        if content.sample and not chooser.sink and touch.channel == "email":
            return _with(
                touch,
                status="withheld",
                reason="sample",
                why="the mail server is not a local sink any more",
            )
        if touch.program in chooser.service:
            if refused := chooser.refused_since(lead, touch.decided_at or now):
                return _with(touch, status="withheld", reason=refused.reason, why=refused.why)
            return _with(touch, status="sending", reason="")
        if lead.snapshot.stage != touch.stage:
            moved = f"the lead has moved on to {lead.snapshot.stage}"
            return _with(touch, status="withheld", reason="superseded", why=moved)
        if touch.content in lead.seen:
            return _with(
                touch,
                status="withheld",
                reason="superseded",
                why="the lead has had this content by now",
            )
        if chooser.held_out(lead):
            return _with(
                touch, status="withheld", reason="holdout", why="the account is in the hold-out now"
            )
        if against := self._chooser.against(lead, now):
            return _with(touch, status="withheld", reason=against.reason, why=against.why)
        if not wanted(content, lead.snapshot.traits):
            return _with(
                touch,
                status="withheld",
                reason="preference",
                why=f"the lead does not want to read about {content.topic}",
            )
        if not self._chooser.eligible(lead, touch.stage, content, now):
            return _with(
                touch,
                status="withheld",
                reason="superseded",
                why="the content no longer suits the lead",
            )
        due_at, waits = self._chooser.due(lead.snapshot, now)
        if due_at > now:
            return _with(touch, due_at=due_at, reason=waits)
        return _with(touch, status="sending", reason="")

    async def _send(self, touch: Touch, lead: Lead, began: float) -> None:
        """The wire, and what became of it; a process that was stopped since the check leaves the
        touch to `recover`.
        """
        if time.monotonic() - began > self._settings.sending_timeout_s:
            return
        now = self._clock.now()
        try:
            message = render(
                self._chooser.playbook,
                touch,
                lead.snapshot,
                public_url=self._settings.public_url,
                pepper=self._pepper,
            )
            async with asyncio.timeout(self._settings.sending_timeout_s):
                if touch.channel == "webhook":
                    await self._webhook.send(message, touch)
                else:
                    await self._email.send(message, now)
        except Uncertain as error:
            await self._failed(
                _with(touch, status="unknown", why=f"the wire broke: {error}", sent_at=now)
            )
        except (Reject, TemplateError) as error:
            await self._failed(_with(touch, status="failed", reason="", why=str(error)))
        except (Retry, TimeoutError) as error:
            if isinstance(error, TimeoutError) and touch.channel == "email":
                await self._failed(
                    _with(
                        touch,
                        status="unknown",
                        why="the mail server did not answer in time",
                        sent_at=now,
                    )
                )
            else:
                await self._again(touch, now, str(error) or "no answer in time")
        except Exception as error:
            log.error("touch_crashed", touch_id=touch.id, exc_info=error)
            await self._failed(
                _with(
                    touch,
                    status="unknown",
                    why=f"{type(error).__name__} while sending",
                    sent_at=now,
                )
            )
        else:
            await self._sent(touch, lead, message, self._clock.now())

    async def _sent(self, touch: Touch, lead: Lead, message: Message, at: datetime) -> None:
        sent = _with(touch, status="sent", sent_at=at)
        event = _with(
            sent, recipient=message.recipient, subject=message.subject, text=message.text,
            html=message.html,
            clicks_tracked=True, opens_tracked=self._chooser.playbook.open_pixel,
        )  # fmt: skip
        async with self._patient() as connection:
            store = self._store(connection)
            if not await store.mark(sent, was=["sending", "unknown"]):
                return
            await store.keep_seen([(lead.id, touch.content)])
            await outbox.enqueue(connection, "nurture", [told("touch.sent.v1", event)])
        TOUCHES_SENT.labels(touch.channel).inc()
        log.info("touch_sent", touch_id=touch.id, lead_id=touch.lead, channel=touch.channel)
        self._wake()

    async def _failed(self, touch: Touch) -> None:
        async with self._patient() as connection:
            if not await self._store(connection).mark(touch, was=["sending"]):
                return
            await outbox.enqueue(connection, "nurture", [told("touch.failed.v1", touch)])
        log.warning("touch_failed", touch_id=touch.id, status=touch.status, why=touch.why)
        self._wake()

    async def _again(self, touch: Touch, now: datetime, why: str) -> None:
        """Back to due, later each time; given up after some attempts."""
        async with self._patient() as connection:
            found = await rows(
                connection,
                "SELECT attempts FROM nurture.touch WHERE id = CAST(:id AS uuid)",
                id=touch.id,
            )
            attempts = found[0].attempts if found else ATTEMPTS
            if attempts >= ATTEMPTS:
                given_up = _with(
                    touch, status="failed", why=f"given up after {attempts} attempts: {why}"
                )
                await self._store(connection).mark(given_up, was=["sending"])
                await outbox.enqueue(connection, "nurture", [told("touch.failed.v1", given_up)])
            else:
                due_at = now + timedelta(seconds=10 * 3**attempts)
                await self._store(connection).mark(
                    _with(touch, status="due", due_at=due_at, why=why), was=["sending"]
                )
        log.warning("touch_waits", touch_id=touch.id, reason=why)

    def _store(self, connection: AsyncConnection) -> Store:
        return Store(connection, self._pepper, self._chooser.service)

    def _patient(self) -> "_Transaction":
        return _Transaction(self._engine)


class _Transaction:
    """A transaction whose beginning waits while the database is away: what went out must be written
    down.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def __aenter__(self) -> AsyncConnection:
        while True:
            self._context = self._engine.begin()
            try:
                return await self._context.__aenter__()
            except Exception as error:
                if not is_transient(error):
                    raise
                await asyncio.sleep(0.5)

    async def __aexit__(self, *error: object) -> None:
        await self._context.__aexit__(*error)  # type: ignore[arg-type]


def _with(touch: Touch, **changes: object) -> Touch:
    return msgspec.structs.replace(touch, **changes)
