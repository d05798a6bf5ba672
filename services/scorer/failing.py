"""Leads that cannot be read or folded: which errors are one lead's own, and the marks under which
such leads are left out by all others' work and tried again after a growing delay.
"""

import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.shared.db import is_data_fault, is_transient, is_unfit_argument, rows
from services.shared.errors import Reject, Retry
from services.shared.telemetry import LEADS_FAILED

log = structlog.get_logger()
DELAYS_S = (60.0, 300.0, 1800.0, 7200.0, 21_600.0)  # before the next attempt; the last one stays
LONGEST_REASON = 500
# no mark of a failing lead `s.lead_id`
NOT_FAILING = "NOT EXISTS (SELECT 1 FROM scorer.failing_lead f WHERE f.lead_id = s.lead_id)"


class Cleared(NamedTuple):
    """A mark that was taken away, with when the first event was received that is not folded."""

    waiting_since: datetime | None


def is_of_one_lead(error: BaseException) -> bool:
    """Whether the rows or events of one lead are at fault, and not what all leads depend on."""
    if isinstance(error, Reject | Retry | MemoryError) or is_transient(error):
        return False
    if isinstance(error, SQLAlchemyError | asyncpg.PostgresError | asyncpg.InterfaceError):
        return is_data_fault(error) or is_unfit_argument(error)
    return isinstance(error, Exception)


def reason_of(error: BaseException) -> str:
    """What went wrong, for the lead's mark."""
    return f"{type(error).__name__}: {error}".replace("\0", "")[:LONGEST_REASON]


def report(lead: uuid.UUID, where: str, kind: str) -> None:
    """Logs and counts a failure by the kind of its error; `where` names the work that goes on
    without the lead.
    """
    LEADS_FAILED.labels(where).inc()
    log.error("lead_failed", lead_id=str(lead), where=where, reason=kind)


class FailingLeads:
    """The marks, within the caller's transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def among(self, leads: Iterable[uuid.UUID]) -> set[uuid.UUID]:
        """Those of the leads that are marked."""
        found = await rows(
            self._connection,
            "SELECT lead_id FROM scorer.failing_lead WHERE lead_id = ANY(:leads)",
            leads=list(leads),
        )
        return {row.lead_id for row in found}

    async def mark(
        self, lead: uuid.UUID, place: str, error: BaseException, waiting: datetime | None = None
    ) -> None:
        """Marks a lead, or puts its next attempt off further; `waiting` is when the first of its
        events was received that is not folded.
        """
        report(lead, place, type(error).__name__)
        await self._run(
            "INSERT INTO scorer.failing_lead AS f "
            "(lead_id, place, reason, attempts, next_at, waiting_since) VALUES (:lead, :place, "
            ":reason, 1, clock_timestamp() + make_interval(secs => :first), :waiting) "
            "ON CONFLICT (lead_id) DO UPDATE SET place = excluded.place, reason = excluded.reason, "
            "attempts = f.attempts + 1, waiting_since = "
            "least(f.waiting_since, excluded.waiting_since), next_at = clock_timestamp() + "
            "make_interval(secs => (CAST(:delays AS float8[]))[least(f.attempts + 1, :last)])",
            lead=lead,
            place=place,
            reason=reason_of(error),
            waiting=waiting,
            first=DELAYS_S[0],
            delays=list(DELAYS_S),
            last=len(DELAYS_S),
        )

    async def note(self, found: Mapping[uuid.UUID, str], place: str) -> None:
        """Marks leads that a reader cannot read, by reason, for the sweeper's next turn; a mark
        that is there stays.
        """
        new = await rows(
            self._connection,
            "INSERT INTO scorer.failing_lead (lead_id, place, reason, next_at) "
            "SELECT n.lead, :place, n.reason, clock_timestamp() "
            "FROM unnest(CAST(:leads AS uuid[]), CAST(:reasons AS text[])) AS n(lead, reason) "
            "ON CONFLICT DO NOTHING RETURNING lead_id, reason",
            leads=list(found),
            reasons=list(found.values()),
            place=place,
        )
        for lead, reason in new:
            report(lead, place, reason.partition(":")[0])

    async def keep_waiting(self, waiting: Mapping[uuid.UUID, datetime]) -> None:
        """Notes of marked leads when the first event was received that is stored and not folded."""
        await self._run(
            "UPDATE scorer.failing_lead f SET waiting_since = least(f.waiting_since, w.at) "
            "FROM unnest(CAST(:leads AS uuid[]), CAST(:moments AS timestamptz[])) AS w(lead, at) "
            "WHERE f.lead_id = w.lead AND (f.waiting_since IS NULL OR f.waiting_since > w.at)",
            leads=list(waiting),
            moments=list(waiting.values()),
        )

    async def ask_for(self, leads: Iterable[uuid.UUID]) -> None:
        """Has leads made again from their events at the sweeper's next turn, marked or not."""
        await self._run(
            "INSERT INTO scorer.failing_lead AS f (lead_id, place, reason, next_at) "
            "SELECT lead, 'asked for', 'it is to be made again from its events', clock_timestamp() "
            "FROM unnest(CAST(:leads AS uuid[])) AS n(lead) "
            "ON CONFLICT (lead_id) DO UPDATE SET attempts = 0, next_at = clock_timestamp()",
            leads=sorted(leads),
        )

    async def pass_on(self, old: uuid.UUID, new: uuid.UUID) -> bool:
        """Marks the lead that another was merged into where events wait with that one, so that
        they are told of; returns whether it did.
        """
        found = await rows(
            self._connection,
            "INSERT INTO scorer.failing_lead AS f (lead_id, place, reason, next_at, waiting_since) "
            "SELECT :new, place, reason, clock_timestamp(), waiting_since "
            "FROM scorer.failing_lead WHERE lead_id = :old AND waiting_since IS NOT NULL "
            "ON CONFLICT (lead_id) DO UPDATE SET "
            "waiting_since = least(f.waiting_since, excluded.waiting_since) RETURNING 1",
            old=old,
            new=new,
        )
        return bool(found)

    async def take_due(self) -> uuid.UUID | None:
        """The marked lead whose next attempt came first, None where none has come; the one after
        it is put off, so that an attempt that breaks off holds up no other lead.
        """
        found = await rows(
            self._connection,
            "UPDATE scorer.failing_lead SET next_at = clock_timestamp() + "
            "make_interval(secs => :delay) WHERE lead_id = (SELECT lead_id "
            "FROM scorer.failing_lead WHERE next_at <= clock_timestamp() "
            "ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING lead_id",
            delay=DELAYS_S[0],
        )
        return found[0].lead_id if found else None

    async def clear(self, lead: uuid.UUID) -> Cleared | None:
        """Takes a mark away, under the lead's lock; None where there is none."""
        found = await rows(
            self._connection,
            "DELETE FROM scorer.failing_lead WHERE lead_id = :lead RETURNING waiting_since",
            lead=lead,
        )
        return Cleared(*found[0]) if found else None

    async def _run(self, statement: str, **values: Any) -> None:
        await self._connection.execute(text(statement), values)
