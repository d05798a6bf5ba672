"""Makes of what a source read records of the topics: times, identifiers, limits, consents; a bad
item harms no other.
"""

import hashlib
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from services.ingest.consents import (
    BOUNCED,
    Named,
    came_back,
    check_bases,
    consent_records,
    in_utc,
    undated,
    utc,
)
from services.ingest.limits import check_sizes, cut_texts
from services.ingest.sources.contract import (
    ForeignItem,
    Item,
    Parsed,
    Refused,
    Remark,
    Remarked,
)
from services.ingest.sources.known_names import Vocabulary
from services.ingest.sources.remarks import with_remarks
from services.ingest.sources.visitors import Visitors
from services.shared.contracts import sales
from services.shared.contracts.consent import consents_of
from services.shared.contracts.event_types import (
    BASES_NOT_FROM_PAGES,
    CONSENT_TYPES,
    NOT_FROM_PAGES,
    OURS_ALONE,
)
from services.shared.contracts.events import (
    CLOCK_TOLERANCE,
    INTERACTIONS,
    TOO_OLD,
    encode_bytes,
    envelope,
    keyed_hash,
)
from services.shared.contracts.identity import Cleaner
from services.shared.contracts.preferences import PREFERENCES, normal_traits
from services.shared.contracts.provenance import LIVE, Provenance
from services.shared.errors import Reject
from services.shared.messaging.kafka import Outgoing
from services.shared.playbook.sections import Sales

# until it is encoded nobody else has the item, and copies cost more than all the rest
set_field = msgspec.structs.force_setattr
NONE = frozenset[str]()
OWN_TYPES = Vocabulary()
IDENTIFIED = "identified"  # says how things stand; rows of files have dates of their own


class Refusal(NamedTuple):
    """An item that was refused: its place in the body from 0, the sender's id where it has one."""

    place: int
    id: str | None
    reject: Reject


class PlacedRemark(NamedTuple):
    """A remark on an accepted item, with the item's place in the body from 0 and its id."""

    place: int
    id: str
    remark: Remark


class Times(msgspec.Struct, frozen=True, gc=False):
    """When an item happened (None: the receipt counts), when its sender says so, and whether the
    receipt found that too old or in the future.
    """

    occurred_at: datetime | None
    stated_at: datetime | None
    provenance: Provenance


class Receipt:
    """The items of one inbound request: its source and moment, the provenance of all of them,
    whether a machine sent them, and what became of each.
    """

    def __init__(
        self,
        source: str,
        received_at: datetime,
        posted_at: float,
        *,
        many: bool = True,
        public: bool = False,
        machine: bool = False,
        provenance: Provenance = LIVE,
    ) -> None:
        self.machine = machine
        self.source, self.received_at = source, received_at
        self.posted_at, self.provenance = posted_at, provenance
        self.forbidden_types = OURS_ALONE | (NOT_FROM_PAGES if public else NONE)
        self.forbidden_bases = BASES_NOT_FROM_PAGES if public else NONE
        self.latest, self.oldest = received_at + CLOCK_TOLERANCE, received_at - TOO_OLD
        self.records: list[Outgoing] = []
        self.ids: list[str] = []
        self.refused: list[Refusal] = []
        self.remarks: list[PlacedRemark] = []
        self._many = many

    def refuse(self, place: int, id: str | None, reject: Reject) -> None:
        """Records a refusal, its place given from the top of the body."""
        if self._many:
            reject = Reject(
                reject.title,
                where=f"/{place}{reject.where}",
                remedy=reject.remedy,
                kind=reject.kind,
            )
        self.refused.append(Refusal(place, id, reject))

    def refuse_all(self, reject: Reject) -> None:
        """Records that the body as a whole was refused."""
        self.refused.append(Refusal(0, None, reject))


