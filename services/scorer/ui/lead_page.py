"""What the page shows of one lead: where it stands, why, and what happened."""

import asyncio
import uuid
from collections.abc import Sequence
from datetime import datetime
from math import exp

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.model.explanation import Ledger, Line, LineKind, explain
from services.scorer.model.state import Event
from services.scorer.model.trajectory import Curve, curve
from services.scorer.model.window import Known
from services.scorer.queries.lead_view import LeadView
from services.scorer.queries.leads import LeadQueries
from services.scorer.queries.repository import readable
from services.scorer.scoring import Scoring
from services.scorer.ui import activities
from services.scorer.ui.activities import Activity
from services.scorer.ui.contacts import phones_of
from services.scorer.ui.repository import PageRepository, StoredAnnouncement, StoredTouch
from services.scorer.wording import ledger_note, line_in_words, name_of, short
from services.shared.clock import from_us
from services.shared.contracts.event_types import TOUCH_SENT

HISTORY, LEDGER_LINES, TOUCHES = 50, 20, 100


class LedgerLine(msgspec.Struct, frozen=True):
    """A ledger line in plain words; `touch` is the id of the touch that it answers, or ''."""

    at: datetime
    text: str
    kind: LineKind
    points: float
    touch: str


class LedgerView(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger for people: points that add up to `total`, of 100, None once the outcome has
    happened; `earlier` counts the lines that are summed up, `unweighed` older events without one.
    """

    start: float
    earlier: int
    earlier_points: float
    lines: list[LedgerLine]
    total: float | None
    note: str
    unweighed: int


class LeadPage(msgspec.Struct, frozen=True, kw_only=True):
    """One lead in full; `more` where the history is cut."""

    lead: LeadView
    name: str
    detail: str
    traits: list[tuple[str, str]]
    company: str
    phones: list[str]
    fit_reasons: list[tuple[str, float]]
    curve: Curve
    ledger: LedgerView
    changes: list[Activity]
    touches: list[StoredTouch]
    history: list[Activity]
    more: bool


class LeadPages:
    """Read access for people; numbers come from `LeadQueries`, as the API's do."""

    def __init__(self, engine: AsyncEngine, scoring: Scoring, leads: LeadQueries) -> None:
        self._engine, self._fold, self._leads = engine, scoring.fold, leads
        self._library = scoring.playbook.content_by_id

    async def read(self, lead_id: uuid.UUID, product: str, *, whole: bool = False) -> LeadPage:
        """One lead as of this moment; its ledger and history cut unless `whole`. Raises MergedAway,
        or Reject `not-found` or `lead-unreadable`.
        """
        async with readable(self._engine, lead_id):
            return await self._read(lead_id, product, whole=whole)

    async def _read(self, lead_id: uuid.UUID, product: str, *, whole: bool) -> LeadPage:
        lead = await self._leads.lead(lead_id, product)
        known = await self._leads.known(lead_id, product, lead.as_of)
        async with self._engine.connect() as connection:
            repository = PageRepository(connection)
            announcements = await repository.announcements(lead_id, product)
            touches = await repository.touches(lead_id, TOUCHES)
        ledger, seen = await asyncio.to_thread(self._fold_again, product, known, lead.as_of)
        name = name_of(lead.traits, lead.identifiers)
        history = self._history(known.events, announcements, touches)
        limit = len(history) if whole else HISTORY
        return LeadPage(
            lead=lead,
            name=name.name,
            detail=name.detail,
            traits=[(trait, short(value)) for trait, value in sorted(lead.traits.items())],
            company=short(lead.traits.get("company")),
            phones=phones_of(lead.traits),
            fit_reasons=self._fold.fit.reasons(known.profile.fit_traits()),
            curve=seen,
            ledger=self._ledger(ledger, None if whole else LEDGER_LINES),
            changes=[activities.of_announcement(row) for row in announcements],
            touches=touches,
            history=history[:limit],
            more=len(history) > limit,
        )

    def _fold_again(self, product: str, known: Known, now: int) -> tuple[Ledger, Curve]:
        fold = self._fold
        return explain(fold, product, known, now), curve(fold, product, known, now)

    def _ledger(self, ledger: Ledger, limit: int | None) -> LedgerView:
        """The last `limit` lines, those before them summed up."""
        shown = ledger.lines[-limit:] if limit else ledger.lines
        earlier = ledger.lines[: len(ledger.lines) - len(shown)]
        return LedgerView(
            start=100 / (1 + exp(-ledger.start)),
            earlier=len(earlier),
            earlier_points=sum(line.points for line in earlier),
            lines=[self._line(line) for line in shown],
            total=None if ledger.likelihood is None else 100 * ledger.likelihood,
            note=ledger_note(ledger.ended_by),
            unweighed=ledger.unweighed,
        )

    def _line(self, line: Line) -> LedgerLine:
        text = line_in_words(line, self._library)
        return LedgerLine(from_us(line.at), text, line.kind, line.points, line.touch_id)

    def _history(
        self,
        events: Sequence[Event],
        announcements: Sequence[StoredAnnouncement],
        touches: Sequence[StoredTouch],
    ) -> list[Activity]:
        """All of it, newest first; at the same instant the event stands below what it caused."""
        interpret = self._fold.interpreter.interpret
        found = [
            *(activities.of_announcement(row) for row in announcements),
            *(activities.of_touch(row, self._library, reasoned=False) for row in touches),
            *(
                activities.of_event(event, interpret(event.data), self._library)
                for event in events
                if event.data.type != TOUCH_SENT
            ),
        ]
        return sorted(
            found,
            key=lambda activity: (activity.at, activity.kind != "event", activity.key),
            reverse=True,
        )
