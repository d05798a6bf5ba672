"""What came of each touch, kept as its records and answers arrive, so that reports count and never
collect. Whatever the order of arrival, a row is the same.
"""

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.records import IncomingEvent
from services.shared.clock import from_us
from services.shared.contracts.events import OWN_ACTS, Touch, TouchEvent

MOVED_WITHIN = timedelta(days=14)  # a step forward after a touch counts for it
BESIDE = timedelta(seconds=10)  # a click so near to a machine's on the same mail is the machine's
LOCKS = 7166  # the seed of the locks under which a touch's row is made
KIND_OF = {
    "email_delivered": "delivered", "email_bounced": "bounced", "email_clicked": "clicked",
    "email_replied": "replied", "unsubscribed": "left", "email_complained": "left",
    "consent_withdrawn": "left",
}  # fmt: skip
# why a touch is withheld before it is asked whether the account is held out; a lead enters the
# comparison by the first decision that none of these ends
NO_ENTRY = ["excluded", "history", "unknown_stage"]
_COLUMNS = {
    "id": "uuid", "announcement_id": "uuid", "product": "text", "program": "text", "stage": "text",
    "content": "text", "channel": "text", "requested": "boolean", "decided_at": "timestamptz",
    "sent_at": "timestamptz",
}  # fmt: skip


class Moved(NamedTuple):
    """A lead took a step forward by its own act."""

    lead: uuid.UUID
    product: str
    at: datetime


class TouchResults:
    """The rows within one transaction; `stages` are the playbook's in order."""

    def __init__(self, connection: AsyncConnection, stages: Sequence[str]) -> None:
        self._connection, self._stages = connection, list(stages)

    async def keep(self, touches: Iterable[TouchEvent], events: Iterable[IncomingEvent]) -> None:
        """Notes stored touches, and events that answer one; of neither a repetition changes
        anything.
        """
        latest: dict[str, Touch] = {}
        decided: dict[str, datetime] = {}
        for event in sorted(touches, key=lambda each: (each.time, each.type)):
            latest[event.data.id] = event.data
            at = event.data.decided_at or event.time
            decided[event.data.id] = min(at, decided.get(event.data.id, at))
        answers = {
            (touch, KIND_OF[event.data.type], event.data.machine, from_us(event.at))
            for event in events
            if event.data.type in KIND_OF and (touch := _uuid(event.data.touch_id))
        }
        ids = sorted({uuid.UUID(touch) for touch in latest} | {answer[0] for answer in answers})
        if not ids:
            return
        await self._run(_LOCK, ids=ids, seed=LOCKS)
        if answers:
            columns = [list(column) for column in zip(*sorted(answers), strict=True)]
            names = ("touch", "kind", "machine", "at")
            await self._run(_ANSWERS, **dict(zip(names, columns, strict=True)))
        if latest:
            columns = [
                list(column)
                for column in zip(
                    *(_values(each, decided[each.id]) for each in latest.values()), strict=True
                )
            ]
            await self._run(_TOUCHES, **dict(zip(_COLUMNS, columns, strict=True)))
            kept = columns[0]
            await self._run(_ENTRIES, ids=kept, reasons=NO_ENTRY)
            await self._run(
                _MOVED_BEFORE, ids=kept, stages=self._stages, within=MOVED_WITHIN,
                causes=sorted(OWN_ACTS),
            )  # fmt: skip
        await self._run(_RESULTS, ids=ids, beside=BESIDE)

    async def moved(self, steps: Sequence[Moved]) -> None:
        """Notes steps forward for the touches that came before them."""
        if steps:
            lead, product, at = (list(column) for column in zip(*steps, strict=True))
            await self._run(_MOVED, leads=lead, products=product, times=at, within=MOVED_WITHIN)

    async def _run(self, statement: str, **values: Any) -> None:
        await self._connection.execute(text(statement), values)


def _values(touch: Touch, decided_at: datetime) -> tuple[Any, ...]:
    """In the order of _COLUMNS."""
    return (
        uuid.UUID(touch.id), _uuid(touch.announcement), touch.product, touch.program, touch.stage,
        touch.content, touch.channel, bool(touch.requested), decided_at, touch.sent_at,
    )  # fmt: skip


def _uuid(text_: str) -> uuid.UUID | None:
    """None for what is no id of a touch: others write it."""
    try:
        return uuid.UUID(text_)
    except ValueError:
        return None


_LOCK = """SELECT pg_advisory_xact_lock(k) FROM (SELECT DISTINCT hashtextextended(id::text, :seed)
    AS k FROM unnest(CAST(:ids AS uuid[])) AS t(id) ORDER BY k) locks"""