class Normaliser:
    """Makes records of items under the rules of identity and the pepper of keyed hashes.

    `outcomes` are what sales may report, `own_fields` the fields of a CRM that we write ourselves:
    their changes say nothing new; `visitors` tells machines and assistants, `vocabulary` are the
    types and the content that are known.
    """

    def __init__(
        self,
        cleaner: Cleaner,
        pepper: bytes,
        outcomes: Sales = Sales(),
        own_fields: frozenset[str] = frozenset(),
        visitors: Visitors = Visitors(),
        vocabulary: Vocabulary = OWN_TYPES,
    ) -> None:
        self._visitors, self._vocabulary = visitors, vocabulary
        self._cleaner, self._pepper = cleaner, pepper
        self._reasons, self._own_fields = outcomes.disqualify_reasons, own_fields

    def take(self, items: Iterable[Parsed], receipt: Receipt, first: int = 0) -> Receipt:
        """Adds to the receipt a record for each sound item, with its consents, and a refusal for
        each other one.

        `first` is the place of the first of the items in the body.
        """
        vocabulary = self._vocabulary
        for place, item in enumerate(items, first):
            if isinstance(item, Refused):
                receipt.refuse(place, item.id, item.reject)
                continue
            remarks: tuple[Remark, ...] = ()
            if isinstance(item, Remarked):
                item, remarks = item
            if item.type not in vocabulary.types or (
                item.content_id and item.content_id not in vocabulary.content
            ):
                remarks = with_remarks(remarks, vocabulary.remarks(item))
            sender_id = item.id
            try:
                if cut := self._take(item, receipt, remarks):
                    remarks = with_remarks(remarks, cut)
            except Reject as reject:
                receipt.refuse(place, sender_id or None, reject)
                continue
            receipt.remarks += [PlacedRemark(place, item.id, remark) for remark in remarks]
        return receipt

    def _take(
        self, item: Item, receipt: Receipt, remarks: tuple[Remark, ...]
    ) -> tuple[Remark, ...]:
        """Adds the item's records to the receipt; returns what is to be remarked besides."""
        who = self._identify(item)
        self._recognise(item, receipt)
        if not item.type or item.type in receipt.forbidden_types:
            raise _bad_type(item.type)
        times = _times(item, receipt)
        provenance = times.provenance
        if remarks:
            provenance = _with_remarks(provenance, remarks)
        scope = self._shape_outcome(item, who, times) if item.type in sales.STATUS_OF else ""
        is_echo = bool(self._own_fields and item.traits) and self._is_echo(item)
        if not item.id:
            set_field(item, "id", _made_id(item, times.stated_at))
        if is_echo:
            receipt.ids.append(item.id)
            return ()
        if item.traits and not PREFERENCES.isdisjoint(item.traits):
            set_field(item, "traits", normal_traits(item.traits))
        if item.consent and self._mend_consents(item, receipt) and not provenance.too_old:
            provenance = provenance._replace(clamped=True)
        source = _source(item, receipt)
        uid, record = _encoded(item, source, receipt, times, provenance, scope)
        if cut := cut_texts(item, record):
            provenance = _with_remarks(provenance, (*remarks, *cut))
            uid, record = _encoded(item, source, receipt, times, provenance, scope)
        check_sizes(item, record)
        consents = consents_of(item) if item.consent or item.type in CONSENT_TYPES else ()
        key = keyed_hash(self._pepper, who)
        receipt.records.append(Outgoing(INTERACTIONS, key, record))
        receipt.ids.append(item.id)
        is_report = not consents and item.type == BOUNCED
        if (consents or is_report) and not provenance.test:
            named = Named.by(item, self._cleaner, self._pepper)
            receipt.records += (
                came_back(item, uid, named, receipt.received_at)
                if is_report
                else consent_records(consents, uid, named, times.occurred_at, receipt.received_at)
            )
        return cut

    @staticmethod
    def _mend_consents(item: Item, receipt: Receipt) -> bool:
        """Brings the item's consents into order; returns whether one lay in the future. Raises
        Reject.
        """
        check_bases(item.consent, receipt.forbidden_bases)
        mended, is_future = in_utc(item.consent, receipt.latest)
        if item.type == IDENTIFIED and not receipt.provenance.import_mode:
            mended = undated(mended)
        set_field(item, "consent", mended)
        return is_future

    def _recognise(self, item: Item, receipt: Receipt) -> None:
        """Marks what a crawler or an assistant's live fetch did, and names the assistant that sent
        a person.
        """
        properties = item.properties
        agent = address = referrer = ""
        if isinstance(item, ForeignItem):
            agent, address, referrer = item.user_agent, item.address, item.referrer
            for name in ("user_agent", "address", "referrer"):
                set_field(item, name, "")
        if properties:
            agent = agent or _text(properties.get("user_agent"))
            referrer = referrer or _text(properties.get("referrer"))
        if receipt.machine or ((agent or address) and self._visitors.is_machine(agent, address)):
            set_field(item, "machine", True)
        elif not item.source and (referrer or item.url):
            set_field(item, "source", self._visitors.assistant(referrer, item.url))

    def _shape_outcome(self, item: Item, who: str, times: Times) -> str:
        """Brings what sales reported into its one shape; returns the scope of its id."""
        set_field(
            item, "properties", sales.checked_properties(item.type, item.properties, self._reasons)
        )
        if not item.id and times.stated_at:
            set_field(item, "id", sales.derived_id(times.stated_at, who, item.product))
        return sales.scope_of(item.type, item.origin if isinstance(item, ForeignItem) else "")

    def _is_echo(self, item: Item) -> bool:
        """Takes out the CRM fields that we write ourselves; returns whether the item says nothing
        else, and links nobody.
        """
        kept = {name: value for name, value in item.traits.items() if name not in self._own_fields}
        if len(kept) == len(item.traits):
            return False
        set_field(item, "traits", kept)
        more = kept or item.consent or item.company or item.source
        return item.type == "identified" and not more and len(self._cleaner.identifiers(item)) == 1

    def _identify(self, item: Item) -> str:
        """The strongest identifier; the address is left in its clean form, and not at all where it
        is junk. Raises Reject `no-identifier`, `invalid`.
        """
        if email := item.email:
            set_field(item, "email", self._cleaner.address(email))
            if not item.email and self._cleaner.plain(email):
                raise Reject(
                    "not a mail address",
                    where="/email",
                    remedy="write one like ann@example.com, or leave it out",
                )
        if who := self._cleaner.strongest(item):
            return who
        remedy = (
            "send a user_id, email, anonymous_id or external_id that is not a placeholder "
            "such as `null` or `guest`"
        )
        raise Reject("identifies nobody", remedy=remedy, kind="no-identifier")


