"""What is known of a person apart from the fold: traits, consent, first source, sales status.

A profile is a join of its events: merging needs no order, so late events and unions of leads cost
nothing. Times are µs; of each thing the latest (occurred_at, event id) counts, of the source the
first. Whatever is posted, a profile stays small: `join` of two bounded profiles is the bounded
profile of both sets.
"""

from bisect import insort
from collections.abc import Callable, Collection, Iterable, Mapping
from heapq import nlargest
from operator import attrgetter, gt
from typing import Any, Literal, NamedTuple

import msgspec

from services.scorer.model import soft_bounces
from services.scorer.model.soft_bounces import Deliveries
from services.scorer.model.state import Event
from services.shared.clock import from_us, to_us
from services.shared.contracts.consent import (
    SOFT_BOUNCES,
    ConsentKey,
    consents_of,
    counts_from,
    prevailing,
)
from services.shared.contracts.event_types import (
    MAILED,
    MILESTONES,
    ON_SITE,
    TOUCH_SENT,
    EventType,
)
from services.shared.contracts.events import Consent, ConsentState, Interaction
from services.shared.contracts.identity import Identifier, Kind
from services.shared.contracts.preferences import read_day
from services.shared.contracts.sales import STATUS_OF, SalesStatus, restored_status
from services.shared.errors import Reject

