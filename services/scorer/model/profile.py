"""What is known of a person apart from the fold: traits, consent, first source, sales status.

A profile is a join of its events: merging needs no order, so late events and unions of leads cost
nothing. Times are µs; of each thing the latest (occurred_at, event id) counts, of the source the
first.
"""

from collections.abc import Iterable
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from services.scorer.model.state import Event
from services.shared.clock import from_us, to_us
from services.shared.contracts.consent import ConsentKey, consents_of, counts_from, prevailing
from services.shared.contracts.event_types import ON_SITE, TOUCH_SENT
from services.shared.contracts.events import Consent, ConsentState
from services.shared.contracts.sales import STATUS_OF

BEFORE_ALL = -(1 << 62), ""
MAX_REASON = 500


class ConsentRecord(msgspec.Struct, array_like=True, frozen=True):
    """The latest permission or refusal under a key, with the wording shown and the event's id;
    `since` is from when it counts.
    """

    at: int
    refused: bool
    basis: str = ""
    text: str = ""
    uid: str = ""
    since: int = 0

    def is_later(self, other: "ConsentRecord") -> bool:
        """At equal times the refusal is."""
        return (self.since, self.refused, self.uid) > (other.since, other.refused, other.uid)


class SalesOutcome(NamedTuple):
    """What sales reported last, with its reason."""

    at: int
    uid: str
    status: str
    reason: str = ""


class Source(NamedTuple):
    """Where the lead came from first."""

    at: int
    uid: str
    name: str
    campaign: str


class Latest(NamedTuple):
    """A value and the event that it comes from."""

    at: int
    uid: str
    value: Any


class Profile(msgspec.Struct, array_like=True):
    """`events` counts all but our own sends; `act_at` is the last act on our site; `consent` has
    permissions, `refusals` what takes them back.
    """

    traits: dict[str, Latest] = {}
    consent: dict[ConsentKey, ConsentRecord] = {}
    source: Source | None = None
    sales: SalesOutcome | None = None
    company: Latest | None = None
    address: Latest | None = None
    events: int = 0
    last_at: int = BEFORE_ALL[0]
    act_at: int = BEFORE_ALL[0]
    refusals: dict[ConsentKey, ConsentRecord] = {}

    def known_traits(self) -> dict[str, Any]:
        """Traits that are not erased."""
        known = {name: value for name, (_, _, value) in self.traits.items() if value is not None}
        if self.company:
            known.setdefault("company", self.company.value)
        return known

    @property
    def email(self) -> str:
        """The address last used."""
        return self.address.value if self.address else ""

    def fit_traits(self) -> dict[str, Any]:
        """Traits that fit rules may name: the known ones, and `email_domain`."""
        known = self.known_traits()
        if domain := self.email.rpartition("@")[2]:
            known.setdefault("email_domain", domain)
        return known

    def latest_consents(self) -> dict[ConsentKey, ConsentRecord]:
        """The later of permission and refusal under each key."""
        latest = dict(self.consent)
        for key, refusal in self.refusals.items():
            if key not in latest or refusal.is_later(latest[key]):
                latest[key] = refusal
        return latest

    def consent_for(self, wanted: ConsentKey) -> ConsentState | None:
        """What counts for this address: a refusal may have named another one."""
        permissions = (
            _state(key, record)
            for key, record in self.consent.items()
            if key in (wanted, wanted._replace(address=""))
        )
        refusals = (
            _state(key, record)
            for key, record in self.refusals.items()
            if key._replace(address=wanted.address) == wanted
        )
        return prevailing(chain(permissions, refusals))


def profile_of(events: Iterable[Event]) -> Profile:
    """The profile of a whole set."""
    profile = Profile()
    for event in events:
        add(profile, event)
    return profile


def add(profile: Profile, event: Event) -> None:
    """Adds one event; each event once."""
    data, at, uid = event.data, event.at, event.uid
    for name, value in data.traits.items():
        if (at, uid) >= profile.traits.get(name, BEFORE_ALL)[:2]:
            profile.traits[name] = Latest(at, uid, value)
    if data.type == TOUCH_SENT:
        return
    profile.events += 1
    profile.last_at = max(profile.last_at, at)
    if not data.machine and data.type in ON_SITE:
        profile.act_at = max(profile.act_at, at)
    if data.email and (not profile.address or (at, uid) >= profile.address[:2]):
        profile.address = Latest(at, uid, data.email)
    if data.company and (not profile.company or (at, uid) >= profile.company[:2]):
        profile.company = Latest(at, uid, data.company)
    if data.source and (not profile.source or (at, uid) < profile.source[:2]):
        profile.source = Source(at, uid, data.source, data.campaign)
    status = STATUS_OF.get(data.type)
    if status and (not profile.sales or (at, uid) >= profile.sales[:2]):
        reason = str(data.properties.get("reason") or "")[:MAX_REASON]
        profile.sales = SalesOutcome(at, uid, status, reason)
    for consent in consents_of(data):
        _add_consent(profile, event, consent)


def _add_consent(profile: Profile, event: Event, consent: Consent) -> None:
    key = ConsentKey(event.data.email, consent.channel, consent.purpose)
    at = to_us(consent.at) if consent.at else event.at
    refused = consent.state == "withdrawn"
    received = at if event.received is None else event.received
    since = counts_from(at, received, refused=refused)
    record = ConsentRecord(at, refused, consent.basis, consent.text, event.uid, since)
    known = profile.refusals if refused else profile.consent
    before = known.get(key)
    if before is None or record.is_later(before):
        known[key] = record


def _state(key: ConsentKey, record: ConsentRecord) -> ConsentState:
    return ConsentState(
        "withdrawn" if record.refused else "given",
        from_us(record.since),
        record.basis,
        general=not key.address,
    )
