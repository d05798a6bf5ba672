"""The consents of an interaction: their times, and their records on `lead.consents`."""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from services.ingest.limits import MAX_NAME
from services.shared.contracts.events import (
    CONSENTS,
    Consent,
    ConsentChanged,
    ConsentEvent,
    derived,
    encode,
)
from services.shared.errors import Reject
from services.shared.messaging.kafka import Outgoing


def consent_records(
    consents: Iterable[Consent], uid: str, address: str, at: datetime, *, undated: bool = False
) -> list[Outgoing]:
    """Records of `lead.consents` for an address, named by its keyed hash; ids derive from the
    interaction's.

    `undated` says that `at`, which counts where a consent has no time of its own, is that of the
    receipt.
    """
    records = []
    for consent in consents:
        changed = ConsentChanged(
            address=address,
            channel=consent.channel,
            purpose=consent.purpose,
            state=consent.state,
            at=consent.at or at,
            basis=consent.basis,
            undated=undated and consent.at is None,
        )
        event_id = derived(uid, consent.channel, consent.purpose, consent.state)
        event = ConsentEvent(id=event_id, time=changed.at, data=changed)
        records.append(Outgoing(CONSENTS, address, encode(event)))
    return records


def in_utc(given: tuple[Consent, ...], latest: datetime) -> tuple[tuple[Consent, ...], bool]:
    """The same, in UTC, and whether one is from the future: that counts from its event's time."""
    mended, future = [], False
    for number, consent in enumerate(given):
        _check_consent(consent, f"/consent/{number}")
        if consent.at:
            at: datetime | None = utc(consent.at, f"/consent/{number}/at")
            if at and at > latest:
                at, future = None, True
            consent = msgspec.structs.replace(consent, at=at)
        mended.append(consent)
    return tuple(mended), future


def _check_consent(consent: Consent, where: str) -> None:
    if not consent.channel or not consent.purpose:
        raise Reject(
            "a consent to nothing", where=where, remedy="name its channel and its purpose"
        )  # fmt: skip
    if max(len(consent.channel), len(consent.purpose)) > MAX_NAME:
        raise Reject(
            f"longer than {MAX_NAME} characters",
            where=where,
            remedy="shorten channel and purpose",
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
