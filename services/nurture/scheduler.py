"""Sending what is due: every ground is asked again, and `sending` is committed before the wire."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import structlog
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.nurture import touch_events
from services.nurture.consent_gate import ConsentGate
from services.nurture.delivery import Claimed, Delivery, after_failing
from services.nurture.receiver_gate import ReceiverGate
from services.nurture.rules.answers import rechecked
from services.nurture.rules.grounds import Rules
from services.nurture.rules.receivers import receiver_of
from services.nurture.spool_gate import SpoolGate
from services.nurture.store.channel_stops import ChannelStops
from services.nurture.store.enrolments import EnrolmentStore, ProgramKey
from services.nurture.store.leads import LeadStore
from services.nurture.store.snapshots import LeadKey
from services.nurture.store.touches import TouchStore
from services.nurture.told import Told
from services.shared.clock import Clock
from services.shared.contracts.events import Touch
from services.shared.db import is_transient
from services.shared.errors import Retry
from services.shared.messaging import outbox, sending
from services.shared.messaging.kafka import Outgoing
from services.shared.runtime import Heartbeat, fault_point
from services.shared.settings import Settings
from services.shared.urls import read_sender

log = structlog.get_logger()
BATCH = 50
# for the consent gate while leads are locked: some reading is always under way
LOCKED_WAIT_S = 0.25
# ... and for the scorer, so that refusals that come all the time do not hold up sending for good
LINKED_WAIT_S = 1.0
GIVEN_UP_AFTER = timedelta(days=3)  # what its channel's server could not take for so long


class Scheduler:
    """Takes due touches, checks them again, and has them sent; `notify_relay` is called when there
    are events to publish.
    """

    def __init__(
        self,
        settings: Settings,
        engine: AsyncEngine,
        rules: Rules,
        clock: Clock,
        gate: ConsentGate,
        delivery: Delivery,
        notify_relay: Callable[[], None],
    ) -> None:
        self._engine, self._rules, self._clock = engine, rules, clock
        self._gate, self._delivery, self._notify_relay = gate, delivery, notify_relay
        self._spools = SpoolGate()
        self._pepper = settings.pepper.get_secret_value().encode()
        self._domain = read_sender(settings.mail_from).domain.lower()
        self._poll_seconds = settings.poll_ms / 1000
        # a touch that is longer on the wire has lost its process
        self._interrupted_after_s = settings.sending_timeout_s * 1.5 + 5
        self._also: list[Callable[[], Awaitable[None]]] = []
        self._notified, self._stopping = asyncio.Event(), False
        self.told = Told(engine, clock)
        self._gate_holds = False  # something that is due

    def also(self, work: Callable[[], Awaitable[None]]) -> None:
        """Has `work` done as often as there is a poll, before what is due is sent."""
        self._also.append(work)

    def stop(self) -> None:
        """Has `run` end when what is on the wire has its outcome; nothing more is claimed."""
        self._stopping = True
        self._notified.set()

    def notify(self) -> None:
        """Says that something may be due."""
        self._notified.set()

    async def run(self, heartbeat: Heartbeat) -> None:
        """Sends until stopped, or cancelled; looks after the rest as often as it polls."""
        looked_at = -self._poll_seconds
        while not self._stopping:
            heartbeat()
            taken = 0
            try:
                if time.monotonic() - looked_at >= self._poll_seconds:
                    await self._look_after()
                    looked_at = time.monotonic()
                taken = await self.send_batch()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("scheduler_waits", reason=type(error).__name__)
            if taken < BATCH:
                await self._pause()

    async def _look_after(self) -> None:
        """What does not depend on something having become due."""
        await self.recover()
        await self.give_up()
        await self.told.refresh()
        for work in self._also:
            await work()

    async def _pause(self) -> None:
        if self._stopping:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._poll_seconds):
                await self._notified.wait()
        self._notified.clear()

    async def report(self) -> None:
        """Tells people that this service is at work, and what its sending waits for. Raises Retry
        while the database is away.
        """
        try:
            waits_for = await self._gate.lost() or (self._gate_holds and self._gate.waits_for)
            async with self._engine.begin() as connection:
                await sending.report(connection, waits_for or "")
        except Exception as error:
            if not is_transient(error):
                raise
            raise Retry("the database is away") from error

    async def recover(self) -> None:
        """What was on the wire when its process died: a webhook is repeated under its id, a mail
        may have arrived: it stays unknown, and counts as sent at this moment.
        """
        events = []
        async with self._engine.begin() as connection:
            store = TouchStore(connection)
            for touch in await store.interrupted(self._interrupted_after_s):
                if touch.channel in ("webhook", "call"):
                    await store.update(replace(touch, status="due"), was=["sending"])
                    continue
                lost = replace(
                    touch,
                    status="unknown",
                    why="the process ended while the mail was on the wire",
                    sent_at=self._clock.now(),
                )
                await store.update(lost, was=["sending"])
                await LeadStore(connection, self._pepper, ()).keep_seen_of(touch.id)
                await EnrolmentStore(connection).call_after([touch.id], self._clock.now())
                events.append(touch_events.failed(lost))
                log.warning("touch_unknown", touch_id=touch.id)
            await outbox.enqueue(connection, "nurture", events)
            if events:
                fault_point("before_recovery_commit")
        if events:
            self._notify_relay()

    async def give_up(self) -> None:
        """What has been due for three days while its channel was stopped all the time fails."""
        given_up_at = self._clock.now() - GIVEN_UP_AFTER
        async with self._engine.begin() as connection:
            store, events = TouchStore(connection), []
            for stop in await ChannelStops(connection).current():
                if stop.since > given_up_at:
                    continue
                for touch in await store.overdue(stop.channel, given_up_at, BATCH):
                    why = f"given up after three days: {stop.why}"
                    failed = replace(touch, status="failed", reason="", why=why)
                    await store.update(failed, was=["due"])
                    calls_at = after_failing(self._clock.now())
                    await EnrolmentStore(connection).call_after([touch.id], calls_at)
                    events.append(touch_events.failed(failed))
                    log.warning("touch_failed", touch_id=touch.id, status="failed", why=why)
            await outbox.enqueue(connection, "nurture", events)
        if events:
            self._notify_relay()

    async def send_batch(self) -> int:
        """One batch: check and mark in one transaction, then the wire, then the outcome. Returns
        how many touches were due.
        """
        async with self._engine.connect() as connection:
            any_due = await TouchStore(connection).any_due(self._clock.now())
            # before the gate: what leaves a spool later is on the topic, to be read there
            if not any_due or not await self._spools.is_open(connection):
                self._gate_holds = False
                return 0
        self._gate_holds = not await self._gate.is_open()
        if self._gate_holds:
            return 0
        known = await self._gate.refusals_are_linked(self._spools)
        self._gate_holds = not known
        claimed, due = await self._claim(may_send=known)
        if claimed:
            fault_point("between_sending_and_wire")
            await self._send(claimed)
        return due

    async def _send(self, claimed: Sequence[Claimed]) -> None:
        """Hands them over at once; when cancelled, ends after each has its outcome."""
        on_the_wire = asyncio.gather(*(self._delivery.send(touch) for touch in claimed))
        try:
            await asyncio.shield(on_the_wire)
        except asyncio.CancelledError:
            await on_the_wire
            raise

    async def _claim(self, *, may_send: bool = True) -> tuple[list[Claimed], int]:
        """Marks what is to be sent now, at most one touch a lead, an address and a channel
        on trial; returns it, and how many were due. Where it may not send it only withholds,
        and returns none.
        """
        now = self._clock.now()
        async with self._engine.begin() as connection:
            store = TouchStore(connection)
            known = LeadStore(connection, self._pepper, self._rules.library.request_programs)
            trials = {
                stop.channel: stop.attempts for stop in await ChannelStops(connection).current()
            }
            due = _in_turn(await _locked(store, known, now), trials)
            checked_at = time.monotonic()
            if not await self._may_claim(connection):
                return [], 0
            may_send = may_send and await self._gate.refusals_are_linked(
                self._spools, LINKED_WAIT_S
            )
            leads = await known.leads(
                (LeadKey(touch.lead, touch.product) for touch in due), now, self._rules.account_of
            )
            enrolments = await EnrolmentStore(connection).of(touch.lead for touch in due)
            receivers = await ReceiverGate.of(
                connection, self._rules, self._domain, leads.values(), now
            )
            urged = await _urged_calls(store, due)
            claimed: list[Claimed] = []
            taken: set[str] = set()  # leads, addresses, channels on trial
            events: list[Outgoing] = []
            written: list[tuple[Touch, str, str]] = []  # with their addresses and receivers
            for touch in due:
                lead = leads.get(LeadKey(touch.lead, touch.product))
                enrolment = enrolments.get(ProgramKey(touch.lead, touch.program))
                is_urged = touch.id in urged
                checked = rechecked(self._rules, touch, lead, now, enrolment, at_any_hour=is_urged)
                receiver = receiver_of(lead.snapshot.email) if lead else ""
                if receivers:
                    checked = receivers.checked(checked, receiver)
                is_sending = checked.status == "sending"
                address = lead.address if lead else ""
                takes = {touch.lead, address, touch.channel if touch.channel in trials else ""}
                if is_sending and (taken & takes or not may_send):
                    continue
                taken_by = receiver if is_sending and checked.channel == "email" else ""
                written.append((checked, address, taken_by))
                if checked.status == "withheld" or checked.content != touch.content:
                    events.append(touch_events.decided(replace(checked, decided_at=now)))
                if is_sending and lead:
                    claimed.append(Claimed(checked, lead.snapshot, checked_at))
                    if receivers and checked.channel == "email":
                        receivers.taken(receiver)
                    taken |= takes - {""}
            await store.checked(written)
            withheld = [touch.id for touch, _, _ in written if touch.status == "withheld"]
            await EnrolmentStore(connection).call_after(withheld, now)
            await outbox.enqueue(connection, "nurture", events)
            fault_point("before_claim_commit")
        if events:
            self._notify_relay()
        return claimed, len(due) if may_send else 0

    async def _may_claim(self, connection: AsyncConnection) -> bool:
        """Asked while the leads are locked, which may have been waited for, and before what is
        known of them is read. The spools come before the gate: what leaves one later is on the
        topic, to be read there.
        """
        if await sending.is_stopped(connection):
            return False
        return await self._spools.is_open(connection) and await self._gate.is_open(LOCKED_WAIT_S)


async def _locked(store: TouchStore, known: LeadStore, now: datetime) -> list[Touch]:
    """A batch of due touches, locked, and so are their leads and the addresses of these. What was
    decided for a lead that has been merged belongs to the surviving one.
    """
    due = await store.due(now, BATCH)
    ids = await known.surviving(touch.lead for touch in due)
    for touch in due:
        if ids[touch.lead] != touch.lead:
            await store.move(touch.id, ids[touch.lead])
    await known.lock(ids.values())
    await known.lock_addresses(ids.values())
    return [replace(touch, lead=ids[touch.lead]) for touch in due]


def _in_turn(due: Sequence[Touch], trials: Mapping[str, int]) -> list[Touch]:
    """Touches in their order, but those of a channel on trial begin with another one at each
    attempt, so that none stops the others for good.
    """
    turned = [touch for touch in due if touch.channel not in trials]
    for channel, attempts in trials.items():
        waiting = [touch for touch in due if touch.channel == channel]
        first = attempts % max(1, len(waiting))
        turned += waiting[first:] + waiting[:first]
    return turned


async def _urged_calls(store: TouchStore, due: Sequence[Touch]) -> set[str]:
    """The calls that a person has asked for at once: their hour is that person's matter."""
    calls = [touch.id for touch in due if touch.channel == "call"]
    return await store.urged(calls) if calls else set()
