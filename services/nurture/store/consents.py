"""Consents by the keyed hash of an identifier, as `lead.consents` brings them."""

import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.store.snapshots import uuid_of
from services.shared.contracts.consent import TRACKING
from services.shared.contracts.events import ConsentChanged, ConsentEvent, ConsentState
from services.shared.db import rows

CHANNEL, CALLS, PURPOSE = "email", "phone", "marketing"  # of the consents that nurture asks for


class Asked(NamedTuple):
    """A permission: by which channel, for what."""

    channel: str
    purpose: str


TO_WRITE, TO_CALL = Asked(CHANNEL, PURPOSE), Asked(CALLS, PURPOSE)


class ConsentStore:
    """Consents within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def new(self, events: Sequence[ConsentEvent]) -> list[ConsentChanged]:
        """The consents of the events, without repetitions of undated ones, which count from their
        first receipt.
        """
        first: dict[str, ConsentEvent] = {}
        for event in events:
            if event.data.undated:
                first.setdefault(event.id, event)
        found = await rows(
            self._connection,
            "INSERT INTO nurture.undated_word SELECT * FROM unnest(CAST(:ids AS uuid[])) "
            "ON CONFLICT DO NOTHING RETURNING id",
            ids=[uuid.UUID(event_id) for event_id in sorted(first)],
        )
        new = {str(row.id) for row in found}
        return [
            event.data
            for event in events
            if not event.data.undated or (event is first[event.id] and event.id in new)
        ]

    async def keep(self, consents: Sequence[ConsentChanged]) -> None:
        """Keeps the latest permission and the latest refusal under each identifier. A refusal that
        answers a touch is also one of the address to which the touch went. Locks the mark of the
        last refusal first.
        """
        if any(_is_refusal(consent) for consent in consents):
            await self._connection.execute(text(_MARK))
        newest: dict[_Key, ConsentChanged] = {}
        for consent in [*consents, *await self._of_recipients(consents)]:
            key = _key(consent)
            if key not in newest or (consent.at, consent.basis) > (
                newest[key].at, newest[key].basis,
            ):  # fmt: skip
                newest[key] = consent
        kept = [(*key, newest[key].basis, newest[key].at) for key in sorted(newest)]
        if kept:
            columns = map(list, zip(*kept, strict=True))
            await self._connection.execute(text(_KEEP), dict(zip(_COLUMNS, columns, strict=True)))

    async def last_refusal(self) -> uuid.UUID | None:
        """The mark of the batch that brought the last refusal; another one after each."""
        found = await rows(self._connection, "SELECT mark FROM nurture.last_refusal")
        return uuid.UUID(str(found[0].mark)) if found else None

    async def _of_recipients(self, consents: Iterable[ConsentChanged]) -> list[ConsentChanged]:
        """The refusals that answer touches, named by the touches' addresses."""
        answers = [
            (touch, consent)
            for consent in consents
            if consent.state == "withdrawn" and (touch := uuid_of(consent.touch))
        ]
        if not answers:
            return []
        found = await rows(
            self._connection,
            "SELECT id, address FROM nurture.touch WHERE id = ANY(:ids) AND address <> ''",
            ids=[touch for touch, _ in answers],
        )
        addresses = {row.id: row.address for row in found}
        return [
            replace(consent, address=addresses[touch], identifier="")
            for touch, consent in answers
            if touch in addresses
        ]

    async def under(
        self, identifiers: Iterable[str], asked: Sequence[Asked]
    ) -> list[tuple[str, Asked, ConsentState]]:
        """The kept consents under these hashed identifiers, of those that are asked for."""
        channels, purposes = zip(*asked, strict=True)
        found = await rows(
            self._connection,
            "SELECT identifier, channel, purpose, refused, general, basis, said_at "
            "FROM nurture.consent WHERE identifier = ANY(:identifiers) AND (channel, purpose) IN "
            "(SELECT * FROM unnest(CAST(:channels AS text[]), CAST(:purposes AS text[])))",
            identifiers=list(identifiers), channels=list(channels), purposes=list(purposes),
        )  # fmt: skip
        return [(row.identifier, Asked(row.channel, row.purpose), _state(row)) for row in found]

    async def of_tracking(self, identifiers: Iterable[str]) -> list[tuple[str, ConsentState]]:
        """The same of the permission to measure, of any channel."""
        found = await rows(
            self._connection,
            "SELECT identifier, refused, general, basis, said_at FROM nurture.consent "
            "WHERE identifier = ANY(:identifiers) AND :tracking IN (channel, purpose)",
            identifiers=list(identifiers), tracking=TRACKING,
        )  # fmt: skip
        return [(row.identifier, _state(row)) for row in found]


def _is_refusal(consent: ConsentChanged) -> bool:
    """Whether it takes back what nurture asks for."""
    asked = (CHANNEL, CALLS)
    return (consent.state, consent.purpose) == ("withdrawn", PURPOSE) and consent.channel in asked


class _Key(NamedTuple):
    """Of a row; in the order of the table's columns."""

    identifier: str
    channel: str
    purpose: str
    refused: bool
    general: bool


def _key(consent: ConsentChanged) -> _Key:
    return _Key(
        consent.identifier or consent.address,
        consent.channel,
        consent.purpose,
        consent.state == "withdrawn",
        not consent.address,
    )


def _state(row: Any) -> ConsentState:
    state: Literal["given", "withdrawn"] = "withdrawn" if row.refused else "given"
    return ConsentState(state, row.said_at, row.basis, row.general)


_MARK = """INSERT INTO nurture.last_refusal (mark) VALUES (gen_random_uuid())
    ON CONFLICT (single) DO UPDATE SET mark = excluded.mark"""
_COLUMNS = (*_Key._fields, "basis", "said_at")
_KEEP = """INSERT INTO nurture.consent AS c
        (identifier, channel, purpose, refused, general, basis, said_at)
    SELECT * FROM unnest(CAST(:identifier AS text[]), CAST(:channel AS text[]),
        CAST(:purpose AS text[]), CAST(:refused AS boolean[]), CAST(:general AS boolean[]),
        CAST(:basis AS text[]), CAST(:said_at AS timestamptz[]))
    ON CONFLICT (identifier, channel, purpose, refused, general) DO UPDATE
        SET basis = excluded.basis, said_at = excluded.said_at
        WHERE (c.said_at, c.basis) < (excluded.said_at, excluded.basis)"""
