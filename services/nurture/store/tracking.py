"""Whether a person's clicks and opens may be measured: a permission of its own (N16)."""

from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.store.consents import ConsentStore
from services.shared.contracts.consent import TRACKING, prevailing
from services.shared.contracts.events import ConsentState, Snapshot


async def may_be_tracked(
    connection: AsyncConnection,
    snapshot: Snapshot,
    address: str,
    default: Literal["granted", "asked"],
) -> bool:
    """Whether mails to this address, given by its keyed hash, may hold tracked links and a pixel;
    who was never asked follows the playbook's `tracking`.
    """
    names = {address, *snapshot.identifiers}
    known = [
        consent
        for identifier, consent in await ConsentStore(connection).of_tracking(names)
        if consent.state == "withdrawn" or identifier == address or consent.general
    ]
    known += _of_snapshot(snapshot)
    counts = prevailing(known)
    return counts.state == "given" if counts else default == "granted"


def _of_snapshot(snapshot: Snapshot) -> list[ConsentState]:
    """What the scorer knows of it, whatever the channel."""
    return [consent for key, consent in snapshot.consents.items() if TRACKING in key.split(":", 1)]
