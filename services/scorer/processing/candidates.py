"""Which leads are to be examined for a hand-off after they were folded: all of which an examination
may change something.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import NamedTuple

from services.scorer.handoffs.facts import is_own, raises
from services.scorer.handoffs.grounds import FRESH, STALE, WITH_SALES, Standing, is_ready
from services.scorer.handoffs.records import WAITING
from services.scorer.model.profile import Profile
from services.scorer.processing.announcements import NO_EVIDENCE, Evidence
from services.scorer.processing.snapshots import last_answer
from services.scorer.records import IncomingEvent, LeadRow
from services.scorer.scoring import Scoring
from services.shared.clock import DAY, to_us
from services.shared.contracts.event_types import TOUCH_SENT, EventType
from services.shared.contracts.sales import STATUS_OF

AT_ONCE = timedelta()
# what changes no more than how an open hand-off is described: a busy lead is described this often
CALM = timedelta(seconds=10)


class Before(NamedTuple):
    """What was known of a lead before its new events: when it last acted (µs), and what may have
    kept it from being handed over.
    """

    acted_at: int
    is_excluded: bool
    is_qualified: bool
    has_address: bool

    @classmethod
    def of(cls, lead: LeadRow) -> "Before":
        """Of a lead whose new events are still to be folded."""
        is_qualified = any(state.qualified for state in lead.states.values())
        acted_at = _last_act(lead.profile)
        return cls(acted_at, bool(lead.excluded), is_qualified, bool(lead.profile.email))


def known_before(
    leads: Iterable[LeadRow], events: Mapping[uuid.UUID, Sequence[IncomingEvent]], now: int
) -> dict[uuid.UUID, Before]:
    """Of leads of which something happened in the days before `now` (µs), or happens, what is known
    before their new events.
    """
    return {
        lead.id: Before.of(lead)
        for lead in leads
        if now - lead.profile.last_at <= STALE
        or any(now - event.at <= STALE for event in events.get(lead.id, ()))
    }


def to_be_examined(
    scoring: Scoring,
    leads: Iterable[LeadRow],
    evidence: Mapping[uuid.UUID, Evidence],
    before: Mapping[uuid.UUID, Before],
    now: int,
) -> dict[uuid.UUID, timedelta]:
    """Of leads that were folded those of which an examination at `now` (µs) may change something,
    and how long that may wait.
    """
    due: dict[uuid.UUID, timedelta] = {}
    for lead in leads:
        its = evidence.get(lead.id, NO_EVIDENCE)
        delay = _delay(scoring, lead, its, before.get(lead.id), now)
        if delay is not None:
            due |= dict.fromkeys([lead.id, *its.merged], delay)
    return due


def _delay(
    scoring: Scoring, lead: LeadRow, evidence: Evidence, before: Before | None, now: int
) -> timedelta | None:
    """None where an examination would change nothing."""
    if (
        evidence.merged
        or evidence.moved
        or lead.handoff == "next"
        or (lead.handoff in WAITING and lead.excluded)
        or (lead.handoff and _has_word(evidence))
        or _raises(scoring, evidence)
        or _is_freed(lead, evidence, before, now)
        or _is_back(scoring, lead, evidence, before, now)
        or (lead.handoff not in WAITING and _may_be_ready(scoring, lead))
    ):
        return AT_ONCE
    is_described = lead.handoff == "open" and (evidence.late or _is_news(evidence))
    return CALM if is_described else None


def _last_act(profile: Profile) -> int:
    """When somebody last acted (µs)."""
    return max(profile.act_at, last_answer(profile))


def _is_freed(lead: LeadRow, evidence: Evidence, before: Before | None, now: int) -> bool:
    """Whether an earlier request may count from here on."""
    is_freed = before is not None and before.is_excluded and not lead.excluded
    return (is_freed or evidence.refolded) and now - lead.profile.last_at <= STALE


def _is_back(
    scoring: Scoring, lead: LeadRow, evidence: Evidence, before: Before | None, now: int
) -> bool:
    """Whether it may have acted after a long silence."""
    if lead.excluded or lead.provisional or now - lead.profile.last_at > FRESH:
        return False
    if not lead.created and (evidence.late or evidence.identified or evidence.refolded):
        return True
    if before is None:
        return False
    after = Before.of(lead)
    if not lead.created and before[1:] != after[1:]:
        return True
    acts = sorted(event.at for event in evidence.events if is_own(event.event))
    acts = [before.acted_at, *acts] if before.acted_at > 0 else acts
    silence = int(scoring.playbook.handoff.reawaken_days * DAY)
    return any(later - earlier >= silence for earlier, later in pairwise(acts))


def _may_be_ready(scoring: Scoring, lead: LeadRow) -> bool:
    """Whether it is ready for a product, and can be reached."""
    if lead.excluded or lead.provisional or not (lead.profile.email or lead.handoff):
        return False
    section, stages = scoring.playbook.handoff, scoring.playbook.model.stages
    standings = (
        Standing(state.fold.product, state.view.stage, True, state.view.likelihood)
        for state in lead.states.values()
        if state.qualified and state.view
    )
    if not any(is_ready(section, stages, each) for each in standings):
        return False
    words = (lead.profile.sales, *lead.profile.product_sales.values())
    last = max((word for word in words if word), default=None)
    return last is None or last.status not in WITH_SALES


def _has_word(evidence: Evidence) -> bool:
    """Whether sales said something of the lead, or took it back."""
    return any(
        event.data.type in STATUS_OF or event.data.type == EventType.SALES_UNDONE
        for event in evidence.events
    )


def _is_news(evidence: Evidence) -> bool:
    return any(event.data.type != TOUCH_SENT for event in evidence.events)


def _raises(scoring: Scoring, evidence: Evidence) -> bool:
    types, interpreter = scoring.playbook.handoff.raised_hand, scoring.fold.interpreter
    return any(
        to_us(event.received_at) - event.at <= FRESH and raises(types, interpreter, event.event)
        for event in evidence.events
    )
