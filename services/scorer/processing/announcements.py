"""What others are told after a fold: stage changes, engagement, qualification, merges.

Here it is decided and put into events; a stage change gets its number where it is stored.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec

from services.scorer.list_keys import company_key, company_of
from services.scorer.model.fold import Fold
from services.scorer.model.profile import Profile
from services.scorer.processing.snapshots import address_of, snapshot_of, user_id_of
from services.scorer.records import Announcement, IncomingEvent, LeadRow, StageChange, State
from services.scorer.scoring import Scoring
from services.shared.clock import US, from_us, to_us
from services.shared.contracts.consent import consents_of
from services.shared.contracts.event_types import CONSUMES_CONTENT, REQUESTS, TOUCH_SENT
from services.shared.contracts.events import (
    CHANGES,
    TOO_OLD,
    TOUCH_SYSTEM,
    Cause,
    Change,
    ChangeEvent,
    LeadRequest,
    Snapshot,
    derived,
    encode,
)
from services.shared.contracts.holdout import draw_of, unit_of
from services.shared.contracts.provenance import LIVE, Provenance, encode_provenance
from services.shared.contracts.sales import STATUS_OF
from services.shared.messaging.kafka import Outgoing

TOO_OLD_US = TOO_OLD // timedelta(microseconds=1)
ENGAGED_EVERY_US = 300 * US
# that one event carries, so that it is never too large for Kafka
REQUESTS_AT_ONCE = 200
MERGED_AT_ONCE = 1_000
NEVER = 1 << 62
MEMORY = 10_000
ALWAYS_PUBLISHED = frozenset({
    "email_replied", "survey_answered", "preference_set", "not_now", "webinar_attended",
    "event_attended",
})  # fmt: skip


class Evidence(msgspec.Struct, frozen=True):
    """What happened to one lead in a batch: its new events, and why else its state may differ.

    `late`: refolded for what came out of order; `moved`: events came from or went to another lead;
    `identified`: it has other identifiers; `refolded`: under another playbook or model; `merged`:
    leads that became part of it.
    """

    events: list[IncomingEvent] = []
    late: bool = False
    moved: bool = False
    identified: bool = False
    refolded: bool = False
    merged: list[uuid.UUID] = []


NO_EVIDENCE = Evidence()


class Settlement(msgspec.Struct, frozen=True):
    """What is to be announced of leads, and the events that need no number."""

    changes: list[StageChange]
    merged: list[Outgoing]
    qualified: dict[tuple[uuid.UUID, str], Outgoing]  # by lead and product


def announcements_due(
    scoring: Scoring, leads: Sequence[LeadRow], now: int, evidence: Mapping[uuid.UUID, Evidence]
) -> Settlement:
    """Views the leads' states from `now` (µs) and decides what is to be announced."""
    fold = scoring.fold
    pairs = [(lead, state) for lead in leads for state in lead.states.values()]
    moments = [max(now, lead.profile.last_at, state.fold.last_at) for lead, state in pairs]
    traits = [lead.profile.fit_traits() for lead, _ in pairs]
    fits, effects = fold.persons(traits)
    states = [state.fold for _, state in pairs]
    views = fold.view(states, moments, fits, effects) if pairs else []
    for lead in leads:
        lead.company_key = company_key(company_of(lead.profile, scoring.cleaner))
        lead.account, lead.draw = _drawn(scoring, lead)
    changes: list[StageChange] = []
    qualified: dict[tuple[uuid.UUID, str], Outgoing] = {}
    for (lead, state), moment, view in zip(pairs, moments, views, strict=True):
        state.view, state.as_of, state.snapshot = view, moment, None
        state.sales = lead.profile.sales_of(state.fold.product, scoring.playbook.products)
        before, state.qualified = (
            state.qualified,
            fold.fit.qualified(view.fit) and not lead.excluded,
        )
        if state.qualified and not before:
            event = _change_event(scoring, "lead.qualified.v1", lead, state, from_us(now))
            qualified[lead.id, state.fold.product] = _outgoing(event)
        change = stage_change(fold, lead, state, now, evidence.get(lead.id, NO_EVIDENCE))
        if change:
            changes.append(change)
    merged = (_merged(scoring, lead, evidence.get(lead.id, NO_EVIDENCE), now) for lead in leads)
    return Settlement(changes, [*chain.from_iterable(merged)], qualified)


def _drawn(scoring: Scoring, lead: LeadRow) -> tuple[int, float]:
    """The hash of the account that the hold-out draws, and its draw."""
    own = [name for name in lead.identifiers if name.system != TOUCH_SYSTEM]
    unit = unit_of(address_of(lead.profile, own), user_id_of(lead), str(lead.id), scoring.cleaner)
    return _draw(unit, scoring.playbook.holdout.salt)


@lru_cache(maxsize=MEMORY)  # accounts come again and again
def _draw(unit: str, salt: str) -> tuple[int, float]:
    return company_key(unit), draw_of(unit, salt)


