"""What the page shows of reports: all tables with plots, the leads behind each number, and what a
company's own leads say of time and sources.
"""

import uuid
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.queries.reports import (
    Asked,
    HoldoutReport,
    Report,
    ReportName,
    ReportQueries,
    Window,
)
from services.scorer.reports.effects_table import COMPARED
from services.scorer.reports.made_or_born import MadeOrBorn
from services.scorer.reports.sources import Equivalence
from services.scorer.reports.tables import Cell, ReportTable, Row
from services.scorer.ui.frame import Frame
from services.scorer.ui.lead_names import names_of
from services.scorer.ui.rendering import HEADERS
from services.shared.http.paging import MAX_CURSOR

PER_PAGE = 50
MOST_SHOWN = 30  # rows of a table; CSV has all
MAX_ADDRESS = 1_000  # characters of what a number's address says
CAPTIONS = {
    "progression": "Touches after which the lead moved forward by its own act within 14 days",
    "content": "Touches after which the lead moved forward by its own act within 14 days",
    "handoffs": "Reports of sales by week",
    "holdout": "",
    "pool": "How far the leads have come",
}
NOT_KEYS = ("table", "figure", "cursor")


class Bar(NamedTuple):
    """One line of a plot; `share` and the ends of its interval are of the plot's width, 0 to 1."""

    label: str
    text: str
    share: float
    low: float | None = None
    high: float | None = None


class ReportRoutes:
    """The page of reports, and what hangs on it."""

    def __init__(self, engine: AsyncEngine, reports: ReportQueries, frame: Frame) -> None:
        self._engine, self._reports, self._frame = engine, reports, frame

    def add_to(self, router: APIRouter) -> None:
        """Adds the routes."""
        router.add_api_route("/reports", self.all)
        router.add_api_route("/reports/made-or-born", self.ages)
        router.add_api_route("/reports/sources", self.sources)
        router.add_api_route("/reports/{report}/csv", self.csv)
        router.add_api_route("/reports/{report}/leads", self.leads)

    async def all(self) -> Response:
        """Every report."""
        found = await self._reports.all()
        lift = next(each.lift for each in found if isinstance(each, HoldoutReport))
        return self._frame.page(
            "reports.html",
            here="reports",
            reports=found,
            holdout=found[0].holdout,
            plots={report.report: plot(report) for report in found},
            lift=lift,
            lift_bars=effects_of(lift),
            captions=CAPTIONS,
            address=address,
            keys_of=keys_of,
            most=MOST_SHOWN,
        )

    async def ages(self) -> Response:
        """Whether leads come ready or become so."""
        found = await self._reports.ages()
        return self._frame.page(
            "reports_ages.html", here="reports", found=found, bars=ages_of(found)
        )

    async def sources(self) -> Response:
        """What sources are worth."""
        found = await self._reports.worth()
        return self._frame.page(
            "reports_sources.html", here="reports", found=found, bars=rates_of(found)
        )

    async def csv(
        self, report: ReportName, table: Annotated[str, Query(max_length=50)] = ""
    ) -> Response:
        """One table as CSV."""
        found = await self._reports.table(report, table)
        name = f'attachment; filename="{report}-{found.name}.csv"'
        return Response(
            found.csv(), 200, HEADERS | {"Content-Disposition": name}, "text/csv; charset=utf-8"
        )

    async def leads(
        self,
        request: Request,
        report: ReportName,
        table: Annotated[str, Query(max_length=50)] = "",
        figure: Annotated[str, Query(max_length=50)] = "",
        cursor: Annotated[str, Query(max_length=MAX_CURSOR)] = "",
    ) -> Response:
        """The leads behind a number."""
        keys = {
            name: value[:MAX_ADDRESS].replace("\0", "")
            for name, value in request.query_params.items()
            if name not in NOT_KEYS
        }
        asked = Asked(table, figure, keys)
        found = await self._reports.leads(report, asked, Window(), PER_PAGE, cursor)
        names = await names_of(self._engine, {uuid.UUID(one.lead) for one in found.leads})
        return self._frame.page(
            "reports_leads.html",
            here="reports",
            found=found,
            keys=keys,
            names={str(lead): name for lead, name in names.items()},
            following=address(report, table, figure, keys | {"cursor": found.next or ""}),
        )


