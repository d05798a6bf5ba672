"""What is known of a person apart from the fold: traits, consent, first source, sales status; each
the last word said.

A profile is a join of its events: merging needs no order, so late events and unions of leads cost
nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from services.scorer.model.state import Event
from services.shared.clock import to_us
from services.shared.contracts.consent import consents_of
from services.shared.contracts.events import TOUCH_SENT
from services.shared.contracts.sales import STATUS_OF
from services.shared.playbook.sections import Exclusion

Stamp = tuple[int, str]
NEVER_SEEN: Stamp = (-(1 << 62), "")
MAX_REASON = 500


class Permission(msgspec.Struct, array_like=True, frozen=True):
    """The last word on a channel and purpose for an address; the empty address means all of the
    person's.
    """

    at: int
    refused: bool
    basis: str = ""
    text: str = ""
    uid: str = ""


class Outcome(NamedTuple):
    """The last word of sales, with its reason."""

    at: int
    uid: str
    status: str
    reason: str = ""


class Profile(msgspec.Struct, array_like=True):
    """Times are µs; stamps are (occurred_at, event id)."""

    traits: dict[str, tuple[int, str, Any]] = {}
    consent: dict[str, Permission] = {}
    source: tuple[int, str, str, str] | None = None
    sales: Outcome | None = None
    company: tuple[int, str, str] | None = None
    address: tuple[int, str, str] | None = None
    events: int = 0
    last_at: int = NEVER_SEEN[0]
    act_at: int = NEVER_SEEN[0]

    def known_traits(self) -> dict[str, Any]:
        """Traits that are not erased."""
        known = {name: value for name, (_, _, value) in self.traits.items() if value is not None}
        if self.company:
            known.setdefault("company", self.company[2])
        return known

    @property
    def email(self) -> str:
        """The address last used."""
        return self.address[2] if self.address else ""

    def fit_traits(self) -> dict[str, Any]:
        """Traits that fit rules may name: the known ones, and `email_domain`."""
        known = self.known_traits()
        if domain := self.email.rpartition("@")[2]:
            known.setdefault("email_domain", domain)
        return known


def profile_of(events: Iterable[Event]) -> Profile:
    """The profile of a whole set."""
    profile = Profile()
    for event in events:
        learn(profile, event)
    return profile


def learn(profile: Profile, event: Event) -> None:
    """Adds one event; each event once."""
    data, at, uid = event.data, event.at, event.uid
    for name, value in data.traits.items():
        if (at, uid) >= profile.traits.get(name, NEVER_SEEN)[:2]:
            profile.traits[name] = (at, uid, value)
    if data.type == TOUCH_SENT:
        return
    profile.events += 1
    profile.last_at = max(profile.last_at, at)
    if not data.machine and data.type in ON_SITE:
        profile.act_at = max(profile.act_at, at)
    if data.email and (not profile.address or (at, uid) >= profile.address[:2]):
        profile.address = (at, uid, data.email)
    if data.company and (not profile.company or (at, uid) >= profile.company[:2]):
        profile.company = (at, uid, data.company)
    if data.source and (not profile.source or (at, uid) < profile.source[:2]):
        profile.source = (at, uid, data.source, data.campaign)
    if (status := STATUS_OF.get(data.type)) and (
        not profile.sales or (at, uid) >= profile.sales[:2]
    ):
        profile.sales = Outcome(
            at, uid, status, str(data.properties.get("reason") or "")[:MAX_REASON]
        )
    for consent in consents_of(data):
        key = f"{data.email}\t{consent.channel}\t{consent.purpose}"
        said_at = to_us(consent.at) if consent.at else at
        said = Permission(said_at, consent.state == "withdrawn", consent.basis, consent.text, uid)
        if key not in profile.consent or _later(said, profile.consent[key]):
            profile.consent[key] = said


ON_SITE = frozenset({
    "page_viewed", "form_submitted", "content_downloaded", "video_watched", "pricing_viewed",
    "enquired",
    "demo_requested", "trial_started", "webinar_registered", "survey_answered", "preference_set",
    "link_clicked",
    "email_clicked",
})  # fmt: skip


def permission(
    profile: Profile, address: str, channel: str = "email", purpose: str = "marketing"
) -> Permission | None:
    """The last word for this address; at equal times the refusal wins; None where nothing
    was said.
    """
    said = [profile.consent.get(f"{where}\t{channel}\t{purpose}") for where in {address, ""}]
    last: Permission | None = None
    for one in said:
        if one and (last is None or _later(one, last)):
            last = one
    return last


def _later(one: Permission, other: Permission) -> bool:
    return (one.at, one.refused, one.uid) > (other.at, other.refused, other.uid)


class Exclusions:
    """Who is no lead at all, by the playbook's rules (D7)."""

    def __init__(self, rules: Iterable[Exclusion]) -> None:
        self._rules = list(rules)
        self._domains = tuple(f".{domain}" for rule in self._rules for domain in rule.domains)
        self._emails = frozenset(email for rule in self._rules for email in rule.emails)
        self._words = [
            (rule.trait, frozenset(one.lower() for one in rule.one_of))
            for rule in self._rules
            if rule.trait
        ]

    def reason(self, emails: Sequence[str], traits: Mapping[str, Any]) -> str:
        """The reason for which these are not a lead's addresses or traits; '' where they are."""
        suspect = not self._emails.isdisjoint(emails) or any(
            _within(email, self._domains) for email in emails
        )
        if not suspect and not any(
            str(traits[trait]).lower() in words for trait, words in self._words if trait in traits
        ):
            return ""  # nearly everybody
        return next((rule.reason for rule in self._rules if _excludes(rule, emails, traits)), "")


def _within(email: str, domains: tuple[str, ...]) -> bool:
    """Whether the address lies in one of the domains, each with its dot in front, or below."""
    return f".{email.rpartition('@')[2]}".endswith(domains)


def _excludes(rule: Exclusion, emails: Sequence[str], traits: Mapping[str, Any]) -> bool:
    barred = tuple(f".{domain}" for domain in rule.domains)
    told = traits.get(rule.trait) if rule.trait else None
    named = told is not None and str(told).lower() in {one.lower() for one in rule.one_of}
    return (
        named
        or not set(rule.emails).isdisjoint(emails)
        or any(_within(email, barred) for email in emails)
    )
