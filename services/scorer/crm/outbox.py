"""The CRM outbox, `scorer.writeback`: a row a lead, enqueued in the transaction that changed it,
claimed by the delivery for as long as an attempt may take.
"""

import uuid
from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.crm.payload import (
    SCHEDULE,
    ProductNumbers,
    Summary,
    is_worth_a_message,
    sales_text,
)
from services.scorer.failing import report
from services.scorer.records import LeadRow
from services.shared.contracts.identity import Kind
from services.shared.db import rows
from services.shared.playbook.sections import Crm

COALESCED_S = 1.0  # what follows so soon goes with the same message
BEHIND_S = 300.0  # news waits at most so long behind a message that fails
pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(Summary).decode


class OutboxEntry(msgspec.Struct, frozen=True):
    """One lead that is claimed; `sequence` is another one as soon as it has changed again, and
    `delivered` the summary that the CRM has.
    """

    lead: uuid.UUID
    sequence: int
    attempts: int
    delivered: Summary | None


async def enqueue(connection: AsyncConnection, rules: Crm, leads: Iterable[LeadRow]) -> None:
    """Puts in those of the leads that the CRM can know and of which something has changed."""
    now = {lead.id: _summary(lead) for lead in leads if _is_known_there(rules, lead)}
    if not now:
        return
    found = await rows(
        connection,
        "SELECT lead_id, due_at IS NOT NULL AS due, told FROM scorer.writeback WHERE lead_id "
        "= ANY(:leads)",
        leads=list(now),
    )
    # also one whose message is on the wire: what stands in it may be older than this
    waiting = {row.lead_id for row in found if row.due}
    before = {row.lead_id: _unpacked(row) for row in found}
    due = sorted(
        lead
        for lead, summary in now.items()
        if lead in waiting or is_worth_a_message(rules, before.get(lead), summary)
    )
    if due:
        await connection.execute(
            text(
                "INSERT INTO scorer.writeback AS w (lead_id, due_at) SELECT lead, now() + "
                "make_interval(secs => :soon) "
                "FROM unnest(CAST(:leads AS uuid[])) AS n(lead) ON CONFLICT (lead_id) DO "
                "UPDATE SET "
                "due_at = least(coalesce(w.due_at, excluded.due_at), now() + "
                "make_interval(secs => :behind)), "
                "attempts = least(w.attempts, 1), sequence = w.sequence + 1"
            ),
            {"leads": due, "soon": COALESCED_S, "behind": BEHIND_S},
        )


def _summary(lead: LeadRow) -> Summary:
    numbers = {
        product: ProductNumbers(
            view.stage,
            state.qualified,
            view.likelihood,
            view.fit,
            view.engagement,
            sales_text(state.sales.status, state.sales.reason) if state.sales else "",
        )
        for product, state in lead.states.items()
        if (view := state.view)
    }
    return Summary(next(iter(numbers.values())).sales if numbers else "", numbers)


def _is_known_there(rules: Crm, lead: LeadRow) -> bool:
    """A visitor without an address or an id of that system is nobody whom a CRM could find."""
    system = rules.system.strip().lower()
    named = any(
        identifier.kind is Kind.EMAIL
        or (identifier.kind is Kind.EXTERNAL and identifier.system == system)
        for identifier in lead.identifiers
    )
    return named and not lead.provisional and not lead.excluded


async def claim(connection: AsyncConnection, limit: int, lease_s: float) -> list[OutboxEntry]:
    """Takes what is due; nobody else has it before the lease ends."""
    found = await rows(
        connection,
        "UPDATE scorer.writeback w SET due_at = now() + make_interval(secs => :lease) FROM "
        "(SELECT lead_id "
        "FROM scorer.writeback WHERE due_at <= now() ORDER BY due_at LIMIT :limit FOR UPDATE "
        "SKIP LOCKED) AS due "
        "WHERE w.lead_id = due.lead_id RETURNING w.lead_id, w.sequence, w.attempts, w.told",
        lease=lease_s,
        limit=limit,
    )
    return [OutboxEntry(row.lead_id, row.sequence, row.attempts, _unpacked(row)) for row in found]


def _unpacked(row: Any) -> Summary | None:
    """What the CRM knows of a lead; None also where that is unreadable, and it is told again."""
    try:
        return unpack(row.told) if row.told else None
    except msgspec.DecodeError as error:
        report(row.lead_id, "writeback", type(error).__name__)
        return None


async def finish(connection: AsyncConnection, entry: OutboxEntry, known: Summary | None) -> None:
    """Notes what the CRM knows now; if the lead has changed meanwhile, it is due at once."""
    await connection.execute(
        text(
            "UPDATE scorer.writeback SET told = :told, attempts = 0, problem = '', "
            "due_at = CASE WHEN sequence = :sequence THEN NULL ELSE now() END WHERE lead_id = :lead"
        ),
        {"lead": entry.lead, "sequence": entry.sequence, "told": pack(known) if known else None},
    )


async def retry_later(connection: AsyncConnection, entry: OutboxEntry, problem: str) -> bool:
    """Puts it off by the schedule; False at the schedule's end, where it is given up until the lead
    changes.
    """
    again = entry.attempts < len(SCHEDULE)
    if again:
        change = "attempts = :attempts + 1, due_at = now() + make_interval(secs => :wait)"
    else:
        change = (
            "attempts = 0, told = NULL, due_at = CASE WHEN sequence = :sequence THEN NULL "
            "ELSE now() END"
        )
    values: dict[str, Any] = (
        {"attempts": entry.attempts, "wait": SCHEDULE[entry.attempts]}
        if again
        else {"sequence": entry.sequence}
    )
    await connection.execute(
        text(f"UPDATE scorer.writeback SET problem = :problem, {change} WHERE lead_id = :lead"),
        {"lead": entry.lead, "problem": problem, **values},
    )
    return again


async def release(connection: AsyncConnection, entry: OutboxEntry) -> None:
    """Gives back what could not be tried."""
    await connection.execute(
        text("UPDATE scorer.writeback SET due_at = now() WHERE lead_id = :lead"),
        {"lead": entry.lead},
    )
