"""What is known of a person apart from the fold: traits, consent, first source, sales status.

A profile is a join of its events: merging needs no order, so late events and unions of leads cost
nothing. Times are µs; of each thing the latest (occurred_at, event id) counts, of the source the
first. Whatever is posted, a profile stays small: `join` of two bounded profiles is the bounded
profile of both sets.
"""

from bisect import insort
from collections.abc import Callable, Iterable, Mapping
from heapq import nlargest
from typing import Any, Literal, NamedTuple

import msgspec

from services.scorer.model.state import Event
from services.shared.clock import to_us
from services.shared.contracts.consent import ConsentKey, consents_of, snapshot_key
from services.shared.contracts.event_types import MILESTONES, ON_SITE, TOUCH_SENT
from services.shared.contracts.events import Consent
from services.shared.contracts.sales import STATUS_OF

BEFORE_ALL = -(1 << 62), ""
UNCOUNTED = -1  # `stored` of profiles of releases that did not count
MAX_REASON = 500
MOST_TRAITS = 100  # that the playbook does not name; those that it names are kept in any number
MAX_TRAIT_NAME = 128  # characters
MAX_TRAIT = 2048  # bytes of a value in JSON
SURE_TO_FIT = MAX_TRAIT // 6 - 2  # characters: none takes more than six bytes
PLAIN = frozenset({str, int, float, bool, type(None)})
MOST_CONSENTS = 50  # of each group: the permission that nurture asks for, by address, and the rest
MAX_CONSENT_NAME = 64  # characters of a channel, a purpose, a basis
MAX_WORDING = 1000  # characters
ASKED_FOR = snapshot_key("email", "marketing")
OTHERS = ""
MOST_MILESTONES = 8  # of each type
LeftOut = Literal["traits", "consents"]
_json = msgspec.json.Encoder().encode


class ConsentRecord(msgspec.Struct, array_like=True, frozen=True):
    """The latest consent or refusal under a key, with the wording shown and the event's id."""

    at: int
    refused: bool
    basis: str = ""
    text: str = ""
    uid: str = ""

    def is_later(self, other: "ConsentRecord") -> bool:
        """At equal times the refusal is."""
        return (self.at, self.refused, self.uid) > (other.at, other.refused, other.uid)


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


class RestOfConsents(msgspec.Struct, array_like=True):
    """What is kept of all consents of a group: the last refusal, and whether some are left out."""

    refusal: ConsentRecord | None = None
    left_out: bool = False


