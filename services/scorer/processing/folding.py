"""Folds events into the states of leads in hand, and refolds those of another playbook."""

import uuid
from collections.abc import Mapping, Sequence

from services.scorer.model.fold import Fold
from services.scorer.model.profile import add, profile_of
from services.scorer.model.state import Event
from services.scorer.processing.batch import Batch
from services.scorer.records import LeadRow, State
from services.scorer.scoring import Scoring
from services.scorer.store import Store
from services.shared.contracts.identity import Kind


async def fold(scoring: Scoring, store: Store, batch: Batch) -> None:
    """Folds a batch's events onto its leads' states, all leads at once.

    Leads are refolded that lost or got stored events, and those whose new events come out of order
    (`late`).
    """
    new = {lead: _in_order(batch, lead) for lead in batch.leads}
    for lead in batch.leads.values():
        lead.states = {
            product: lead.states.get(product) or scoring.initial(product)
            for product in scoring.playbook.products
        }
        if any(_out_of_order(scoring, state, new[lead.id]) for state in lead.states.values()):
            batch.late.add(lead.id)
    refold = batch.refold | batch.late
    stored = await store.events(refold) if refold else {}
    for lead in batch.leads.values():
        if lead.id in batch.refold:
            lead.profile = profile_of(stored.get(lead.id, []))
        else:
            for event in new[lead.id]:
                add(lead.profile, event)
    _fold(scoring, batch.leads, new, {lead: stored.get(lead, []) for lead in refold})


def _fold(
    scoring: Scoring,
    leads: Mapping[uuid.UUID, LeadRow],
    new: Mapping[uuid.UUID, list[Event]],
    refold: Mapping[uuid.UUID, list[Event]],
) -> None:
    """Extends states by new events; from the initial state by all events where `refold` has
    them.
    """
    states, folds, events = [], [], []
    for lead in leads.values():
        for product, state in lead.states.items():
            again = lead.id in refold
            states.append(state)
            folds.append(scoring.fold.initial(product) if again else state.fold)
            events.append(refold[lead.id] if again else new[lead.id])
    for state, folded in zip(states, scoring.fold.extend(folds, events), strict=True):
        state.fold, state.fold_hash = folded, scoring.playbook.fold_hash


def _in_order(batch: Batch, lead: uuid.UUID) -> list[Event]:
    events = (incoming.event for incoming in batch.events.get(lead, ()))
    return sorted(events, key=lambda event: (event.at, event.uid))


def _out_of_order(scoring: Scoring, state: State, events: Sequence[Event]) -> bool:
    """Whether a state cannot be extended by these events."""
    if state.fold_hash != scoring.playbook.fold_hash or not scoring.fold.reads(state.fold):
        return True
    return any(_calls_for_refold(scoring.fold, state, event) for event in events)


def _calls_for_refold(fold: Fold, state: State, event: Event) -> bool:
    if not fold.weighs(event.data):
        return False
    return (event.at, event.uid) <= state.fold.position or fold.undoes(state.fold, event)


async def refold_outdated(
    scoring: Scoring, store: Store, leads: Sequence[LeadRow]
) -> set[uuid.UUID]:
    """Refolds leads whose states were made under another playbook or model, and returns which;
    refolds unreadable ones too.
    """
    fold_hash, products = scoring.playbook.fold_hash, scoring.playbook.products
    outdated = {
        lead.id
        for lead in leads
        if {state.fold_hash for state in lead.states.values()} != {fold_hash}
        or set(lead.states) != set(products)
    }
    old = [lead for lead in leads if lead.id in outdated or not _is_readable(scoring, lead)]
    events = await store.events(lead.id for lead in old) if old else {}
    for product in products if old else ():
        folds = scoring.fold.refold(product, [events.get(lead.id, []) for lead in old])
        for lead, folded in zip(old, folds, strict=True):
            state = lead.states.get(product) or scoring.initial(product)
            state.fold, state.fold_hash, state.view = folded, fold_hash, None
            lead.states[product] = state
    for lead in old:
        lead.profile, lead.unreadable = profile_of(events.get(lead.id, [])), False
        exclude(scoring, lead)
        lead.states = {product: lead.states[product] for product in products}
    return outdated


def _is_readable(scoring: Scoring, lead: LeadRow) -> bool:
    states = lead.states.values()
    return not lead.unreadable and all(scoring.fold.reads(state.fold) for state in states)


def rebuild(scoring: Scoring, lead: LeadRow, events: Sequence[Event]) -> None:
    """Makes a lead's profile and states from all of its events, whatever is stored of them."""
    lead.profile, lead.unreadable = profile_of(events), False
    states = {}
    for product in scoring.playbook.products:
        state = lead.states.get(product) or scoring.initial(product)
        state.fold, state.view = scoring.fold.refold(product, [events])[0], None
        state.fold_hash = scoring.playbook.fold_hash
        states[product] = state
    lead.states = states
    exclude(scoring, lead)


def exclude(scoring: Scoring, lead: LeadRow) -> None:
    """Notes the reason for which it is no lead at all, by its addresses and traits (D7); others are
    told a new one at once.
    """
    emails = [name.value for name in lead.identifiers if name.kind in (Kind.EMAIL, Kind.ROLE)]
    excluded = scoring.exclusions.reason(emails, lead.profile.known_traits())
    if excluded != lead.excluded:
        lead.excluded, lead.publish_at = excluded, 0
