"""Consents by the keyed hash of an address, as `lead.consents` brings them."""

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.shared.contracts.consent import ConsentKey
from services.shared.contracts.events import ConsentChanged, ConsentEvent, ConsentState
from services.shared.db import rows

CHANNEL, PURPOSE = "email", "marketing"  # of the consent that nurture asks for


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
        """Keeps the latest consent of each address, channel and purpose; at equal times the
        refusal.
        """
        if not consents:
            return
        newest: dict[ConsentKey, ConsentChanged] = {}
        for consent in consents:
            key = ConsentKey(consent.address, consent.channel, consent.purpose)
            if key not in newest or _rank(consent) > _rank(newest[key]):
                newest[key] = consent
        kept = [newest[key] for key in sorted(newest)]
        await self._connection.execute(
            text(
                """INSERT INTO nurture.consent AS c SELECT * FROM unnest(
                    CAST(:addresses AS text[]), CAST(:channels AS text[]),
                    CAST(:purposes AS text[]), CAST(:refused AS boolean[]),
                    CAST(:bases AS text[]), CAST(:ats AS timestamptz[]))
                ON CONFLICT (address, channel, purpose) DO UPDATE
                    SET refused = excluded.refused, basis = excluded.basis,
                        said_at = excluded.said_at
                    WHERE (c.said_at, c.refused) < (excluded.said_at, excluded.refused)"""
            ),
            {
                "addresses": [consent.address for consent in kept],
                "channels": [consent.channel for consent in kept],
                "purposes": [consent.purpose for consent in kept],
                "refused": [consent.state == "withdrawn" for consent in kept],
                "bases": [consent.basis for consent in kept],
                "ats": [consent.at for consent in kept],
            },
        )

    async def latest(self, addresses: Iterable[str]) -> dict[str, ConsentState]:
        """The kept consent of each hashed address."""
        found = await rows(
            self._connection,
            "SELECT address, refused, basis, said_at FROM nurture.consent "
            "WHERE address = ANY(:addresses) AND channel = :channel AND purpose = :purpose",
            addresses=list(addresses), channel=CHANNEL, purpose=PURPOSE,
        )  # fmt: skip
        return {row.address: _state(row) for row in found}


def _state(row: Any) -> ConsentState:
    return ConsentState("withdrawn" if row.refused else "given", row.said_at, row.basis)


def _rank(consent: ConsentChanged) -> tuple[datetime, bool]:
    return consent.at, consent.state == "withdrawn"
