"""`ripeline import`: options, questions, progress and report."""

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from services.ingest.importing import mapping_file
from services.ingest.importing.mapping import Mapping, needed
from services.ingest.importing.mapping_file import MappingFile
from services.ingest.importing.run import ImportReport
from services.ingest.sources.imports import MAX_DAYS
from services.ops.cli.options import end, say, whole_table
from services.ops.commands import importing
from services.ops.commands.current import current_settings
from services.shared.contracts.provenance import HISTORY, NEW_LEADS
from services.shared.errors import Reject, Retry
from services.shared.playbook.loading import InvalidFile

REASONS_SHOWN = 5

HELP = """Import a CSV file or a spreadsheet: leads, events, or addresses that must not be mailed.

A mapping says which column means what:

    kind: leads             # or events, or suppressions (import these first)
    email: E-mail           # or lead, user_id, anonymous_id, external_id
    type: event_attended    # or {column: What, names: {Visit: page_viewed}}
    time: Scanned at        # or {column: Date, format: "%d.%m.%Y"}
    traits: {title: Job title, company_size: Employees}
    consent: {column: May we write?, equals: yes, basis: badge scan}

Begin with --dry-run: it sends nothing and lists what would be rejected, and why.

Importing the same file twice changes nothing. docs/importing.md shows every key.

Example: ripeline import leads.csv --mapping hubspot --as history --dry-run
"""


File = Annotated[
    Path | None,
    typer.Argument(help="The CSV file, of any encoding and delimiter, .xlsx, .xls or .ods."),
]
MappingName = Annotated[
    str,
    typer.Option(
        "--mapping",
        help="YAML file of the mapping, or a template's name; without FILE its columns are listed.",
    ),
]
Lines = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="A line more for the mapping, such as 'encoding: cp1250'; repeatable."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Send nothing; say what would happen.")]
JsonLine = Annotated[bool, typer.Option("--json", help="End with one line of JSON on stdout.")]
Mode = Annotated[
    Literal["history", "new_leads"] | None,
    typer.Option(
        "--as", help="history moves the score and sends nothing; new_leads enters programs now."
    ),
]
Days = Annotated[
    int | None, typer.Option(min=0, max=MAX_DAYS, help="Over how many days new leads are let in.")
]
To = Annotated[
    str, typer.Option("--to", help="Address of a distant ingest; else the services' settings.")
]
Key = Annotated[
    str, typer.Option("--key", envvar="RIPELINE_SECRET_KEY", help="Secret key for --to.")
]
Rejects = Annotated[
    Path | None, typer.Option("--rejects", help="CSV of rejected rows with their reasons.")
]
Templates = Annotated[bool, typer.Option("--templates", help="List the mappings that come along.")]


def import_file(
    file: File = None,
    mapping: MappingName = "",
    more: Lines = None,
    dry_run: DryRun = False,
    as_json: JsonLine = False,
    mode: Mode = None,
    days: Days = None,
    to: To = "",
    key: Key = "",
    rejects: Rejects = None,
    templates: Templates = False,
) -> None:
    if templates:
        return _list_templates()
    try:
        if file is None and mapping:
            return _list_columns(mapping_file.read(mapping, more or ()).mapping)
        if file is None:
            raise Reject("no file is named", where="FILE", remedy="run `ripeline import --help`")
        written = (
            mapping_file.read(mapping, more or ())
            if mapping
            else _guessed(file, more or (), dry_run=dry_run)
        )
        declared = _declared(written, mode, days, dry_run=dry_run)
        report = _run(importing.Job(file, written, declared, rejects), to, key)
    except InvalidFile as broken:
        end(str(broken), 2)
    except Reject as reject:
        end(str(reject), 2)
    except Retry as away:
        end(f"{away}. What was sent stays; import the file again, nothing counts twice")
    _print(report, file, as_json=as_json)


def _run(job: importing.Job, to: str, key: str) -> ImportReport:
    with _progress_bar(job.file, dry_run=job.report.dry_run) as progress:
        if to:
            return asyncio.run(importing.import_through(job, to, key, progress))
        return asyncio.run(importing.import_here(job, current_settings(), progress))


def _guessed(file: Path, more: Sequence[str], *, dry_run: bool) -> MappingFile:
    """The mapping that the file's columns suggest, shown; unless a person agrees, it serves a dry
    run only.
    """
    text = "\n".join([importing.guessed_mapping(file, current_settings()), *more])
    say(f"No mapping was given. The columns suggest this one:\n\n{text}")
    if not dry_run and not (_is_terminal() and typer.confirm("Import with it?", err=True)):
        raise Reject(
            "no mapping was given",
            where="--mapping",
            remedy="save the one above to a file, correct it, and name it",
        )
    return mapping_file.load(text, "the guessed mapping")


def _declared(
    written: MappingFile, mode: str | None, days: int | None, *, dry_run: bool
) -> ImportReport:
    """What the import says that it is: by option, else by mapping; asked where a person can answer,
    else history.
    """
    chosen = mode or written.mapping.as_
    if not chosen and written.mapping.kind == "suppressions":
        chosen = HISTORY
    if not chosen and _is_terminal():
        chosen = _asked()
    if not chosen:
        say(
            "Taken as history, which sends nothing of its own; say --as new_leads for leads "
            "that enter programs now."
        )
    over = written.mapping.days if days is None else days
    return ImportReport(
        as_=chosen or HISTORY, days=over if chosen == NEW_LEADS else 0, dry_run=dry_run
    )


def _asked() -> Literal["history", "new_leads"]:
    say("history: moves the score, sends nothing of its own. new_leads: enters programs now.")
    answer = typer.prompt("Is this history or new_leads?", default=HISTORY, err=True)
    if answer not in (HISTORY, NEW_LEADS):
        raise Reject(
            f"neither history nor new_leads: {answer[:40]!r}",
            where="--as",
            remedy="answer one of the two",
        )
    return answer


def _list_templates() -> None:
    table = whole_table("template", "for")
    for name, path in mapping_file.templates().items():
        table.add_row(name, path.read_text("utf-8").partition("\n")[0].removeprefix("#").strip())
    Console().print(table)


def _list_columns(mapping: Mapping) -> None:
    table = whole_table("column", "becomes")
    for column, where in needed(mapping):
        table.add_row(column, ".".join(map(str, where)).removesuffix(".column"))
    Console().print(table)


def _print(report: ImportReport, file: Path, *, as_json: bool) -> None:
    for line, problem, _ in report.first[:REASONS_SHOWN]:
        say(f"line {line}: {problem}")
    if as_json:
        return print(json.dumps(report.as_json()))
    verb = "would be accepted" if report.dry_run else "accepted"
    print(
        f"{file.name}: {report.rows:,} rows, {report.accepted:,} {verb}, {report.rejected:,} "
        f"rejected, {report.leads:,} leads"
    )
    for reason, count in report.reasons.items():
        print(f"  {count:>9,}  {reason}")
    if report.remarks:
        print("Taken otherwise than written:")
    for remark, count in report.remarks.items():
        print(f"  {count:>9,}  {remark}")


@contextmanager
def _progress_bar(file: Path, *, dry_run: bool) -> Iterator[importing.Progress]:
    """A progress bar on stderr, where that is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    size = file.stat().st_size if file.is_file() else 0
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("reading" if dry_run else "importing", total=max(size, 1))

        def advance(report: ImportReport, done: int) -> None:
            progress.update(
                task,
                completed=done,
                description=f"{report.rows:,} rows, {report.rejected:,} rejected",
            )

        yield advance


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
