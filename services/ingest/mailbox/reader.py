"""Reads a mailbox: each new mail is handled like a webhook.

A crash before the cursor is stored reads some mails twice, and their ids make that harmless, as
they do a mailbox that was moved or renumbered.
"""

import asyncio
import imaplib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ingest.delivery import Delivery
from services.ingest.mailbox import inbound
from services.ingest.mailbox.cursor import MailboxCursor
from services.ingest.mailbox.imap import ImapSession, MailboxAddress
from services.ingest.mailbox.inbound import MAILBOX
from services.ingest.normalise import Normaliser, Receipt
from services.ingest.source_stats import SourceStatistics
from services.ingest.sources.contract import NO_WORDS_ADDED, Words
from services.shared.clock import Clock
from services.shared.db import is_transient
from services.shared.errors import Retry
from services.shared.runtime import Heartbeat, fault_point
from services.shared.telemetry import ACCEPTED, MAILBOX_READ, REFUSED

log = structlog.get_logger()
T = TypeVar("T")
# the same for every server: a mail that moves to another one stays the same event
SOURCE = f"{MAILBOX.name}:default"
STEP_S = 45.0  # how long one blocking step may take; less than the watchdog's limit
LONGEST_WAIT_S = 300.0


@dataclass(frozen=True)
class MailHandling:
    """What a mail goes through: normalising, delivery, statistics."""

    normaliser: Normaliser
    delivery: Delivery
    statistics: SourceStatistics
    clock: Clock
    words: Words = NO_WORDS_ADDED


class MailboxReader:
    """Reads a mailbox every `poll_s` seconds; of several processes one at a time."""

    def __init__(
        self, address: MailboxAddress, poll_s: float, engine: AsyncEngine, handling: MailHandling
    ) -> None:
        self._address, self._poll_s, self._engine = address, poll_s, engine
        self._cursor = MailboxCursor(engine, address.name)
        self._handling = handling

    async def watch(self, heartbeat: Heartbeat) -> None:
        """Polls until cancelled; while the server, the broker or the database is away it waits
        longer each time.
        """
        wait, last_reason = self._poll_s, ""
        while True:
            try:
                await self.poll(heartbeat)
                wait, last_reason = self._poll_s, ""
            except Exception as error:
                if not (isinstance(error, Retry | imaplib.IMAP4.error) or is_transient(error)):
                    raise
                reason = str(error) if isinstance(error, Retry) else type(error).__name__
                if reason != last_reason:
                    log.warning("mailbox_waits", reason=reason)
                wait, last_reason = min(wait * 2, max(LONGEST_WAIT_S, self._poll_s)), reason
            await _pause(wait, heartbeat)

    async def poll(self, heartbeat: Heartbeat) -> None:
        """Reads what is new, unless another process is reading."""
        async with self._engine.begin() as connection:
            if not await self._cursor.lock(connection):
                heartbeat()
                return
            session = await _step(heartbeat, ImapSession, self._address)
            try:
                await self._read(session, heartbeat)
                await _step(heartbeat, session.log_out)
            finally:
                session.abort()
        MAILBOX_READ.set_to_current_time()

    async def _read(self, session: ImapSession, heartbeat: Heartbeat) -> None:
        first = await self._cursor.load(session.validity)
        while uids := await _step(heartbeat, session.next_uids, first):
            receipts = await _step(heartbeat, self._receipts, session, uids)
            await self._handling.delivery.publish(
                [record for receipt in receipts for record in receipt.records]
            )
            fault_point("between_publish_and_uid")
            first = uids[len(receipts) - 1] + 1
            await self._cursor.store(session.validity, first)
            self._count(uids, receipts)

    def _receipts(self, session: ImapSession, uids: Sequence[int]) -> list[Receipt]:
        """A receipt for each mail; where the server is slow, for the first ones only. Runs in a
        thread of its own.
        """
        receipts: list[Receipt] = []
        deadline = time.monotonic() + STEP_S / 2
        for uid in uids:
            if receipts and time.monotonic() > deadline:
                break
            now = self._handling.clock.now()
            receipt = Receipt(SOURCE, now, time.time(), many=False)
            if raw := session.mail(uid):
                found = inbound.read(raw, now, self._handling.words.automatic_subjects)
                self._handling.normaliser.take(found, receipt)
            receipts.append(receipt)
        return receipts

    def _count(self, uids: Sequence[int], receipts: Sequence[Receipt]) -> None:
        for uid, receipt in zip(uids, receipts, strict=False):
            ACCEPTED.labels(MAILBOX.name).inc(len(receipt.ids))
            for refusal in receipt.refused:
                REFUSED.labels(MAILBOX.name, refusal.reject.kind).inc()
                log.info("mail_refused", uid=uid, kind=refusal.reject.kind)
            if receipt.ids or receipt.refused:
                kind = receipt.refused[-1].reject.kind if receipt.refused else ""
                self._handling.statistics.count(
                    MAILBOX.name, len(receipt.ids), len(receipt.refused), kind
                )
                remarks = [placed.remark for placed in receipt.remarks]
                self._handling.statistics.count_remarks(MAILBOX.name, remarks)


async def _step(heartbeat: Heartbeat, work: Callable[..., T], *given: Any) -> T:
    """Does blocking work in a thread, within `STEP_S`."""
    heartbeat()
    async with asyncio.timeout(STEP_S):
        return await asyncio.to_thread(work, *given)


async def _pause(seconds: float, heartbeat: Heartbeat) -> None:
    """Sleeps, with a heartbeat at least every 5 s."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        heartbeat()
        await asyncio.sleep(min(left, 5.0))
