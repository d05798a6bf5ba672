"""Taking events out of a profile that joins them, without the other events. Pure.

A profile keeps of each thing the latest. An event of which it keeps nothing may go, and leaves
nothing but smaller counts; most events of a long history are such. What an event left behind that
the profile does keep cannot be told without the others.
"""

from services.scorer.model import soft_bounces
from services.scorer.model.profile import UNCOUNTED, Position, Profile
from services.scorer.model.state import Event
from services.shared.contracts.consent import consents_of
from services.shared.contracts.event_types import MILESTONES, ON_SITE, TOUCH_SENT


def take_out(profile: Profile, event: Event) -> bool:
    """Takes one of its events out of a profile; False, and nothing is changed, where the profile
    keeps something of it.
    """
    if profile.stored == UNCOUNTED or _keeps(profile, event):
        return False
    profile.stored -= 1
    if event.data.type != TOUCH_SENT:
        profile.events -= 1
    return True


def _keeps(profile: Profile, event: Event) -> bool:
    """Whether a profile keeps something of one of its events, or may have left something out for
    it.
    """
    data, at, place = event.data, event.at, (event.at, event.uid)
    if data.traits and (
        profile.traits_left_out
        or any(_is_at(profile.traits.get(name), place) for name in data.traits)
    ):
        return True
    if data.type == TOUCH_SENT:
        return False
    return (
        at >= profile.last_at
        or (data.type in ON_SITE and at >= profile.act_at)
        or (data.type in MILESTONES and place in profile.milestones.get(data.type, ()))
        or place in profile.mailed.get(data.type, ())
        or place in profile.addresses.values()
        or place in profile.records.values()
        or any(_is_at(kept, place) for kept in profile.product_sales.values())
        or any(
            _is_at(kept, place)
            for kept in (profile.address, profile.company, profile.source, profile.sales)
        )
        or _keeps_delivery(profile, event)
        or _keeps_consent(profile, event)
    )


def _is_at(kept: tuple[object, ...] | None, place: Position) -> bool:
    return kept is not None and kept[:2] == place


def _keeps_delivery(profile: Profile, event: Event) -> bool:
    stored, known = (
        soft_bounces.of_event(event.data, event.at),
        profile.deliveries.get(event.data.email),
    )
    if stored is None or known is None:
        return False
    return stored.reached >= known.reached if not stored.soft else event.at in known.soft


def _keeps_consent(profile: Profile, event: Event) -> bool:
    if not consents_of(event.data):
        return False
    kept = [*profile.consent.values(), *profile.refusals.values(), profile.other_refusal]
    return profile.consents_left_out or any(record and record.uid == event.uid for record in kept)
