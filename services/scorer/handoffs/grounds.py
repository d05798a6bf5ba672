"""For what a lead is to be handed over: a pure function of its events, of what sales said, and of
the hand-offs that it had. Times are µs since 1970.
"""

from collections.abc import Sequence
from datetime import date, datetime, time
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from services.scorer.handoffs.records import Handoff, Kind
from services.shared.clock import DAY, to_us
from services.shared.contracts.events import derived
from services.shared.contracts.sales import SalesStatus
from services.shared.playbook.handoff import Handoff as Section

FRESH = 7 * DAY  # what happened so long before its receipt opens nothing
STALE = 30 * DAY  # nor does a request that was raised so long ago, or a lead that was still since
WITH_SALES: frozenset[str] = frozenset({"accepted", "opportunity"})
CUSTOMER: frozenset[str] = frozenset({"won"})


class Act(NamedTuple):
    """An act of the lead's own: when it happened, its event, and when it was received."""

    at: int
    uid: str
    received: int


class Word(NamedTuple):
    """What sales reported of the lead, but for what it took back; `id` is the event's, `until` in
    ISO 8601 or ''.
    """

    at: int
    uid: str
    status: SalesStatus
    reason: str = ""
    until: str = ""
    by: str = ""
    note: str = ""
    id: str = ""


class Standing(NamedTuple):
    """Where the lead stands for one product."""

    product: str
    stage: str
    qualified: bool
    likelihood: float | None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a lead. `first` is its first event; `raises`, `acts` and `words` are in the
    order of their times; `ends`: the playbook's policy ends it after what sales said last.
    """

    first: Act
    raises: Sequence[Act] = ()
    acts: Sequence[Act] = ()
    words: Sequence[Word] = ()
    standings: Sequence[Standing] = ()
    is_excluded: bool = False
    is_reachable: bool = True
    ends: bool = False


class Wanted(NamedTuple):
    """A hand-off that is to be open: its id, and the event that opens it. Words of sales after
    `since` (µs) answer it.
    """

    id: UUID
    kind: Kind
    product: str
    opener: str
    since: int


class Outlook(NamedTuple):
    """What is to be open at a moment, and when time alone may change that (µs)."""

    wanted: Wanted | None
    look_again: int | None = None


class _Closing(NamedTuple):
    at: int
    status: str = ""
    until: date | None = None


def outlook(
    section: Section, stages: Sequence[str], zone: ZoneInfo, facts: Facts,
    past: Sequence[Handoff], now: int,
) -> Outlook:  # fmt: skip
    """What is to be open now (µs); `stages` are the model's, `past` all hand-offs of the lead, and
    days begin in `zone`.
    """
    if facts.is_excluded:
        return Outlook(None)
    closing = _last_closing(facts.words, past)
    raised = [
        act
        for act in facts.raises
        if now - act.at <= STALE and (not closing or act.received > closing.at)
    ]
    if raised:
        first = min(raised)
        since = max(first.at, first.received)
        return Outlook(_wanted("raised_hand", first.uid, since, _product(facts)))
    return _unasked(section, stages, zone, facts, closing, now)


def _unasked(
    section: Section, stages: Sequence[str], zone: ZoneInfo, facts: Facts,
    closing: _Closing | None, now: int,
) -> Outlook:  # fmt: skip
    """What is to be open without a request."""
    status = facts.words[-1].status if facts.words else ""
    if not facts.is_reachable or facts.ends or status in CUSTOMER:
        return Outlook(None)
    since = closing.at if closing else facts.first.at
    anchor = derived("handoff", "ready", facts.first.uid, closing.at if closing else "")
    if closing and closing.until and status not in WITH_SALES:
        day = to_us(datetime.combine(closing.until, time(), zone))
        if now < day:
            return Outlook(None, day)
        wanted = Wanted(UUID(anchor), "ready", _product(facts), facts.first.uid, since)
        return Outlook(wanted)
    again = closing.at + int(section.again_days * DAY) if closing else 0
    is_active = any(now - act.at <= STALE for act in facts.acts)
    is_free = is_active and status not in WITH_SALES
    best = _best_ready(section, stages, facts) if is_free else None
    if best and (not closing or any(act.received > closing.at for act in facts.acts)):
        if now >= again:
            return Outlook(Wanted(UUID(anchor), "ready", best.product, facts.first.uid, since))
        return Outlook(_reawakened(section, facts, closing, now), again)
    return Outlook(_reawakened(section, facts, closing, now))


def _last_closing(words: Sequence[Word], past: Sequence[Handoff]) -> _Closing | None:
    """The last word of sales, or the last end of a hand-off."""
    closings = [
        _Closing(word.at, word.status, date.fromisoformat(word.until) if word.until else None)
        for word in words
    ]
    closings += [
        _Closing(to_us(handoff.ended_at), handoff.status, handoff.until)
        for handoff in past
        if handoff.ended_at
    ]
    return max(closings, key=lambda closing: (closing.at, closing.status), default=None)


def _best_ready(section: Section, stages: Sequence[str], facts: Facts) -> Standing | None:
    """The product for which the lead is qualified, far enough, and likeliest."""
    ready = [each for each in facts.standings if is_ready(section, stages, each)]
    return max(ready, key=lambda standing: (standing.likelihood, standing.product), default=None)


def is_ready(section: Section, stages: Sequence[str], standing: Standing) -> bool:
    """Whether the lead is qualified and far enough for a product."""
    return bool(
        standing.qualified
        and standing.stage in (section.ready_stages or stages[-1:])
        and standing.likelihood is not None
        and standing.likelihood >= section.min_likelihood
    )


def _reawakened(
    section: Section, facts: Facts, closing: _Closing | None, now: int
) -> Wanted | None:
    """An alert for the last act that followed a long silence, of a lead that sales knew or that is
    qualified.
    """
    known = closing or any(standing.qualified for standing in facts.standings)
    silence = int(section.reawaken_days * DAY)
    for before, act in reversed(list(zip(facts.acts, facts.acts[1:], strict=False))):
        if now - act.at > FRESH:
            return None
        if act.at - before.at < silence:
            continue
        is_new = not closing or act.received > closing.at
        if not known or not is_new or act.received - act.at > FRESH:
            return None
        return _wanted("reawakened", act.uid, max(act.at, act.received), _product(facts))
    return None


def _wanted(kind: Kind, opener: str, since: int, product: str) -> Wanted:
    return Wanted(UUID(derived("handoff", kind, opener)), kind, product, opener, since)


def _product(facts: Facts) -> str:
    """The product for which the lead is likeliest, of equal ones the first by name."""
    best = min(
        facts.standings,
        key=lambda standing: (-(standing.likelihood or 0.0), standing.product),
        default=None,
    )
    return best.product if best else "default"
