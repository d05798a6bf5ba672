"""`ripeline lift`: options and report."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from services.ingest.importing import mapping_file
from services.ops.cli.options import Json, PlainTable, end, print_line
from services.ops.commands.current import current_settings
from services.ops.commands.reports import live_lift
from services.ops.reports import lift_table as tables
from services.ops.reports.lift_mapping import LiftMapping
from services.scorer.effects.lift import Plan
from services.scorer.effects.report import Report
from services.scorer.reports.effects_table import COMPARED, PARTS
from services.shared.errors import Reject
from services.shared.playbook.loading import InvalidFile

HELP = """Show whether nurturing made more leads reach the outcome, against those held out.

Without a table: of the current system, whose playbook says which share of the accounts is held out
for good. A lead counts once its horizon is over since it could first have been nurtured.

Of a table: one row a lead. The mapping names the columns:

    arm: group                       # or {column: group, holdout: No E-Mail, calendar: Drip}
    outcome: {column: converted, equals: "yes"}
    account: company                 # optional: analysed as one unit
    entered_at: first_eligible       # optional: the order of entry, for --daily
    baseline: likelihood_at_entry    # optional: makes the interval narrower

The interval holds however often one looks. There is none before 20 outcomes in each arm, and it is
said why. docs/lift.md explains the figures.

Example: ripeline lift leads.csv --mapping lift.yaml --daily --json
"""


def lift(
    table: Annotated[
        Path | None,
        typer.Argument(
            help="A table, as a CSV file; the current system's leads without one.", dir_okay=False
        ),
    ] = None,
    mapping: Annotated[str, typer.Option("--mapping", help="YAML file of the mapping.")] = "",
    daily: Annotated[
        bool, typer.Option("--daily", help="A line for each day of entry, as known that day.")
    ] = False,
    as_json: Json = False,
) -> None:
    if table is None:
        return _live(daily=daily, as_json=as_json)
    if not mapping:
        end(f"{table}: --mapping is missing, the YAML file that says what its columns mean", 2)
    try:
        written = mapping_file.read(mapping, model=LiftMapping)
        assert isinstance(written.mapping, LiftMapping)
        if daily and not written.mapping.entered_at:
            end(f"{mapping}: --daily needs `entered_at`, the column of the time of entry", 2)
        plan = Plan(written.mapping.alpha, written.mapping.planned)
        report = Report(tables.read(table, written, lambda _: None), plan)
    except (InvalidFile, Reject) as broken:
        end(str(broken), 2)
    except OSError as error:
        end(f"{table}: {error.strerror}; name a file that can be read", 2)
    _show(list(report.daily()) if daily else [report.whole()], daily=daily, as_json=as_json)


def _live(*, daily: bool, as_json: bool) -> None:
    """The lift of the current system."""
    found, outcome = asyncio.run(live_lift(current_settings()))
    _show(found.daily() if daily else [found.whole(outcome)], daily=daily, as_json=as_json)


def _show(lines: list[dict[str, Any]], *, daily: bool, as_json: bool) -> None:
    if as_json:
        for line in lines:
            print_line(line)
    elif lines:
        _print(lines)
        if not daily:
            _explain(lines[0])


def _print(lines: list[dict[str, Any]]) -> None:
    shown = PlainTable("day" if "day" in lines[0] else "", "leads", "outcomes", "lift", "interval")
    for line in lines:
        shown.add_row(line.get("day", "all"), *_figures(line))
    for arm, line in lines[0].get("arms", {}).items():
        shown.add_row(arm, "", "", f"{line['effect']:+.2%}", _interval(line))
    if "day" not in lines[0]:
        _add_parts(shown, lines[0])
    Console().print(shown)


def _add_parts(shown: PlainTable, whole: dict[str, Any]) -> None:
    """What else is compared, and effects by source and by age at entry, as far as they are
    there.
    """
    for name, title in COMPARED.items():
        if not (found := whole.get(name) if name else whole):
            continue
        if name:
            shown.add_row(title, *_figures(found))
        for part, by in PARTS.items():
            for among, one in found.get(part, {}).items():
                shown.add_row(f"{title}, {by} {among}" if name else f"{by} {among}", *_figures(one))


def _figures(line: dict[str, Any]) -> list[str]:
    effect = "" if line["effect"] is None else f"{line['effect']:+.2%}"
    return [_by_arm(line["n"]), _by_arm(line["outcomes"]), effect, _interval(line)]


def _by_arm(counts: dict[str, int]) -> str:
    return ", ".join(f"{arm} {count}" for arm, count in counts.items())


def _interval(line: dict[str, Any]) -> str:
    if line["interval"] is None:
        return str(line["why_no_interval"])
    low, high = line["interval"]
    return f"{low:+.2%} to {high:+.2%}"


def _explain(whole: dict[str, Any]) -> None:
    if whole["interval"]:
        low, high = whole["interval"]
        meaning = (
            "More leads reach the outcome with nurturing." if low > 0
            else "Fewer leads reach the outcome with nurturing." if high < 0
            else "Whether nurturing helps cannot be told yet: the interval holds 0."
        )  # fmt: skip
        print(meaning)
    print(whole["power"]["advice"])
    for why, count in whole["skipped_rows"].items():
        print(f"{count} rows: {why}")
