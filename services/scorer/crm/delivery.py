"""Delivers the CRM outbox to a CRM's flow by signed webhooks: each message at least once, under an
id that stays.
"""

import asyncio
import uuid
from typing import Literal, NamedTuple

import msgspec
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.crm import outbox
from services.scorer.crm.outbox import OutboxEntry
from services.scorer.crm.payload import (
    Summary,
    is_worth_a_message,
    message,
    summary_of,
    top_reasons,
)
from services.scorer.failing import is_of_one_lead, reason_of, report
from services.scorer.model.explanation import explain
from services.scorer.queries.lead_view import LeadView
from services.scorer.queries.leads import LeadQueries
from services.scorer.queries.repository import MergedAway
from services.scorer.scoring import Scoring
from services.shared.contracts.events import derived
from services.shared.db import is_transient
from services.shared.errors import Reject, Retry
from services.shared.http.webhook import SignedWebhook
from services.shared.runtime import Heartbeat, fault_point
from services.shared.settings import Settings
from services.shared.telemetry import CRM_DELIVERIES

log = structlog.get_logger()
AT_ONCE = 20
GONE = 410


class LeadInProducts(NamedTuple):
    """One lead, and the reasons for its likelihood, by product."""

    views: dict[str, LeadView]
    reasons: dict[str, list[str]]


class CrmDelivery:
    """Delivers what is due. A receiver that answers 410 is left alone until the scorer is started
    again; nothing in the outbox is lost by it.
    """

    def __init__(
        self, settings: Settings, engine: AsyncEngine, scoring: Scoring, leads: LeadQueries
    ) -> None:
        url, secret = settings.crm_url.get_secret_value(), settings.crm_secret.get_secret_value()
        self._webhook = SignedWebhook(settings, url, secret, "RIPELINE_CRM_URL")
        self._engine, self._scoring, self._leads = engine, scoring, leads
        self._rules = scoring.playbook.crm
        self._poll_s, self._lease_s = settings.poll_ms / 1000, 3 * settings.sending_timeout_s
        self.gone = False

    async def run(self, heartbeat: Heartbeat) -> None:
        """Delivers until cancelled."""
        while True:
            heartbeat()
            tried = 0
            try:
                tried = 0 if self.gone else await self.deliver_due()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("writeback_waits", reason=type(error).__name__)
            if tried < AT_ONCE:
                await asyncio.sleep(self._poll_s)

    async def deliver_due(self) -> int:
        """Tries what is due, some leads at once; returns how many."""
        async with self._engine.begin() as connection:
            due = await outbox.claim(connection, AT_ONCE, self._lease_s)
        await asyncio.gather(*(self._deliver(entry) for entry in due))
        return len(due)

    async def _deliver(self, entry: OutboxEntry) -> None:
        """Tries one lead; what fails by its own data is tried again by the schedule."""
        try:
            await self._try(entry)
        except Exception as error:
            if not is_of_one_lead(error):
                raise
            report(entry.lead, "writeback", type(error).__name__)
            await self._retry_later(entry, reason_of(error))

    async def _try(self, entry: OutboxEntry) -> None:
        try:
            lead = await self._read(entry.lead)
        # merged into another, which has an entry of its own, or no more
        except (MergedAway, Reject) as error:
            if isinstance(error, Reject) and error.kind == "lead-unreadable":
                return await self._retry_later(entry, str(error))
            return await self._finish(entry, "moved", None)
        summary = summary_of(lead.views)
        if not is_worth_a_message(self._rules, entry.delivered, summary):
            return await self._finish(entry, "unchanged", entry.delivered)
        body = msgspec.json.encode(message(self._rules, lead.views, lead.reasons))
        try:
            status = await self._webhook.post(
                derived("writeback", entry.lead, entry.sequence), body
            )
        except (Retry, Reject) as error:
            return await self._retry_later(entry, str(error))
        fault_point("between_writeback_and_note")
        if 200 <= status < 300:
            return await self._finish(entry, "sent", summary)
        if status != GONE:
            return await self._retry_later(entry, f"the CRM's webhook said {status}")
        await self._stop(entry)

    async def _read(self, lead_id: uuid.UUID) -> LeadInProducts:
        """Raises MergedAway, or Reject where there is no such lead."""
        fold, library = self._scoring.fold, self._scoring.playbook.content_by_id
        found = LeadInProducts({}, {})
        for product in self._leads.products:
            view = await self._leads.lead(lead_id, product)
            known = await self._leads.known(lead_id, product, view.as_of)
            ledger = await asyncio.to_thread(explain, fold, product, known, view.as_of)
            found.views[product] = view
            found.reasons[product] = top_reasons(ledger.lines, library)
        return found

    async def _finish(
        self,
        entry: OutboxEntry,
        result: Literal["sent", "unchanged", "moved"],
        known: Summary | None,
    ) -> None:
        async with self._engine.begin() as connection:
            await outbox.finish(connection, entry, known)
        CRM_DELIVERIES.labels(result).inc()
        log.info("written_back", lead_id=str(entry.lead), result=result)

    async def _retry_later(self, entry: OutboxEntry, problem: str) -> None:
        async with self._engine.begin() as connection:
            again = await outbox.retry_later(connection, entry, problem)
        CRM_DELIVERIES.labels("failed" if again else "given_up").inc()
        log.warning(
            "writeback_failed",
            lead_id=str(entry.lead),
            attempt=entry.attempts + 1,
            again=again,
            reason=problem,
        )

    async def _stop(self, entry: OutboxEntry) -> None:
        self.gone = True
        log.error(
            "writeback_stopped",
            reason="the CRM's webhook is gone (410)",
            remedy="set RIPELINE_CRM_URL to the new address and restart",
        )
        async with self._engine.begin() as connection:
            await outbox.release(connection, entry)
