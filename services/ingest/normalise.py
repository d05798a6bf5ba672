"""From what a source read to records of the topics: times, identifiers, limits, consents; a bad
item harms no other.
"""

import hashlib
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from services.ingest.sources.contract import Foreign, Item, Refused
from services.ingest.sources.reading.json import MAX_DEPTH, TOO_DEEP
from services.shared.contracts import sales
from services.shared.contracts.consent import consents_of
from services.shared.contracts.event_types import CONSENT_TYPES, TOUCH_SENT
from services.shared.contracts.events import (
    CLOCK_TOLERANCE,
    CONSENTS,
    INTERACTIONS,
    TOO_OLD,
    Consent,
    ConsentChanged,
    ConsentEvent,
    derived,
    encode,
    encode_bytes,
    envelope,
    keyed_hash,
)
from services.shared.contracts.identity import Cleaner
from services.shared.contracts.provenance import LIVE, Provenance
from services.shared.errors import Reject
from services.shared.messaging.kafka import Outgoing
from services.shared.playbook.sections import Sales

MAX_TEXT = 8 * 1024  # bytes of UTF-8
MAX_RECORD = 512 * 1024  # bytes of an interaction: brokers take 1 MB
MAX_NAME = 512  # characters of an identifier: it has to fit into an index
HEAD = 300  # bytes that every record has around its interaction
NAMES = ("id", "type", "user_id", "email", "anonymous_id", "product", "content_id", "touch_id")
LEAST, MOST = -(1 << 63), (1 << 63) - 1
# until it is encoded an item is ours alone, and copies cost more than all the rest
put = msgspec.structs.force_setattr
RESERVED = frozenset({TOUCH_SENT})
# what a key that stands in a page may not say
SECRET_ONLY = frozenset({"identity_reviewed", *sales.STATUS_OF})


class Receipt:
    """One request's items on their way: its moment, the provenance that all of them have, and what
    became of each.
    """

    def __init__(
        self,
        door: str,
        received_at: datetime,
        posted_at: float,
        *,
        many: bool = True,
        public: bool = False,
        provenance: Provenance = LIVE,
    ) -> None:
        self.door, self.received_at, self.posted_at = door, received_at, posted_at
        self.provenance = provenance
        self.barred = SECRET_ONLY if public else frozenset[str]()
        self.latest, self.oldest = received_at + CLOCK_TOLERANCE, received_at - TOO_OLD
        self.records: list[Outgoing] = []
        self.ids: list[str] = []
        self.refused: list[tuple[int, str | None, Reject]] = []
        self._many = many

    def refuse(self, index: int, id: str | None, reject: Reject) -> None:
        """Notes a refusal, its place told from the top of the body."""
        if self._many:
            reject = Reject(
                reject.title,
                where=f"/{index}{reject.where}",
                remedy=reject.remedy,
                kind=reject.kind,
            )
        self.refused.append((index, id, reject))