def check(scoring: Scoring, lead: LeadRow, now: int) -> None:
    """Raises what viewing a lead from `now` (µs) and telling others of it raises."""
    announcements_due(scoring, [lead], now, {})
    for state in lead.states.values():
        _outgoing(_change_event(scoring, "lead.engaged.v1", lead, state, from_us(now)))


def stage_change(
    fold: Fold, lead: LeadRow, state: State, now: int, evidence: Evidence
) -> StageChange | None:
    """The stage change to be announced; None where the stage is as last announced, or the lead or
    the change is not one that others hear of.
    """
    view = state.view
    if view is None or view.stage == state.announced.stage or lead.provisional or lead.excluded:
        return None
    cause_at = view.stage_since if view.stage_since is not None else now
    if min(cause_at, state.fold.last_at) < now - TOO_OLD_US:
        return None
    if evidence.events and all(event.provenance.too_old for event in evidence.events):
        return None
    behind = _event_behind(fold, evidence, cause_at)
    return StageChange(
        lead.id,
        state.fold.product,
        state.announced.stage,
        view.stage,
        _cause(lead.profile, evidence, behind),
        cause_at,
        behind.data.id if behind else "",
        view.likelihood,
    )


def _cause(profile: Profile, evidence: Evidence, behind: IncomingEvent | None) -> Cause:
    if evidence.refolded:
        return "model"
    if behind and behind.at >= profile.last_at:
        return "event"
    if evidence.moved or evidence.merged:
        return "merge"
    if evidence.late:
        return "late_evidence"
    return "event" if behind else "silence"


def _event_behind(fold: Fold, evidence: Evidence, at: int) -> IncomingEvent | None:
    """The new event of that instant that made the stage: one that forces it, else the last in the
    fold's order.
    """
    then = sorted(
        (event for event in evidence.events if event.at == at and fold.weighs(event.data)),
        key=lambda event: event.uid,
    )
    forcing = [
        event
        for event in then
        if fold.interpreter.interpret(event.data).signal in ("demo", "purchase")
    ]
    best = forcing or then
    return best[-1] if best else None


def stage_changed(
    scoring: Scoring, lead: LeadRow, announcement: Announcement, evidence: Evidence
) -> Outgoing:
    """`lead.stage_changed.v1` of an announcement, to be published."""
    return _outgoing(stage_change_event(scoring, lead, announcement, evidence))


def stage_change_event(
    scoring: Scoring, lead: LeadRow, announcement: Announcement, evidence: Evidence
) -> ChangeEvent:
    """`lead.stage_changed.v1` of an announcement."""
    change = Change(
        lead=str(lead.id),
        version=lead.version,
        product=announcement.product,
        seq=announcement.seq,
        from_stage=announcement.from_stage,
        stage=announcement.stage,
        cause=announcement.cause,
        cause_at=announcement.cause_at,
        cause_event=announcement.cause_event,
        announced_at=announcement.announced_at,
        snapshot=_snapshot(scoring, lead, lead.states[announcement.product]),
        imported=encode_provenance(imported(evidence)),
    )
    return ChangeEvent(
        id=announcement.id,
        type="lead.stage_changed.v1",
        time=announcement.announced_at,
        data=change,
        postedat=max((event.posted_at for event in evidence.events), default=0.0),
    )


def imported(evidence: Evidence) -> Provenance:
    """The import behind a change, LIVE where anything else is behind it too.

    Of several imports that of new leads over the longest time.
    """
    behind = {event.provenance.import_only for event in _human(evidence)}
    return LIVE if LIVE in behind else max(behind, default=LIVE, key=attrgetter("breadth"))


def _human(evidence: Evidence) -> Iterable[IncomingEvent]:
    """Events of people, our own sends left out."""
    return (
        event
        for event in evidence.events
        if not event.data.machine and event.data.type != TOUCH_SENT
    )


def _snapshot(scoring: Scoring, lead: LeadRow, state: State) -> Snapshot | None:
    """The snapshot of a state's view, made where it is first needed."""
    if state.snapshot is None and state.view:
        state.snapshot = snapshot_of(lead, state, state.view, scoring.pepper)
    return state.snapshot


def engaged(scoring: Scoring, lead: LeadRow, evidence: Evidence, now: datetime) -> list[Outgoing]:
    """What others hear of a lead beside its stages, to be published."""
    return [_outgoing(event) for event in news_events(scoring, lead, evidence, now)]


