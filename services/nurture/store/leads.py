"""What nurture knows of leads: snapshots, content seen, merges, and what a person has set."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Self

import msgspec
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.rules.cadence import ANSWERED_FOR, LOOK_BACK, WITH_SALES, most_careful
from services.nurture.rules.lead import Lead
from services.nurture.store.consents import CHANNEL, PURPOSE, ConsentStore
from services.nurture.store.lead_locks import lock_against_merges
from services.shared.contracts.consent import prevailing, snapshot_key
from services.shared.contracts.events import Change, ConsentState, Snapshot, keyed_hash
from services.shared.db import rows
from services.shared.telemetry import LEADS_FAILED

log = structlog.get_logger()
pack = msgspec.msgpack.Encoder().encode
_CONSENT = snapshot_key(CHANNEL, PURPOSE)
MAX_FORMER_IDENTIFIERS = 1_000  # of a lead


class LeadKey(NamedTuple):
    """State is kept for each lead and product."""

    lead: str
    product: str


class SeenContent(NamedTuple):
    """Content that a lead has had, sent by us or found by itself."""

    lead: str
    content: str


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


class _Row(NamedTuple):
    """Of `nurture.lead`."""

    version: int
    snapshot: KnownSnapshot


class LeadStore:
    """Leads within one transaction; `pepper` hashes addresses as ingest does, touches of
    `request_programs` count towards no cap.
    """

    def __init__(
        self, connection: AsyncConnection, pepper: bytes, request_programs: Sequence[str]
    ) -> None:
        self._connection, self._pepper = connection, pepper
        self._request_programs = list(request_programs)
        self._inherited: dict[str, set[str]] = defaultdict(set)  # identifiers of merged leads

    async def lock_against_merges(self, leads: Iterable[str], merging: Iterable[str]) -> None:
        """Has nobody else merge these leads, or those under which they go on, until the end of the
        transaction; those that are `merging` here nobody else takes up either.
        """
        exclusive = {*merging}
        asked = exclusive.union(leads)
        locked: set[str] = set()
        while True:
            ids = await self.surviving(asked)
            wanted = asked | {*ids.values()}
            if wanted <= locked:
                return
            merged = exclusive | {ids[lead] for lead in exclusive}
            await lock_against_merges(self._connection, wanted, merged)
            locked |= wanted

    async def surviving(self, leads: Iterable[str]) -> dict[str, str]:
        """The id under which each lead goes on after merges."""
        ids = {lead: lead for lead in leads}
        found = await rows(
            self._connection,
            """WITH RECURSIVE step AS (
                SELECT lead_id, into_lead FROM nurture.merged WHERE lead_id = ANY(:ids)
                UNION SELECT s.lead_id, m.into_lead
                FROM step s JOIN nurture.merged m ON m.lead_id = s.into_lead)
            SELECT lead_id, into_lead FROM step s
            WHERE NOT EXISTS (SELECT 1 FROM nurture.merged m WHERE m.lead_id = s.into_lead)""",
            ids=_uuids(ids),
        )
        return ids | {str(row.lead_id): str(row.into_lead) for row in found}

    async def merge(self, old: str, new: str) -> None:
        """Touches and content seen follow the person; merges may come twice and in any order."""
        new = (await self.surviving([new]))[new]
        if old == new:
            return
        for row in (await self._rows([old])).values():
            self._inherited[new] |= row.snapshot.names
        self._inherited[new] |= self._inherited.pop(old, set())
        pair = {"old": uuid.UUID(old), "new": uuid.UUID(new)}
        for statement in _MERGE:
            await self._connection.execute(text(statement), pair)

    async def lock(self, leads: Iterable[str]) -> None:
        """Locks these leads, so that whoever decides or sends for them next sees what is done
        here.
        """
        await self._run(
            "SELECT 1 FROM nurture.lead WHERE lead_id = ANY(:ids) "
            "ORDER BY lead_id, product FOR UPDATE",
            ids=_uuids(sorted(set(leads))),
        )

    async def keep_snapshots(self, changes: Iterable[Change]) -> None:
        """Keeps the newest snapshot of each lead and product, with all identifiers that the lead
        had. Leads are locked before (`lock_against_merges`, `lock`).
        """
        names = {lead: {*inherited} for lead, inherited in self._inherited.items()}
        newest: dict[LeadKey, _Row] = {}
        for change in changes:
            if change.snapshot:
                key, version = LeadKey(change.lead, change.product), change.version
                names.setdefault(change.lead, set()).update(change.snapshot.identifiers)
                if key not in newest or version >= newest[key].version:
                    known = KnownSnapshot(**msgspec.structs.asdict(change.snapshot))
                    newest[key] = _Row(version, known)
        for key, row in (await self._rows(names)).items():
            if key in newest or key.lead in self._inherited:
                names[key.lead] |= row.snapshot.names
                if key not in newest or row.version > newest[key].version:
                    newest[key] = row
        await self._write({
            key: row._replace(snapshot=row.snapshot.with_former(names[key.lead]))
            for key, row in newest.items()
        })  # fmt: skip

    async def _write(self, kept: Mapping[LeadKey, _Row]) -> None:
        await self._run(
            """INSERT INTO nurture.lead AS l SELECT * FROM unnest(CAST(:leads AS uuid[]),
                CAST(:products AS text[]), CAST(:versions AS bigint[]), CAST(:snapshots AS bytea[]))
            ON CONFLICT (lead_id, product) DO UPDATE
                SET version = excluded.version, snapshot = excluded.snapshot
                WHERE l.version <= excluded.version""",
            leads=_uuids(key.lead for key in sorted(kept)),
            products=[key.product for key in sorted(kept)],
            versions=[kept[key].version for key in sorted(kept)],
            snapshots=[pack(kept[key].snapshot) for key in sorted(kept)],
        )

    async def keep_addresses(self, changes: Iterable[Change], ids: Mapping[str, str]) -> None:
        """Notes which leads have had which addresses; `ids` are those under which they go on."""
        had = sorted({
            (self._address(change.snapshot), ids[change.lead])
            for change in changes
            if change.snapshot and change.snapshot.email
        })  # fmt: skip
        if had:
            await self._run(
                """INSERT INTO nurture.address_lead SELECT * FROM unnest(
                    CAST(:addresses AS text[]), CAST(:leads AS uuid[])) ON CONFLICT DO NOTHING""",
                addresses=[address for address, _ in had],
                leads=_uuids(lead for _, lead in had),
            )

    async def keep_seen(self, seen: Iterable[SeenContent]) -> None:
        """Adds content to what leads have had."""
        new = sorted(set(seen))
        if new:
            await self._run(
                """INSERT INTO nurture.seen SELECT * FROM unnest(CAST(:leads AS uuid[]),
                    CAST(:content AS text[])) ON CONFLICT DO NOTHING""",
                leads=_uuids(item.lead for item in new),
                content=[item.content for item in new],
            )

    async def keep_seen_of(self, touch_id: str) -> None:
        """Adds the content of a touch, which is locked, to what its lead has had: the lead as it is
        by now, after merges.
        """
        await self._run(
            "INSERT INTO nurture.seen SELECT lead_id, content FROM nurture.touch WHERE id = :id "
            "ON CONFLICT DO NOTHING",
            id=uuid.UUID(touch_id),
        )

    async def leads(self, wanted: Iterable[LeadKey], now: datetime) -> dict[LeadKey, Lead]:
        """What is known of these leads for a decision; those without a snapshot are left out. While
        sales works with a lead on one product, it does so for all of them.
        """
        ids = sorted({key.lead for key in wanted})
        if not ids:
            return {}
        snapshots = await self._snapshots(ids)
        addresses = {key: self._address(snapshot) for key, snapshot in snapshots.items()}
        related = await self._related(ids, addresses)
        others = sorted(set().union(*related.values()) - {*ids})
        everybody = {**snapshots, **(await self._snapshots(others) if others else {})}
        history = await self._history(ids, related, addresses, now)
        consents = await self._consents(snapshots, addresses, related, everybody)
        traits: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for key, snapshot in everybody.items():
            traits[key.lead].append(snapshot.traits)
        with_sales = {
            key.lead: snapshot.sales_status
            for key, snapshot in snapshots.items()
            if snapshot.sales_status in WITH_SALES
        }
        leads = {}
        for key, snapshot in snapshots.items():
            asked = [of for other in related[key.lead] - {key.lead} for of in traits[other]]
            careful = msgspec.structs.replace(
                snapshot,
                traits=most_careful(snapshot.traits, asked),
                sales_status=with_sales.get(key.lead, snapshot.sales_status),
            )
            leads[key] = history.lead(key, careful, addresses[key], consents.get(key))
        return leads

    async def lock_addresses(self, leads: Iterable[str]) -> None:
        """Locks the addresses of leads, which are locked themselves, until the end of the
        transaction: another lead may have one of them by now.
        """
        snapshots = await self._snapshots(sorted({*leads}))
        addresses = {*map(self._address, snapshots.values())} - {""}
        await self._run(
            "SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS k(key)",
            keys=sorted(int(address[:16], 16) - (1 << 63) for address in addresses),
        )

    def _address(self, snapshot: Snapshot) -> str:
        """The keyed hash of the address to write to; '' where there is none."""
        return keyed_hash(self._pepper, f"email:{snapshot.email}") if snapshot.email else ""

    async def _related(
        self, ids: Sequence[str], addresses: Mapping[LeadKey, str]
    ) -> dict[str, set[str]]:
        """Of each lead itself and those that have or had its address."""
        related: dict[str, set[str]] = {lead: {lead} for lead in ids}
        holders = await self._holders(addresses.values())
        for key, address in addresses.items():
            related[key.lead] |= holders.get(address, set())
        return related

    async def _history(
        self,
        ids: Sequence[str],
        related: dict[str, set[str]],
        addresses: Mapping[LeadKey, str],
        now: datetime,
    ) -> "_History":
        """What was sent, seen and set of these leads, and of their addresses under other leads."""
        everybody = sorted(set().union(*related.values()))
        sends = await rows(
            self._connection, _SENDS, ids=_uuids(ids), addresses=[*{*addresses.values()} - {""}],
            now=now, since=now - LOOK_BACK, request_programs=self._request_programs,
        )  # fmt: skip
        seen: dict[str, set[str]] = defaultdict(set)
        for row in await rows(
            self._connection,
            "SELECT lead_id, content FROM nurture.seen WHERE lead_id = ANY(:ids)",
            ids=_uuids(everybody),
        ):
            seen[str(row.lead_id)].add(row.content)
        stages, pauses = await self._asserted_stages(ids, now), await self._pauses(everybody, now)
        return _History(related, sends, seen, stages, pauses, now - ANSWERED_FOR)

    async def _holders(self, addresses: Iterable[str]) -> dict[str, set[str]]:
        """The leads that have or had these addresses."""
        holders: dict[str, set[str]] = defaultdict(set)
        for row in await rows(
            self._connection,
            "SELECT address, lead_id FROM nurture.address_lead WHERE address = ANY(:addresses)",
            addresses=[*{*addresses} - {""}],
        ):
            holders[row.address].add(str(row.lead_id))
        return holders

    async def _snapshots(self, ids: Sequence[str]) -> dict[LeadKey, KnownSnapshot]:
        return {key: row.snapshot for key, row in (await self._rows(ids)).items()}

    async def _rows(self, ids: Iterable[str]) -> dict[LeadKey, _Row]:
        """Without those that cannot be read: nothing is sent to such leads, and their next snapshot
        takes the place of it.
        """
        found = await rows(
            self._connection,
            "SELECT lead_id, product, version, snapshot FROM nurture.lead "
            "WHERE lead_id = ANY(:ids)",
            ids=_uuids(ids),
        )
        known: dict[LeadKey, _Row] = {}
        for row in found:
            try:
                snapshot = unpack(row.snapshot)
            except msgspec.DecodeError as error:
                LEADS_FAILED.labels("nurture").inc()
                reason = type(error).__name__
                log.error("lead_failed", lead_id=str(row.lead_id), where="nurture", reason=reason)
            else:
                known[LeadKey(str(row.lead_id), row.product)] = _Row(row.version, snapshot)
        return known

    async def _asserted_stages(self, ids: Sequence[str], now: datetime) -> dict[str, str]:
        """Stages that a person asserted, while they hold."""
        found = await rows(
            self._connection,
            "SELECT lead_id, stage FROM nurture.asserted_stage "
            "WHERE lead_id = ANY(:ids) AND until > :now",
            ids=_uuids(ids), now=now,
        )  # fmt: skip
        return {str(row.lead_id): row.stage for row in found}

    async def _pauses(self, ids: Sequence[str], now: datetime) -> dict[str, datetime]:
        """Until when a person has paused leads, while that holds."""
        found = await rows(
            self._connection,
            "SELECT lead_id, until FROM nurture.pause WHERE lead_id = ANY(:ids) AND until > :now",
            ids=_uuids(ids), now=now,
        )  # fmt: skip
        return {str(row.lead_id): row.until for row in found}

    async def _consents(
        self,
        snapshots: Mapping[LeadKey, KnownSnapshot],
        addresses: Mapping[LeadKey, str],
        related: Mapping[str, set[str]],
        everybody: Mapping[LeadKey, KnownSnapshot],
    ) -> dict[LeadKey, ConsentState]:
        """What counts of what `lead.consents` brought under any of the leads' identifiers, and of
        what the scorer knew; and of the refusals under those that the leads had, and that others
        of their addresses have or had.
        """
        own: dict[str, set[str]] = defaultdict(set)  # by lead
        for key, snapshot in snapshots.items():
            own[key.lead] |= {addresses[key], *snapshot.identifiers} - {""}
        known_names: dict[str, set[str]] = defaultdict(set)
        for key, snapshot in everybody.items():
            known_names[key.lead] |= snapshot.names
        names = {
            lead: mine.union(*(known_names[other] for other in related[lead]))
            for lead, mine in own.items()
        }
        kept: dict[str, list[ConsentState]] = defaultdict(list)
        store = ConsentStore(self._connection)
        for identifier, consent in await store.under(set().union(*names.values())):
            kept[identifier].append(consent)
        found = {}
        for key, snapshot in snapshots.items():
            known = [
                consent
                for identifier in names[key.lead]
                for consent in kept.get(identifier, ())
                if consent.state == "withdrawn"
                or identifier == addresses[key]
                or (consent.general and identifier in own[key.lead])
            ]
            if of_scorer := snapshot.consents.get(_CONSENT):
                known.append(of_scorer)
            if counts := prevailing(known):
                found[key] = counts
        return found

    async def _run(self, statement: str, **values: Any) -> None:
        await self._connection.execute(text(statement), values)


class _History(NamedTuple):
    """Of leads and of the others that have or had their addresses (`related`, by lead)."""

    related: dict[str, set[str]]
    sends: list[Any]
    seen: dict[str, set[str]]
    stages: dict[str, str]
    pauses: dict[str, datetime]
    answered_since: datetime

    def lead(
        self, key: LeadKey, snapshot: Snapshot, address: str, consent: ConsentState | None
    ) -> Lead:
        """The lead for a decision."""
        if stage := self.stages.get(key.lead):
            snapshot = msgspec.structs.replace(snapshot, stage=stage)
        related = self.related[key.lead]
        sends = [
            row
            for row in self.sends
            if str(row.lead_id) == key.lead or (address and row.address == address)
        ]
        return Lead(
            id=key.lead,
            snapshot=snapshot,
            address=address,
            consent=consent,
            seen=frozenset().union(*(self.seen.get(lead, ()) for lead in related)),
            recent_sends=tuple(row.at for row in sends if not row.requested),
            answered=frozenset(
                row.content for row in sends if row.requested and row.at > self.answered_since
            ),
            paused_until=max(
                (self.pauses[lead] for lead in related if lead in self.pauses), default=None
            ),
        )


# what is on the wire has its mail at this moment, however long it has been due
_SENDS = """SELECT lead_id, address, content, CASE WHEN status = 'sending'
        THEN CAST(:now AS timestamptz) ELSE coalesce(sent_at, due_at) END AS at,
        coalesce(requested, program = ANY(CAST(:request_programs AS text[]))) AS requested
    FROM nurture.touch WHERE (lead_id = ANY(:ids) OR (address <> '' AND address = ANY(:addresses)))
    AND (status = 'sending' OR (status IN ('sent', 'unknown')
        AND coalesce(sent_at, due_at) > :since))"""
_MERGE = (
    """INSERT INTO nurture.merged VALUES (:old, :new)
    ON CONFLICT (lead_id) DO UPDATE SET into_lead = :new""",
    "UPDATE nurture.merged SET into_lead = :new WHERE into_lead = :old",
    "DELETE FROM nurture.merged WHERE lead_id = into_lead",
    "UPDATE nurture.touch SET lead_id = :new WHERE lead_id = :old",
    """INSERT INTO nurture.seen SELECT :new, content FROM nurture.seen WHERE lead_id = :old
    ON CONFLICT DO NOTHING""",
    "DELETE FROM nurture.seen WHERE lead_id = :old",
    """INSERT INTO nurture.pause AS p SELECT :new, until FROM nurture.pause WHERE lead_id = :old
    ON CONFLICT (lead_id) DO UPDATE SET until = greatest(p.until, excluded.until)""",
    "DELETE FROM nurture.pause WHERE lead_id = :old",
    """INSERT INTO nurture.asserted_stage AS s
    SELECT :new, stage, until FROM nurture.asserted_stage WHERE lead_id = :old
    ON CONFLICT (lead_id) DO UPDATE SET stage = excluded.stage, until = excluded.until
    WHERE (s.until, s.stage) < (excluded.until, excluded.stage)""",
    "DELETE FROM nurture.asserted_stage WHERE lead_id = :old",
    """INSERT INTO nurture.address_lead SELECT address, :new FROM nurture.address_lead
    WHERE lead_id = :old ON CONFLICT DO NOTHING""",
    "DELETE FROM nurture.address_lead WHERE lead_id = :old",
    "DELETE FROM nurture.lead WHERE lead_id = :old",
)

unpack = msgspec.msgpack.Decoder(KnownSnapshot).decode


def _uuids(texts: Iterable[str]) -> list[uuid.UUID]:
    return [uuid.UUID(text) for text in texts]
