"""Audiences: who is in them, written as a table, posted to the signed webhook, and published."""

import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.nurture import touch_events
from services.nurture.rules.audiences import (
    Candidate,
    address_of,
    columns_of,
    is_member,
    row_of,
)
from services.nurture.rules.grounds import Rules
from services.nurture.rules.lead import Lead
from services.nurture.store.consents import TO_WRITE, Asked, ConsentStore
from services.nurture.store.leads import LeadStore
from services.shared.clock import rfc3339
from services.shared.contracts.consent import prevailing
from services.shared.contracts.events import ConsentState, Touch, derived, keyed_hash
from services.shared.contracts.identity import KINDS, Identifier, Kind
from services.shared.db import rows
from services.shared.errors import Reject
from services.shared.http.webhook import SignedWebhook
from services.shared.messaging import outbox, sending
from services.shared.playbook.audiences import Audience
from services.shared.playbook.contradiction import did_you_mean
from services.shared.settings import Settings
from services.shared.spreadsheet import csv_of

PART = 500  # leads that are read, and members that are posted, at once
ADDRESSES = (Kind.EMAIL, Kind.ROLE)
NONE = uuid.UUID(int=0)


class Member(NamedTuple):
    """What goes out of somebody, by column, and the lead it is."""

    row: dict[str, str]
    lead: str
    product: str


class Export(NamedTuple):
    """An audience at a moment; an address stands in it once."""

    audience: Audience
    at: datetime
    members: list[Member]

    def report(self) -> dict[str, Any]:
        """As JSON has it."""
        return about(self.audience) | {
            "at": rfc3339(self.at),
            "count": len(self.members),
            "members": [member.row for member in self.members],
        }

    def table(self) -> str:
        """As CSV has it; no cell is taken for a formula."""
        names = columns_of(self.audience)
        return csv_of([names, *([member.row[name] for name in names] for member in self.members)])


def about(audience: Audience) -> dict[str, Any]:
    """What the playbook says of it."""
    return {
        "audience": audience.id, "name": audience.name, "purpose": audience.purpose,
        "consent": ":".join(audience.asks), "hashed": audience.hashed,
    }  # fmt: skip


def audience_of(rules: Rules, name: str) -> Audience:
    """The audience of this id. Raises Reject `not-found`."""
    known = {audience.id: audience for audience in rules.playbook.audiences}
    if found := known.get(name):
        return found
    remedy = f"{did_you_mean(name, known)}`ripeline audience list` shows them"
    raise Reject(f"no audience {name[:100]!r}", where="NAME", remedy=remedy, kind="not-found")


async def export(
    engine: AsyncEngine, settings: Settings, rules: Rules, audience: Audience, now: datetime
) -> Export:
    """Who is in it at this moment."""
    pepper = settings.pepper.get_secret_value().encode()
    async with engine.connect() as connection:
        found = (
            _refusing(connection, audience, pepper)
            if audience.purpose == "suppression"
            else _members(connection, rules, audience, pepper)
        )
        members: dict[str, Member] = {}
        async for member in found:
            members.setdefault(next(iter(member.row.values())), member)
    return Export(audience, now, [members[address] for address in sorted(members)])


async def publish(engine: AsyncEngine, done: Export, members: Iterable[Member], by: str) -> None:
    """Tells of everybody who went out, without an address."""
    for part in _parts(list(members)):
        events = [touch_events.exported(_touch(done, member, by)) for member in part]
        async with engine.begin() as connection:
            await outbox.enqueue(connection, "nurture", events)


async def post(engine: AsyncEngine, settings: Settings, done: Export) -> int:
    """Posts it in parts to the webhook, each once it was taken published; returns their number.
    Raises Reject where the webhook does not take one, or sending is stopped.
    """
    async with engine.connect() as connection:
        if done.audience.purpose != "suppression" and await sending.is_stopped(connection):
            raise Reject("sending is stopped", remedy="`ripeline nurture start` lets it go on")
    secret = settings.webhook_secret.get_secret_value()
    webhook = SignedWebhook(settings, settings.webhook_url, secret, "RIPELINE_WEBHOOK_URL")
    parts = list(_parts(done.members))
    for number, part in enumerate(parts, 1):
        data = about(done.audience) | {
            "part": number, "parts": len(parts), "count": len(done.members),
            "members": [member.row for member in part],
        }  # fmt: skip
        body = {"type": "audience.exported", "timestamp": rfc3339(done.at), "data": data}
        message = derived("audience", done.audience.id, rfc3339(done.at), number)
        status = await webhook.post(message, msgspec.json.encode(body))
        if not 200 <= status < 300:
            raise Reject(
                f"the webhook answered {status} to part {number} of {len(parts)}",
                where="RIPELINE_WEBHOOK_URL", remedy="export it again once it is mended",
            )  # fmt: skip
        await publish(engine, done, part, "webhook")
    return len(parts)