def address(report: str, table: str, figure: str, keys: Mapping[str, Cell]) -> str:
    """Where the leads behind a number stand."""
    asked = {"table": table, "figure": figure, **keys}
    return f"/reports/{report}/leads?{urlencode(asked)}"


def keys_of(table: ReportTable, row: Row) -> Row:
    """What tells a row from the others."""
    return {key: row[key] for key in table.keys}


def plot(report: Report) -> list[Bar]:
    """What people look for first in a report."""
    tables = {table.name: table for table in report.tables}
    match report.report:
        case "progression":
            return _shares(tables["touches"], "program", "stage")
        case "content":
            return _shares(tables["items"], "content")
        case "pool":
            return _funnel(tables["funnel"])
        case "handoffs":
            return _counts(tables["answers"], "week", "answers")
    return []


def _shares(table: ReportTable, *keys: str) -> list[Bar]:
    """Shares that moved forward, of the rows in which they say something."""
    told = [row for row in table.rows if row["moved_share"] is not None]
    told.sort(key=lambda row: -float(row["moved_share"] or 0))
    most = max((float(row["moved_share"] or 0) for row in told), default=0) or 1.0
    return [
        Bar(
            ", ".join(str(row[key]).replace("_", " ") for key in keys if row[key]) or "no program",
            f"{float(row['moved_share'] or 0):.1%} of {row['followed']}",
            float(row["moved_share"] or 0) / most,
        )
        for row in told[:MOST_SHOWN]
    ]


def _funnel(table: ReportTable) -> list[Bar]:
    """All weeks together: entered, and how far they came."""
    steps = [column for column in table.columns if column.kind == "count"]
    sums = [sum(int(row[step.name] or 0) for row in table.rows) for step in steps]
    most = max(sums, default=0) or 1
    return [
        Bar(step.title, str(count), count / most)
        for step, count in zip(steps, sums, strict=True)
        if most > 0 and sums[0]
    ]


def _counts(table: ReportTable, key: str, name: str) -> list[Bar]:
    most = max((int(row[name] or 0) for row in table.rows), default=0) or 1
    return [
        Bar(str(row[key]), str(row[name]), int(row[name] or 0) / most)
        for row in table.rows[-MOST_SHOWN:]
    ]


def ages_of(found: MadeOrBorn) -> list[Bar]:
    """The histogram."""
    most = max((bar.outcomes for bar in found.histogram), default=0) or 1
    return [
        Bar(f"{bar.low:g}–{bar.high:g} days", str(bar.outcomes), bar.outcomes / most)
        for bar in found.histogram
    ]


def rates_of(found: Equivalence) -> list[Bar]:
    """Shares of the sources with their intervals."""
    most = max((one.rate_interval[1] for one in found.sources), default=0) or 1.0
    return [
        Bar(
            one.source,
            f"{one.rate:.1%} of {one.leads}",
            one.rate / most,
            one.rate_interval[0] / most,
            one.rate_interval[1] / most,
        )
        for one in found.sources[:MOST_SHOWN]
    ]


def effects_of(lift: Mapping[str, Any]) -> list[Bar]:
    """The intervals about 0, which stands in the middle, on one scale; those that there are."""
    found = [(title, lift.get(name) if name else lift) for name, title in COMPARED.items()]
    shown = [(title, one) for title, one in found if one and one["interval"]]
    widest = max((abs(end) for _, one in shown for end in one["interval"]), default=0) or 1.0

    def bar(title: str, one: Mapping[str, Any]) -> Bar:
        effect, (low, high) = one["effect"], one["interval"]
        text = f"{effect:+.2%} ({low:+.2%} to {high:+.2%})"
        places = (0.5 + 0.5 * value / widest for value in (effect, low, high))
        return Bar(f"outcomes a lead, {title}", text, *places)

    return [bar(title, one) for title, one in shown]
