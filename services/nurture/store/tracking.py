"""Whether a person's clicks and opens may be measured: a permission of its own (N16)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.store.consents import ConsentStore
from services.nurture.store.snapshots import KnownSnapshot, LeadKey, SnapshotStore, uuid_of, uuids
from services.shared.contracts.consent import TRACKING, prevailing
from services.shared.contracts.events import ConsentChanged, ConsentState, Snapshot, keyed_hash
from services.shared.db import rows


class Mailbox(NamedTuple):
    """A lead, and the keyed hash of its address; '' where it has none."""

    snapshot: Snapshot
    address: str


async def may_be_tracked(
    connection: AsyncConnection,
    snapshot: Snapshot,
    address: str,
    default: Literal["granted", "asked"],
) -> bool:
    """Whether mails to this address, given by its keyed hash, may hold tracked links and a pixel;
    who was never asked follows the playbook's `tracking`.
    """
    (counts,) = await _words(connection, [Mailbox(snapshot, address)])
    return counts.state == "given" if counts else default == "granted"


async def keep_refused(
    connection: AsyncConnection, snapshots: Mapping[LeadKey, Snapshot], pepper: bytes
) -> None:
    """Notes for ingest the touches of those of these leads who refuse to be measured, and takes
    back those of the others.
    """
    refused, permitted = set[str](), set[str]()
    mailboxes = [
        Mailbox(each, keyed_hash(pepper, f"email:{each.email}") if each.email else "")
        for each in snapshots.values()
    ]
    for key, word in zip(snapshots, await _words(connection, mailboxes), strict=True):
        (refused if word and word.state == "withdrawn" else permitted).add(key.lead)
    for statement, leads in ((_REFUSED, refused), (_PERMITTED, permitted - refused)):
        if leads:
            await connection.execute(text(statement), {"leads": uuids(sorted(leads))})


def says_of_tracking(snapshot: Snapshot) -> bool:
    """Whether the lead has given or refused it at all."""
    return bool(_of_snapshot(snapshot))


async def leads_of(
    connection: AsyncConnection, consents: Iterable[ConsentChanged]
) -> dict[LeadKey, KnownSnapshot]:
    """The leads at whose addresses, or in answer to whose touches, something was said of it."""
    about = [each for each in consents if TRACKING in (each.channel, each.purpose)]
    if not about:
        return {}
    found = await rows(
        connection,
        "SELECT lead_id FROM nurture.address_lead WHERE address = ANY(:addresses) "
        "UNION SELECT lead_id FROM nurture.touch WHERE id = ANY(:touches)",
        addresses=[each.address for each in about if each.address],
        touches=[touch for each in about if (touch := uuid_of(each.touch))],
    )
    stored = await SnapshotStore(connection).stored(str(row.lead_id) for row in found)
    return {key: row.snapshot for key, row in stored.items()}


async def _words(
    connection: AsyncConnection, mailboxes: Sequence[Mailbox]
) -> list[ConsentState | None]:
    """What counts of what was said of it, for each mailbox."""
    if not mailboxes:
        return []
    names = [{address, *snapshot.identifiers} for snapshot, address in mailboxes]
    kept: dict[str, list[ConsentState]] = defaultdict(list)
    for identifier, consent in await ConsentStore(connection).of_tracking(set().union(*names)):
        kept[identifier].append(consent)
    return [
        prevailing([
            *(
                consent
                for name in sorted(names_of_one)
                for consent in kept.get(name, ())
                if consent.state == "withdrawn" or name == address or consent.general
            ),
            *_of_snapshot(snapshot),
        ])
        for names_of_one, (snapshot, address) in zip(names, mailboxes, strict=True)
    ]  # fmt: skip


def _of_snapshot(snapshot: Snapshot) -> list[ConsentState]:
    """What the scorer knows of it, whatever the channel."""
    return [consent for key, consent in snapshot.consents.items() if TRACKING in key.split(":", 1)]


_REFUSED = """INSERT INTO access.untracked SELECT id FROM nurture.touch
    WHERE lead_id = ANY(:leads) AND status IN ('sending', 'sent', 'unknown')
    ON CONFLICT DO NOTHING"""
_PERMITTED = """DELETE FROM access.untracked u USING nurture.touch t
    WHERE t.id = u.touch_id AND t.lead_id = ANY(:leads)"""