def news_events(
    scoring: Scoring, lead: LeadRow, evidence: Evidence, now: datetime
) -> list[ChangeEvent]:
    """`lead.engaged.v1` or `lead.sales_changed.v1` for each product.

    Content of the playbook consumed, answers, consents, sales outcomes and exclusions at once, and
    so is who the lead is; anything else at most every five minutes, the last of it when they are
    over. Of a lead of which nothing was ever published neither acts nor identifiers are: what is
    published later carries a snapshot of its own.
    """
    news, is_known = _news(scoring, evidence), _is_known(lead)
    if not is_known:
        lead.publish_at = None
    elif news.changed or evidence.late or evidence.moved:
        planned = NEVER if lead.publish_at is None else lead.publish_at
        lead.publish_at = min(_next_at(lead), planned)
    is_due = lead.publish_at is not None and lead.publish_at <= to_us(now)
    is_other = is_known and (evidence.moved or evidence.identified)
    if not (news.at_once or is_other or is_due):
        return []
    lead.engaged_at, lead.publish_at = now, None
    kind = "lead.sales_changed.v1" if news.sales else "lead.engaged.v1"
    content = tuple(sorted(news.content))
    starts = range(0, max(1, len(news.requests)), REQUESTS_AT_ONCE)
    portions = [tuple(news.requests[start : start + REQUESTS_AT_ONCE]) for start in starts]
    return [
        _change_event(
            scoring, kind, lead, state, now, evidence, part, content=content, requests=requests
        )
        for state in lead.states.values()
        if state.view
        for part, requests in enumerate(portions)
    ]


class _News(msgspec.Struct):
    """What a lead's new events say to others; `changed` where they may differ from what was
    published.
    """

    changed: bool
    sales: bool = False
    answers: bool = False
    content: set[str] = set()
    requests: list[LeadRequest] = []

    @property
    def at_once(self) -> bool:
        """Whether others are to hear of it without delay."""
        return bool(self.sales or self.answers or self.content or self.requests)


def _news(scoring: Scoring, evidence: Evidence) -> _News:
    fold, library = scoring.fold, scoring.playbook.content_by_id
    changed = any(_says_something(event) for event in evidence.events)
    news = _News(changed)
    for event in _human(evidence):
        data, reading = event.data, fold.interpreter.interpret(event.data)
        if reading.content in library and data.type in CONSUMES_CONTENT:
            news.content.add(reading.content)
        if reading.type in REQUESTS or (data.type == "form_submitted" and reading.content):
            news.requests.append(_request(event, reading.type, reading.content))
        news.sales = news.sales or data.type in STATUS_OF or data.type.startswith("sales_")
        news.answers = news.answers or data.type in ALWAYS_PUBLISHED or bool(consents_of(data))
    return news


def is_to_be_heard(scoring: Scoring, event: IncomingEvent) -> bool:
    """Whether others must hear of this very event: a request, an answer, a consent, sales."""
    news = _news(scoring, Evidence(events=[event]))
    return bool(news.requests or news.answers or news.sales)


def _says_something(event: IncomingEvent) -> bool:
    """Whether it is an act of a person, or tells of one."""
    data = event.data
    if data.type == TOUCH_SENT:
        return False
    return bool(not data.machine or data.traits or data.email or data.company or data.consent)


def _request(event: IncomingEvent, type_: str, content: str) -> LeadRequest:
    provenance = encode_provenance(event.provenance.import_only)
    at = min(from_us(event.at), event.received_at)  # a clock that is ahead outruns no refusal
    return LeadRequest(event.uid, type_, at, content, provenance)


def _next_at(lead: LeadRow) -> int:
    """When others may be told of the lead again (µs)."""
    return to_us(lead.engaged_at) + ENGAGED_EVERY_US if lead.engaged_at else 0


def _is_known(lead: LeadRow) -> bool:
    """Whether others have a snapshot of the lead."""
    return bool(lead.engaged_at) or any(state.announced.at for state in lead.states.values())


def _merged(scoring: Scoring, lead: LeadRow, evidence: Evidence, now: int) -> list[Outgoing]:
    """`lead.merged.v1` of a lead that others became part of; several of very many others."""
    state = next(iter(lead.states.values())) if evidence.merged else None
    if state is None or state.view is None:
        return []
    merged, at = sorted(map(str, evidence.merged)), from_us(now)
    return [
        _outgoing(_change_event(
            scoring, "lead.merged.v1", lead, state, at, part=part,
            merged=tuple(merged[start : start + MERGED_AT_ONCE]),
        ))
        for part, start in enumerate(range(0, len(merged), MERGED_AT_ONCE))
    ]  # fmt: skip


def _change_event(
    scoring: Scoring, kind: str, lead: LeadRow, state: State, now: datetime,
    evidence: Evidence = NO_EVIDENCE, part: int = 0, **more: Any,
) -> ChangeEvent:  # fmt: skip
    """An event on `lead.changes` that announces no stage change; `more` are fields of `Change`,
    `part` numbers several of a kind.
    """
    change = Change(
        lead=str(lead.id),
        version=lead.version,
        product=state.fold.product,
        stage=state.view.stage if state.view else "",
        snapshot=_snapshot(scoring, lead, state),
        **more,
    )
    uids = sorted(event.uid for event in evidence.events)
    parts = (part,) if part else ()
    id_ = derived(kind, lead.id, state.fold.product, lead.version, *uids, *parts)
    return ChangeEvent(id=id_, type=kind, time=now, data=change)


def _outgoing(event: ChangeEvent) -> Outgoing:
    return Outgoing(CHANGES, event.data.lead, encode(event))
