"""Tells owners of hand-offs by mail, and a webhook of ours: each notice at least once, under an id
that stays.
"""

import asyncio

import msgspec
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.handoffs.notices import MailText
from services.scorer.handoffs.store import HandoffStore, NoticeRow
from services.shared.clock import Clock
from services.shared.db import is_transient
from services.shared.errors import Reject, Retry
from services.shared.http.webhook import SignedWebhook
from services.shared.runtime import Heartbeat, fault_point
from services.shared.settings import Settings
from services.shared.staff_mail import StaffMail
from services.shared.telemetry import HANDOFF_NOTICES

log = structlog.get_logger()
AT_ONCE = 20
HOUR = 3600.0
# After the first attempt, in seconds: an owner's clock runs meanwhile.
SCHEDULE = (2.0, 10.0, 60.0, 300.0, HOUR / 2, 2 * HOUR, 6 * HOUR, 12 * HOUR, 24 * HOUR)
decode_mail = msgspec.json.Decoder(MailText).decode


class Teller:
    """Delivers notices that are due."""

    def __init__(self, settings: Settings, engine: AsyncEngine, clock: Clock) -> None:
        url, secret = settings.handoff_url, settings.handoff_secret.get_secret_value()
        self._webhook = SignedWebhook(settings, url, secret, "RIPELINE_HANDOFF_URL")
        self._mail, self._engine, self._clock = StaffMail(settings), engine, clock
        self._poll_s, self._lease_s = settings.poll_ms / 1000, 3 * settings.sending_timeout_s

    async def run(self, heartbeat: Heartbeat) -> None:
        """Tells until cancelled."""
        while True:
            heartbeat()
            tried = 0
            try:
                tried = await self.tell_due()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("telling_waits", reason=type(error).__name__)
            if tried < AT_ONCE:
                await asyncio.sleep(self._poll_s)

    async def tell_due(self) -> int:
        """Tries what is due, some notices at once; returns how many."""
        async with self._engine.begin() as connection:
            due = await HandoffStore(connection).claim_notices(AT_ONCE, self._lease_s)
        await asyncio.gather(*(self._tell(notice) for notice in due))
        return len(due)

    async def _tell(self, notice: NoticeRow) -> None:
        try:
            await self._deliver(notice)
        except (Reject, Retry) as error:
            given_up = isinstance(error, Reject) or notice.attempts >= len(SCHEDULE)
            wait = None if given_up else SCHEDULE[notice.attempts]
            async with self._engine.begin() as connection:
                await HandoffStore(connection).was_not_sent(notice, str(error), wait)
            HANDOFF_NOTICES.labels(notice.channel, "given_up" if given_up else "failed").inc()
            log.warning(
                "handoff_not_told", handoff_id=str(notice.handoff_id), channel=notice.channel,
                again=not given_up, reason=str(error),
            )  # fmt: skip
            return
        fault_point("between_telling_and_note")
        async with self._engine.begin() as connection:
            await HandoffStore(connection).was_sent(notice, self._clock.now())
        HANDOFF_NOTICES.labels(notice.channel, "sent").inc()
        log.info("handoff_told", handoff_id=str(notice.handoff_id), channel=notice.channel)

    async def _deliver(self, notice: NoticeRow) -> None:
        """Raises Retry for what may pass, Reject for what will not."""
        if notice.channel == "mail":
            mail, now = decode_mail(notice.body), self._clock.now()
            await self._mail.send(str(notice.id), notice.recipient, mail.subject, mail.text, now)
            return
        status = await self._webhook.post(str(notice.id), notice.body.encode())
        if not 200 <= status < 300:
            raise Retry(f"the webhook of hand-offs answered {status}")
