"""What nurture knows of leads for a decision: snapshots, what was sent and seen, and what a person
has set.
"""

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.rules.cadence import ANSWERED_FOR, LOOK_BACK, WITH_SALES, most_careful
from services.nurture.rules.lead import Had, Lead
from services.nurture.store.consents import TO_CALL, TO_WRITE, Asked
from services.nurture.store.lead_consents import consents_of
from services.nurture.store.merges import LeadMerges
from services.nurture.store.snapshots import KnownSnapshot, LeadKey, SnapshotStore, uuids
from services.shared.contracts.events import Change, ConsentState, Snapshot, keyed_hash
from services.shared.db import parsed, rows


class DoneContent(NamedTuple):
    """Content whose call to action a lead has done, and when."""

    lead: str
    content: str
    at: datetime


def _no_account(_: Snapshot) -> str:
    """Each lead stands for itself."""
    return ""


class LeadStore:
    """Leads within one transaction; `pepper` hashes addresses as ingest does, touches of
    `request_programs` count towards no cap.
    """

    def __init__(
        self, connection: AsyncConnection, pepper: bytes, request_programs: Sequence[str]
    ) -> None:
        self._connection, self._pepper = connection, pepper
        self._request_programs = list(request_programs)
        self._merges, self._snapshots = LeadMerges(connection), SnapshotStore(connection)

    async def lock_against_merges(self, leads: Iterable[str], merging: Iterable[str]) -> None:
        """As `LeadMerges.lock`."""
        await self._merges.lock(leads, merging)

    async def surviving(self, leads: Iterable[str]) -> dict[str, str]:
        """The id under which each lead goes on after merges."""
        return await self._merges.surviving(leads)

    async def merge(self, old: str, new: str) -> None:
        """What is known of a lead follows it into another."""
        await self._merges.merge(old, new)

    async def lock(self, leads: Iterable[str]) -> None:
        """Locks these leads, so that whoever decides or sends for them next sees what is done
        here.
        """
        await self._run(
            "SELECT 1 FROM nurture.lead WHERE lead_id = ANY(:ids) "
            "ORDER BY lead_id, product FOR UPDATE",
            ids=uuids(sorted(set(leads))),
        )

    async def keep_snapshots(self, changes: Iterable[Change]) -> None:
        """Keeps the newest snapshots. Leads are locked before (`lock_against_merges`, `lock`)."""
        await self._snapshots.keep(changes, self._merges.inherited)

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
                leads=uuids(lead for _, lead in had),
            )

    async def keep_done(self, done: Iterable[DoneContent]) -> None:
        """Adds content to what leads have had and done; of several times the last one counts."""
        last: dict[tuple[str, str], datetime] = {}
        for lead, content, at in done:
            last[lead, content] = max(at, last.get((lead, content), at))
        if last:
            await self._run(
                """INSERT INTO nurture.seen AS s (lead_id, content, done_at)
                SELECT * FROM unnest(CAST(:leads AS uuid[]),
                    CAST(:content AS text[]), CAST(:times AS timestamptz[]))
                ON CONFLICT (lead_id, content) DO UPDATE
                    SET done_at = greatest(s.done_at, excluded.done_at)
                    WHERE s.done_at IS NULL OR s.done_at < excluded.done_at""",
                leads=uuids(lead for lead, _ in sorted(last)),
                content=[content for _, content in sorted(last)],
                times=[last[key] for key in sorted(last)],
            )

    async def keep_answers(self, answers: Mapping[str, datetime]) -> None:
        """Notes of the last touch before it when each lead did something: the first time after
        it.
        """
        if answers:
            await self._run(
                _ANSWERED,
                leads=uuids(sorted(answers)),
                times=[answers[lead] for lead in sorted(answers)],
            )

    async def keep_seen_of(self, touch_id: str) -> None:
        """Adds the content of a touch, which is locked, to what its lead has had: the lead as it is
        by now, after merges.
        """
        await self._run(
            "INSERT INTO nurture.seen (lead_id, content) "
            "SELECT lead_id, content FROM nurture.touch WHERE id = :id ON CONFLICT DO NOTHING",
            id=uuid.UUID(touch_id),
        )

    async def leads(
        self,
        wanted: Iterable[LeadKey],
        now: datetime,
        account_of: Callable[[Snapshot], str] = _no_account,
    ) -> dict[LeadKey, Lead]:
        """What is known of these leads for a decision; those without a snapshot are left out. While
        sales works with a lead on one product, it does so for all of them, and for the others of
        the company that `account_of` names.
        """
        ids = sorted({key.lead for key in wanted})
        if not ids:
            return {}
        snapshots = await self._snapshots_of(ids)
        addresses = {key: self._address(snapshot) for key, snapshot in snapshots.items()}
        related = await self._related(ids, addresses)
        others = sorted(set().union(*related.values()) - {*ids})
        everybody = {**snapshots, **(await self._snapshots_of(others) if others else {})}
        history = await self._history(ids, related, addresses, now)
        consents = await consents_of(
            self._connection, snapshots, addresses, related, everybody, (TO_WRITE, TO_CALL)
        )
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
            asked_for = consents[TO_WRITE].get(key), consents[TO_CALL].get(key)
            leads[key] = history.lead(key, careful, addresses[key], *asked_for)
        counted = _with_mailed(leads, related, everybody, now)
        return await self._with_accounts(counted, account_of)

    async def permissions(
        self, leads: Iterable[str], *asked: Asked
    ) -> dict[LeadKey, tuple[KnownSnapshot, dict[Asked, ConsentState]]]:
        """Snapshots with what counts of consents for their addresses, as for mails."""
        ids = sorted({*leads})
        snapshots = await self._snapshots_of(ids)
        addresses = {key: self._address(snapshot) for key, snapshot in snapshots.items()}
        related = await self._related(ids, addresses)
        others = sorted(set().union(*related.values()) - {*ids}) if related else []
        everybody = {**snapshots, **(await self._snapshots_of(others) if others else {})}
        found = await consents_of(self._connection, snapshots, addresses, related, everybody, asked)
        return {
            key: (snapshot, {each: found[each][key] for each in asked if key in found[each]})
            for key, snapshot in snapshots.items()
        }

    async def _with_accounts(
        self, leads: dict[LeadKey, Lead], account_of: Callable[[Snapshot], str]
    ) -> dict[LeadKey, Lead]:
        """Marks those with somebody else of whose company sales works."""
        accounts = {key: account_of(lead.snapshot) for key, lead in leads.items()}
        if not any(accounts.values()):
            return leads
        busy = await self._snapshots.accounts_with_sales(accounts.values())
        return {
            key: msgspec.structs.replace(
                lead, account_with_sales=bool(busy.get(accounts[key], set()) - {key.lead})
            )
            for key, lead in leads.items()
        }

    async def lock_addresses(self, leads: Iterable[str]) -> None:
        """Locks the addresses of leads, which are locked themselves, until the end of the
        transaction: another lead may have one of them by now.
        """
        snapshots = await self._snapshots_of(sorted({*leads}))
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
        touches = await rows(
            self._connection, _TOUCHES, ids=uuids(ids), now=now,
            addresses=[*{*addresses.values()} - {""}], request_programs=self._request_programs,
        )  # fmt: skip
        sends = [row for row in touches if row.status == "sending" or row.at > now - LOOK_BACK]
        had = [row for row in touches if row.status != "sending" and not row.requested]
        facts = await self._facts(ids, everybody, now)
        return _History(
            related, _Touches(sends), _Touches(had), facts.seen, facts.stages, facts.pauses,
            facts.held, now - ANSWERED_FOR,
        )  # fmt: skip

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

    async def _snapshots_of(self, leads: Iterable[str]) -> dict[LeadKey, KnownSnapshot]:
        return {key: row.snapshot for key, row in (await self._snapshots.stored(leads)).items()}

    async def _facts(self, ids: Sequence[str], everybody: Sequence[str], now: datetime) -> "_Facts":
        """What these leads have seen and people have set: stages of `ids`, the rest of all."""
        facts = _Facts(defaultdict(dict), {}, {}, defaultdict(set))
        for row in await rows(
            self._connection, _FACTS, ids=uuids(ids), everybody=uuids(everybody), now=now
        ):
            lead = str(row.lead_id)
            if row.kind == "seen":
                facts.seen[lead][row.name] = row.at
            elif row.kind == "held":
                facts.held[lead].add(row.name)
            elif row.kind == "stage":
                facts.stages[lead] = row.name
            else:
                facts.pauses[lead] = row.at
        return facts

    async def _run(self, statement: str, **values: Any) -> None:
        await self._connection.execute(parsed(statement), values)


