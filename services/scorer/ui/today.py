"""The page Call today: whom sales is to call, why, and what came of it, by one click."""

import uuid
from collections.abc import Iterable
from datetime import date, datetime
from typing import Annotated, Literal, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from fastapi import APIRouter, Form, Query, Response
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.handoffs.answers import Details, HandoffAnswers
from services.scorer.handoffs.daily import Day, Group, day_of, group_of, version
from services.scorer.handoffs.records import Answer, Handoff
from services.scorer.handoffs.working_time import WorkingTime
from services.scorer.model.trend import Trend
from services.scorer.queries.lead_view import LeadView
from services.scorer.queries.leads import LeadQueries
from services.scorer.queries.trends import Trends
from services.scorer.scoring import Scoring
from services.scorer.ui.contacts import MAX_MESSAGE, phones_of
from services.scorer.ui.frame import MAX_PLACE, Frame, own_path, see_other
from services.scorer.ui.lead_names import names_of_views
from services.scorer.wording import LeadName, day_in_words, on_day, plain, short
from services.shared.http.acting import Acting, only
from services.shared.people import store
from services.shared.people.audit import Actor

PAGE = "/today"
GROUPS: dict[Group, str] = {
    "raised_hand": "Raised a hand",
    "ready": "Ready",
    "reawakened": "Re-awakened",
    "not_reached": "Not reached yet",
    "follow_up": "Follow-ups of today",
}
TRENDS: dict[Trend, str] = {
    "rising": "↗ rising",
    "steady": "→ steady",
    "falling": "↘ falling",
    "unclear": "trend: not enough to say",
}
ANSWERS: dict[str, str] = {
    "accept": "accepted",
    "meeting": "meeting",
    "reject": "rejected",
    "disqualify": "disqualified",
    "return": "given back",
    "not_reached": "not reached",
}
CONTACTS = 2  # phone numbers, and mail addresses, of a lead
REASONS = 3
Given = Literal["accept", "not-reached", "meeting", "disqualify", "return", "note", "undo"]
CLOSING: dict[str, Answer] = {
    "accept": "accept",
    "meeting": "meeting",
    "disqualify": "disqualify",
    "return": "return",
}


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """One hand-off as it is called; `lead` is None where it cannot be read."""

    handoff: Handoff
    lead: LeadView | None
    name: str
    detail: str
    group: Group
    why: str
    reasons: list[str]
    said: str
    phones: list[str]
    emails: list[str]
    trend: Trend

    @property
    def likelihood(self) -> float | None:
        """The present one, or that with which it was opened."""
        return self.lead.likelihood if self.lead else self.handoff.likelihood


class Known(NamedTuple):
    """What is known of the leads of hand-offs, by lead and product."""

    leads: dict[tuple[uuid.UUID, str], LeadView]
    names: dict[uuid.UUID, LeadName]


