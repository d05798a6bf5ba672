"""What the page shows, read from the scorer's tables: the pipeline, what is new, one lead in full,
the mails sent.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from math import exp
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.model.explanation import Ledger, Line, explain
from services.scorer.model.profile import profile_of
from services.scorer.model.state import Event
from services.scorer.model.trajectory import Curve, curve
from services.scorer.queries.leads import Queries, parse_time
from services.scorer.records import unpack_profile
from services.scorer.scoring import Scoring
from services.scorer.store import Store
from services.scorer.wording import (
    decided,
    did,
    ledger_note,
    line_in_words,
    moved,
    said,
    who,
)
from services.shared.clock import from_us, rfc3339, to_us
from services.shared.contracts.events import TOUCH_SENT, Interaction, Touch
from services.shared.contracts.identity import Cleaner
from services.shared.db import rows
from services.shared.errors import Reject
from services.shared.playbook.sections import UNKNOWN

RECENT = 30
HISTORY, LEDGER_LINES, TOUCHES = 50, 20, 100
PLACE = re.compile(r"(-?\d{1,17})-([0-9a-f-]{36})")
read_touch = msgspec.json.Decoder(Touch).decode


class StageCount(msgspec.Struct, frozen=True):
    """Listed leads of one stage, and their mean likelihood; None where nothing is left to
    predict.
    """

    stage: str
    leads: int = 0
    qualified: int = 0
    likelihood: float | None = None


class Item(msgspec.Struct, frozen=True):
    """One line of a stream or timeline; `kind` is event, announcement or touch, `tone` a stage or a
    status.
    """

    key: str
    at: datetime
    kind: str
    text: str
    tone: str = ""
    note: str = ""
    lead: uuid.UUID | None = None
    who: str = ""
    content: str = ""


class Told(msgspec.Struct, frozen=True):
    """A ledger line in plain words."""

    at: str
    text: str
    kind: str
    points: float
    touch: str = ""


class Account(msgspec.Struct, frozen=True):
    """The ledger for people: points that add up to `total`, of 100; `earlier` lines are
    summed up.
    """

    start: float
    earlier: int
    earlier_points: float
    lines: list[Told]
    total: float | None
    note: str


class Mail(msgspec.Struct, frozen=True):
    """A touch with what was sent, if anything was."""

    at: datetime
    touch: Touch
    who: str = ""


class Portrait(msgspec.Struct, frozen=True):
    """One lead in full."""

    lead: dict[str, Any]
    who: str
    detail: str
    traits: list[tuple[str, str]]
    reasons: list[tuple[str, float]]
    curve: Curve
    account: Account
    changes: list[Item]
    touches: list[Mail]
    history: list[Item]
    more: bool


class PageViews:
    """Read access for people; numbers come from `Queries`, so that page and API never differ."""

    def __init__(self, engine: AsyncEngine, scoring: Scoring, queries: Queries) -> None:
        self._engine, self._scoring, self._queries = engine, scoring, queries
        self._library = scoring.playbook.content_by_id
        self._counted: tuple[float, dict[str, list[StageCount]]] = (0.0, {})

    @property
    def stages(self) -> list[str]:
        """All stages that a lead may be in, the unknown one first."""
        return [UNKNOWN, *self._scoring.playbook.stages]

    # -- many leads -------------------------------------------------------------------------------

    async def pipeline(self) -> dict[str, list[StageCount]]:
        """Listed leads by product and stage; a count that takes long is taken seldom."""
        due, last = self._counted
        if time.monotonic() < due:
            return last
        began = time.monotonic()
        async with self._engine.connect() as connection:
            found = await rows(
                connection,
                "SELECT product, stage, count(*) AS leads, count(*) FILTER (WHERE qualified) "
                "AS qualified, "
                "avg(likelihood) AS likelihood FROM scorer.lead_state WHERE listed AND "
                "last_event_at > :never "
                "GROUP BY product, stage",
                never=-(1 << 61),
            )
        counts = {
            (r.product, r.stage): StageCount(r.stage, r.leads, r.qualified, r.likelihood)
            for r in found
        }
        pipeline = {
            product: [counts.get((product, stage), StageCount(stage)) for stage in self.stages]
            for product in self._queries.products
        }
        ended = time.monotonic()
        self._counted = (ended + 10 * (ended - began), pipeline)
        return pipeline

    async def recent(self, limit: int = RECENT) -> list[Item]:
        """The latest announcements and touches, newest first."""
        async with self._engine.connect() as connection:
            changes = await rows(
                connection,
                "SELECT a.*, coalesce(l.merged_into, a.lead_id) AS lives FROM "
                "scorer.announcement a "
                "LEFT JOIN scorer.lead l ON l.id = a.lead_id ORDER BY a.announced_at DESC, "
                "a.id LIMIT :limit",
                limit=limit,
            )
            touches = await rows(
                connection,
                "SELECT id, lead_id AS lives, at, body FROM scorer.touch ORDER BY at DESC, id "
                "LIMIT :limit",
                limit=limit,
            )
        names = await self._names({row.lives for row in (*changes, *touches)})
        items = [_change(row, row.lives, names.get(row.lives, "")) for row in changes]
        items += [
            self._touch(row.at, read_touch(row.body), row.lives, names.get(row.lives, ""))
            for row in touches
        ]
        return sorted(items, key=lambda item: (item.at, item.kind == "touch"), reverse=True)[:limit]

    async def _names(self, leads: Iterable[uuid.UUID]) -> dict[uuid.UUID, str]:
        async with self._engine.connect() as connection:
            leads = list(leads)
            found = await rows(
                connection,
                "SELECT id, profile FROM scorer.lead WHERE id = ANY(:leads)",
                leads=leads,
            )
            identifiers = await Store(connection).identifiers(leads)
        return {
            r.id: who(unpack_profile(r.profile).known_traits(), identifiers.get(r.id, []))[0]
            for r in found
        }

    async def names(self, leads: Sequence[dict[str, Any]]) -> dict[str, tuple[str, str]]:
        """(name, what tells them apart) of leads as `Queries.leads` gives them, by id."""
        async with self._engine.connect() as connection:
            identifiers = await Store(connection).identifiers(
                uuid.UUID(lead["id"]) for lead in leads
            )
        return {
            lead["id"]: who(lead["traits"], identifiers.get(uuid.UUID(lead["id"]), []))
            for lead in leads
        }

    async def find(self, email: str, cleaner: Cleaner) -> uuid.UUID:
        """The lead with this address. Raises Reject `not-found`."""
        named = cleaner.identifiers(Interaction(id="", type="", email=email))
        if not named or "\0" in email:
            raise Reject(
                "this is no mail address",
                where="email",
                remedy="write it like jo@example.com",
                kind="not-found",
            )
        return await self._queries.lookup(named[0])

    # -- one lead ---------------------------------------------------------------------------------

    async def portrait(self, lead_id: uuid.UUID, product: str, *, whole: bool = False) -> Portrait:
        """One lead as of this moment. Raises Moved, or Reject `not-found`."""
        lead = await self._queries.lead(lead_id, product)
        now = parse_time(lead["as_of"])
        events = await self._queries.events(lead_id, now)
        async with self._engine.connect() as connection:
            changes = await rows(
                connection,
                "SELECT * FROM scorer.announcement WHERE product = :product AND (lead_id = "
                ":lead OR lead_id IN "
                "(SELECT id FROM scorer.lead WHERE merged_into = :lead)) ORDER BY announced_at "
                "DESC, seq DESC LIMIT 500",
                lead=lead_id, product=product,
            )  # fmt: skip
            touches = await rows(
                connection,
                "SELECT at, body FROM scorer.touch WHERE lead_id = :lead ORDER BY at DESC, id "
                "LIMIT :limit",
                lead=lead_id,
                limit=TOUCHES,
            )
            identifiers = (await Store(connection).identifiers([lead_id])).get(lead_id, [])
        ledger, seen = await asyncio.to_thread(self._reckon, product, events, now)
        name, detail = who(lead["traits"], identifiers)
        mails = [Mail(row.at, read_touch(row.body)) for row in touches]
        told = [_change(row, lead_id, name) for row in changes]
        history = self._history(events, told, mails)
        limit = len(history) if whole else HISTORY
        return Portrait(
            lead=lead,
            who=name,
            detail=detail,
            traits=[(key, said(value)) for key, value in sorted(lead["traits"].items())],
            reasons=self._scoring.fold.fit.reasons(profile_of(events).fit_traits()),
            curve=seen,
            account=self._account(ledger, None if whole else LEDGER_LINES),
            changes=told,
            touches=mails,
            history=history[:limit],
            more=len(history) > limit,
        )

    def _reckon(self, product: str, events: Sequence[Event], now: int) -> tuple[Ledger, Curve]:
        fold = self._scoring.fold
        return explain(fold, product, events, now), curve(fold, product, events, now)

    def _account(self, ledger: Ledger, limit: int | None) -> Account:
        shown = ledger.lines[-limit:] if limit else ledger.lines
        earlier = ledger.lines[: len(ledger.lines) - len(shown)]
        total = None if ledger.likelihood is None else 100 * ledger.likelihood
        return Account(
            start=100 / (1 + exp(-ledger.start)),
            earlier=len(earlier),
            earlier_points=sum(line.points for line in earlier),
            lines=[self._told(line) for line in shown],
            total=total,
            note=ledger_note(ledger.ended_by),
        )

    def _told(self, line: Line) -> Told:
        at, text = rfc3339(from_us(line.at)), line_in_words(line, self._library)
        return Told(at, text, line.kind, line.points, line.touch_id)

    def _history(
        self, events: Sequence[Event], changes: Sequence[Item], mails: Sequence[Mail]
    ) -> list[Item]:
        read = self._scoring.fold.interpreter.interpret
        items = [*changes, *(self._touch(mail.at, mail.touch) for mail in mails)]
        for event in events:
            if event.data.type != TOUCH_SENT:
                text, note = did(event.data, read(event.data), self._library)
                items.append(Item(event.uid, from_us(event.at), "event", text, note=note))
        return sorted(
            items, key=lambda item: (item.at, item.kind != "event", item.key), reverse=True
        )

    def _touch(
        self, at: datetime, touch: Touch, lead: uuid.UUID | None = None, name: str = ""
    ) -> Item:
        text = decided(touch, self._library)
        return Item(
            f"{touch.id}-{touch.status}",
            at,
            "touch",
            text,
            touch.status,
            touch.why,
            lead,
            name,
            touch.content,
        )

    # -- mails ------------------------------------------------------------------------------------

    async def mails(self, before: str = "", limit: int = 20) -> tuple[list[Mail], str]:
        """Mails sent, newest first, and where the following page begins or ''."""
        place = _place(before) if before else {}
        async with self._engine.connect() as connection:
            found = await rows(
                connection,
                "SELECT id, lead_id, at, body FROM scorer.touch WHERE status IN ('sent', "
                "'unknown') "
                f"{'AND (at, id) < (:at, :id)' if before else ''} ORDER BY at DESC, id DESC "
                "LIMIT :limit",
                limit=limit + 1,
                **place,
            )
        page = found[:limit]
        names = await self._names({row.lead_id for row in page})
        mails = [
            Mail(r.at, _owned(read_touch(r.body), r.lead_id), names.get(r.lead_id, ""))
            for r in page
        ]
        following = f"{to_us(page[-1].at)}-{page[-1].id}" if len(found) > limit else ""
        return mails, following

    async def touch(self, touch_id: uuid.UUID) -> Touch:
        """One touch with its mail. Raises Reject `not-found`."""
        async with self._engine.connect() as connection:
            found = await rows(
                connection, "SELECT body FROM scorer.touch WHERE id = :id", id=touch_id
            )
        if not found:
            raise Reject(
                "no such touch", where="id", remedy="open it from the lead's page", kind="not-found"
            )
        return read_touch(found[0].body)


def _change(row: Any, lead: uuid.UUID, name: str) -> Item:
    text = moved(row.from_stage, row.stage, row.cause)
    return Item(str(row.id), row.announced_at, "announcement", text, row.stage, lead=lead, who=name)


def _owned(touch: Touch, lead: uuid.UUID) -> Touch:
    """The touch under the lead that lives."""
    return msgspec.structs.replace(touch, lead=str(lead))


def _place(before: str) -> dict[str, Any]:
    match = PLACE.fullmatch(before)
    try:
        if not match:
            raise ValueError
        return {"at": from_us(int(match[1])), "id": uuid.UUID(match[2])}
    except (ValueError, OverflowError):
        raise Reject(
            "no such place in the list", where="before", remedy="begin again at the newest mail"
        ) from None