def _parts(members: Sequence[Member]) -> Iterator[Sequence[Member]]:
    """At least one, or the receiver would not know that nobody is left."""
    for first in range(0, max(len(members), 1), PART):
        yield members[first : first + PART]


def _touch(done: Export, member: Member, by: str) -> Touch:
    audience = done.audience
    return Touch(
        id=derived("audience", audience.id, rfc3339(done.at), member.lead, *member.row.values()),
        lead=member.lead, product=member.product, program=audience.id, channel="audience",
        status="sent", sent_at=done.at, why=f"{audience.purpose} by {by}: {audience.name}",
    )  # fmt: skip


async def _members(
    connection: AsyncConnection, rules: Rules, audience: Audience, pepper: bytes
) -> AsyncIterator[Member]:
    leads = LeadStore(connection, pepper, ())
    async for ids in _leads(connection, "nurture.lead"):
        asked = Asked(*audience.asks)
        found = await leads.permissions(ids, asked, TO_WRITE)
        programs: dict[str, set[str]] = defaultdict(set)
        for row in await rows(
            connection,
            "SELECT lead_id, program FROM nurture.enrolment "
            "WHERE lead_id = ANY(:ids) AND state = 'active'",
            ids=[uuid.UUID(lead) for lead in ids],
        ):
            programs[str(row.lead_id)].add(row.program)
        for key, (snapshot, consents) in found.items():
            lead = Lead(key.lead, snapshot)
            given, mails = consents.get(asked), consents.get(TO_WRITE)
            own = frozenset(programs[key.lead])
            if is_member(rules, audience, Candidate(lead, given, mails, own)):
                yield Member(row_of(rules, audience, lead), key.lead, key.product)


async def _refusing(
    connection: AsyncConnection, audience: Audience, pepper: bytes
) -> AsyncIterator[Member]:
    """Every known address of everybody who refuses, also of who was never nurtured."""
    leads = LeadStore(connection, pepper, ())
    async for ids in _leads(connection, "nurture.lead"):
        asked = Asked(*audience.asks)
        for key, (snapshot, found) in (await leads.permissions(ids, asked)).items():
            consent = found.get(asked)
            if snapshot.email and consent and consent.state == "withdrawn":
                yield Member(address_of(audience, snapshot.email), key.lead, key.product)
    async for ids in _leads(connection, "scorer.identifier"):
        names: dict[str, list[Identifier]] = defaultdict(list)
        for row in await rows(
            connection,
            "SELECT lead_id, kind, value FROM scorer.identifier WHERE lead_id = ANY(:ids)",
            ids=[uuid.UUID(lead) for lead in ids],
        ):
            names[str(row.lead_id)].append(Identifier.from_text(KINDS[row.kind], row.value))
        known = await _words(connection, audience, names, leads, pepper)
        for lead, own in names.items():
            for name in own:
                if name.kind in ADDRESSES and _refuses(name, own, known[lead], pepper):
                    yield Member(address_of(audience, name.value), lead, "default")


async def _words(
    connection: AsyncConnection,
    audience: Audience,
    names: dict[str, list[Identifier]],
    leads: LeadStore,
    pepper: bytes,
) -> dict[str, list[tuple[str, ConsentState]]]:
    """What was said under any identifier of each lead, and what the scorer knew of it."""
    hashes = {lead: {keyed_hash(pepper, n.name) for n in own} for lead, own in names.items()}
    said: dict[str, list[ConsentState]] = defaultdict(list)
    every = set().union(*hashes.values()) if hashes else set()
    asked = Asked(*audience.asks)
    for identifier, _, consent in await ConsentStore(connection).under(every, [asked]):
        said[identifier].append(consent)
    known: dict[str, list[tuple[str, ConsentState]]] = defaultdict(list)
    for lead, own in hashes.items():
        known[lead] += [(each, consent) for each in own for consent in said.get(each, ())]
    for key, (_, found) in (await leads.permissions(list(names), asked)).items():
        if (counts := found.get(asked)) and counts.state == "withdrawn":
            known[key.lead].append(("", counts))
    return known


def _refuses(
    name: Identifier, own: list[Identifier], said: list[tuple[str, ConsentState]], pepper: bytes
) -> bool:
    """Whether what counts for this address is a refusal, by `prevailing`."""
    address = keyed_hash(pepper, name.name)
    counts = prevailing(
        consent
        for identifier, consent in said
        if consent.state == "withdrawn" or consent.general or identifier == address
    )
    return counts is not None and counts.state == "withdrawn"


async def _leads(connection: AsyncConnection, table: str) -> AsyncIterator[list[str]]:
    """The ids of all leads, part by part."""
    after = NONE
    while True:
        found = await rows(
            connection,
            f"SELECT DISTINCT lead_id AS id FROM {table} WHERE lead_id > :after "
            f"ORDER BY id LIMIT {PART}",
            after=after,
        )
        if not found:
            return
        after = found[-1].id
        yield [str(row.id) for row in found]
