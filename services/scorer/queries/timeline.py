"""What happened to a lead: events, announcements and touches in order of time, as the API answers
with them.
"""

import uuid
from datetime import datetime

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.queries.repository import (
    LeadRepository,
    TimelinePlace,
    TimelineRow,
    readable,
)
from services.scorer.queries.responses import Time
from services.scorer.scoring import Scoring
from services.shared.clock import rfc3339
from services.shared.contracts.event_types import TOUCH_SENT
from services.shared.contracts.events import Cause, Touch, decode_interaction
from services.shared.contracts.touch_reasons import TouchStatus
from services.shared.http.paging import Cursors, Position


class EventItem(msgspec.Struct, frozen=True, tag_field="kind", tag="event", kw_only=True):
    """An event of the lead; `read_as` is the signal as which the model takes it, null where it
    weighs nothing, `flags` what ingest found out about it.
    """

    at: Time
    id: str
    type: str
    read_as: str | None
    source: str
    content_id: str | None
    url: str | None
    touch_id: str | None
    machine: bool
    conflict: bool
    flags: str | None


class AnnouncementItem(
    msgspec.Struct, frozen=True, tag_field="kind", tag="announcement", kw_only=True
):
    """A change of the published stage, numbered by `seq`; `cause_at` is when its cause happened."""

    at: Time
    id: str
    from_stage: str = msgspec.field(name="from")
    stage: str
    cause: Cause
    cause_at: Time
    cause_event: str
    seq: int
    product: str
    likelihood: float | None


class TouchItem(
    msgspec.Struct,
    frozen=True,
    tag_field="kind",
    tag="touch",
    kw_only=True,
    omit_defaults=True,
):
    """A decision of nurture and what became of it; without the mail's text, and without what has
    its default.
    """

    at: Time
    id: str
    lead: str
    product: str = "default"
    announcement: str = ""
    program: str = ""
    stage: str = ""
    content: str = ""
    channel: str = ""
    status: TouchStatus
    reason: str = ""
    why: str = ""
    propensity: float | None = None
    decided_at: datetime | None = None
    due_at: datetime | None = None
    sent_at: datetime | None = None
    opens_tracked: bool = False
    clicks_tracked: bool = False
    subject: str = ""


class TimelineResponse(msgspec.Struct, frozen=True):
    """A page of what happened, oldest first; `next` is the cursor of the following page."""

    items: list[EventItem | AnnouncementItem | TouchItem]
    next: str | None


class StoredAnnouncement(msgspec.Struct, frozen=True):
    """The body of an announcement's row."""

    from_stage: str = msgspec.field(name="from")
    stage: str
    cause: Cause
    cause_at: datetime
    cause_event: str
    seq: int
    product: str
    likelihood: float | None


read_announcement = msgspec.json.Decoder(StoredAnnouncement).decode
read_touch = msgspec.json.Decoder(Touch).decode


class TimelineQueries:
    """Read access to timelines."""

    def __init__(self, engine: AsyncEngine, scoring: Scoring, pepper: bytes) -> None:
        self._engine, self._cursors = engine, Cursors(pepper)
        self._interpret = scoring.fold.interpreter.interpret

    async def page(self, lead_id: uuid.UUID, limit: int, cursor: str) -> TimelineResponse:
        """At most `limit` items after the cursor's place. Raises MergedAway, or Reject for an
        unknown lead or a cursor of another one.
        """
        after = None
        if cursor:
            position = self._cursors.decode(str(lead_id), cursor)
            after = TimelinePlace(datetime.fromisoformat(position.value), uuid.UUID(position.id))
        async with self._engine.connect() as connection:
            repository = LeadRepository(connection)
            await repository.check(lead_id)
            found = await repository.timeline(lead_id, limit + 1, after)
        async with readable(self._engine, lead_id):
            items = [item for row in found[:limit] if (item := self._item(row))]
        if len(found) <= limit:
            return TimelineResponse(items, None)
        last = found[limit - 1]
        end = Position(last.at.isoformat(), str(last.ref))
        return TimelineResponse(items, self._cursors.encode(str(lead_id), end))

    def _item(self, row: TimelineRow) -> EventItem | AnnouncementItem | TouchItem | None:
        """None for the event that stands for a touch of ours: the touch itself is shown."""
        match row.kind:
            case "announcement":
                return _announcement(row)
            case "touch":
                return _touch(row)
            case "event":
                return self._event(row)

    def _event(self, row: TimelineRow) -> EventItem | None:
        data = decode_interaction(row.body)
        if data.type == TOUCH_SENT:
            return None
        reading = self._interpret(data)
        return EventItem(
            at=rfc3339(row.at),
            id=data.id,
            type=data.type,
            read_as=reading.signal or reading.touch_part or None,
            source=row.source,
            content_id=reading.content or None,
            url=data.url or None,
            touch_id=data.touch_id or None,
            machine=data.machine,
            conflict=row.conflict,
            flags=row.flags or None,
        )


def _announcement(row: TimelineRow) -> AnnouncementItem:
    stored = read_announcement(row.body)
    return AnnouncementItem(
        at=rfc3339(row.at),
        id=str(row.ref),
        from_stage=stored.from_stage,
        stage=stored.stage,
        cause=stored.cause,
        cause_at=rfc3339(stored.cause_at),
        cause_event=stored.cause_event,
        seq=stored.seq,
        product=stored.product,
        likelihood=stored.likelihood,
    )


def _touch(row: TimelineRow) -> TouchItem:
    touch = read_touch(row.body)
    return TouchItem(
        at=rfc3339(row.at),
        id=str(row.ref),
        lead=touch.lead,
        product=touch.product,
        announcement=touch.announcement,
        program=touch.program,
        stage=touch.stage,
        content=touch.content,
        channel=touch.channel,
        status=touch.status,
        reason=touch.reason,
        why=touch.why,
        propensity=touch.propensity,
        decided_at=touch.decided_at,
        due_at=touch.due_at,
        sent_at=touch.sent_at,
        opens_tracked=touch.opens_tracked,
        clicks_tracked=touch.clicks_tracked,
        subject=touch.subject,
    )