def _with_remarks(provenance: Provenance, remarks: Iterable[Remark]) -> Provenance:
    return provenance._replace(remarks=tuple(sorted({remark.kind for remark in remarks})))


def _source(item: Item, receipt: Receipt) -> str:
    """The source that the event names; takes out of the item what is not part of it."""
    source = receipt.source
    if isinstance(item, ForeignItem):
        if item.origin:
            source = f"{source}:{item.origin}"
            set_field(item, "origin", "")
        set_field(item, "stated_at", None)
    set_field(item, "occurred_at", None)
    return source


def _encoded(
    item: Item, source: str, receipt: Receipt, times: Times, provenance: Provenance, scope: str
) -> tuple[str, bytes]:
    """(uid, encoded envelope). Raises Reject for what JSON cannot hold."""
    try:
        return envelope(
            item,
            source=source,
            occurred_at=times.occurred_at,
            received_at=receipt.received_at,
            posted_at=receipt.posted_at,
            provenance=provenance,
            said_at=times.stated_at,
            scope=scope,
        )
    except UnicodeEncodeError:
        raise Reject(
            "a lone surrogate in a text", remedy="write the character in full, or leave it out"
        ) from None


def _times(item: Item, receipt: Receipt) -> Times:
    """The item's times in UTC. Raises Reject for a time without zone, or out of range."""
    occurred_at = item.occurred_at
    if occurred_at is None:
        return Times(None, None, receipt.provenance)
    if occurred_at.tzinfo is not UTC:
        occurred_at = utc(occurred_at, "/occurred_at")
    stated_at = (isinstance(item, ForeignItem) and item.stated_at) or occurred_at
    if occurred_at > receipt.latest:
        return Times(None, stated_at, receipt.provenance._replace(clamped=True))
    if occurred_at < receipt.oldest:
        return Times(occurred_at, stated_at, receipt.provenance._replace(too_old=True))
    return Times(occurred_at, stated_at, receipt.provenance)


def _made_id(item: Item, stated_at: datetime | None) -> str:
    """A hash where the item has a time, so that a repetition has the same id; else random."""
    if stated_at is None:
        return uuid.uuid4().hex
    set_field(item, "occurred_at", stated_at)
    return hashlib.sha256(encode_bytes(item)).hexdigest()[:32]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _bad_type(type_: str) -> Reject:
    """The refusal of a type that is empty, reserved, or not for a public key."""
    if not type_:
        remedy = 'say what happened, e.g. "page_viewed"'
        return Reject("a field is empty", where="/type", remedy=remedy)
    if type_ in OURS_ALONE:
        return Reject(
            f"the type {type_!r} is for our own use",
            where="/type",
            remedy="use another one",
            kind="reserved-type",
        )
    return Reject(
        f"a public key may not say {type_!r}",
        where="/type",
        remedy="post it with a key of scope secret",
        kind="forbidden",
    )