BEFORE_ALL = -(1 << 62), ""
UNCOUNTED = -1  # `stored` of profiles of releases that did not count
MAX_REASON = 500
MOST_TRAITS = 100  # that the playbook does not name; those that it names are kept in any number
MAX_TRAIT_NAME = 128  # characters
MAX_TRAIT = 2048  # bytes of a value in JSON
SURE_TO_FIT = MAX_TRAIT // 6 - 2  # characters: none takes more than six bytes
PLAIN = frozenset({str, int, float, bool, type(None)})
# of permissions, and of refusals: for that which nurture asks for, by address, and for the others
MOST_CONSENTS = 50
MAX_CONSENT_NAME = 64  # characters of a channel, a purpose, a basis
MAX_WORDING = 1000  # characters
MOST_MILESTONES = 8  # of each type
MOST_LINKED = 20  # addresses, and records of other systems, that the newest links name
MOST_MAILED = 16  # mails of other tools, of each type that tells of them
MOST_PRODUCTS = 50  # of which sales reported something
Position = tuple[int, str]  # of an event: when, and its id
LeftOut = Literal["traits", "consents"]
_json = msgspec.json.Encoder().encode


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
    """What sales reported last, of one product or of all, with its reason, and the day from which
    the lead may be written to again, in ISO 8601, where it named one. The status is '' where sales
    took back what it had reported first.
    """

    at: int
    uid: str
    status: SalesStatus | Literal[""]
    reason: str = ""
    until: str = ""


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
    """`events` counts all but our own sends, `stored` all; `act_at` is the last act on our site;
    `consent` has permissions, `refusals` what takes them back, `other_refusal` is the last one of
    those that nurture does not ask for.

    `sales` is the last word on all products, `product_sales` that on each that was named.
    `addresses` and `records` (SYSTEM, tab, ID) are those of the newest links, with the last link
    of each. `mailed` are (at, id) of the last mails that other tools sent, by type, oldest first.

    `milestones` are (at, id) of the last events of each type that is never forgotten, oldest first;
    `since` is the first of the newest events that the fold weighs one by one, and before all events
    where it weighs them all. `deliveries` tell of each address whether mails reach it.
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
    stored: int = 0
    milestones: dict[str, list[tuple[int, str]]] = {}
    since: tuple[int, str] = BEFORE_ALL
    other_refusal: ConsentRecord | None = None
    traits_left_out: bool = False
    consents_left_out: bool = False
    product_sales: dict[str, SalesOutcome] = {}
    addresses: dict[str, Position] = {}
    records: dict[str, Position] = {}
    deliveries: dict[str, Deliveries] = {}
    mailed: dict[str, list[Position]] = {}

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

    def sales_of(self, product: str, products: Collection[str]) -> SalesOutcome | None:
        """What sales reported last of one of the playbook's products; a word on one that the
        playbook does not have counts for each.
        """
        last = max(
            (
                word
                for named, word in (("", self.sales), *self.product_sales.items())
                if word and (named == product or named not in products)
            ),
            default=None,
        )
        return last if last and last.status else None

    def last_linked_first(self, identifiers: Iterable[Identifier]) -> list[Identifier]:
        """A lead's identifiers, the strongest kind first; of addresses and records those first that
        were linked last, and of those without a link the first of the alphabet.
        """

        def last_link(identifier: Identifier) -> Position:
            known = self.records if identifier.kind is Kind.EXTERNAL else self.addresses
            return known.get(identifier.text, BEFORE_ALL)

        ordered = sorted(identifiers, key=attrgetter("rank"))
        if self.addresses or self.records:
            ordered.sort(key=last_link, reverse=True)
            ordered.sort(key=attrgetter("kind"))
        return ordered

    def fit_traits(self) -> dict[str, Any]:
        """Traits that fit rules may name: the known ones, `email_domain`, and where the lead came
        from first: `first_source`, `first_campaign`.
        """
        known = self.known_traits()
        if domain := self.email.rpartition("@")[2]:
            known.setdefault("email_domain", domain)
        if self.source:
            known.setdefault("first_source", self.source.name)
            if self.source.campaign:
                known.setdefault("first_campaign", self.source.campaign)
        return known

    def latest_consents(self) -> dict[ConsentKey, ConsentRecord]:
        """The later of permission and refusal under each key; soft bounces in a row refuse."""
        latest = dict(self.consent)
        for key, refusal in [*self.refusals.items(), *self._unreached().items()]:
            if key not in latest or refusal.is_later(latest[key]):
                latest[key] = refusal
        return latest

    def _unreached(self) -> dict[ConsentKey, ConsentRecord]:
        """Refusals in the name of addresses that mails have not reached for a while."""
        addresses = {*self.deliveries, self.email} - {""} if self.deliveries else ()
        return {
            ConsentKey(address): ConsentRecord(at, True, SOFT_BOUNCES, since=at)
            for address in addresses
            if (at := soft_bounces.suppressed_at(self.deliveries, address)) is not None
        }

    def consent_for(self, wanted: ConsentKey) -> ConsentState | None:
        """What counts for this address: a refusal may have named another one.

        Where consents are left out, the last refusal of any that nurture does not ask for stands
        for those of them that are not kept.
        """
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
        unreached = self._unreached().get(wanted)
        bounced = [_state(wanted, unreached)] if unreached else []
        return prevailing([*permissions, *refusals, *bounced, *self._left_out_refusal(wanted)])

    def _left_out_refusal(self, wanted: ConsentKey) -> list[ConsentState]:
        if not (self.consents_left_out and self.other_refusal) or _is_asked_for(wanted):
            return []
        return [_state(wanted._replace(address="*"), self.other_refusal)]

    @property
    def left_out(self) -> list[LeftOut]:
        """Of what more was posted than is kept."""
        traits: list[LeftOut] = ["traits"] if self.traits_left_out else []
        return [*traits, "consents"] if self.consents_left_out else traits

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
        if self.source and self.source[:2] < position:
            earlier.source = self.source
        return earlier


def profile_of(events: Iterable[Event], declared: frozenset[str] = frozenset()) -> Profile:
    """The profile of a whole set; `declared` are the traits that the playbook names."""
    profile = Profile()
    for event in events:
        add(profile, event, declared)
    return profile


def tells_of_person(data: Interaction) -> bool:
    """Whether an event may change what `fit_traits` say."""
    return bool(data.traits or data.email or data.company or data.source)


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
    status: SalesStatus | Literal[""] | None = STATUS_OF.get(data.type)
    if data.type == EventType.SALES_UNDONE:
        status = restored_status(data.properties)
    if status is not None:
        reason = str(data.properties.get("reason") or "")[:MAX_REASON]
        outcome = SalesOutcome(at, uid, status, reason, day_of(data.properties.get("until")))
        _add_sales(profile, data.product, outcome)
    if not data.machine and (data.email or data.external_id):
        _add_link(profile, event)
    for consent in consents_of(data):
        _add_consent(profile, event, consent)
    if data.type in MAILED and not data.touch_id:
        mails = profile.mailed.setdefault(data.type, [])
        insort(mails, (at, uid))
        del mails[:-MOST_MAILED]
    if seen := soft_bounces.of_event(data, at):
        profile.deliveries = soft_bounces.joined(profile.deliveries, {data.email: seen})


def join(one: Profile, other: Profile, declared: frozenset[str] = frozenset()) -> Profile:
    """The profile of two sets that have no event in common, `since` apart."""
    joined = Profile(
        traits=_latest(one.traits, other.traits, lambda new, old: new[:2] >= old[:2]),
        consent=_latest(one.consent, other.consent, ConsentRecord.is_later),
        refusals=_latest(one.refusals, other.refusals, ConsentRecord.is_later),
        other_refusal=one.other_refusal,
        source=min(_known(one.source, other.source), default=None),
        sales=max(_known(one.sales, other.sales), default=None),
        company=max(_known(one.company, other.company), key=_position, default=None),
        address=max(_known(one.address, other.address), key=_position, default=None),
        events=one.events + other.events,
        last_at=max(one.last_at, other.last_at),
        act_at=max(one.act_at, other.act_at),
        stored=one.stored + other.stored,
        traits_left_out=one.traits_left_out or other.traits_left_out,
        consents_left_out=one.consents_left_out or other.consents_left_out,
        product_sales=_newest(_latest(one.product_sales, other.product_sales, gt), MOST_PRODUCTS),
        addresses=_newest(_latest(one.addresses, other.addresses, gt), MOST_LINKED),
        records=_newest(_latest(one.records, other.records, gt), MOST_LINKED),
        deliveries=soft_bounces.joined(one.deliveries, other.deliveries),
    )
    for type_ in one.milestones.keys() | other.milestones.keys():
        both = sorted((*one.milestones.get(type_, ()), *other.milestones.get(type_, ())))
        joined.milestones[type_] = both[-MOST_MILESTONES:]
    for type_ in one.mailed.keys() | other.mailed.keys():
        mails = sorted((*one.mailed.get(type_, ()), *other.mailed.get(type_, ())))
        joined.mailed[type_] = mails[-MOST_MAILED:]
    _note_other_refusal(joined, other.other_refusal)
    _bound_traits(joined, declared)
    _bound_consents(joined, joined.consent)
    _bound_consents(joined, joined.refusals)
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


def _newest(known: dict[str, Any], most: int) -> dict[str, Any]:
    """Of these by name the newest."""
    if len(known) <= most:
        return known
    return dict(nlargest(most, known.items(), key=lambda item: (item[1][:2], item[0])))


# -- sales, links ---------------------------------------------------------------------------------


def _add_sales(profile: Profile, product: str, word: SalesOutcome) -> None:
    if not product:
        profile.sales = max(_known(profile.sales, word))
    elif word > profile.product_sales.get(product, BEFORE_ALL):
        profile.product_sales[product] = word
        profile.product_sales = _newest(profile.product_sales, MOST_PRODUCTS)


def day_of(value: Any) -> str:
    """A day in ISO 8601, '' for what is none."""
    try:
        day = read_day(value)
    except Reject:
        return ""
    return day.isoformat() if day else ""


def _add_link(profile: Profile, event: Event) -> None:
    """Notes which address and record an event links to somebody; one that names but one identifier
    links nothing.
    """
    data, last = event.data, (event.at, event.uid)
    external = data.external_id
    if sum(map(bool, (data.user_id, data.email, external, data.anonymous_id))) < 2:
        return
    if data.email and last > profile.addresses.get(data.email, BEFORE_ALL):
        profile.addresses[data.email] = last
        profile.addresses = _newest(profile.addresses, MOST_LINKED)
    if external:
        record = Identifier(Kind.EXTERNAL, external.id.strip(), external.system.strip().lower())
        if last > profile.records.get(record.text, BEFORE_ALL):
            profile.records[record.text] = last
            profile.records = _newest(profile.records, MOST_LINKED)


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


def _is_asked_for(key: ConsentKey) -> bool:
    return key.channel == "email" and key.purpose == "marketing"


def _add_consent(profile: Profile, event: Event, consent: Consent) -> None:
    key = ConsentKey(event.data.email, consent.channel, consent.purpose)
    at = to_us(consent.at) if consent.at else event.at
    refused = consent.state == "withdrawn"
    received = at if event.received is None else event.received
    since = counts_from(at, received, refused=refused)
    record = ConsentRecord(
        at, refused, consent.basis[:MAX_CONSENT_NAME], consent.text[:MAX_WORDING], event.uid, since
    )
    if refused and not _is_asked_for(key):
        _note_other_refusal(profile, record)
    if max(len(key.channel), len(key.purpose)) > MAX_CONSENT_NAME:
        profile.consents_left_out = True
        return
    known = profile.refusals if refused else profile.consent
    before = known.get(key)
    if before is None or record.is_later(before):
        known[key] = record
        _bound_consents(profile, known)


def _note_other_refusal(profile: Profile, record: ConsentRecord | None) -> None:
    if record and (profile.other_refusal is None or record.is_later(profile.other_refusal)):
        profile.other_refusal = record


def _bound_consents(profile: Profile, known: dict[ConsentKey, ConsentRecord]) -> None:
    """Of what nurture asks for the newest stay, and what names no address; of the rest the
    newest. Of refusals of one kind the last one is what counts, whatever address it named.
    """
    if len(known) <= MOST_CONSENTS:
        return
    groups: dict[bool, list[tuple[int, str, ConsentKey]]] = {True: [], False: []}
    for key, record in known.items():
        asked_for = _is_asked_for(key)
        if key.address or not asked_for:
            groups[asked_for].append((record.since, record.uid, key))
    for ranked in groups.values():
        for *_, key in sorted(ranked)[:-MOST_CONSENTS]:
            del known[key]
            profile.consents_left_out = True


def _state(key: ConsentKey, record: ConsentRecord) -> ConsentState:
    return ConsentState(
        "withdrawn" if record.refused else "given",
        from_us(record.since),
        record.basis,
        general=not key.address,
    )
