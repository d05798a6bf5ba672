"""What is planned: touches that are due, the next ones of people in programs, and what people
decided about them.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.rules.enrolment import Enrolment
from services.nurture.store.enrolments import EnrolmentStore, ProgramKey
from services.nurture.store.touches import COLUMNS, touch_of_row
from services.shared.clock import to_us
from services.shared.contracts.events import Touch
from services.shared.db import rows

Action = Literal["hold", "release", "send-now", "skip"]
PlannedState = Literal["planned", "held", "send-now", "skipped"]


class Act(NamedTuple):
    """What somebody decided about a planned touch, and why."""

    action: Action
    by: str
    reason: str
    at: datetime


class PlannedTouch(NamedTuple):
    """A touch as it is stored, and how people have decided about it."""

    touch: Touch
    state: PlannedState


class Place(NamedTuple):
    """The end of a page: the moment in µs since 1970, and the id of the touch."""

    at: int
    id: uuid.UUID


class Filter(NamedTuple):
    """Which ones: those of a lead, a program, a channel, in a state; '' for all."""

    lead: uuid.UUID | None = None
    program: str = ""
    channel: str = ""
    state: PlannedState | Literal[""] = ""


class Planned(NamedTuple):
    """One of a page: a touch, or the enrolment whose next touch it is."""

    at: datetime | None
    id: uuid.UUID
    touch: PlannedTouch | None
    enrolment: Enrolment | None


class PlannedPage(NamedTuple):
    """By moment and id; `next` is where the following page begins, None on the last one."""

    planned: list[Planned]
    next: Place | None


class PlannedStore:
    """What is planned, within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def page(
        self, wanted: Filter, since: datetime, until: datetime, after: Place | None, limit: int
    ) -> PlannedPage:
        """What is planned until then or held, and what was to go out since then and was skipped;
        those after the end of a page.
        """
        found = await rows(
            self._connection,
            f"""SELECT at, id, kind FROM ({_ALL}) planned
            WHERE CAST(:at AS bigint) IS NULL OR (at, id) >
                (to_timestamp(0) + :at * interval '1 microsecond', CAST(:last AS uuid))
            ORDER BY at, id LIMIT {limit + 1:d}""",
            **wanted._asdict(), since=since, until=until,
            at=after.at if after else None, last=after.id if after else None,
        )  # fmt: skip
        shown = found[:limit]
        touches = await self._touches([row.id for row in shown if row.kind == "touch"])
        enrolments = await self._enrolments([row.id for row in shown if row.kind == "next"])
        planned = [
            Planned(row.at, row.id, touches.get(str(row.id)), enrolments.get(str(row.id)))
            for row in shown
        ]
        following = Place(to_us(shown[-1].at), shown[-1].id) if len(found) > limit else None
        return PlannedPage([one for one in planned if one.touch or one.enrolment], following)

    async def one(self, id: uuid.UUID) -> Planned | None:
        """The touch of this id, or the enrolment whose next touch it is."""
        touch = (await self._touches([id])).get(str(id))
        enrolment = None if touch else (await self._enrolments([id])).get(str(id))
        if touch is None and (enrolment is None or enrolment.next_at is None):
            return None
        at = touch.touch.due_at if touch else enrolment.next_at if enrolment else None
        return Planned(at, id, touch, enrolment)

    async def locked(self, touch: uuid.UUID) -> PlannedTouch | None:
        """Locks a touch, whatever has become of it; None where it is none yet."""
        found = await rows(self._connection, f"{_TOUCH} WHERE id = :touch FOR UPDATE", touch=touch)
        return _planned(found[0]) if found else None

    async def set(
        self,
        touch: str,
        *,
        due_at: datetime,
        held_at: datetime | None = None,
        urged_at: datetime | None = None,
    ) -> None:
        """Writes what people decided about a touch, which is locked."""
        await self._connection.execute(
            text(
                "UPDATE nurture.touch SET held_at = :held_at, urged_at = :urged_at, "
                "due_at = :due_at WHERE id = :touch"
            ),
            {
                "touch": uuid.UUID(touch), "held_at": held_at, "urged_at": urged_at,
                "due_at": due_at,
            },
        )  # fmt: skip

    async def add(self, touch: str, act: Act) -> None:
        """Keeps who decided what, and why."""
        await self._connection.execute(
            text(
                "INSERT INTO nurture.planned_act (touch_id, action, by, reason, at) "
                "VALUES (:touch, :action, :by, :reason, :at)"
            ),
            act._asdict() | {"touch": uuid.UUID(touch)},
        )

    async def acts(self, touches: Iterable[uuid.UUID]) -> dict[str, list[Act]]:
        """What was decided about these, in order."""
        found = await rows(
            self._connection,
            "SELECT touch_id, action, by, reason, at FROM nurture.planned_act "
            "WHERE touch_id = ANY(:ids) ORDER BY id",
            ids=list(touches),
        )
        acts: dict[str, list[Act]] = defaultdict(list)
        for row in found:
            acts[str(row.touch_id)].append(Act(row.action, row.by, row.reason, row.at))
        return acts

    async def _touches(self, ids: list[uuid.UUID]) -> dict[str, PlannedTouch]:
        found = await rows(self._connection, f"{_TOUCH} WHERE id = ANY(:ids)", ids=ids)
        return {str(row.id): _planned(row) for row in found}

    async def _enrolments(self, ids: list[uuid.UUID]) -> dict[str, Enrolment]:
        found = await rows(
            self._connection,
            "SELECT lead_id, program, next_touch FROM nurture.enrolment "
            "WHERE next_touch = ANY(:ids)",
            ids=ids,
        )
        known = await EnrolmentStore(self._connection).of(str(row.lead_id) for row in found)
        return {
            str(row.next_touch): known[ProgramKey(str(row.lead_id), row.program)] for row in found
        }


