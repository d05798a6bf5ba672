"""Which leads are to be examined for a hand-off after they were folded."""

import uuid
from collections.abc import Iterable, Mapping

from services.scorer.handoffs.facts import raises
from services.scorer.handoffs.grounds import WITH_SALES, Standing, is_ready
from services.scorer.model.profile import Profile
from services.scorer.processing.announcements import NO_EVIDENCE, Evidence
from services.scorer.processing.snapshots import last_answer
from services.scorer.records import LeadRow
from services.scorer.scoring import Scoring
from services.shared.clock import DAY
from services.shared.contracts.event_types import TOUCH_SENT


def last_act(profile: Profile) -> int:
    """When somebody last acted (µs)."""
    return max(profile.act_at, last_answer(profile))


def to_be_examined(
    scoring: Scoring,
    leads: Iterable[LeadRow],
    evidence: Mapping[uuid.UUID, Evidence],
    acts_before: Mapping[uuid.UUID, int],
) -> list[uuid.UUID]:
    """Of leads that were folded those that may have to be handed over, or have been."""
    due: set[uuid.UUID] = set()
    for lead in leads:
        its = evidence.get(lead.id, NO_EVIDENCE)
        if _may_be_due(scoring, lead, its, acts_before.get(lead.id)):
            due |= {lead.id, *its.merged}
    return sorted(due)


def _may_be_due(
    scoring: Scoring, lead: LeadRow, evidence: Evidence, acted_before: int | None
) -> bool:
    section, stages = scoring.playbook.handoff, scoring.playbook.model.stages
    if lead.handoff and (lead.handoff == "next" or _is_news(evidence)):
        return True
    if evidence.merged or evidence.moved or _raises(scoring, evidence):
        return True
    if lead.excluded:
        return False
    if acted_before is not None and acted_before > 0:
        silence = int(section.reawaken_days * DAY)
        if last_act(lead.profile) - acted_before >= silence:
            return True
    return lead.handoff != "open" and any(
        state.view is not None
        and is_ready(
            section,
            stages,
            Standing(state.fold.product, state.view.stage, state.qualified, state.view.likelihood),
        )
        and not (state.sales and state.sales.status in WITH_SALES)
        for state in lead.states.values()
    )


def _is_news(evidence: Evidence) -> bool:
    return bool(
        evidence.merged
        or evidence.moved
        or evidence.late
        or any(event.data.type != TOUCH_SENT for event in evidence.events)
    )


def _raises(scoring: Scoring, evidence: Evidence) -> bool:
    types, interpret = scoring.playbook.handoff.raised_hand, scoring.fold.interpreter.interpret
    return any(
        interpret(event.data).type in types and raises(types, scoring.fold.interpreter, event.event)
        for event in evidence.events
    )