_ANSWERS = """INSERT INTO scorer.touch_answer (touch_id, kind, machine, at)
    SELECT * FROM unnest(CAST(:touch AS uuid[]), CAST(:kind AS text[]),
    CAST(:machine AS boolean[]), CAST(:at AS timestamptz[])) ON CONFLICT DO NOTHING"""
# status and lead are those of the stored touch, which knows what overtakes what
_TOUCHES = (
    f"INSERT INTO scorer.touch_result AS r ({', '.join(_COLUMNS)}, lead_id, reason) "
    f"SELECT {', '.join(f'c.{name}' for name in _COLUMNS)}, t.lead_id, t.reason FROM unnest("
    + ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in _COLUMNS.items())
    + f") AS c({', '.join(_COLUMNS)}) JOIN scorer.touch t ON t.id = c.id "
    "ON CONFLICT (id) DO UPDATE SET lead_id = excluded.lead_id, reason = excluded.reason, "
    "content = coalesce(nullif(excluded.content, ''), r.content), "
    "channel = coalesce(nullif(excluded.channel, ''), r.channel), "
    "decided_at = least(excluded.decided_at, r.decided_at), "
    "sent_at = coalesce(excluded.sent_at, r.sent_at)"
)
_ENTRIES = """INSERT INTO scorer.entry AS e (lead_id, entered_at, announcement_id)
    SELECT DISTINCT ON (lead_id) lead_id, decided_at, announcement_id FROM scorer.touch_result
    WHERE id = ANY(:ids) AND NOT requested AND reason <> ALL(:reasons)
    ORDER BY lead_id, decided_at, id ON CONFLICT (lead_id) DO UPDATE
    SET entered_at = excluded.entered_at, announcement_id = excluded.announcement_id
    WHERE excluded.entered_at < e.entered_at"""
_RESULTS = """UPDATE scorer.touch_result r SET delivered_at = a.delivered, bounced_at = a.bounced,
        clicked_at = a.clicked, replied_at = a.replied, left_at = a.gone
    FROM (SELECT a.touch_id, min(a.at) FILTER (WHERE a.kind = 'delivered') AS delivered,
        min(a.at) FILTER (WHERE a.kind = 'bounced') AS bounced,
        min(a.at) FILTER (WHERE a.kind = 'clicked' AND NOT a.machine AND NOT EXISTS (
            SELECT 1 FROM scorer.touch_answer m WHERE m.touch_id = a.touch_id
            AND m.kind = 'clicked' AND m.machine AND m.at BETWEEN
            a.at - CAST(:beside AS interval) AND a.at + CAST(:beside AS interval))) AS clicked,
        min(a.at) FILTER (WHERE a.kind = 'replied') AS replied,
        min(a.at) FILTER (WHERE a.kind = 'left') AS gone
        FROM scorer.touch_answer a WHERE a.touch_id = ANY(:ids) GROUP BY a.touch_id) a
    WHERE r.id = a.touch_id"""
_MOVED_BEFORE = """UPDATE scorer.touch_result r SET moved_at = m.at FROM (
        SELECT s.id, min(n.cause_at) AS at FROM scorer.touch_result s
        JOIN scorer.lead l ON l.id = s.lead_id OR l.merged_into = s.lead_id
        JOIN scorer.announcement n ON n.lead_id = l.id AND n.product = s.product
            AND n.cause = ANY(:causes) AND n.cause_at > s.sent_at
            AND n.cause_at < s.sent_at + CAST(:within AS interval)
            AND array_position(CAST(:stages AS text[]), n.stage)
                > array_position(CAST(:stages AS text[]), n.from_stage)
        WHERE s.id = ANY(:ids) AND s.sent_at IS NOT NULL GROUP BY s.id) m
    WHERE m.id = r.id AND (r.moved_at IS NULL OR r.moved_at > m.at)"""
_MOVED = """UPDATE scorer.touch_result r SET moved_at = m.at FROM (
        SELECT s.id, min(a.at) AS at FROM scorer.touch_result s
        JOIN unnest(CAST(:leads AS uuid[]), CAST(:products AS text[]),
            CAST(:times AS timestamptz[])) AS a(lead_id, product, at)
        ON s.lead_id = a.lead_id AND s.product = a.product AND s.sent_at < a.at
            AND s.sent_at > a.at - CAST(:within AS interval) GROUP BY s.id) m
    WHERE m.id = r.id AND (r.moved_at IS NULL OR r.moved_at > m.at)"""
