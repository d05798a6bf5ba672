"""Opens hand-offs: gives each its owner and starts its clock, within one transaction."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime

from services.scorer.handoffs import capacity, owners
from services.scorer.handoffs.owners import Counting, Load
from services.scorer.handoffs.records import Handoff
from services.scorer.handoffs.rules import Noted, Rules, reassign, start_clock, tick
from services.scorer.handoffs.store import HandoffStore
from services.scorer.list_keys import company_key, company_of
from services.scorer.records import LeadRow
from services.scorer.scoring import Scoring


class Routing:
    """Chooses owners by what each has been given, the transaction's own hand-offs among it; `write`
    writes those of leads that were changed before, of a company or ('') of any.
    """

    def __init__(
        self, store: HandoffStore, scoring: Scoring, rules: Rules, now: datetime,
        write: Callable[[int | None], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._store, self._scoring, self._rules, self._now = store, scoring, rules, now
        self._write = write
        week = capacity.week_of(now, rules.working.zone)
        self._counting = Counting(now, week, rules.section.no_show_reasons)
        self._loads: Mapping[str, Load] | None = None

    def loads(self, handoffs: Iterable[Handoff]) -> dict[str, Load]:
        """What hand-offs count for."""
        return self._counting.loads(handoffs) if self._rules.section.owners else {}

    def count(self, before: Mapping[str, Load], after: Iterable[Handoff]) -> None:
        """Notes that a lead's hand-offs have changed: what they counted for, and as they are."""
        if self._loads is not None:
            self._loads = owners.changed(self._loads, before, self.loads(after))

    async def open(self, lead: LeadRow, handoff: Handoff, known: Iterable[Handoff]) -> list[Noted]:
        """Gives a hand-off its owner and starts its clock; nothing where no owner has room.
        `known` are the lead's others.
        """
        choice = await self._chosen(lead, handoff, known)
        if self._rules.section.owners and not choice.owner and handoff.kind != "raised_hand":
            return []
        handoff.owner, handoff.why_owner = choice
        return start_clock(self._rules, handoff, self._rules.working_of(choice.owner), self._now)

    async def tick(self, lead: LeadRow, handoff: Handoff) -> list[Noted]:
        """Moves a clock on; who is silent loses it to another, where there is one."""
        noted = tick(handoff, self._now)
        missed = any(each.what == "response_missed" for each in noted)
        if missed and self._rules.section.reassign and handoff.owner:
            tried = {*handoff.owners_tried, handoff.owner}
            choice = await self._chosen(lead, handoff, (), tried)
            if choice.owner:
                working = self._rules.working_of(choice.owner)
                noted += reassign(self._rules, handoff, *choice, working, self._now)
        return noted

    async def _chosen(
        self, lead: LeadRow, handoff: Handoff, known: Iterable[Handoff], tried: Iterable[str] = ()
    ) -> owners.Choice:
        if not self._rules.section.owners:
            return owners.NOBODY
        ended = [(each.ended_at, each.owner) for each in known if each.ended_at and each.owner]
        last = max(ended, key=lambda each: each[0], default=None)
        asked = owners.Asked(
            str(handoff.id),
            self._now,
            lead.profile.email.rpartition("@")[2].lower(),
            lead.profile.known_traits(),
            handoff.owner or (last[1] if last else ""),
            await self._account_owner(lead, handoff.product),
            frozenset(tried),
            handoff.kind == "raised_hand",
        )
        if self._loads is None:
            await self._write(None)
            now, week, no_shows = self._counting
            self._loads = await self._store.loads(now, week, no_shows)
        return owners.choose(self._rules.section, self._rules.zone, asked, self._loads)

    async def _account_owner(self, lead: LeadRow, product: str) -> str:
        company = company_key(company_of(lead.profile, self._scoring.cleaner))
        if not company:
            return ""
        await self._write(company)
        return await self._store.account_owner(lead.id, product)