def _planned(row: Any) -> PlannedTouch:
    touch, state = touch_of_row(row), "planned"
    if touch.reason == "skipped":
        state = "skipped"
    elif row.held_at:
        state = "held"
    elif row.urged_at:
        state = "send-now"
    return PlannedTouch(touch, state)  # type: ignore[arg-type]


_TOUCH = f"SELECT {COLUMNS}, held_at, urged_at FROM nurture.touch"
_OF_LEAD = """(CAST(:lead AS uuid) IS NULL OR lead_id = coalesce((SELECT into_lead
    FROM nurture.merged WHERE lead_id = :lead), :lead)) AND (:program = '' OR program = :program)"""
_ALL = f"""
    SELECT due_at AS at, id, 'touch' AS kind FROM nurture.touch
    WHERE status = 'due' AND (due_at < :until OR held_at IS NOT NULL) AND {_OF_LEAD}
        AND (:channel = '' OR channel = :channel)
        AND (:state = '' OR :state = CASE WHEN held_at IS NOT NULL THEN 'held'
            WHEN urged_at IS NOT NULL THEN 'send-now' ELSE 'planned' END)
    UNION ALL
    SELECT due_at, id, 'touch' FROM nurture.touch
    WHERE reason = 'skipped' AND :state = 'skipped' AND due_at >= :since AND {_OF_LEAD}
        AND (:channel = '' OR channel = :channel)
    UNION ALL
    SELECT next_at, next_touch, 'next' FROM nurture.enrolment e
    WHERE next_at < :until AND next_touch IS NOT NULL AND state IN ('active', 'left')
        AND :state IN ('', 'planned') AND {_OF_LEAD}
        AND NOT EXISTS (SELECT 1 FROM nurture.touch t WHERE t.lead_id = e.lead_id
            AND t.program = e.program AND t.status IN ('due', 'sending')
            AND t.requested IS NOT TRUE)"""
