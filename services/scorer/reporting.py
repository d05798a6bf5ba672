"""HTTP about whether it works: reports, the leads behind their numbers, and their tables as CSV."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from services.scorer.dependencies import QUERY_KEY, BackendDep, Period
from services.scorer.queries.reports import (
    Asked,
    Counted,
    CountedResponse,
    HoldoutNote,
    HoldoutReport,
    Report,
    ReportName,
    Window,
)
from services.scorer.reports.made_or_born import Bar, MadeOrBorn, Peaks, Shares
from services.scorer.reports.shares import Share
from services.scorer.reports.sources import DAYS, Equivalence, Worth
from services.scorer.reports.tables import Column, ReportTable
from services.shared.http.paging import MAX_CURSOR
from services.shared.http.parameters import NO_NUL
from services.shared.http.problems import refusals
from services.shared.http.responses import documented, json_response

MAX_KEY = 200  # characters of a key of a row
NOT_KEYS = {"figure", "limit", "cursor"}
AT = "2026-11-02T03:10:00Z"
LEAD = "0f8fad5b-d9cb-469f-a165-70867728950e"
NOTE = HoldoutNote(0.1, 212, 97, "10% of the accounts are held out for good and no program touches "
                   "them (212 leads of 97 accounts).")  # fmt: skip
REPORT = Report(
    report="content", title="Content", as_of=AT, since=None, until=None, holdout=NOTE,
    says=["Clicked by people: without clicks of machines."],
    tables=[
        ReportTable(
            "items", "By item",
            [Column("content", "item", "key"), Column("sent", "sent"), Column("left", "left")],
            [{"content": "guide", "sent": 812, "left": 3}],
        )
    ],
)  # fmt: skip
COUNTED = CountedResponse("content", "items", "left", [Counted(LEAD, AT, LEAD)], None)
SHARE = Share(12, 60, 0.2, (0.118, 0.318))
AGES = MadeOrBorn(
    follow_up_days=180, leads=900, too_young=210, outcomes=60, began_with_the_outcome=2,
    median_age_days=41.5, within_7_days=SHARE, after_60_days=SHARE, histogram=[Bar(0, 1, 4)],
    two_peaks=Peaks("no", 0.31, [38.2]), as_counted=Shares(72, SHARE, SHARE),
    says=["20% of the outcomes come within 7 days (12% to 32%)."],
)  # fmt: skip
WORTH = Equivalence(
    90, 1200, 88, "demo",
    [
        Worth("webinar", 400, 12, 0.03, (0.017, 0.052), 4.0, (2.2, 8.1), 400, 18.5, 616.7,
              (350.0, 1100.0), "4 leads of webinar ≈ 1 of demo (2.2 to 8.1)")
    ],
    ["4 leads of webinar ≈ 1 of demo (2.2 to 8.1)"],
)  # fmt: skip


HOLDOUT = HoldoutReport(
    report="holdout", title="Hold-out", as_of=AT, since=None, until=None, holdout=NOTE, says=[],
    tables=[
        ReportTable(
            "arms", "Who is nurtured and who is held out",
            [Column("arm", "arm", "key"), Column("leads", "leads")],
            [{"arm": "hold-out", "leads": 212}, {"arm": "nurtured", "leads": 1830}],
        )
    ],
    lift={
        "n": {"nurtured": 1830, "hold-out": 212}, "outcomes": {"nurtured": 90, "hold-out": 8},
        "effect": 0.011, "interval": None, "valid": "always",
        "why_no_interval": "8 units with the outcome in the hold-out; an interval needs 20",
    },
)  # fmt: skip
RESPONSES: list[type[msgspec.Struct]] = [
    Report, CountedResponse, MadeOrBorn, Equivalence, HoldoutReport,
]  # fmt: skip
router = APIRouter(
    prefix="/v1/reports",
    tags=["reports"],
    dependencies=QUERY_KEY,
    generate_unique_id_function=lambda route: route.name,
    responses=refusals(400, 401, 403, 422, 429, 503),
)
Key = Annotated[str | None, Field(max_length=MAX_KEY, pattern=NO_NUL)]
Name = Annotated[ReportName, Path()]


class ReportParameters(Period):
    """Of touches decided, and of events, between two times."""

    def window(self) -> Window:
        """The times. Raises Reject for one that is none."""
        return Window(*self.times())


class TableParameters(ReportParameters):
    """One table."""

    table: str = Field(max_length=50)


class NumberParameters(TableParameters):
    """A number of a table: its figure and the keys of its row; and which page of its leads."""

    figure: str = Field(max_length=50)
    program: Key = None
    stage: Key = None
    content: Key = None
    channel: Key = None
    product: Key = None
    week: Key = None
    kind: Key = None
    owner: Key = None
    outcome: Key = None
    arm: Key = None
    limit: int = Field(100, ge=1, le=1000)
    cursor: str = Field("", max_length=MAX_CURSOR)

    def asked(self) -> Asked:
        """The number."""
        known = type(self).model_fields.keys() - TableParameters.model_fields.keys()
        keys = self.model_dump(include={*known} - NOT_KEYS, exclude_none=True)
        return Asked(self.table, self.figure, keys)


@router.get("/made-or-born", responses=documented(200, "Ages at conversion", AGES))
async def report_made_or_born(backend: BackendDep) -> Response:
    """Whether leads come ready or become so: their age at conversion."""
    return json_response(await backend.reports.ages())


@router.get("/sources", responses=documented(200, "What sources are worth", WORTH))
async def report_sources(
    backend: BackendDep,
    days: Annotated[float, Query(ge=1, le=3650)] = DAYS,
    reference: Annotated[str, Query(max_length=MAX_KEY)] = "",
) -> Response:
    """How many leads of one source are worth one of another, and what an outcome costs."""
    return json_response(await backend.reports.worth(days, reference))


@router.get("/holdout", responses=documented(200, "The hold-out, and the lift", HOLDOUT))
async def report_holdout(backend: BackendDep) -> Response:
    """What nurturing causes: the lift against the hold-out, by intention to treat."""
    return json_response(await backend.reports.with_lift())


@router.get("/{report}", responses=documented(200, "The report", REPORT))
async def get_report(
    backend: BackendDep, report: Name, asked: Annotated[ReportParameters, Query()]
) -> Response:
    """A report as tables of counts."""
    return json_response(await backend.reports.report(report, asked.window()))


@router.get("/{report}/leads", responses=documented(200, "What it counts", COUNTED))
async def report_leads(
    backend: BackendDep, report: Name, asked: Annotated[NumberParameters, Query()]
) -> Response:
    """The leads behind a number: `table` and `figure` name it, the row's keys say which row."""
    found = await backend.reports.leads(
        report, asked.asked(), asked.window(), asked.limit, asked.cursor
    )
    return json_response(found)


@router.get(
    "/{report}/csv",
    response_class=Response,
    responses={200: {"content": {"text/csv": {}}, "description": "The table"}},
)
async def report_csv(
    backend: BackendDep,
    report: Name,
    asked: Annotated[TableParameters, Query()],
) -> Response:
    """One table of a report as CSV."""
    found = await backend.reports.table(report, asked.table, asked.window())
    return Response(found.csv(), media_type="text/csv")
