"""One touch over the wire, and what became of it, written down whatever happens."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog
from jinja2 import TemplateError
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.nurture import touch_events
from services.nurture.channels import (
    Bounced,
    Halted,
    OutcomeUnknown,
    ReceiverRefuses,
    ServerUnusable,
)
from services.nurture.channels.email import Email
from services.nurture.channels.message import Message, render
from services.nurture.channels.webhook import Webhook
from services.nurture.rules.calls import call_of
from services.nurture.rules.receivers import receiver_of
from services.nurture.rules.waits import ASK_AGAIN
from services.nurture.store.calls import CallStore
from services.nurture.store.channel_stops import ChannelStops
from services.nurture.store.enrolments import EnrolmentStore
from services.nurture.store.leads import LeadStore
from services.nurture.store.receivers import ReceiverStore
from services.nurture.store.touches import TouchStore
from services.nurture.store.tracking import may_be_tracked
from services.shared.clock import Clock
from services.shared.contracts.events import Snapshot, Touch, keyed_hash
from services.shared.db import is_transient
from services.shared.errors import Reject, Retry
from services.shared.messaging import outbox, sending
from services.shared.playbook.sections import Playbook
from services.shared.runtime import fault_point
from services.shared.settings import Settings
from services.shared.telemetry import CHANNEL_FAILURES, TOUCHES_SENT

log = structlog.get_logger()
ATTEMPTS = 6
WEBHOOK_ATTEMPTS = 16  # within three days
LONGEST_RETRY_S = 8 * 3600
FIRST_RETRY_S, RETRY_FACTOR = 10, 3  # the wait before the n-th retry is FIRST * FACTOR ** n
DATABASE_RETRY_S = 0.5
CHECK_HOLDS_S = 2.0


class Claimed(NamedTuple):
    """A touch whose status `sending` is committed, and its lead as it was then; `checked_at`
    (`time.monotonic()`): from when on a refusal may have been missed.
    """

    touch: Touch
    snapshot: Snapshot
    checked_at: float

    @property
    def age_s(self) -> float:
        """Seconds since it was checked."""
        return time.monotonic() - self.checked_at


class Delivery:
    """Sends claimed touches; `notify_relay` is called when there are events to publish."""

    def __init__(
        self,
        settings: Settings,
        engine: AsyncEngine,
        playbook: Playbook,
        clock: Clock,
        notify_relay: Callable[[], None],
    ) -> None:
        self._engine, self._playbook, self._clock = engine, playbook, clock
        self._notify_relay = notify_relay
        self._pepper = settings.pepper.get_secret_value().encode()
        self._public_url, self._timeout = settings.public_url, settings.sending_timeout_s
        self._email, self._webhook = Email(settings), Webhook(settings)

    async def send(self, claimed: Claimed) -> None:
        """Sends a touch, unless it was checked too long ago: then it is due again."""
        if claimed.age_s > CHECK_HOLDS_S:
            await self._put_back(claimed)
            return
        touch, now = claimed.touch, self._clock.now()
        try:
            message = await self._over_the_wire(claimed, now)
        except ReceiverRefuses as error:
            await self._stop_receiver(claimed, str(error), self._clock.now())
        except Halted:
            await self._put_back(claimed)
        except ServerUnusable as error:
            await self._stop_channel(touch, str(error), self._clock.now())
        except OutcomeUnknown as error:
            await self._record_unknown(touch, f"the wire broke: {error}", now)
        except (Reject, TemplateError) as error:
            failed = replace(touch, status="failed", reason="", why=str(error))
            await self._record_failed(failed, bounced=isinstance(error, Bounced))
        except Retry as error:
            await self._retry_later(touch, str(error) or "no answer in time", now)
        except Exception as error:
            log.error("touch_crashed", touch_id=touch.id, exc_info=error)
            await self._record_unknown(touch, f"{type(error).__name__} while sending", now)
        else:
            fault_point("between_wire_and_outcome")
            await self._record_sent(touch, message, self._clock.now())

    async def _over_the_wire(self, claimed: Claimed, now: datetime) -> Message:
        address = keyed_hash(self._pepper, f"email:{claimed.snapshot.email}")
        async with self._engine.connect() as connection:
            tracked = await may_be_tracked(
                connection, claimed.snapshot, address, self._playbook.tracking
            )
        message = render(
            self._playbook,
            claimed.touch,
            claimed.snapshot,
            public_url=self._public_url,
            pepper=self._pepper,
            tracked=tracked,
        )
        await self._check()
        if claimed.touch.channel == "call":
            call = call_of(
                self._playbook, claimed.touch, claimed.snapshot, message.text, message.link, now
            )
            return message._replace(
                recipient="", clicks_tracked=False, opens_tracked=False, call=call
            )
        if claimed.touch.channel == "webhook":
            await self._webhook.send(message, claimed.touch, now)
        else:
            await self._email.send(message, now, self._check)
        return message

    async def _check(self) -> None:
        """Raises Halted where sending is stopped, or nobody can tell."""
        try:
            async with self._engine.connect() as connection:
                stopped = await sending.is_stopped(connection)
        except Exception as error:
            if not is_transient(error):
                raise
            raise Halted from error
        if stopped:
            raise Halted

    async def _record_sent(self, touch: Touch, message: Message, at: datetime) -> None:
        sent = replace(touch, status="sent", sent_at=at)
        event = replace(
            sent, recipient=message.recipient, subject=message.subject, text=message.text,
            html=message.html, clicks_tracked=message.clicks_tracked,
            opens_tracked=message.opens_tracked,
        )  # fmt: skip
        async with self._transaction() as connection:
            if not await TouchStore(connection).update(sent, was=["sending", "unknown"]):
                return
            await LeadStore(connection, self._pepper, ()).keep_seen_of(touch.id)
            await EnrolmentStore(connection).call_after([touch.id], at)
            if message.call:
                await CallStore(connection).add(message.call)
            await self._release(connection, touch.channel)
            await outbox.enqueue(connection, "nurture", [touch_events.sent(event)])
            fault_point("before_outcome_commit")
        TOUCHES_SENT.labels(touch.channel).inc()
        log.info("touch_sent", touch_id=touch.id, lead_id=touch.lead, channel=touch.channel)
        self._notify_relay()

    async def _record_unknown(self, touch: Touch, why: str, now: datetime) -> None:
        """It may have arrived, so it counts as sent and is not sent again."""
        await self._record_failed(replace(touch, status="unknown", why=why, sent_at=now))

    async def _record_failed(self, touch: Touch, *, bounced: bool = False) -> None:
        async with self._transaction() as connection:
            if not await TouchStore(connection).update(touch, was=["sending"], bounced=bounced):
                return
            if touch.status == "unknown":
                await LeadStore(connection, self._pepper, ()).keep_seen_of(touch.id)
            now = self._clock.now()
            calls_at = after_failing(now) if touch.status == "failed" else now
            await EnrolmentStore(connection).call_after([touch.id], calls_at)
            await outbox.enqueue(connection, "nurture", [touch_events.failed(touch)])
        log.warning("touch_failed", touch_id=touch.id, status=touch.status, why=touch.why)
        self._notify_relay()

    async def _retry_later(self, touch: Touch, why: str, now: datetime) -> None:
        """Back to due, later each time; given up after `ATTEMPTS`."""
        async with self._transaction() as connection:
            store = TouchStore(connection)
            is_webhook = touch.channel == "webhook"
            if not is_webhook:  # a failing endpoint is a dead one until it takes something
                await self._release(connection, touch.channel)
            attempts = await store.attempts(touch.id)
            if attempts >= (WEBHOOK_ATTEMPTS if is_webhook else ATTEMPTS):
                failed = replace(
                    touch, status="failed", why=f"given up after {attempts} attempts: {why}"
                )
                await store.update(failed, was=["sending"])
                await EnrolmentStore(connection).call_after([touch.id], after_failing(now))
                await outbox.enqueue(connection, "nurture", [touch_events.failed(failed)])
            else:
                wait_s = min(FIRST_RETRY_S * RETRY_FACTOR**attempts, LONGEST_RETRY_S)
                due_at = now + timedelta(seconds=wait_s)
                retried = replace(touch, status="due", due_at=due_at, why=why)
                await store.update(retried, was=["sending"])
        log.warning("touch_waits", touch_id=touch.id, reason=why)

    async def _put_back(self, claimed: Claimed) -> None:
        """Back to due, as if it had not been tried. What was claimed so long ago that another
        process may have taken it is left to `Scheduler.recover`.
        """
        async with self._transaction() as connection:
            if claimed.age_s > self._timeout:
                return
            waiting = replace(claimed.touch, status="due")
            await TouchStore(connection).update(waiting, was=["sending"], attempt=-1)
        log.warning(
            "touch_waits",
            touch_id=claimed.touch.id,
            reason="sending is stopped, or it was checked too long ago",
        )

    async def _stop_receiver(self, claimed: Claimed, why: str, now: datetime) -> None:
        """Back to due, given up after `ATTEMPTS`; other mails to its receiver wait with it."""
        touch, receiver = claimed.touch, receiver_of(claimed.snapshot.email)
        async with self._transaction() as connection:
            store = TouchStore(connection)
            until = await ReceiverStore(connection).refuse(receiver, why, now)
            waiting = replace(touch, status="due", due_at=until, reason="receiver_stopped")
            if await store.attempts(touch.id) >= ATTEMPTS:
                waiting = replace(touch, status="failed", why=f"given up: {why}")
                await EnrolmentStore(connection).call_after([touch.id], after_failing(now))
                await outbox.enqueue(connection, "nurture", [touch_events.failed(waiting)])
            await store.update(waiting, was=["sending"])
            await self._release(connection, touch.channel)
        log.warning("receiver_stopped", receiver=receiver, reason=why)

    async def _stop_channel(self, touch: Touch, why: str, now: datetime) -> None:
        """Back to due, as if it had not been tried; the channel's other touches wait with it."""
        async with self._transaction() as connection:
            waiting = replace(touch, status="due")
            await TouchStore(connection).update(waiting, was=["sending"], attempt=-1)
            await ChannelStops(connection).stop(touch.channel, why, now)
        CHANNEL_FAILURES.labels(touch.channel).inc()
        log.warning("channel_stopped", channel=touch.channel, reason=why)

    async def _release(self, connection: AsyncConnection, channel: str) -> None:
        """The channel's server has answered to a touch."""
        if await ChannelStops(connection).release(channel):
            log.info("channel_released", channel=channel)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction whose beginning waits while the database is away: what went out must be
        written down.
        """
        async with AsyncExitStack() as stack:
            while True:
                try:
                    connection = await stack.enter_async_context(self._engine.begin())
                    break
                except Exception as error:
                    if not is_transient(error):
                        raise
                    await asyncio.sleep(DATABASE_RETRY_S)
            yield connection


def after_failing(now: datetime) -> datetime:
    """When the next step of a program is decided after a touch that did not leave: it may choose
    the same item, and what was against that one needs time to pass.
    """
    return now + ASK_AGAIN
