"""The page of the library: what it covers, which readers will soon have had all of it, and what
came of each item.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import msgspec
import structlog
from fastapi import APIRouter, Query, Request, Response

from services.scorer.queries.reports import ReportQueries
from services.scorer.reports.tables import Column, ReportTable, Row, of_touches
from services.scorer.scoring import Scoring
from services.scorer.ui.frame import Frame
from services.scorer.ui.nurture import Nurture
from services.scorer.ui.rendering import HEADERS
from services.scorer.ui.reports import address
from services.scorer.ui.sign_in import SignIn
from services.shared.errors import Reject
from services.shared.kept import Kept
from services.shared.playbook.coverage import AHEAD, Coverage, coverage
from services.shared.playbook.sections import Content

log = structlog.get_logger()
WAIT_S = 3.0  # that the page waits for nurture
Word = Annotated[str, Query(max_length=200)]
FIGURES = {
    "sent": "sent", "clicked": "clicked by people", "replied": "answered", "moved": "progressed",
    "left": "left",
}  # fmt: skip
DECLARED = {
    "content": "id", "title": "title", "stages": "stages", "personas": "personas",
    "topic": "topic", "language": "language", "countries": "countries",
    "valid_until": "valid until", "objective": "objective", "state": "state",
}  # fmt: skip


class SegmentView(msgspec.Struct, frozen=True, kw_only=True):
    """Readers of a program in a stage of whom some have had all of it, or soon will have."""

    program: str
    stage: str
    persona: str
    language: str
    readers: int
    exhausted: int
    soon: int
    first_at: datetime | None
    per_week: float


class ValueView(msgspec.Struct, frozen=True):
    """What touches of an item, or of all that were drawn, brought."""

    progress: float
    standard_error: float
    touches: int
    content: str | None = None


class LearnedView(msgspec.Struct, frozen=True):
    """What the learned choice of a program brought."""

    program: str
    learned: ValueView
    items: list[ValueView]
    says: str


class Reading(msgspec.Struct, frozen=True):
    """What the page takes of nurture's answer."""

    exhausted: list[SegmentView]
    learned: list[LearnedView]


class CellView(NamedTuple):
    """What a persona is offered in a stage: (topic, items, whether these are too many), and what
    lacks.
    """

    persona: str
    items: int
    topics: list[tuple[str, int, bool]]
    gaps: list[str]


class Chosen(NamedTuple):
    """Which items are listed; '' for all."""

    stage: str = ""
    persona: str = ""
    topic: str = ""

    def has(self, item: Content) -> bool:
        """Whether an item is one of them."""
        return (
            self.stage in ("", *item.stages)
            and (not item.personas or self.persona in ("", *item.personas))
            and self.topic in ("", item.topic)
        )


Came = Kept[Mapping[str, Row]]  # of touches, by item


class ContentRoutes:
    """The matrix and the list."""

    def __init__(
        self,
        scoring: Scoring,
        came: Came,
        nurture: Nurture,
        sign_in: SignIn,
        frame: Frame,
    ) -> None:
        self._playbook, self._clock, self._came = scoring.playbook, scoring.clock, came
        self._nurture, self._sign_in, self._frame = nurture, sign_in, frame

    def add_to(self, router: APIRouter) -> None:
        """Adds the routes."""
        router.add_api_route("/content", self.library)
        router.add_api_route("/content.csv", self.table)

    async def library(
        self, request: Request, stage: Word = "", persona: Word = "", topic: Word = ""
    ) -> Response:
        """The matrix, and the items of one of its cells, or all."""
        chosen = Chosen(stage, persona, topic)
        today = self._clock.now().date()
        found = coverage(self._playbook, today)
        return self._frame.page(
            "content.html",
            here="content",
            found=found,
            matrix=matrix(found),
            personas={persona.id: persona.name for persona in self._playbook.personas},
            reading=await self._reading(request),
            days=AHEAD.days,
            items=[item for item in self._playbook.content if chosen.has(item)],
            chosen=chosen,
            figures=await self._came.get(),
            titles=FIGURES,
            address=address,
            today=today,
        )

    async def table(self) -> Response:
        """All items with what came of them, as CSV."""
        return Response(
            table_of(self._playbook.content, await self._came.get()).csv(),
            200,
            HEADERS | {"Content-Disposition": 'attachment; filename="content.csv"'},
            "text/csv; charset=utf-8",
        )

    async def _reading(self, request: Request) -> Reading | None:
        """What nurture reads of leads; None where it does not say: the page stands without it."""
        ticket = self._sign_in.ticket(request)
        try:
            answer = await self._nurture.get("/v1/content", ticket, wait_s=WAIT_S)
        except Reject as error:
            log.warning("content_unread", reason=error.title)
            return None
        return msgspec.convert(answer, Reading)


async def figures(reports: ReportQueries) -> Mapping[str, Row]:
    """What came of each item by all channels, as the report on content counts it."""
    found = await reports.table("content", "items")
    counted = of_touches("items", "By item", [Column("content", "item", "key")], found.rows)
    return {str(row["content"]): row for row in counted.rows}


def matrix(found: Coverage) -> list[tuple[str, list[CellView]]]:
    """The cells by stage."""
    return [
        (stage, [_cell(found, stage, persona) for persona in found.personas])
        for stage in found.stages
    ]


def _cell(found: Coverage, stage: str, persona: str) -> CellView:
    here = (stage, persona)
    over = {each.topic for each in found.overload if each[:2] == here}
    held = {cell.topic: cell.items for cell in found.cells if cell[:2] == here and cell.items}
    return CellView(
        persona,
        sum(map(len, held.values())),
        [(topic, len(items), topic in over) for topic, items in held.items()],
        [gap.why for gap in found.gaps if gap[:2] == here],
    )


def table_of(items: Sequence[Content], counted: Mapping[str, Row]) -> ReportTable:
    """A row for each item: what it declares, and what came of it."""
    columns = [Column(name, title, "key") for name, title in DECLARED.items()]
    columns += [Column(name, title) for name, title in FIGURES.items()]
    columns.append(Column("moved_share", "progressed, of those 14 days old", "share"))
    rows = [_declared(item) | _counted(counted.get(item.id)) for item in items]
    return ReportTable("items", "Items", columns, rows)


def _declared(item: Content) -> Row:
    plain: dict[str, Any] = item.model_dump(mode="json", include=set(DECLARED)) | {
        "content": item.id
    }
    return {
        name: ", ".join(value) if isinstance(value, list) else value
        for name, value in plain.items()
    }


def _counted(row: Row | None) -> Row:
    return row or dict.fromkeys(FIGURES, 0)
