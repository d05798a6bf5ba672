"""Reading leads: lists by stored numbers, single leads at any moment, look-up, explanation."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scorer.checking import alike
from services.scorer.failing import FailingLeads, is_of_one_lead, reason_of
from services.scorer.history import ALWAYS, History
from services.scorer.model.explanation import Ledger, explain
from services.scorer.model.fold import Fold
from services.scorer.model.profile import Profile
from services.scorer.model.state import View
from services.scorer.model.window import Known
from services.scorer.queries.filters import LeadFilter
from services.scorer.queries.lag import Lag
from services.scorer.queries.lead_view import (
    FailedLead,
    FitView,
    LeadPage,
    LeadView,
    consents_of,
)
from services.scorer.queries.repository import (
    LeadRepository,
    Place,
    StoredLead,
    UnknownLead,
    readable,
)
from services.scorer.queries.summary import Summary, summary
from services.scorer.records import State, UnreadableLead
from services.scorer.scoring import Scoring
from services.shared.contracts.identity import Identifier
from services.shared.errors import Reject
from services.shared.http.paging import Cursors, Position


class LeadInFull(NamedTuple):
    """A lead with what people read first, its ledger, and the events that are weighed."""

    lead: LeadView
    summary: Summary
    ledger: Ledger
    known: Known


class LeadQueries:
    """Read access to leads; every view names the moment of which it speaks."""

    def __init__(
        self, engine: AsyncEngine, scoring: Scoring, pepper: bytes, lag: Lag | None = None
    ) -> None:
        self._engine, self._scoring, self._cursors = engine, scoring, Cursors(pepper)
        self._lag = lag

    @property
    def products(self) -> Sequence[str]:
        """The playbook's products, of which the first is asked for where none is named."""
        return self._scoring.playbook.products

    def now(self) -> int:
        """The present (µs) of the system's clock."""
        return self._scoring.clock.now_us()

    async def page(self, asked: LeadFilter) -> LeadPage:
        """Leads as of when their numbers were stored, highest first. Raises Reject for a cursor of
        another list.
        """
        after = None
        if asked.cursor:
            position = self._cursors.decode(asked.scope, asked.cursor)
            after = Place(position.value, uuid.UUID(position.id))
        async with self._engine.connect() as connection:
            page = await LeadRepository(connection).page(asked, after)
            views, failed = await self._listed(connection, page.leads)
        failed = [*page.failed, *failed]
        if failed:
            async with self._engine.begin() as connection:
                reasons = {lead.id: lead.reason for lead in failed}
                await FailingLeads(connection).note(reasons, "query")
        following = None
        if page.end:
            end = Position(page.end.sorted_by, str(page.end.lead))
            following = self._cursors.encode(asked.scope, end)
        return LeadPage(views, failed, following)

    async def chosen(self, leads: Sequence[uuid.UUID], product: str) -> LeadPage:
        """These leads in their order, as of when their numbers were stored."""
        async with self._engine.connect() as connection:
            page = await LeadRepository(connection).chosen(leads, product)
            views, failed = await self._listed(connection, page.leads)
        return LeadPage(views, [*page.failed, *failed], None)

    async def _listed(
        self, connection: AsyncConnection, leads: Sequence[StoredLead]
    ) -> tuple[list[LeadView], list[FailedLead]]:
        """Views of leads together; one by one where one of them fails, and those that do apart."""
        try:
            await self._refold_outdated(connection, leads)
            return self._views(leads, [lead.state.as_of for lead in leads]), []
        except Exception as error:
            if not is_of_one_lead(error):
                raise
            if len(leads) == 1:
                return [], [FailedLead(leads[0].id, reason_of(error))]
        views, failed = [], []
        for lead in leads:
            viewed, unviewed = await self._listed(connection, [lead])
            views += viewed
            failed += unviewed
        return views, failed

    async def lead(self, lead_id: uuid.UUID, product: str, at: int | None = None) -> LeadView:
        """One lead now, or as its events up to `at` (µs) make it. Raises MergedAway, or Reject
        `not-found` or `lead-unreadable`.
        """
        async with readable(self._engine, lead_id):
            async with self._engine.connect() as connection:
                lead = await LeadRepository(connection).lead(lead_id, product)
                if at is not None or self._is_outdated(lead.state):
                    known = await self._known(connection, lead, at)
                    await asyncio.to_thread(self._refold, lead, known)
            return self._as_of(lead, at)

    async def in_full(self, lead_id: uuid.UUID, product: str, at: int | None = None) -> LeadInFull:
        """The same with its ledger and summary."""
        async with readable(self._engine, lead_id):
            async with self._engine.connect() as connection:
                lead = await LeadRepository(connection).lead(lead_id, product)
                known = await self._known(connection, lead, at)
                found = await alike(connection)
            return await asyncio.to_thread(self._in_full, lead, known, at, found)

    def _in_full(
        self, lead: StoredLead, known: Known, at: int | None, found: dict[str, Any] | None
    ) -> LeadInFull:
        if at is not None or self._is_outdated(lead.state):
            self._refold(lead, known)
        view = self._as_of(lead, at)
        ledger = explain(self._fold, view.product, known, view.as_of)
        in_short = summary(self._scoring, view, lead.state.fold, known, ledger, found)
        return LeadInFull(view, in_short, ledger, known)

    def _refold(self, lead: StoredLead, known: Known) -> None:
        lead.profile = known.profile
        lead.state.fold = self._fold.refold(lead.state.fold.product, [known.events])[0]

    def _as_of(self, lead: StoredLead, at: int | None) -> LeadView:
        latest = max(self.now(), lead.profile.last_at, lead.state.fold.last_at)
        return self._views([lead], [latest if at is None else at])[0]

    async def look_up(self, identifier: Identifier, where: str = "body") -> uuid.UUID:
        """The lead that an identifier belongs to. Raises UnknownLead, which names `where` it was
        given.
        """
        if found := await self._look_up(identifier):
            return found
        is_behind = await self.is_behind()
        # what was applied between the two questions is there by now
        if not is_behind and (found := await self._look_up(identifier)):
            return found
        remedy = "it becomes known with its first event"
        raise UnknownLead("no lead has this identifier", where, remedy, is_behind=is_behind)

    async def _look_up(self, identifier: Identifier) -> uuid.UUID | None:
        async with self._engine.connect() as connection:
            return await LeadRepository(connection).look_up(identifier)

    async def is_behind(self) -> bool:
        """Whether events wait that are not applied yet."""
        return self._lag is not None and await self._lag.is_behind()

    async def check(self, lead_id: uuid.UUID) -> None:
        """Raises MergedAway, or UnknownLead, where no lead has this id."""
        async with self._engine.connect() as connection:
            await LeadRepository(connection).check(lead_id)

    async def strongest_identifier(self, lead_id: uuid.UUID) -> Identifier:
        """That of a lead, or of the one into which it was merged. Raises Reject `not-found`."""
        async with self._engine.connect() as connection:
            return await LeadRepository(connection).strongest_identifier(lead_id)

    async def explain(self, lead_id: uuid.UUID, product: str, at: int | None = None) -> Ledger:
        """The ledger of one lead's likelihood, now or at `at` (µs). Raises MergedAway, or Reject
        `not-found` or `lead-unreadable`.
        """
        async with readable(self._engine, lead_id):
            known = await self.known(lead_id, product, at)
            moment = max(self.now(), known.events[-1].at) if at is None else at
            return await asyncio.to_thread(explain, self._fold, product, known, moment)

    async def known(self, lead_id: uuid.UUID, product: str, until: int | None = None) -> Known:
        """What the fold weighs of one lead's events up to `until` (µs). Raises MergedAway, or
        Reject `not-found`.
        """
        async with readable(self._engine, lead_id), self._engine.connect() as connection:
            repository = LeadRepository(connection)
            try:
                lead = await repository.lead(lead_id, product)
            except UnreadableLead:  # its events can still be read
                await repository.check(lead_id)
                return await self._from_events(connection, lead_id, None, until)
            return await self._known(connection, lead, until)

    async def _known(
        self, connection: AsyncConnection, lead: StoredLead, until: int | None
    ) -> Known:
        latest = max(lead.profile.last_at, lead.state.fold.last_at)
        is_all = until is None or until >= latest
        held = is_all and self._scoring.holds(lead.profile, [lead.state])
        profile = lead.profile if held else None
        return await self._from_events(connection, lead.id, profile, until)

    async def _from_events(
        self,
        connection: AsyncConnection,
        lead_id: uuid.UUID,
        profile: Profile | None,
        until: int | None,
    ) -> Known:
        until = ALWAYS if until is None else until
        history = History(connection, self._fold.declared)
        found = [known[lead_id] async for known in history.known({lead_id: profile}, until)]
        if not found[0].events:
            raise Reject(
                "nothing was known of the lead then",
                where="at",
                remedy="ask for a later time",
                kind="not-found",
            )
        return found[0]

    # -- views ------------------------------------------------------------------------------------

    @property
    def _fold(self) -> Fold:
        return self._scoring.fold

    def _is_outdated(self, state: State) -> bool:
        """Whether it was folded under another playbook or model, and is not to be shown."""
        return state.fold_hash != self._scoring.playbook.fold_hash

    async def _refold_outdated(
        self, connection: AsyncConnection, leads: Sequence[StoredLead]
    ) -> None:
        outdated = [lead for lead in leads if self._is_outdated(lead.state)]
        if not outdated:
            return
        profiles = {
            lead.id: lead.profile if self._scoring.holds(lead.profile, [lead.state]) else None
            for lead in outdated
        }
        history = History(connection, self._fold.declared)
        async for known in history.known(profiles):
            for lead in outdated:
                if lead.id in known:
                    product, its = lead.state.fold.product, known[lead.id]
                    lead.state.fold = self._fold.refold(product, [its.events])[0]

    def _views(self, leads: Sequence[StoredLead], moments: Sequence[int]) -> list[LeadView]:
        """The leads as they look at `moments` (µs), folded forward together."""
        if not leads:
            return []
        fits, effects = self._fold.persons([lead.profile.fit_traits() for lead in leads])
        views = self._fold.view([lead.state.fold for lead in leads], moments, fits, effects)
        return [
            self._view(lead, view, moment)
            for lead, view, moment in zip(leads, views, moments, strict=True)
        ]

    def _view(self, lead: StoredLead, view: View, as_of: int) -> LeadView:
        fit, profile = self._fold.fit, lead.profile
        product, source = lead.state.fold.product, profile.source
        sales = profile.sales_of(product, self.products)
        return LeadView(
            id=lead.id,
            version=lead.version,
            identifiers=profile.last_linked_first(lead.identifiers),
            traits=profile.known_traits(),
            product=product,
            stage=view.stage,
            stage_since=view.stage_since,
            belief=view.belief,
            confidence=view.confidence,
            likelihood=view.likelihood,
            calibrated=self._fold.estimate.is_calibrated,
            fit=FitView(view.fit, fit.grade(view.fit)),
            engagement=view.engagement,
            qualified=fit.qualified(view.fit),
            sales_status=sales.status if sales else "",
            sales_reason=sales.reason if sales else "",
            consent=consents_of(profile),
            source=source.name if source else "",
            campaign=source.campaign if source else "",
            left_out=profile.left_out,
            events_counted=profile.events,
            last_event_at=profile.last_at if profile.events else None,
            next_review_at=view.next_review_at,
            as_of=as_of,
        )
