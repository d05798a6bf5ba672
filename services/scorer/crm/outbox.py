"""What the CRM is owed: a row a lead, noted in the transaction that changed it, taken on lease by
the writer.
"""

import uuid
from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.crm.payload import SCHEDULE, Numbers, Told, outcome, worth_telling
from services.scorer.records import LeadRow
from services.shared.contracts.identity import Kind
from services.shared.db import rows
from services.shared.playbook.sections import Crm

COALESCED_S = 1.0  # what follows so soon goes with the same message
BEHIND_S = 300.0  # news waits at most so long behind a message that fails
pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(Told).decode


class Owed(msgspec.Struct, frozen=True):
    """One lead on lease; `sequence` is another one as soon as there is more to say."""

    lead: uuid.UUID
    sequence: int
    attempts: int
    told: Told | None


async def note(connection: AsyncConnection, rules: Crm, leads: Iterable[LeadRow]) -> None:
    """Owes the CRM a message about those of the leads that it can know and of which something has
    changed.
    """
    now = {lead.id: _standing(lead) for lead in leads if _known_there(rules, lead)}
    if not now:
        return
    found = await rows(
        connection,
        "SELECT lead_id, due_at IS NOT NULL AS owed, told FROM scorer.writeback WHERE lead_id "
        "= ANY(:leads)",
        leads=list(now),
    )
    # also one on the wire: what it says may be older than this
    owed = {row.lead_id for row in found if row.owed}
    before = {row.lead_id: unpack(row.told) for row in found if row.told}
    due = sorted(
        lead
        for lead, said in now.items()
        if lead in owed or worth_telling(rules, before.get(lead), said)
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


def _standing(lead: LeadRow) -> Told:
    numbers = {
        product: Numbers(view.stage, state.qualified, view.likelihood, view.fit, view.engagement)
        for product, state in lead.states.items()
        if (view := state.view)
    }
    sales = lead.profile.sales
    return Told(outcome(sales.status, sales.reason) if sales else "", numbers)


def _known_there(rules: Crm, lead: LeadRow) -> bool:
    """A visitor without an address or an id of that system is nobody whom a CRM could find."""
    system = rules.system.strip().lower()
    named = any(
        one.kind is Kind.EMAIL or (one.kind is Kind.EXTERNAL and one.system == system)
        for one in lead.identifiers
    )
    return named and not lead.provisional and not lead.excluded


async def claim(connection: AsyncConnection, limit: int, lease_s: float) -> list[Owed]:
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
    return [
        Owed(row.lead_id, row.sequence, row.attempts, unpack(row.told) if row.told else None)
        for row in found
    ]


async def settled(connection: AsyncConnection, owed: Owed, told: Told | None) -> None:
    """The CRM knows this much; where there was more to say meanwhile, that is due at once."""
    await connection.execute(
        text(
            "UPDATE scorer.writeback SET told = :told, attempts = 0, problem = '', "
            "due_at = CASE WHEN sequence = :sequence THEN NULL ELSE now() END WHERE lead_id = :lead"
        ),
        {"lead": owed.lead, "sequence": owed.sequence, "told": pack(told) if told else None},
    )


async def failed(connection: AsyncConnection, owed: Owed, problem: str) -> bool:
    """Puts it off by the schedule; False at the schedule's end, where it is given up until there is
    news.
    """
    again = owed.attempts < len(SCHEDULE)
    if again:
        change = "attempts = :attempts + 1, due_at = now() + make_interval(secs => :wait)"
    else:
        change = (
            "attempts = 0, told = NULL, due_at = CASE WHEN sequence = :sequence THEN NULL "
            "ELSE now() END"
        )
    values: dict[str, Any] = (
        {"attempts": owed.attempts, "wait": SCHEDULE[owed.attempts]}
        if again
        else {"sequence": owed.sequence}
    )
    await connection.execute(
        text(f"UPDATE scorer.writeback SET problem = :problem, {change} WHERE lead_id = :lead"),
        {"lead": owed.lead, "problem": problem, **values},
    )
    return again


async def release(connection: AsyncConnection, owed: Owed) -> None:
    """Gives back what could not be tried."""
    await connection.execute(
        text("UPDATE scorer.writeback SET due_at = now() WHERE lead_id = :lead"),
        {"lead": owed.lead},
    )