class Normaliser:
    """Knows the words that identify nobody, and the pepper under which identifiers stand in keys.

    `outcomes` are sales' words, and `ours` the fields of a CRM that we write ourselves: they say
    nothing new.
    """

    def __init__(
        self,
        cleaner: Cleaner,
        pepper: bytes,
        outcomes: Sales = Sales(),
        ours: frozenset[str] = frozenset(),
    ) -> None:
        self._cleaner, self._pepper = cleaner, pepper
        self._reasons, self._ours = outcomes.disqualify_reasons, ours

    def take(self, items: Iterable[Item | Refused], receipt: Receipt, first: int = 0) -> Receipt:
        """Adds to the receipt a record for each sound item, with its consents, and a refusal for
        each other one.

        `first` is the place of the first of the items in the body.
        """
        for index, item in enumerate(items, first):
            if isinstance(item, Refused):
                receipt.refuse(index, item.id, item.reject)
                continue
            said = item.id
            try:
                self._take(item, receipt)
            except Reject as reject:
                receipt.refuse(index, said or None, reject)
        return receipt

    def _take(self, item: Item, receipt: Receipt) -> None:
        who = self._who(item)
        if item.type in RESERVED or not item.type:
            raise _bad_type(item.type)
        if item.type in receipt.barred:
            remedy = "post it with a key of scope secret"
            raise Reject(
                f"a public key may not say {item.type!r}",
                where="/type",
                remedy=remedy,
                kind="forbidden",
            )
        occurred_at, said_at, provenance = _time(item, receipt)
        scope = self._outcome(item, who, said_at) if item.type in sales.STATUS_OF else ""
        echo = bool(self._ours and item.traits) and self._is_echo(item)
        if not item.id:
            put(item, "id", _made_id(item, said_at))
        if echo:
            receipt.ids.append(item.id)
            return
        source = receipt.door
        if isinstance(item, Foreign):
            if item.origin:
                source = f"{source}:{item.origin}"
                put(item, "origin", "")
            put(item, "said_at", None)
        put(item, "occurred_at", None)
        consents: tuple[Consent, ...] = ()
        if item.consent or item.type in CONSENT_TYPES:
            if item.consent:
                mended, clamped = _consents(item.consent, receipt.latest)
                put(item, "consent", mended)
                if clamped and not provenance.too_old:
                    provenance = provenance._replace(clamped=True)
            consents = consents_of(item) if item.email else ()
        try:
            uid, value = envelope(
                item,
                source=source,
                occurred_at=occurred_at,
                received_at=receipt.received_at,
                posted_at=receipt.posted_at,
                provenance=provenance,
                said_at=said_at,
                scope=scope,
            )
        except UnicodeEncodeError:
            raise Reject(
                "a lone surrogate in a text", remedy="write the character in full, or leave it out"
            ) from None
        _check_sizes(item, value)
        key = keyed_hash(self._pepper, who)
        receipt.records.append(Outgoing(INTERACTIONS, key, value))
        receipt.ids.append(item.id)
        if consents:
            address = f"email:{item.email}"
            address = key if address == who else keyed_hash(self._pepper, address)
            at = occurred_at or receipt.received_at
            receipt.records += consent_records(
                consents, uid, address, at, undated=occurred_at is None
            )

    def _outcome(self, item: Item, who: str, said_at: datetime | None) -> str:
        """Brings what sales said into the one shape that it has; returns the scope of its id."""
        put(item, "properties", sales.shaped(item.type, item.properties, self._reasons))
        if not item.id and said_at:
            put(item, "id", sales.made_id(said_at, who, item.product))
        return sales.scope_of(item.type, item.origin if isinstance(item, Foreign) else "")

    def _is_echo(self, item: Item) -> bool:
        """Takes out what we wrote into the CRM ourselves; tells whether the item says nothing else,
        and links nobody.
        """
        kept = {name: value for name, value in item.traits.items() if name not in self._ours}
        if len(kept) == len(item.traits):
            return False
        put(item, "traits", kept)
        more = kept or item.consent or item.company or item.source
        return item.type == "identified" and not more and len(self._cleaner.identifiers(item)) == 1

    def _who(self, item: Item) -> str:
        """The strongest identifier; the address is left in its clean form, and not at all where it
        is junk.
        """
        if email := item.email:
            put(item, "email", self._cleaner.address(email))
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


def consent_records(
    consents: Iterable[Consent], uid: str, address: str, at: datetime, *, undated: bool = False
) -> list[Outgoing]:
    """Records of `lead.consents` for an address, named by its keyed hash; ids derive from the
    interaction's.

    `undated` tells that `at`, which counts where a consent says no time of its own, is that of the
    receipt.
    """
    records = []
    for said in consents:
        changed = ConsentChanged(
            address=address,
            channel=said.channel,
            purpose=said.purpose,
            state=said.state,
            at=said.at or at,
            basis=said.basis,
            undated=undated and said.at is None,
        )
        event = ConsentEvent(
            id=derived(uid, said.channel, said.purpose, said.state), time=changed.at, data=changed
        )
        records.append(Outgoing(CONSENTS, address, encode(event)))
    return records


def _time(item: Item, receipt: Receipt) -> tuple[datetime | None, datetime | None, Provenance]:
    """(when it happened or None for the receipt, when the sender says so, provenance)."""
    occurred_at = item.occurred_at
    if occurred_at is None:
        return None, None, receipt.provenance
    if occurred_at.tzinfo is not UTC:
        occurred_at = _utc(occurred_at, "/occurred_at")
    said_at = (isinstance(item, Foreign) and item.said_at) or occurred_at
    if occurred_at > receipt.latest:
        return None, said_at, receipt.provenance._replace(clamped=True)
    if occurred_at < receipt.oldest:
        return occurred_at, said_at, receipt.provenance._replace(too_old=True)
    return occurred_at, said_at, receipt.provenance


