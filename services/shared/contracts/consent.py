"""Which permissions an interaction gives or takes, in so many words or by its type."""

from typing import NamedTuple

from services.shared.contracts.event_types import CONSENT_TYPES
from services.shared.contracts.events import Consent, Interaction

HARD_BOUNCES = frozenset({"hard", "permanent", "bounce", "hardbounce"})
# the basis of a permission that was confirmed from the mailbox itself
DOUBLE_OPT_IN = "double_opt_in"


class ConsentKey(NamedTuple):
    """What a consent is about; the empty address means all of the person's."""

    address: str
    channel: str = "email"
    purpose: str = "marketing"


def snapshot_key(channel: str, purpose: str) -> str:
    """How a lead's snapshot names a consent."""
    return f"{channel}:{purpose}"


def consents_of(data: Interaction) -> tuple[Consent, ...]:
    """The consents an interaction carries, or that its type implies: an unsubscribe, a complaint, a
    hard bounce.
    """
    if data.consent:
        return tuple(data.consent)
    if data.machine or data.type not in CONSENT_TYPES:
        return ()
    if data.type == "consent_given":
        return (Consent(state="given", basis=data.type),)
    if (
        data.type == "email_bounced"
        and str(data.properties.get("type", "")).lower() not in HARD_BOUNCES
    ):
        return ()
    return (Consent(state="withdrawn", basis=data.type),)