class TodayRoutes:
    """The page, and the answers that are given on it."""

    def __init__(
        self,
        engine: AsyncEngine,
        scoring: Scoring,
        leads: LeadQueries,
        answers: HandoffAnswers,
        frame: Frame,
    ) -> None:
        self._engine, self._clock, self._leads = engine, scoring.clock, leads
        self._answers, self._frame, self._trends = answers, frame, Trends(leads)
        self._reasons = scoring.playbook.sales.disqualify_reasons
        self._zone = zone_of(scoring)

    def add_to(self, router: APIRouter) -> None:
        """Adds the routes."""
        router.add_api_route(PAGE, self.today)
        router.add_api_route(
            PAGE, self.answer, methods=["POST"], dependencies=[only("sales", "admin")]
        )

    async def today(
        self, actor: Acting, owner: Annotated[str, Query(max_length=254)] = ""
    ) -> Response:
        """Those of `mine` (and of nobody), `all`, or of the owner with this address; by itself a
        salesperson's own, else all.
        """
        mail = await self._mail_of(actor)
        shown = owner or ("mine" if actor.role == "sales" else "all")
        owners = {"all": [], "mine": [mail, ""]}.get(shown, [shown.replace("\0", "")])
        now = self._clock.now()
        async with self._engine.connect() as connection:
            seen = await version(connection, now, self._zone)
            day = await day_of(connection, owners, now, self._zone)
        known = await self._known(day)
        today = now.astimezone(self._zone).date()
        return self._frame.page(
            "today.html", here="today", version=seen, groups=await self._groups(day, known, today),
            day=day, names=known.names, titles=GROUPS, trends=TRENDS, answers=ANSWERS,
            owner=shown, is_person=bool(mail), today=today, reasons=self._reasons,
            on=lambda agreed: on_day(agreed, today),
            may_answer=actor.kind == "key" or actor.role in ("sales", "admin"),
        )  # fmt: skip

    async def answer(
        self,
        actor: Acting,
        handoff: Annotated[uuid.UUID, Form()],
        answer: Annotated[Given, Form()],
        reason: Annotated[str, Form(max_length=500)] = "",
        until: Annotated[str, Form(max_length=100)] = "",
        note: Annotated[str, Form(max_length=2_000)] = "",
        to: Annotated[str, Form(max_length=MAX_PLACE)] = PAGE,
    ) -> Response:
        """Keeps an answer with the person who gave it."""
        by = actor.name if actor.kind == "person" else ""
        words = (text.replace("\0", "").strip() for text in (reason, until, note))
        details = Details(by, *words)
        if answer in CLOSING:
            await self._answers.answer(handoff, CLOSING[answer], details, actor)
        elif answer == "not-reached":
            await self._answers.not_reached(handoff, details, actor)
        elif answer == "note":
            await self._answers.note(handoff, details, actor)
        else:
            await self._answers.undo(handoff, details, actor)
        return see_other(own_path(to))

    async def _mail_of(self, actor: Actor) -> str:
        """The address of the person who is signed in; '' for a key."""
        if actor.kind != "person":
            return ""
        async with self._engine.connect() as connection:
            return (await store.person(connection, actor.id)).mail

    async def _known(self, day: Day) -> Known:
        shown = [*day.due, *(each.handoff for each in day.handled), *day.later, *day.next]
        wanted: dict[str, set[uuid.UUID]] = {}
        for handoff in shown:
            wanted.setdefault(handoff.product, set()).add(handoff.lead_id)
        views: list[LeadView] = []
        for product, leads in wanted.items():
            if product in self._leads.products:
                views += (await self._leads.chosen(sorted(leads), product)).leads
        return Known({(view.id, view.product): view for view in views}, names_of_views(views))

    async def _groups(self, day: Day, known: Known, today: date) -> dict[Group, list[Card]]:
        views = [known.leads.get((each.lead_id, each.product)) for each in day.due]
        trends = await self._trends.of(view for view in views if view)
        cards = []
        for each, view in zip(day.due, views, strict=True):
            name, trend = known.names.get(each.lead_id), trends.get(each.lead_id, "unclear")
            cards.append(card_of(each, view, name, trend, today, day.named.get(each.id)))
        return grouped(cards)


def zone_of(scoring: Scoring) -> ZoneInfo:
    """In which days of hand-offs begin."""
    playbook = scoring.playbook
    return WorkingTime.of(playbook.handoff, playbook.company.timezone).zone


def card_of(
    handoff: Handoff, lead: LeadView | None, name: LeadName | None, trend: Trend,
    today: date, named: date | None = None,
) -> Card:  # fmt: skip
    """What is shown of a hand-off; a lead's texts are bounded."""
    emails = lead.emails[:CONTACTS] if lead else []
    shown = name.detail.split(" · ") if name else []
    return Card(
        handoff=handoff,
        lead=lead,
        name=name.name if name else f"Lead {handoff.lead_id}",
        detail=" · ".join(each for each in shown if each not in emails),  # links have those
        group=group_of(handoff, today, named),
        why=why_now(handoff, today, named),
        reasons=[short(reason.replace("https://", "")) for reason in handoff.reasons[:REASONS]],
        said=handoff.said[:MAX_MESSAGE],
        phones=phones_of(lead.traits)[:CONTACTS] if lead else [],
        emails=emails,
        trend=trend,
    )


def grouped(cards: Iterable[Card]) -> dict[Group, list[Card]]:
    """Groups in their order, without the empty ones; in each the likeliest first, then the one that
    waits longest.
    """
    groups: dict[Group, list[Card]] = {group: [] for group in GROUPS}
    for card in cards:
        groups[card.group].append(card)
    for each in groups.values():
        each.sort(key=_order)
    return {group: each for group, each in groups.items() if each}


def _order(card: Card) -> tuple[float, datetime, str]:
    opened = card.handoff.opened_at or card.handoff.detected_at
    return -(-1.0 if card.likelihood is None else card.likelihood), opened, str(card.handoff.id)


def why_now(handoff: Handoff, today: date, named: date | None = None) -> str:
    """One sentence."""
    match group_of(handoff, today, named):
        case "follow_up" if named:
            return f"Sales wanted them again {on_day(named, today)}."
        case "follow_up":
            return "Nobody was reached before, and the next call was set for today."
        case "not_reached" if handoff.again_on:
            agreed = day_in_words(handoff.again_on, today)
            return f"Nobody was reached, and the call of {agreed} has not been made."
        case "raised_hand":
            return "They asked to hear from a person."
        case "reawakened":
            return "They act again after a long silence."
        case _:
            stage = f", and stand in {plain(handoff.stage)}" if handoff.stage else ""
            return f"They fit and are likely enough to buy{stage}."