def _utc(moment: datetime, where: str) -> datetime:
    if moment.tzinfo is None:
        raise Reject(
            "a time without its zone",
            where=where,
            remedy="write it as 2026-01-02T03:04:05Z or with an offset",
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise Reject(
            "a time out of range", where=where, remedy="use a year between 1 and 9999"
        ) from None


def _consents(given: tuple[Consent, ...], latest: datetime) -> tuple[tuple[Consent, ...], bool]:
    """The same in UTC, and whether one was from the future: it counts from its event's time."""
    mended, clamped = [], False
    for number, said in enumerate(given):
        if not said.channel or not said.purpose:
            raise Reject(
                "a consent to nothing",
                where=f"/consent/{number}",
                remedy="name its channel and its purpose",
            )
        if max(len(said.channel), len(said.purpose)) > MAX_NAME:
            raise Reject(
                f"longer than {MAX_NAME} characters",
                where=f"/consent/{number}",
                remedy="shorten channel and purpose",
            )
        if said.at:
            at: datetime | None = _utc(said.at, f"/consent/{number}/at")
            if at and at > latest:
                at, clamped = None, True
            said = msgspec.structs.replace(said, at=at)
        mended.append(said)
    return tuple(mended), clamped


def _made_id(item: Item, said_at: datetime | None) -> str:
    """A hash where the item tells its time, so that a repetition has the same one; else random."""
    if said_at is None:
        return uuid.uuid4().hex
    put(item, "occurred_at", said_at)
    return hashlib.sha256(encode_bytes(item)).hexdigest()[:32]


def _bad_type(given: str) -> Reject:
    if given:
        return Reject(
            f"the type {given!r} is for our own use",
            where="/type",
            remedy="use another one",
            kind="reserved-type",
        )
    return Reject("a field is empty", where="/type", remedy='say what happened, e.g. "page_viewed"')


def _check_sizes(item: Item, value: bytes) -> None:
    """No NUL, nothing too long, no number over 64 bits; the length of the whole record spares
    nearly all the looking.
    """
    if b"\\u0000" in value:
        where = next(
            (place for place, one in _leaves(msgspec.to_builtins(item), "") if _has_nul(one)), ""
        )
        raise Reject(
            r"a NUL character (\u0000)", where=where, remedy="take it out; no database keeps it"
        )
    if len(value) > HEAD + MAX_NAME:
        _check_names(item)
    if len(value) > MAX_TEXT:
        if len(value) > MAX_RECORD:
            raise Reject(
                f"larger than {MAX_RECORD // 1024} KB",
                remedy="leave out what no score needs",
                kind="too-large",
            )
        _check_leaves(msgspec.to_builtins(item), "")
        return
    for place, fields in (("traits", item.traits), ("properties", item.properties)):
        for name, one in fields.items():
            kind = type(one)
            if kind is dict or kind is list or (kind is int and not LEAST <= one <= MOST):
                _check_leaves(one, f"/{place}/{name}")


def _check_names(item: Item) -> None:
    """Names that go into indexes are short."""
    named: dict[str, str] = {name: getattr(item, name) for name in NAMES}
    if external := item.external_id:
        named |= {"external_id/system": external.system, "external_id/id": external.id}
    for name, value in named.items():
        if len(value) > MAX_NAME:
            raise Reject(
                f"longer than {MAX_NAME} characters", where=f"/{name}", remedy="shorten it"
            )


def _check_leaves(value: Any, where: str) -> None:
    for place, one in _leaves(value, where):
        if isinstance(one, int) and not LEAST <= one <= MOST:
            raise Reject("a number beyond 64 bits", where=place, remedy="send it as a text")
        if isinstance(one, str) and len(one.encode()) > MAX_TEXT:
            raise Reject("a text over 8 KB", where=place, remedy="shorten it, or send a link to it")


def _has_nul(value: Any) -> bool:
    return isinstance(value, str) and ("\0" in value or "\\u0000" in value)


def _leaves(value: Any, where: str, depth: int = 1) -> Iterable[tuple[str, Any]]:
    """(JSON pointer, value) of keys and plain values, however deep."""
    if depth > MAX_DEPTH + 2:
        raise TOO_DEEP
    if isinstance(value, dict):
        for name, inner in value.items():
            yield where, name
            yield from _leaves(inner, f"{where}/{name}", depth + 1)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{where}/{number}", depth + 1)
    else:
        yield where, value
