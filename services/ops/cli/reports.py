"""`ripeline report`: options, and reports as people read them."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from services.ingest.importing import mapping_file
from services.ops.cli.evaluate import progress_bars
from services.ops.cli.options import DATES, Json, end, in_utc, say, whole_table
from services.ops.commands import reports
from services.ops.commands.current import current_settings
from services.ops.learning.mapping import TableMapping
from services.ops.reports import journeys_table
from services.scorer.queries.reports import ReportName, Window
from services.scorer.reports.journeys import Journeys
from services.scorer.reports.made_or_born import FOLLOW_UP, MadeOrBorn, made_or_born
from services.scorer.reports.sources import DAYS, Equivalence, equivalence
from services.scorer.reports.tables import Cell, ReportTable
from services.shared.errors import Reject
from services.shared.playbook.loading import InvalidFile

app = typer.Typer(
    no_args_is_help=True,
    help="Show what a company's own leads say: whether they come ready, what sources are worth, "
    "whether nurturing works.",
)
TableFile = Annotated[
    Path | None,
    typer.Argument(help="A table, as a CSV file; the current system's leads without one."),
]
MappingFile = Annotated[
    str, typer.Option("--mapping", help="YAML file of the table's mapping, as for `evaluate`.")
]
Since = Annotated[datetime | None, typer.Option(formats=DATES, help="What counts from then, UTC.")]
Until = Annotated[datetime | None, typer.Option(formats=DATES, help="What counts before, UTC.")]
WIDTH = 40  # characters of the longest bar
MOST_COLUMNS = 6  # that a terminal of 80 characters shows side by side


@app.command("made-or-born")
def made_or_born_(
    table: TableFile = None,
    mapping: MappingFile = "",
    follow_up: Annotated[
        float, typer.Option(help="Days for which leads must be known.", min=1)
    ] = FOLLOW_UP,
    as_json: Json = False,
) -> None:
    """Show whether leads come ready or become so: their age at conversion.

    Of the current system, or of a table with a mapping: `time` is when a lead began (of events the
    first counts), `outcome` what is waited for; of a table of leads `outcome: {column, equals,
    time: COLUMN}`. docs/reports.md explains the figures.

    Example: ripeline report made-or-born leads.csv --mapping leads.yaml --json
    """
    found = made_or_born(_journeys(table, mapping), follow_up)
    if as_json:
        return print(msgspec.json.encode(found).decode())
    _print_ages(found)


@app.command()
def sources(
    table: TableFile = None,
    mapping: MappingFile = "",
    days: Annotated[
        float, typer.Option(help="Days within which the outcome counts.", min=1)
    ] = DAYS,
    reference: Annotated[
        str, typer.Option(help="The source that others are compared with; the best without it.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Show how many leads of one source are worth one of another, and what an outcome costs.

    Of the current system, or of a table with a mapping that names `source` and perhaps `cost`
    beside `time` and `outcome`. docs/reports.md explains the figures.

    Example: ripeline report sources leads.csv --mapping leads.yaml --json
    """
    found = equivalence(_journeys(table, mapping, with_source=True), days, reference)
    if as_json:
        return print(msgspec.json.encode(found).decode())
    _print_sources(found)


@app.command()
def progression(since: Since = None, until: Until = None, as_json: Json = False) -> None:
    """Show what came of touches by program and stage, and the steps from each stage.

    Example: ripeline report progression --since 2026-01-01
    """
    _report("progression", since, until, as_json=as_json)


@app.command()
def content(since: Since = None, until: Until = None, as_json: Json = False) -> None:
    """Show what came of touches by item of content.

    Example: ripeline report content --json
    """
    _report("content", since, until, as_json=as_json)


@app.command()
def handoffs(since: Since = None, until: Until = None, as_json: Json = False) -> None:
    """Show what sales does: hand-offs, its reports, and how much it asks.

    Example: ripeline report handoffs --json
    """
    _report("handoffs", since, until, as_json=as_json)