class Profile(msgspec.Struct, array_like=True):
    """`events` counts all but our own sends, `stored` all; `act_at` is the last act on our site.

    `milestones` are (at, id) of the last events of each type that is never forgotten, oldest first;
    `since` is the first of the newest events that the fold weighs one by one, and before all events
    where it weighs them all.
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
    stored: int = 0
    milestones: dict[str, list[tuple[int, str]]] = {}
    since: tuple[int, str] = BEFORE_ALL
    rest: dict[str, RestOfConsents] = {}
    traits_left_out: bool = False

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

    def consent_for(self, key: ConsentKey) -> ConsentRecord | None:
        """The latest for this address or for all of the person's; None where there is none.

        Where consents of the group are left out and this one is not kept, the group's last refusal
        stands for it.
        """
        mine, all_ = self._kept(key), self._kept(key._replace(address=""))
        return all_ if all_ and (mine is None or all_.is_later(mine)) else mine

    def _kept(self, key: ConsentKey) -> ConsentRecord | None:
        if record := self.consent.get(key):
            return record
        rest = self.rest.get(group := _group(key)) if self.rest else None
        if rest and rest.left_out and (key.address or group == OTHERS):
            return rest.refusal
        return None

    @property
    def left_out(self) -> list[LeftOut]:
        """Of what more was posted than is kept."""
        left_out: list[LeftOut] = ["traits"] if self.traits_left_out else []
        if any(rest.left_out for rest in self.rest.values()):
            left_out.append("consents")
        return left_out

    def milestones_before(self, position: tuple[int, str]) -> set[tuple[int, str]]:
        """Of the milestones those before a place in the order of events."""
        return {each for last in self.milestones.values() for each in last if each < position}

    def before(self, position: tuple[int, str]) -> "Profile":
        """Of what is known the part that events before a place in their order said."""
        earlier = Profile()
        for name, latest in self.traits.items():
            if latest[:2] < position:
                earlier.traits[name] = latest
        for name in ("address", "company"):
            latest = getattr(self, name)
            if latest and latest[:2] < position:
                setattr(earlier, name, latest)
        return earlier


def profile_of(events: Iterable[Event], declared: frozenset[str] = frozenset()) -> Profile:
    """The profile of a whole set; `declared` are the traits that the playbook names."""
    profile = Profile()
    for event in events:
        add(profile, event, declared)
    return profile


def add(profile: Profile, event: Event, declared: frozenset[str] = frozenset()) -> None:
    """Adds one event; each event once."""
    data, at, uid = event.data, event.at, event.uid
    profile.stored += 1
    if data.traits:
        _add_traits(profile, event, declared)
    if data.type == TOUCH_SENT:
        return
    profile.events += 1
    profile.last_at = max(profile.last_at, at)
    if not data.machine:
        if data.type in ON_SITE:
            profile.act_at = max(profile.act_at, at)
        if data.type in MILESTONES:
            last = profile.milestones.setdefault(data.type, [])
            insort(last, (at, uid))
            del last[:-MOST_MILESTONES]
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


def join(one: Profile, other: Profile, declared: frozenset[str] = frozenset()) -> Profile:
    """The profile of two sets that have no event in common, `since` apart."""
    joined = Profile(
        traits=_latest(one.traits, other.traits, lambda new, old: new[:2] >= old[:2]),
        consent=_latest(one.consent, other.consent, ConsentRecord.is_later),
        source=min(_known(one.source, other.source), default=None),
        sales=max(_known(one.sales, other.sales), default=None),
        company=max(_known(one.company, other.company), key=_position, default=None),
        address=max(_known(one.address, other.address), key=_position, default=None),
        events=one.events + other.events,
        last_at=max(one.last_at, other.last_at),
        act_at=max(one.act_at, other.act_at),
        stored=one.stored + other.stored,
        traits_left_out=one.traits_left_out or other.traits_left_out,
    )
    for type_ in one.milestones.keys() | other.milestones.keys():
        both = sorted((*one.milestones.get(type_, ()), *other.milestones.get(type_, ())))
        joined.milestones[type_] = both[-MOST_MILESTONES:]
    for rest in (one.rest, other.rest):
        for group, theirs in rest.items():
            _note_rest(joined, group, theirs.refusal, left_out=theirs.left_out)
    _bound_traits(joined, declared)
    _bound_consents(joined)
    return joined


def _known(*values: Any) -> list[Any]:
    return [value for value in values if value is not None]


def _position(latest: Latest) -> tuple[int, str]:
    return latest[:2]


def _latest(
    one: Mapping[Any, Any], other: Mapping[Any, Any], is_later: Callable[[Any, Any], bool]
) -> dict[Any, Any]:
    """Both, of what is under one key the later one."""
    both = dict(one)
    for key, value in other.items():
        if key not in both or is_later(value, both[key]):
            both[key] = value
    return both


# -- traits ---------------------------------------------------------------------------------------


def _add_traits(profile: Profile, event: Event, declared: frozenset[str]) -> None:
    traits, at, uid = profile.traits, event.at, event.uid
    for name, value in event.data.traits.items():
        kind = type(value)
        if kind not in PLAIN or (kind is str and len(value) > SURE_TO_FIT):
            value, fits = _fitting(value)  # what is kept of it
            profile.traits_left_out |= not fits
        if len(name) > MAX_TRAIT_NAME and name not in declared:
            profile.traits_left_out = True
        elif (at, uid) >= traits.get(name, BEFORE_ALL)[:2]:
            traits[name] = Latest(at, uid, value)
    if len(traits) > MOST_TRAITS:
        _bound_traits(profile, declared)


def _fitting(value: Any) -> tuple[Any, bool]:
    """A value and True where it fits; else the beginning of a text, nothing of other values."""
    if len(_json(value)) <= MAX_TRAIT:
        return value, True
    if not isinstance(value, str):
        return None, False
    beginning = value.encode()[: MAX_TRAIT - 2].decode(errors="ignore")
    fits = len(_json(beginning)) <= MAX_TRAIT
    return beginning if fits else value[:SURE_TO_FIT], False


def _bound_traits(profile: Profile, declared: frozenset[str]) -> None:
    """Of the traits that the playbook does not name the newest stay."""
    others = [name for name in profile.traits if name not in declared]
    if len(others) > MOST_TRAITS:
        ranked = ((profile.traits[name][:2], name) for name in others)
        newest = {name for _, name in nlargest(MOST_TRAITS, ranked)}
        for name in others:
            if name not in newest:
                del profile.traits[name]
        profile.traits_left_out = True


# -- consents -------------------------------------------------------------------------------------


def _group(key: ConsentKey) -> str:
    """The consents that make way for each other: the one that nurture asks for, or the others."""
    name = snapshot_key(key.channel, key.purpose)
    return name if name == ASKED_FOR else OTHERS


def _add_consent(profile: Profile, event: Event, consent: Consent) -> None:
    key = ConsentKey(event.data.email, consent.channel, consent.purpose)
    at = to_us(consent.at) if consent.at else event.at
    refused = consent.state == "withdrawn"
    record = ConsentRecord(
        at, refused, consent.basis[:MAX_CONSENT_NAME], consent.text[:MAX_WORDING], event.uid
    )
    too_long = max(len(key.channel), len(key.purpose)) > MAX_CONSENT_NAME
    if refused or too_long:
        _note_rest(profile, _group(key), record if refused else None, left_out=too_long)
    if too_long:
        return
    before = profile.consent.get(key)
    if before is None or record.is_later(before):
        profile.consent[key] = record
        _bound_consents(profile)


def _note_rest(
    profile: Profile, group: str, refusal: ConsentRecord | None, *, left_out: bool
) -> None:
    rest = profile.rest.setdefault(group, RestOfConsents())
    rest.left_out |= left_out
    if refusal and (rest.refusal is None or refusal.is_later(rest.refusal)):
        rest.refusal = refusal


def _bound_consents(profile: Profile) -> None:
    """Of each group the newest stay, and the one for all of the person's addresses."""
    if len(profile.consent) <= MOST_CONSENTS:
        return
    groups: dict[str, list[tuple[int, bool, str, ConsentKey]]] = {}
    for key, record in profile.consent.items():
        group = _group(key)
        if key.address or group == OTHERS:
            rank = (record.at, record.refused, record.uid, key)
            groups.setdefault(group, []).append(rank)
    for group, ranked in groups.items():
        for *_, key in sorted(ranked)[:-MOST_CONSENTS]:
            del profile.consent[key]
            _note_rest(profile, group, None, left_out=True)
