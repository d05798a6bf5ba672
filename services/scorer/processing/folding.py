"""Folds events into the states of leads in hand, and refolds those of another playbook."""

import uuid
from collections.abc import Mapping, Sequence

from services.scorer import profile_parts
from services.scorer.history import History
from services.scorer.model import window
from services.scorer.model.fold import Fold
from services.scorer.model.profile import Profile, add
from services.scorer.model.state import Event, FoldState
from services.scorer.model.window import Known
from services.scorer.processing.batch import Batch
from services.scorer.profile_parts import ProfileParts
from services.scorer.records import LeadRow, State
from services.scorer.scoring import Scoring
from services.shared.contracts.event_types import EventType
from services.shared.contracts.identity import Kind
from services.shared.contracts.sales import STATUS_OF
from services.shared.telemetry import LEADS_CURTAILED

SALES_UNDONE = EventType.SALES_UNDONE.value


async def fold(scoring: Scoring, history: History, batch: Batch) -> None:
    """Folds a batch's events onto its leads' states, all leads at once, and brings the parts of
    long leads up to date.

    Leads are refolded that lost or got stored events, those whose new events come out of order
    (`late`), and those of which other events are weighed than before, also as sales takes back what
    it said.
    """
    new = {lead: _in_order(batch, lead) for lead in batch.leads}
    profiles: dict[uuid.UUID, Profile | None] = {}
    for lead in batch.leads.values():
        lead.states = {
            product: lead.states.get(product) or scoring.initial(product)
            for product in scoring.playbook.products
        }
        if _is_late(scoring, lead, new[lead.id]):
            batch.late.add(lead.id)
        profile = batch.joined.get(lead.id) if lead.id in batch.refold else lead.profile
        if profile is None or not scoring.holds(profile, lead.states.values()):
            profiles[lead.id] = None
            continue
        lead.profile = profile
        extends = _grow(lead.profile, new[lead.id], scoring.fold.declared)
        is_new_end = extends and not _takes_back(lead.profile, new[lead.id])
        if lead.id in batch.refold or lead.id in batch.late or not is_new_end:
            profiles[lead.id] = lead.profile
    _extend(scoring, [lead for lead in batch.leads.values() if lead.id not in profiles], new)
    if history.parts:
        known_profiles = {lead: its for lead, its in profiles.items() if its}
        await _add_to_parts(history.parts, known_profiles, new)
    async for known in history.known(profiles):
        _refold(scoring, [(batch.leads[lead], its) for lead, its in known.items()])


async def _add_to_parts(
    parts: ProfileParts,
    leads: Mapping[uuid.UUID, Profile],
    new: Mapping[uuid.UUID, Sequence[Event]],
) -> None:
    """Adds new events to the parts that they lie in, and makes those that are missing."""
    long = {
        lead: profile.stored
        for lead, profile in leads.items()
        if profile.stored >= profile_parts.PART
    }
    found = await parts.of(long) if long else {}
    for lead, stored in sorted(long.items()):
        known = found.get(lead)
        if known:
            late = [event for event in new[lead] if window.place(event) <= known.until]
            await parts.change(lead, late)
            known = known._replace(events=known.events + len(late))
        await parts.extend(lead, stored, known)


def _grow(profile: Profile, events: Sequence[Event], declared: frozenset[str]) -> bool:
    """Adds new events; returns whether those that are weighed only grew at their end."""
    start = window.start(profile.stored)
    milestones = profile.milestones_before(profile.since) if start else set()
    traits, consents = profile.traits_left_out, profile.consents_left_out
    for event in events:
        add(profile, event, declared)
    if profile.traits_left_out and not traits:
        LEADS_CURTAILED.labels("traits").inc()
    if profile.consents_left_out and not consents:
        LEADS_CURTAILED.labels("consents").inc()
    if start != window.start(profile.stored):
        return False
    return not start or milestones <= profile.milestones_before(profile.since)


def _takes_back(profile: Profile, new: Sequence[Event]) -> bool:
    """Whether among a lead's events one takes back what another says, and one of the two is new."""
    if SALES_UNDONE not in profile.milestones:  # of nearly everybody
        return False
    return any(event.data.type == SALES_UNDONE or event.data.type in STATUS_OF for event in new)