@app.command()
def holdout(as_json: Json = False) -> None:
    """Show who is nurtured and who is held out; `ripeline lift` says what it causes.

    Example: ripeline report holdout --json
    """
    _report("holdout", None, None, as_json=as_json)


@app.command()
def pool(since: Since = None, until: Until = None, as_json: Json = False) -> None:
    """Show the leads in reach beside those that a strict "qualify first" would keep, and the
    funnel by week of entry.

    Example: ripeline report pool --json
    """
    _report("pool", since, until, as_json=as_json)


def _report(
    name: ReportName, since: datetime | None, until: datetime | None, *, as_json: bool
) -> None:
    window = Window(in_utc(since), in_utc(until))
    found = asyncio.run(reports.report(current_settings(), name, window))
    if as_json:
        return print(msgspec.json.encode(found).decode())
    for table in found.tables:
        Console().print(_shown(table))
        for note in table.notes:
            print(note)
    for sentence in (*found.says, found.holdout.says):
        print(sentence)


def _shown(table: ReportTable) -> Table:
    """A table for people; where it has too many columns for a terminal, the figures of a row stand
    in one cell, without those that are nothing.
    """
    if len(table.columns) <= MOST_COLUMNS:
        first, *others = (column.title for column in table.columns)
        shown = whole_table(first, *others)
        for row in table.rows:
            shown.add_row(*(_cell(row.get(column.name), column.kind) for column in table.columns))
    else:
        keys = [column for column in table.columns if column.kind == "key"]
        shown = whole_table(", ".join(column.title for column in keys), "figures")
        for row in table.rows:
            figures = [
                f"{column.title} {_cell(row.get(column.name), column.kind)}"
                for column in table.columns
                if column.kind != "key" and row.get(column.name)
            ]
            shown.add_row(
                ", ".join(_cell(row.get(column.name), "key") for column in keys),
                ", ".join(figures),
            )
    shown.title = table.title
    return shown


def _cell(cell: Cell, kind: str) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:.1%}" if kind == "share" else f"{cell:,.1f}"
    return str(cell)


def _journeys(table: Path | None, mapping: str, *, with_source: bool = False) -> Journeys:
    if table is None:
        if mapping:
            end("--mapping says how a table is read: name the table as well", 2)
        return asyncio.run(reports.journeys(current_settings()))
    if not mapping:
        end(f"{table}: --mapping is missing, the YAML file that says what its columns mean", 2)
    try:
        written = mapping_file.read(mapping, model=TableMapping)
        with progress_bars() as progress:
            found = journeys_table.read(table, written, progress, with_source=with_source)
    except (InvalidFile, Reject) as broken:
        end(str(broken), 2)
    except OSError as error:
        end(f"{table}: {error.strerror}; name a file that can be read", 2)
    for why, count in found.skipped.items():
        say(f"passed over: {count} × {why}")
    return found.journeys


def _print_ages(found: MadeOrBorn) -> None:
    shown = whole_table("days", "outcomes", "")
    most = max((bar.outcomes for bar in found.histogram), default=0) or 1
    for bar in found.histogram:
        drawn = "█" * round(WIDTH * bar.outcomes / most)
        shown.add_row(f"{bar.low:g}–{bar.high:g}", str(bar.outcomes), drawn)
    Console().print(shown)
    for sentence in found.says:
        print(sentence)


def _print_sources(found: Equivalence) -> None:
    shown = whole_table("source", "leads", "outcomes", "share", "a lead", "an outcome costs")
    for one in found.sources:
        low, high = one.rate_interval
        shown.add_row(
            one.source,
            str(one.leads),
            str(one.outcomes),
            f"{one.rate:.1%} ({low:.1%} to {high:.1%})",
            "" if one.cost_per_lead is None else f"{one.cost_per_lead:.2f}",
            "" if one.cost_per_outcome is None else f"{one.cost_per_outcome:.2f}",
        )
    Console().print(shown)
    for sentence in found.says:
        print(sentence)
