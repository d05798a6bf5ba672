"""The SQL of the page: counts, announcements, touches, mails and sources; runs inside the caller's
connection.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.failing import reason_of
from services.scorer.list_keys import DISQUALIFIED
from services.scorer.model.profile import Profile
from services.scorer.queries.repository import LISTED
from services.scorer.records import UnreadableLead, unpack_profile
from services.shared.contracts.events import Cause, Touch
from services.shared.db import rows
from services.shared.telemetry import LEADS_FAILED

MOST_CHANGES = 500  # of one lead's announcements
read_touch = msgspec.json.Decoder(Touch).decode


class StoredStage(NamedTuple):
    """Listed leads of one product in one stage; `likelihood` is their mean, None where nothing is
    left to predict.
    """

    product: str
    stage: str
    leads: int
    qualified: int
    likelihood: float | None


class StoredAnnouncement(NamedTuple):
    """A change of stage that was announced of a lead, or of one merged into it."""

    id: uuid.UUID
    lead: uuid.UUID
    at: datetime
    from_stage: str
    stage: str
    cause: Cause


class StoredTouch(NamedTuple):
    """A touch with its latest time, under the lead that it belongs to now."""

    lead: uuid.UUID
    at: datetime
    touch: Touch


class SentPlace(NamedTuple):
    """Where a page of mails ended."""

    at: datetime
    id: uuid.UUID


class AboutSource(msgspec.Struct, frozen=True):
    """What ingest says of a source: whether its senders sign, and how to set it up."""

    title: str
    address: str
    signs: bool
    steps: list[str]
    snippet: str


class StoredSource(NamedTuple):
    """A source that ingest serves; `connected` where a signing sender's secret is in force."""

    name: str
    about: AboutSource
    connected: bool
    first_heard_at: datetime | None
    last_heard_at: datetime | None
    accepted: int
    refused: int
    last_refusal: str


class StoredRemark(NamedTuple):
    """What a source sent that was accepted otherwise than as it was written, and how often."""

    kind: str
    field: str
    text: str
    nearest: str
    seen: int
    last_at: datetime


class PageRepository:
    """What the page reads beside leads. Limits stand in statements as numbers, or PostgreSQL's plan
    for any limit is one for many rows.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def stages(self) -> list[StoredStage]:
        """Counts by product and stage, without whom sales disqualified; reads all states."""
        found = await rows(
            self._connection,
            "SELECT product, stage, count(*) AS leads, "
            "count(*) FILTER (WHERE qualified) AS qualified, avg(likelihood) AS likelihood "
            f"FROM scorer.lead_state s WHERE {LISTED} AND sales_rank < {DISQUALIFIED} "
            "GROUP BY product, stage",
        )
        return [StoredStage(*row) for row in found]

    async def recent_announcements(self, limit: int) -> list[StoredAnnouncement]:
        """The latest of all leads, newest first."""
        found = await rows(
            self._connection,
            "SELECT a.id, coalesce(l.merged_into, a.lead_id), a.announced_at, a.from_stage, "
            "a.stage, a.cause FROM scorer.announcement a "
            "LEFT JOIN scorer.lead l ON l.id = a.lead_id "
            f"ORDER BY a.announced_at DESC, a.id LIMIT {limit:d}",
        )
        return [StoredAnnouncement(*row) for row in found]

    async def announcements(self, lead_id: uuid.UUID, product: str) -> list[StoredAnnouncement]:
        """Those of one lead, newest first."""
        found = await rows(
            self._connection,
            "SELECT id, CAST(:lead AS uuid), announced_at, from_stage, stage, cause "
            "FROM scorer.announcement WHERE product = :product AND lead_id = ANY(ARRAY("
            "SELECT CAST(:lead AS uuid) UNION ALL "
            "SELECT id FROM scorer.lead WHERE merged_into = :lead)) "
            "ORDER BY announced_at DESC, seq DESC LIMIT :limit",
            lead=lead_id,
            product=product,
            limit=MOST_CHANGES,
        )
        return [StoredAnnouncement(*row) for row in found]

    async def recent_touches(self, limit: int) -> list[StoredTouch]:
        """The latest of all leads, newest first."""
        return await self._touches(f"ORDER BY at DESC, id DESC LIMIT {limit:d}")

    async def touches(self, lead_id: uuid.UUID, limit: int) -> list[StoredTouch]:
        """Those of one lead, newest first."""
        return await self._touches(
            "WHERE lead_id = :lead ORDER BY at DESC, id LIMIT :limit", lead=lead_id, limit=limit
        )

    async def sent(self, limit: int, after: SentPlace | None) -> list[StoredTouch]:
        """Mails that were sent, or perhaps sent, newest first."""
        place = "AND (at, id) < (:at, :id)" if after else ""
        return await self._touches(
            f"WHERE status IN ('sent', 'unknown') {place} ORDER BY at DESC, id DESC "
            f"LIMIT {limit:d}",
            **(after._asdict() if after else {}),
        )

    async def touch(self, touch_id: uuid.UUID) -> Touch | None:
        """One touch."""
        found = await self._touches("WHERE id = :id", id=touch_id)
        return found[0].touch if found else None

    async def profiles(
        self, leads: Iterable[uuid.UUID]
    ) -> tuple[dict[uuid.UUID, Profile], dict[uuid.UUID, str]]:
        """Profiles by lead, and by lead why a profile cannot be read."""
        found = await rows(
            self._connection,
            "SELECT id, profile FROM scorer.lead WHERE id = ANY(:leads)",
            leads=list(leads),
        )
        profiles, unreadable = {}, {}
        for row in found:
            try:
                profiles[row.id] = unpack_profile(row.profile)
            except UnreadableLead as error:
                unreadable[row.id] = reason_of(error)
        return profiles, unreadable

    async def sources(self) -> list[StoredSource]:
        """Sources that are served: those that have posted first, then those without signatures."""
        found = await rows(
            self._connection,
            "SELECT s.name, s.about, EXISTS (SELECT 1 FROM access.sender_secret k "
            "WHERE k.source = s.name AND k.revoked_at IS NULL "
            "AND (k.expires_at IS NULL OR k.expires_at > now())) AS connected, "
            "s.first_heard_at, s.last_heard_at, s.accepted, s.refused, s.last_refusal "
            "FROM access.source s WHERE s.served "
            "ORDER BY s.first_heard_at IS NULL, CAST(s.about ->> 'signs' AS boolean), s.name",
        )
        return [
            StoredSource(name, msgspec.convert(about, AboutSource), *rest)
            for name, about, *rest in found
        ]

    async def remarks(self) -> dict[str, list[StoredRemark]]:
        """Remarks by source, the most frequent first."""
        found = await rows(
            self._connection,
            "SELECT source, kind, field, text, nearest, seen, last_at FROM access.source_remark "
            "ORDER BY seen DESC, kind, field, text",
        )
        remarks = defaultdict(list)
        for source, *remark in found:
            remarks[source].append(StoredRemark(*remark))
        return remarks

    async def _touches(self, clauses: str, **values: Any) -> list[StoredTouch]:
        found = await rows(
            self._connection, f"SELECT lead_id, at, body FROM scorer.touch {clauses}", **values
        )
        touches = []
        for row in found:
            try:
                touches.append(StoredTouch(row.lead_id, row.at, read_touch(row.body)))
            except msgspec.DecodeError:
                LEADS_FAILED.labels("page").inc()
        return touches
