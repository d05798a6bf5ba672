"""Snapshots of leads: the newest of each lead and product, with all identifiers that it had."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

import msgspec
import structlog
from asyncpg.pgproto.pgproto import UUID
from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.rules.cadence import WITH_SALES
from services.nurture.rules.lead import domain_of
from services.shared.contracts.events import Change, Snapshot
from services.shared.db import parsed, rows
from services.shared.telemetry import LEADS_FAILED

log = structlog.get_logger()
pack = msgspec.msgpack.Encoder().encode
MAX_FORMER_IDENTIFIERS = 1_000  # of a lead


class LeadKey(NamedTuple):
    """State is kept for each lead and product."""

    lead: str
    product: str


class KnownSnapshot(Snapshot, frozen=True, omit_defaults=True, kw_only=True):
    """A lead's newest snapshot, and the other identifiers that it or what merged into it had."""

    former_identifiers: tuple[str, ...] = ()

    def with_former(self, names: Iterable[str]) -> Self:
        """With these former identifiers too, as far as there is room."""
        new = sorted({*names} - {*self.identifiers, *self.former_identifiers})
        former = (*self.former_identifiers, *new)[:MAX_FORMER_IDENTIFIERS]
        return msgspec.structs.replace(self, former_identifiers=former)

    @property
    def names(self) -> set[str]:
        """All identifiers, former ones among them."""
        return {*self.identifiers, *self.former_identifiers}


class StoredSnapshot(NamedTuple):
    """A row of `nurture.lead`."""

    version: int
    snapshot: KnownSnapshot


class SnapshotStore:
    """Snapshots within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def keep(self, changes: Iterable[Change], inherited: Mapping[str, set[str]]) -> None:
        """Keeps the newest snapshot of each lead and product, with all identifiers that the lead
        had or has inherited by merges. Leads are locked before.
        """
        names = {lead: {*names} for lead, names in inherited.items()}
        newest: dict[LeadKey, StoredSnapshot] = {}
        for change in changes:
            if change.snapshot:
                key, version = LeadKey(change.lead, change.product), change.version
                names.setdefault(change.lead, set()).update(change.snapshot.identifiers)
                if key not in newest or version >= newest[key].version:
                    known = KnownSnapshot(**msgspec.structs.asdict(change.snapshot))
                    newest[key] = StoredSnapshot(version, known)
        for key, row in (await self.stored(names)).items():
            if key in newest or key.lead in inherited:
                names[key.lead] |= row.snapshot.names
                if key not in newest or row.version > newest[key].version:
                    newest[key] = row
        await self._write({
            key: row._replace(snapshot=row.snapshot.with_former(names[key.lead]))
            for key, row in newest.items()
        })  # fmt: skip

    async def _write(self, kept: Mapping[LeadKey, StoredSnapshot]) -> None:
        keys = sorted(kept)
        await self._connection.execute(
            parsed(_KEEP),
            {
                "leads": uuids(key.lead for key in keys),
                "products": [key.product for key in keys],
                "versions": [kept[key].version for key in keys],
                "snapshots": [pack(kept[key].snapshot) for key in keys],
                "accounts": [domain_of(kept[key].snapshot) for key in keys],
                "with_sales": [kept[key].snapshot.sales_status in WITH_SALES for key in keys],
            },
        )

    async def accounts_with_sales(self, accounts: Iterable[str]) -> dict[str, set[str]]:
        """Of these companies, by the domains of addresses, the leads with whom sales works."""
        found = await rows(
            self._connection,
            "SELECT account, lead_id FROM nurture.lead "
            "WHERE with_sales AND account = ANY(:accounts)",
            accounts=sorted({*accounts} - {""}),
        )
        leads: dict[str, set[str]] = defaultdict(set)
        for row in found:
            leads[row.account].add(str(row.lead_id))
        return leads

    async def stored(self, leads: Iterable[str]) -> dict[LeadKey, StoredSnapshot]:
        """Those of these leads, without those that cannot be read: nothing is sent to such leads,
        and their next snapshot takes the place of it.
        """
        found = await rows(
            self._connection,
            "SELECT lead_id, product, version, snapshot FROM nurture.lead "
            "WHERE lead_id = ANY(:ids)",
            ids=uuids(leads),
        )
        known: dict[LeadKey, StoredSnapshot] = {}
        for row in found:
            try:
                snapshot = unpack(row.snapshot)
            except msgspec.DecodeError as error:
                LEADS_FAILED.labels("nurture").inc()
                reason = type(error).__name__
                log.error("lead_failed", lead_id=str(row.lead_id), where="nurture", reason=reason)
            else:
                known[LeadKey(str(row.lead_id), row.product)] = StoredSnapshot(
                    row.version, snapshot
                )
        return known


_KEEP = """INSERT INTO nurture.lead AS l
        (lead_id, product, version, snapshot, account, with_sales)
    SELECT * FROM unnest(CAST(:leads AS uuid[]),
        CAST(:products AS text[]), CAST(:versions AS bigint[]), CAST(:snapshots AS bytea[]),
        CAST(:accounts AS text[]), CAST(:with_sales AS boolean[]))
    ON CONFLICT (lead_id, product) DO UPDATE
        SET version = excluded.version, snapshot = excluded.snapshot,
            account = excluded.account, with_sales = excluded.with_sales
        WHERE l.version <= excluded.version"""
unpack = msgspec.msgpack.Decoder(KnownSnapshot).decode


def uuid_of(touch_id: str) -> uuid.UUID | None:
    """None for what is no id of a touch: others write it."""
    try:
        return uuid.UUID(touch_id)
    except ValueError:
        return None


def uuids(texts: Iterable[str]) -> list[uuid.UUID]:
    """Ids as the driver has them, which reads them several times faster than the standard library.
    Raises ValueError for what is no id.
    """
    return [UUID(text) for text in texts]
