"""The consents of an interaction: their times, and their records on `lead.consents`."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple, Self

from msgspec.structs import replace

from services.ingest.limits import MAX_CONSENTS, MAX_NAME, check_word
from services.ingest.sources.bounces import status_in
from services.shared.clock import EPOCH, from_us, to_us
from services.shared.contracts.consent import DELIVERY, counts_from
from services.shared.contracts.events import (
    CONSENTS,
    TOUCH_SYSTEM,
    Consent,
    ConsentChanged,
    ConsentEvent,
    Interaction,
    derived,
    encode,
    keyed_hash,
)
from services.shared.contracts.identity import Cleaner, Identifier, Kind
from services.shared.errors import Reject
from services.shared.messaging.kafka import Outgoing

BOUNCED = "email_bounced"


class Named(NamedTuple):
    """Whom an interaction names, by keyed hashes: its address or '', its other identifiers, and
    that of the touch that it answers.
    """

    address: str
    others: tuple[str, ...] = ()
    touch: tuple[str, str] = ("", "")  # its id and the hash of that

    @classmethod
    def by(cls, item: Interaction, cleaner: Cleaner, pepper: bytes) -> Self:
        """Whom the item names."""
        names = [
            identifier.name
            for identifier in cleaner.identifiers(item)
            if identifier.kind in (Kind.USER, Kind.EXTERNAL, Kind.ANONYMOUS)
            and identifier.system != TOUCH_SYSTEM
        ]
        touch = Identifier(Kind.EXTERNAL, item.touch_id, TOUCH_SYSTEM).name
        return cls(
            keyed_hash(pepper, f"email:{item.email}") if item.email else "",
            tuple(keyed_hash(pepper, name) for name in names),
            (item.touch_id, keyed_hash(pepper, touch)) if item.touch_id else ("", ""),
        )


def consent_records(
    consents: Iterable[Consent],
    uid: str,
    named: Named,
    occurred_at: datetime | None,
    received_at: datetime,
) -> list[Outgoing]:
    """Records of `lead.consents`; ids derive from the interaction's.

    Ids tell the consents of one interaction apart, and refusals of several addresses under one id.
    A refusal goes out under every identifier, for a lead may be known by any of them, a permission
    under the address that it names, or else under the ids.
    """
    records = []
    for consent in consents:
        said = consent.at or occurred_at
        refused = consent.state == "withdrawn"
        at = from_us(counts_from(to_us(said or received_at), to_us(received_at), refused=refused))
        changed = ConsentChanged(
            address=named.address,
            channel=consent.channel,
            purpose=consent.purpose,
            state=consent.state,
            at=at,
            basis=consent.basis,
            undated=refused or at != said,
        )
        event_id = [uid, consent.channel, consent.purpose, consent.state]
        event_id += [str(to_us(consent.at))] if consent.at else []
        event_id += [named.address] if refused and named.address else []
        if named.address:
            records.append(_record(derived(*event_id), changed))
        touch, touch_hash = named.touch
        if refused or not named.address:
            records += [
                _record(derived(*event_id, hashed), replace(changed, identifier=hashed))
                for hashed in named.others
            ]
            if touch:
                told = replace(changed, identifier=touch_hash, touch=touch)
                records.append(_record(derived(*event_id, touch_hash), told))
    return records


def came_back(item: Interaction, uid: str, named: Named, at: datetime) -> list[Outgoing]:
    """The record that a mail of ours came back for a while, with the status; none of mails that
    others sent.
    """
    if not item.touch_id or item.machine:
        return []
    said = f"{item.properties.get('status') or ''} {item.properties.get('reason') or ''}"
    basis = f"{item.type} {status_in(said)}".rstrip()
    bounce = Consent(purpose=DELIVERY, state="withdrawn", basis=basis)
    return consent_records([bounce], uid, Named("", touch=named.touch), at, at)


def _record(event_id: str, changed: ConsentChanged) -> Outgoing:
    event = ConsentEvent(id=event_id, time=changed.at, data=changed)
    return Outgoing(CONSENTS, changed.identifier or changed.address, encode(event))


def in_utc(given: tuple[Consent, ...], latest: datetime) -> tuple[tuple[Consent, ...], bool]:
    """The same, in UTC, and whether one is from the future: that counts from its event's time."""
    if len(given) > MAX_CONSENTS:
        raise Reject(
            f"{len(given):,} consents",
            where="/consent",
            remedy=f"send at most {MAX_CONSENTS} at once",
            kind="too-large",
        )
    mended, future = [], False
    for number, consent in enumerate(given):
        _check_consent(consent, f"/consent/{number}")
        if consent.at:
            at: datetime | None = utc(consent.at, f"/consent/{number}/at")
            if at and at > latest:
                at, future = None, True
            consent = replace(consent, at=at)
        mended.append(consent)
    return tuple(mended), future


def undated(given: tuple[Consent, ...]) -> tuple[Consent, ...]:
    """The consents of a report of how things stand: a permission without a date of its own is the
    oldest of all, and overrules no refusal.
    """
    return tuple(
        replace(consent, at=EPOCH) if consent.state == "given" and consent.at is None else consent
        for consent in given
    )


def check_bases(given: Iterable[Consent], forbidden: frozenset[str]) -> None:
    """Raises Reject `forbidden` for a consent on a basis that the sender cannot know."""
    for number, consent in enumerate(given):
        basis = "_".join(consent.basis.replace("-", " ").replace("_", " ").casefold().split())
        if basis in forbidden:
            raise Reject(
                f"a public key may not say {basis!r}",
                where=f"/consent/{number}/basis",
                remedy="post it with a key of scope secret, from where the confirmation came in",
                kind="forbidden",
            )


def _check_consent(consent: Consent, where: str) -> None:
    if not consent.channel or not consent.purpose:
        raise Reject(
            "a consent to nothing", where=where, remedy="name its channel and its purpose"
        )  # fmt: skip
    for name in ("channel", "purpose", "basis"):
        word = getattr(consent, name)
        check_word(word, f"{where}/{name}")
        if len(word) > MAX_NAME:
            raise Reject(
                f"longer than {MAX_NAME} characters", where=f"{where}/{name}", remedy="shorten it"
            )


def utc(moment: datetime, where: str) -> datetime:
    """The moment in UTC. Raises Reject for one without zone, or out of range."""
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
