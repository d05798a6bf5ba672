"""What others hear of the steps of hand-offs: events, notices, and the mark at the lead."""

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import cast

import msgspec
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.handoffs import notices
from services.scorer.handoffs.records import STATUS_OF, WAITING, Handoff, Status, Step
from services.scorer.handoffs.rules import Noted, Rules
from services.scorer.handoffs.store import HandoffStore, NoticeRow
from services.scorer.processing.snapshots import snapshot_of
from services.scorer.records import LeadRow
from services.scorer.scoring import Scoring
from services.scorer.wording import name_of
from services.shared.contracts.events import (
    CHANGES,
    Change,
    ChangeEvent,
    HandoffStep,
    derived,
    encode,
)
from services.shared.messaging import outbox
from services.shared.messaging.kafka import Outgoing

UNPUBLISHED: frozenset[Step] = frozenset({"detected", "noted"})
# as some of what people do leaves a hand-off; they may have done more since
STATUS_AFTER: dict[Step, Status] = {
    "accepted": "accepted",
    "meeting": "accepted",
    "rejected": "rejected",
    "disqualified": "disqualified",
    "returned": "returned",
    "not_reached": "open",
    "undone": "open",
}


class News(msgspec.Struct):
    """What is to be written of steps for others, of several leads."""

    statuses: dict[uuid.UUID, str] = {}
    notices: list[NoticeRow] = []
    outgoing: list[Outgoing] = []

    async def write(self, connection: AsyncConnection) -> None:
        """Marks the leads, and puts notices and events out."""
        store = HandoffStore(connection)
        await store.mark(self.statuses)
        await store.add_notices(self.notices)
        await outbox.enqueue(connection, "scorer", self.outgoing)


class Steps:
    """Makes news of steps; `webhook` whether one is notified too, `page` is the address of our
    pages, '' for none.
    """

    def __init__(self, scoring: Scoring, rules: Rules, *, webhook: bool, page: str) -> None:
        self._scoring, self._rules, self._webhook, self._page = scoring, rules, webhook, page

    def tell(
        self, news: News, lead: LeadRow, known: list[Handoff], noted: list[Noted], now: datetime
    ) -> None:
        """Adds a lead's last hand-off, which is its mark, and what others hear of its steps."""
        last = _last(known)
        status, before = _status(known, last), lead.handoff
        published = [each for each in noted if each.what not in UNPUBLISHED]
        if status != before:
            news.statuses[lead.id] = lead.handoff = status
            published = published or _answer(last)
        contact = self._contact(lead) if published else None
        for each in published:
            zone = self._rules.working_of(each.handoff.owner).zone
            if contact:
                news.notices += notices.notices(each, contact, zone, webhook=self._webhook)
        news.outgoing += [self._event(lead, each, now) for each in published]

    def _contact(self, lead: LeadRow) -> notices.Contact:
        traits = lead.profile.known_traits()
        name = name_of(traits, lead.profile.last_linked_first(lead.identifiers)).name
        page = f"{self._page.rstrip('/')}/leads/{lead.id}" if self._page else ""
        return notices.Contact(name, lead.profile.email, notices.phone_of(traits), page)

    def _event(self, lead: LeadRow, noted: Noted, now: datetime) -> Outgoing:
        """`lead.handoff_changed.v1` of one step."""
        handoff = noted.handoff
        state = lead.states.get(handoff.product) or next(iter(lead.states.values()), None)
        snapshot = (
            snapshot_of(lead, state, state.view, self._scoring.pepper)
            if state and state.view
            else None
        )
        change = Change(
            lead=str(lead.id),
            version=lead.version,
            product=handoff.product,
            stage=handoff.stage,
            snapshot=replace(snapshot, handoff=lead.handoff) if snapshot else None,
            handoff=step_of(noted),
        )
        id_ = derived("handoff", handoff.id, noted.what, noted.at.isoformat(), noted.by)
        event = ChangeEvent(id=id_, type="lead.handoff_changed.v1", time=now, data=change)
        return Outgoing(CHANGES, str(lead.id), encode(event))


def step_of(noted: Noted) -> HandoffStep:
    """A step as others hear of it; a meeting is an acceptance."""
    handoff = noted.handoff
    what = "accepted" if noted.what == "meeting" else noted.what
    return HandoffStep(
        id=str(handoff.id), what=what, kind=handoff.kind,
        status=STATUS_AFTER.get(noted.what, handoff.status),
        at=noted.at, owner=handoff.owner, why_owner=handoff.why_owner,
        reasons=tuple(handoff.reasons), said=handoff.said, opened_at=handoff.opened_at,
        respond_by=handoff.respond_by, expires_at=handoff.expires_at, by=noted.by,
        reason=noted.reason, until=noted.until.isoformat() if noted.until else "",
    )  # fmt: skip


def _answer(handoff: Handoff | None) -> list[Noted]:
    """The step of a person's answer, for another lead whose hand-off it has become; nothing of what
    is none.
    """
    if handoff is None or handoff.status not in STATUS_OF.values() or not handoff.answered_at:
        return []
    what: Step = "meeting" if handoff.answer == "meeting" else cast(Step, handoff.status)
    at, by = handoff.answered_at, handoff.answered_by
    return [Noted(handoff, what, at, by, handoff.reason, handoff.until)]


def _last(known: Iterable[Handoff]) -> Handoff | None:
    """The hand-off that waits, else the last that counts."""
    return max(
        (each for each in known if each.status not in ("superseded", "withdrawn")),
        key=lambda each: (each.status in WAITING, each.ended_at or each.detected_at, str(each.id)),
        default=None,
    )


def _status(known: Iterable[Handoff], last: Handoff | None) -> str:
    """What the lead is marked with; '' without a hand-off."""
    return last.status if last else ("withdrawn" if any(known) else "")