class _Touches:
    """Rows of touches by lead and by address, in their order."""

    def __init__(self, found: Iterable[Any]) -> None:
        self._by_lead: dict[str, list[tuple[int, Any]]] = defaultdict(list)
        self._by_address: dict[str, list[tuple[int, Any]]] = defaultdict(list)
        for place, row in enumerate(found):
            self._by_lead[str(row.lead_id)].append((place, row))
            if row.address:
                self._by_address[row.address].append((place, row))

    def of(self, lead: str, address: str) -> list[Any]:
        """The touches of a lead, and those to its address."""
        both = dict(self._by_lead.get(lead, ()))
        both.update(self._by_address.get(address, ()) if address else ())
        return [both[place] for place in sorted(both)]


class _Facts(NamedTuple):
    """By lead: content seen, and when it was done; the stage that a person asserted, and until when
    one has paused the lead, while these hold; content of touches that a person holds.
    """

    seen: dict[str, dict[str, datetime | None]]
    stages: dict[str, str]
    pauses: dict[str, datetime]
    held: dict[str, set[str]]


class _History(NamedTuple):
    """Of leads and of the others that have or had their addresses (`related`, by lead)."""

    related: dict[str, set[str]]
    sends: _Touches
    had: _Touches
    seen: dict[str, dict[str, datetime | None]]
    stages: dict[str, str]
    pauses: dict[str, datetime]
    held: dict[str, set[str]]
    answered_since: datetime

    def lead(
        self,
        key: LeadKey,
        snapshot: Snapshot,
        address: str,
        consent: ConsentState | None,
        phone_consent: ConsentState | None,
    ) -> Lead:
        """The lead for a decision."""
        if stage := self.stages.get(key.lead):
            snapshot = msgspec.structs.replace(snapshot, stage=stage)
        related = self.related[key.lead]
        sends = self.sends.of(key.lead, address)
        had = self.had.of(key.lead, address)
        seen = [item for lead in related for item in self.seen.get(lead, {}).items()]
        return Lead(
            id=key.lead,
            snapshot=snapshot,
            address=address,
            consent=consent,
            phone_consent=phone_consent,
            seen=frozenset(content for content, _ in seen),
            done=_latest(seen),
            had=tuple(map(_had, had)),
            recent_sends=tuple(row.at for row in sends if not row.requested),
            answered=frozenset(
                row.content for row in sends if row.requested and row.at > self.answered_since
            ),
            paused_until=max(
                (self.pauses[lead] for lead in related if lead in self.pauses), default=None
            ),
            held=frozenset().union(*(self.held.get(lead, ()) for lead in related)),
        )


