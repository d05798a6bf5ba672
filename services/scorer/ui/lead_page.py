"""What the page shows of one lead: where it stands, why, and what happened."""

import asyncio
import uuid
from collections.abc import Sequence

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.model.state import Event
from services.scorer.model.trajectory import Curve, curve
from services.scorer.queries.lead_view import LeadView
from services.scorer.queries.leads import LeadQueries
from services.scorer.queries.repository import readable
from services.scorer.queries.summary import Summary, outlook_in_words, words_of
from services.scorer.scoring import Scoring
from services.scorer.ui import activities
from services.scorer.ui.activities import Activity
from services.scorer.ui.contacts import phones_of
from services.scorer.ui.ledger import LedgerView, ledger_view
from services.scorer.ui.repository import PageRepository, StoredAnnouncement, StoredTouch
from services.scorer.wording import name_of, short
from services.shared.contracts.event_types import TOUCH_SENT

HISTORY, LEDGER_ACTS, TOUCHES = 50, 20, 100


class LeadPage(msgspec.Struct, frozen=True, kw_only=True):
    """One lead in full; `more` where the history is cut, `whole` where nothing is."""

    lead: LeadView
    summary: Summary
    outlook: list[str]
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
    whole: bool


class LeadPages:
    """Read access for people; numbers come from `LeadQueries`, as the API's do."""

    def __init__(self, engine: AsyncEngine, scoring: Scoring, leads: LeadQueries) -> None:
        self._engine, self._fold, self._leads = engine, scoring.fold, leads
        self._words = words_of(scoring.playbook)

    async def read(self, lead_id: uuid.UUID, product: str, *, whole: bool = False) -> LeadPage:
        """One lead as of this moment; its ledger and history cut unless `whole`. Raises MergedAway,
        or Reject `not-found` or `lead-unreadable`.
        """
        async with readable(self._engine, lead_id):
            return await self._read(lead_id, product, whole=whole)

    async def _read(self, lead_id: uuid.UUID, product: str, *, whole: bool) -> LeadPage:
        lead, in_short, ledger, known = await self._leads.in_full(lead_id, product)
        async with self._engine.connect() as connection:
            repository = PageRepository(connection)
            announcements = await repository.announcements(lead_id, product)
            touches = await repository.touches(lead_id, TOUCHES)
        seen = await asyncio.to_thread(curve, self._fold, product, known, lead.as_of)
        acts = None if whole else LEDGER_ACTS
        name = name_of(lead.traits, lead.identifiers)
        history = self._history(known.events, announcements, touches)
        limit = len(history) if whole else HISTORY
        return LeadPage(
            lead=lead,
            summary=in_short,
            outlook=outlook_in_words(in_short, lead, self._words),
            name=name.name,
            detail=name.detail,
            traits=[(trait, short(value)) for trait, value in sorted(lead.traits.items())],
            company=short(lead.traits.get("company")),
            phones=phones_of(lead.traits),
            fit_reasons=self._fold.fit.reasons(known.profile.fit_traits()),
            curve=seen,
            ledger=ledger_view(ledger, self._words, acts, calibrated=lead.calibrated),
            changes=[activities.of_announcement(row) for row in announcements],
            touches=touches,
            history=history[:limit],
            more=len(history) > limit,
            whole=whole,
        )

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
            *(activities.of_touch(row, self._words.library, reasoned=False) for row in touches),
            *(
                activities.of_event(event, interpret(event.data), self._words.library)
                for event in events
                if event.data.type != TOUCH_SENT
            ),
        ]
        return sorted(
            found,
            key=lambda activity: (activity.at, activity.kind != "event", activity.key),
            reverse=True,
        )
