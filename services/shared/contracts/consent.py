"""Which permissions an interaction gives or takes, in so many words or by its type, from when each
counts, and which of several prevails.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple

from msgspec.structs import replace

from services.shared.contracts.event_types import CONSENT_TYPES
from services.shared.contracts.events import CLOCK_TOLERANCE, Consent, ConsentState, Interaction

HARD_BOUNCES = frozenset({"hard", "permanent", "bounce", "hardbounce"})
CLOCK_TOLERANCE_US = CLOCK_TOLERANCE // timedelta(microseconds=1)
# the basis of a permission that was confirmed from the mailbox itself
DOUBLE_OPT_IN = "double_opt_in"  # one of BASES_NOT_FROM_PAGES

# the purpose of what is no word of a person: a mail of ours came back for a while (its basis says
# by which status)
DELIVERY = "delivery"

# the basis of the refusal that stands for an address that mails have not reached for a while
SOFT_BOUNCES = "soft bounces in a row"


# the purpose, or channel, of the permission to measure clicks and opens
TRACKING = "tracking"


class ConsentKey(NamedTuple):
    """What a consent is about; the empty address where none is named, but an id."""

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


def counts_from(said: int, received: int, *, refused: bool) -> int:
    """From when a consent counts, in µs: a permission from its receipt at the latest, a refusal
    from its receipt, but no later than a sender's clock may be behind.
    """
    return min(received, said + CLOCK_TOLERANCE_US) if refused else min(said, received)


def prevailing(consents: Iterable[ConsentState]) -> ConsentState | None:
    """Of a person's refusals under any identifier, and the permissions for one address, what counts
    for that address; None where there are none.

    A refusal that names an address binds all of the person's, until a later permission names the
    one in question. One that names an id alone binds until a later permission of either kind; a
    permission that names an id alone lifts no other. At equal times the refusal counts.
    """
    known = list(consents)
    by_address, by_id = _latest(known, "withdrawn", False), _latest(known, "withdrawn", True)
    named, any_ = _latest(known, "given", False), _latest(known, "given", None)
    if by_address and not (named and named.at > by_address.at):
        until = max(by_address.at, by_id.at if by_id else by_address.at)
        return replace(by_address, at=until)
    if by_id and not (any_ and any_.at > by_id.at):
        return by_id
    return named if by_address else any_


def _latest(
    consents: Iterable[ConsentState], state: str, general: bool | None
) -> ConsentState | None:
    found = (c for c in consents if c.state == state and general in (None, c.general))
    return max(found, key=lambda c: (c.at, c.basis, not c.general), default=None)