def _with_mailed(
    leads: Mapping[LeadKey, Lead],
    related: Mapping[str, set[str]],
    everybody: Mapping[LeadKey, KnownSnapshot],
    now: datetime,
) -> dict[LeadKey, Lead]:
    """The leads with the mails that other tools sent them, or others at their addresses."""
    mailed: dict[str, set[datetime]] = defaultdict(set)
    for key, snapshot in everybody.items():
        mailed[key.lead].update(at for at in snapshot.mailed if now - LOOK_BACK < at <= now)
    counted = {}
    for key, lead in leads.items():
        others = set().union(*(mailed[other] for other in related[key.lead]))
        sends = (*lead.recent_sends, *sorted(others))
        counted[key] = msgspec.structs.replace(lead, recent_sends=sends) if others else lead
    return counted


def _latest(seen: Iterable[tuple[str, datetime | None]]) -> dict[str, datetime]:
    """Of what was done the last time."""
    done: dict[str, datetime] = {}
    for content, at in seen:
        if at is not None:
            done[content] = max(at, done.get(content, at))
    return done


def _had(row: Any) -> Had:
    return Had(str(row.id), row.program, row.content, row.channel, row.at, row.answered_at)


_ANSWERED = """UPDATE nurture.touch t SET answered_at = a.at
    FROM unnest(CAST(:leads AS uuid[]), CAST(:times AS timestamptz[])) AS a(lead_id, at)
    WHERE t.id = (
        SELECT id FROM nurture.touch s WHERE s.lead_id = a.lead_id AND s.sent_at < a.at
        AND s.status IN ('sent', 'unknown') AND s.requested IS NOT TRUE
        ORDER BY s.sent_at DESC, s.id DESC LIMIT 1)
    AND (t.answered_at IS NULL OR t.answered_at > a.at)"""
_FACTS = """SELECT lead_id, 'seen' AS kind, content AS name, done_at AS at
    FROM nurture.seen WHERE lead_id = ANY(:everybody)
    UNION ALL SELECT lead_id, 'held', content, NULL FROM nurture.touch
    WHERE lead_id = ANY(:everybody) AND status = 'due' AND held_at IS NOT NULL
    UNION ALL SELECT lead_id, 'stage', stage, until FROM nurture.asserted_stage
    WHERE lead_id = ANY(:ids) AND until > :now
    UNION ALL SELECT lead_id, 'pause', '', until FROM nurture.pause
    WHERE lead_id = ANY(:everybody) AND until > :now"""
# what is on the wire has its mail at this moment, however long it has been due
_TOUCHES = """SELECT id, lead_id, address, program, content, channel, status, answered_at,
        CASE WHEN status = 'sending' THEN CAST(:now AS timestamptz)
            ELSE coalesce(sent_at, due_at, decided_at) END AS at,
        coalesce(requested, program = ANY(CAST(:request_programs AS text[]))) AS requested
    FROM nurture.touch WHERE (lead_id = ANY(:ids) OR (address <> '' AND address = ANY(:addresses)))
    AND status IN ('sending', 'sent', 'unknown') ORDER BY at, id"""