def _extend(
    scoring: Scoring, leads: Sequence[LeadRow], new: Mapping[uuid.UUID, list[Event]]
) -> None:
    """Extends states by new events."""
    states = [state for lead in leads for state in lead.states.values()]
    events = [new[lead.id] for lead in leads for _ in lead.states]
    _fold(scoring, states, [state.fold for state in states], events)


def _refold(scoring: Scoring, leads: Sequence[tuple[LeadRow, Known]]) -> None:
    """Folds leads from the initial state, by what is known of them."""
    for lead, known in leads:
        lead.profile, lead.unreadable = known.profile, False
    pairs = [(state, known) for lead, known in leads for state in lead.states.values()]
    initial = [scoring.fold.initial(state.fold.product) for state, _ in pairs]
    _fold(scoring, [state for state, _ in pairs], initial, [known.events for _, known in pairs])


def _fold(
    scoring: Scoring,
    states: Sequence[State],
    folds: Sequence[FoldState],
    events: Sequence[Sequence[Event]],
) -> None:
    for state, folded in zip(states, scoring.fold.extend(folds, events), strict=True):
        state.fold, state.fold_hash = folded, scoring.playbook.fold_hash


def _in_order(batch: Batch, lead: uuid.UUID) -> list[Event]:
    events = (incoming.event for incoming in batch.events.get(lead, ()))
    return sorted(events, key=window.place)


def _is_late(scoring: Scoring, lead: LeadRow, events: Sequence[Event]) -> bool:
    """Whether a state cannot be extended by these events."""
    if any(window.place(event) <= lead.profile.since for event in events):
        return True
    return any(_out_of_order(scoring, state, events) for state in lead.states.values())


def _out_of_order(scoring: Scoring, state: State, events: Sequence[Event]) -> bool:
    if state.fold_hash != scoring.playbook.fold_hash or not scoring.fold.reads(state.fold):
        return True
    return any(_calls_for_refold(scoring.fold, state, event) for event in events)


def _calls_for_refold(fold: Fold, state: State, event: Event) -> bool:
    if not fold.weighs(event.data):
        return False
    return window.place(event) <= state.fold.position or fold.undoes(state.fold, event)


async def refold_outdated(
    scoring: Scoring, history: History, leads: Sequence[LeadRow]
) -> set[uuid.UUID]:
    """Refolds leads whose states were made under another playbook or model, and returns which;
    refolds unreadable ones too. Takes states of other products than the playbook's out of hand.
    """
    fold_hash, products = scoring.playbook.fold_hash, scoring.playbook.products
    for lead in leads:
        lead.states = {name: lead.states[name] for name in products if name in lead.states}
    outdated = {
        lead.id
        for lead in leads
        if {state.fold_hash for state in lead.states.values()} != {fold_hash}
        or set(lead.states) != set(products)
    }
    old = {
        lead.id: lead for lead in leads if lead.id in outdated or not _is_readable(scoring, lead)
    }
    profiles = {
        lead.id: lead.profile if scoring.holds(lead.profile, lead.states.values()) else None
        for lead in old.values()
    }
    async for known in history.known(profiles):
        _rebuild(scoring, [(old[lead], its) for lead, its in known.items()])
    return outdated


def _is_readable(scoring: Scoring, lead: LeadRow) -> bool:
    states = lead.states.values()
    return not lead.unreadable and all(scoring.fold.reads(state.fold) for state in states)


def rebuild(scoring: Scoring, lead: LeadRow, known: Known) -> None:
    """Makes a lead's states anew, whatever is stored of them."""
    _rebuild(scoring, [(lead, known)])


def _rebuild(scoring: Scoring, leads: Sequence[tuple[LeadRow, Known]]) -> None:
    for lead, _ in leads:
        lead.states = {
            product: lead.states.get(product) or scoring.initial(product)
            for product in scoring.playbook.products
        }
        for state in lead.states.values():
            state.view = None
    _refold(scoring, leads)
    for lead, _ in leads:
        exclude(scoring, lead)


def exclude(scoring: Scoring, lead: LeadRow) -> None:
    """Notes the reason for which it is no lead at all, by its addresses and traits (D7); others are
    told a new one at once.
    """
    emails = [name.value for name in lead.identifiers if name.kind in (Kind.EMAIL, Kind.ROLE)]
    excluded = scoring.exclusions.reason(emails, lead.profile.known_traits())
    if excluded != lead.excluded:
        lead.excluded, lead.publish_at = excluded, 0
