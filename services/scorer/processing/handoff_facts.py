"""What is known of a lead for a hand-off: its facts, and its reasons in words."""

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


def view(scoring: Scoring, lead: LeadRow, now: datetime) -> None:
    """Views the lead's states from now."""
    fold, states = scoring.fold, list(lead.states.values())
    if not states:
        return
    fits, effects = fold.persons([lead.profile.fit_traits()] * len(states))
    moments = [max(to_us(now), lead.profile.last_at, state.fold.last_at) for state in states]
    views = fold.view([state.fold for state in states], moments, fits, effects)
    products = scoring.playbook.products
    for state, view in zip(states, views, strict=True):
        state.view = view
        state.sales = lead.profile.sales_of(state.fold.product, products)
        state.qualified = fold.fit.qualified(view.fit) and not lead.excluded


async def facts_of(
    scoring: Scoring, store: HandoffStore, lead: LeadRow, history: Known, first: Act
) -> Facts:
    playbook, interpreter = scoring.playbook, scoring.fold.interpreter
    types = playbook.handoff.raised_hand
    raised = [act_of(each) for each in history.events if raises(types, interpreter, each)]
    if raised:
        flags = await store.flags_of(act.uid for act in raised)
        raised = [
            act
            for act in raised
            if decode_provenance(flags.get(act.uid, "")).import_mode != HISTORY
        ]
    words = words_of(history.events)
    last = words[-1] if words else None
    rule = rule_after(playbook.after_loss, last.status, last.reason) if last else None
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


def describe(
    scoring: Scoring, lead: LeadRow, history: Known, facts: Facts, handoff: Handoff, now: datetime
) -> None:
    """Writes down where the lead stands, the reasons, and what it said."""
    standing = next((each for each in facts.standings if each.product == handoff.product), None)
    view = lead.states[handoff.product].view if handoff.product in lead.states else None
    if standing is None or view is None:
        handoff.said = said_of(history.events)
        handoff.reasons = handoff.reasons or [*UNSCORED]
        return
    handoff.stage, handoff.likelihood = standing.stage, standing.likelihood
    handoff.said = said_of(history.events)
    fold = scoring.fold
    moment = max(to_us(now), history.events[-1].at)
    ledger = _ledger(scoring, handoff, history, moment)
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
