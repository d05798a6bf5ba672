"""What is known of a lead for a hand-off: its facts, and its reasons in words."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from services.scorer.failing import is_of_one_lead, report
from services.scorer.handoffs.facts import act_of, is_own, raises, reasons_of, said_of, words_of
from services.scorer.handoffs.grounds import Act, Facts, Standing
from services.scorer.handoffs.records import Handoff
from services.scorer.handoffs.store import HandoffStore
from services.scorer.model.explanation import Ledger, explain
from services.scorer.model.window import Known
from services.scorer.records import LeadRow
from services.scorer.scoring import Scoring
from services.shared.clock import to_us
from services.shared.contracts.provenance import HISTORY, decode_provenance
from services.shared.playbook.programs import rule_after

# of a lead without a state
UNSCORED = ("asks for a person", "fit not known yet", "stage not known yet")


def view(scoring: Scoring, leads: Iterable[LeadRow], now: datetime) -> None:
    """Views the states of leads from now."""
    pairs = [(lead, state) for lead in leads for state in lead.states.values()]
    if not pairs:
        return
    fold, products = scoring.fold, scoring.playbook.products
    fits, effects = fold.persons([lead.profile.fit_traits() for lead, _ in pairs])
    moments = [max(to_us(now), lead.profile.last_at, state.fold.last_at) for lead, state in pairs]
    views = fold.view([state.fold for _, state in pairs], moments, fits, effects)
    for (lead, state), view in zip(pairs, views, strict=True):
        state.view = view
        state.sales = lead.profile.sales_of(state.fold.product, products)
        state.qualified = fold.fit.qualified(view.fit) and not lead.excluded


async def facts_of(
    scoring: Scoring, store: HandoffStore, leads: Sequence[tuple[LeadRow, Known, Act]]
) -> list[Facts]:
    """The facts of each lead by what is known of it, and its first event."""
    types, interpreter = scoring.playbook.handoff.raised_hand, scoring.fold.interpreter
    raised = [
        [act_of(each) for each in history.events if raises(types, interpreter, each)]
        for _, history, _ in leads
    ]
    uids = [act.uid for acts in raised for act in acts]
    flags = await store.flags_of(uids) if uids else {}
    return [
        _facts(scoring, lead, history, first, [act for act in acts if _is_live(flags, act)])
        for (lead, history, first), acts in zip(leads, raised, strict=True)
    ]


def _is_live(flags: Mapping[str, str], act: Act) -> bool:
    return decode_provenance(flags.get(act.uid, "")).import_mode != HISTORY


def _facts(scoring: Scoring, lead: LeadRow, history: Known, first: Act, raised: list[Act]) -> Facts:
    words = words_of(history.events)
    last = words[-1] if words else None
    rule = rule_after(scoring.playbook.after_loss, last.status, last.reason) if last else None
    return Facts(
        first=first,
        raises=raised,
        acts=[act_of(each) for each in history.events if is_own(each)],
        words=words,
        standings=[
            Standing(product, state.view.stage, state.qualified, state.view.likelihood)
            for product, state in sorted(lead.states.items())
            if state.view
        ],
        is_excluded=bool(lead.excluded),
        is_reachable=not lead.provisional and bool(lead.profile.email or lead.handoff),
        ends=rule is not None and rule.then == "nothing",
    )


async def describe(
    scoring: Scoring, lead: LeadRow, history: Known, facts: Facts, handoff: Handoff, now: datetime
) -> None:
    """Writes down where the lead stands, the reasons, and what it said. The explanation, which may
    go over hundreds of events, is made in a thread.
    """
    handoff.said = said_of(history.events)
    standing = next((each for each in facts.standings if each.product == handoff.product), None)
    view = lead.states[handoff.product].view if handoff.product in lead.states else None
    if standing is None or view is None:
        handoff.reasons = handoff.reasons or [*UNSCORED]
        return
    handoff.stage, handoff.likelihood = standing.stage, standing.likelihood
    fold = scoring.fold
    moment = max(to_us(now), history.events[-1].at)
    ledger = await asyncio.to_thread(_ledger, scoring, handoff, history, moment)
    opener = next((each for each in history.events if each.uid == handoff.opener.hex), None)
    fit = f"fit {fold.fit.grade(view.fit)}, {view.fit:.0f} of 100"
    handoff.reasons = reasons_of(
        scoring.playbook, fold.interpreter, handoff, opener, standing, fit, ledger
    )


def _ledger(scoring: Scoring, handoff: Handoff, history: Known, moment: int) -> Ledger | None:
    """Why the likelihood is so; None where that cannot be said, which holds up no hand-off."""
    try:
        return explain(scoring.fold, handoff.product, history, moment)
    except Exception as error:
        if not is_of_one_lead(error):
            raise
        report(handoff.lead_id, "handing_over", type(error).__name__)
        return None
