"""Tells a CRM's flow, by signed webhooks, what has become of its leads: at least once each, under
an id that stays.
"""

import asyncio
import uuid
from typing import Any

import msgspec
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.crm import outbox as owed
from services.scorer.crm.outbox import Owed
from services.scorer.crm.payload import message, reasons, told_of, worth_telling
from services.scorer.model.explanation import explain
from services.scorer.queries.leads import Moved, Queries, parse_time
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


class Writer:
    """Sends what is due. A receiver that answers 410 is left alone until the scorer starts anew;
    nothing owed is lost by it.
    """

    def __init__(
        self, settings: Settings, engine: AsyncEngine, scoring: Scoring, queries: Queries
    ) -> None:
        url, secret = settings.crm_url.get_secret_value(), settings.crm_secret.get_secret_value()
        if not secret:
            raise Reject(
                "no secret to sign with",
                where="RIPELINE_CRM_SECRET",
                remedy="set it to whsec_ and 32 bytes in base64",
            )
        self._hook = SignedWebhook(settings, url, secret, "RIPELINE_CRM_URL")
        self._engine, self._scoring, self._queries = engine, scoring, queries
        self._rules = scoring.playbook.crm
        self._poll_s, self._lease_s = settings.poll_ms / 1000, 3 * settings.sending_timeout_s
        self.gone = False

    async def run(self, heartbeat: Heartbeat) -> None:
        """Writes back until cancelled."""
        while True:
            heartbeat()
            tried = 0
            try:
                tried = 0 if self.gone else await self.turn()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("writer_waits", reason=type(error).__name__)
            if tried < AT_ONCE:
                await asyncio.sleep(self._poll_s)

    async def turn(self) -> int:
        """Tries what is due, some leads at once; returns how many."""
        async with self._engine.begin() as connection:
            due = await owed.claim(connection, AT_ONCE, self._lease_s)
        await asyncio.gather(*(self._tell(one) for one in due))
        return len(due)

    async def _tell(self, one: Owed) -> None:
        try:
            leads, why = await self._look(one.lead)
        # the lead lives on under another id, which is owed for itself, or is no more
        except (Moved, Reject):
            return await self._settle(one, "moved", None)
        told = told_of(leads)
        if not worth_telling(self._rules, one.told, told):
            return await self._settle(one, "unchanged", one.told)
        body = msgspec.json.encode(message(self._rules, leads, why))
        try:
            status = await self._hook.post(derived("writeback", one.lead, one.sequence), body)
        except (Retry, Reject) as error:
            return await self._fail(one, str(error))
        fault_point("between_writeback_and_note")
        if 200 <= status < 300:
            return await self._settle(one, "sent", told)
        if status != GONE:
            return await self._fail(one, f"the CRM's webhook said {status}")
        self.gone = True
        log.error(
            "writeback_stopped",
            reason="the CRM's webhook is gone (410)",
            remedy="set RIPELINE_CRM_URL anew and restart",
        )
        async with self._engine.begin() as connection:
            await owed.release(connection, one)

    async def _look(
        self, lead: uuid.UUID
    ) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
        """The lead as the API shows it, and its reasons, by product. Raises Moved or Reject."""
        fold, library = self._scoring.fold, self._scoring.playbook.content_by_id
        leads, why = {}, {}
        for product in self._queries.products:
            leads[product] = shown = await self._queries.lead(lead, product)
            now = parse_time(shown["as_of"])
            events = await self._queries.events(lead, now)
            ledger = await asyncio.to_thread(explain, fold, product, events, now)
            why[product] = reasons(ledger.lines, library)
        return leads, why

    async def _settle(self, one: Owed, result: str, told: Any) -> None:
        async with self._engine.begin() as connection:
            await owed.settled(connection, one, told)
        CRM_DELIVERIES.labels(result).inc()
        log.info("written_back", lead_id=str(one.lead), result=result)

    async def _fail(self, one: Owed, problem: str) -> None:
        async with self._engine.begin() as connection:
            again = await owed.failed(connection, one, problem)
        CRM_DELIVERIES.labels("failed" if again else "given_up").inc()
        log.warning(
            "writeback_failed",
            lead_id=str(one.lead),
            attempt=one.attempts + 1,
            again=again,
            reason=problem,
        )
