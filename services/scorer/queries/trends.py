"""Trends of leads, folded from their events and kept while nothing has changed."""

import uuid
from collections.abc import Iterable
from typing import NamedTuple

from services.scorer.model.trend import SPAN, Trend, trend
from services.scorer.queries.lead_view import LeadView
from services.scorer.queries.leads import LeadQueries
from services.scorer.queries.repository import MergedAway
from services.shared.clock import DAY
from services.shared.errors import Reject

KEPT_FOR = DAY // 24  # µs
CHANGED_AFTER = KEPT_FOR // 60  # a lead that changes is folded no more often
LONG = 2_000  # events, of a lead whose trend is kept whatever changes
MOST_KEPT = 2_000


class _Kept(NamedTuple):
    version: int
    at: int
    trend: Trend

    def holds(self, view: LeadView, now: int) -> bool:
        """Whether it stands for the lead as it is."""
        is_same = self.version == view.version or view.events_counted > LONG
        return 0 <= now - self.at < (KEPT_FOR if is_same else CHANGED_AFTER)


class Trends:
    """Trends of leads; each is computed again after an hour, or sooner where the lead has
    changed.
    """

    def __init__(self, leads: LeadQueries) -> None:
        self._leads = leads
        self._kept: dict[tuple[uuid.UUID, str], _Kept] = {}

    async def of(self, views: Iterable[LeadView]) -> dict[uuid.UUID, Trend]:
        """By lead its trend for the product of its view."""
        return {view.id: await self._of(view) for view in views}

    async def _of(self, view: LeadView) -> Trend:
        now, key = self._leads.now(), (view.id, view.product)
        kept = self._kept.get(key)
        if kept and kept.holds(view, now):
            return kept.trend
        found = await self._compare(view, now)
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept[key] = _Kept(view.version, now, found)
        return found

    async def _compare(self, view: LeadView, now: int) -> Trend:
        try:
            before = await self._leads.lead(view.id, view.product, now - SPAN)
        except (Reject, MergedAway):  # nothing was known then, or it cannot be read
            return "unclear"
        return trend(view.likelihood, before.likelihood)
