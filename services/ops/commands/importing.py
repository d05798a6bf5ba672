"""`ripeline import`: a file of leads, events or suppressions becomes interactions, here or through
a distant ingest.
"""

import asyncio
import gc
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table as Shown

from services.ingest.importing import mapping_file
from services.ingest.importing.facts import Facts, facts_of
from services.ingest.importing.guess import guess, written
from services.ingest.importing.mapping_file import MappingFile
from services.ingest.importing.remote import RemoteIngest
from services.ingest.importing.rows import Rows
from services.ingest.importing.run import (
    Batch,
    BrokerSink,
    DryRun,
    Import,
    ImportReport,
    Pipeline,
    RefusedRow,
    Sink,
)
from services.ingest.importing.table import Table
from services.ingest.normalise import Normaliser
from services.ingest.sources.imports import MAX_DAYS
from services.ops.commands.status import read as read_status
from services.ops.embedded.state import found
from services.shared.clock import Clock
from services.shared.contracts.provenance import HISTORY, NEW_LEADS
from services.shared.errors import Reject, Retry
from services.shared.messaging.kafka import Publisher
from services.shared.playbook.loading import InvalidFile, load
from services.shared.settings import Settings

LOOKED_AT = 200  # rows from which a mapping is guessed
# records that may wait in the in-memory broker, which drops what it has no room for
HELD_BACK = 20_000
# rows make objects that die with their batch; looking for cycles among them costs an eighth
YOUNG = 50_000
console = Console(stderr=True)

HELP = """Import a CSV file: leads, events, or addresses that must not be written to.

A mapping says which column means what:

    kind: leads             # or events, or suppressions (import these first)
    email: E-mail           # or lead, user_id, anonymous_id, external_id
    type: event_attended    # or {column: What, names: {Visit: page_viewed}}
    time: Scanned at        # or {column: Date, format: "%d.%m.%Y"}
    traits: {title: Job title, company_size: Employees}
    consent: {column: May we write?, equals: yes, basis: badge scan}

Begin with --dry-run: it sends nothing and tells what would be rejected, and why.

Importing the same file twice changes nothing. docs/importing.md shows every key.
"""


class Job(NamedTuple):
    """What is to be imported, as the command line says it."""

    file: Path
    written: MappingFile
    report: ImportReport
    rejects: Path | None


def register(app: typer.Typer, current: Callable[[], Settings]) -> None:
    """Adds the command; `current` gives the settings of the running system."""

    @app.command("import", help=HELP)
    def import_file(
        file: Annotated[
            Path | None, typer.Argument(help="The CSV file, of any encoding and delimiter.")
        ] = None,
        mapping: Annotated[
            str, typer.Option("--mapping", help="YAML file of the mapping, or a template's name.")
        ] = "",
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Send nothing; say what would happen.")
        ] = False,
        as_json: Annotated[
            bool, typer.Option("--json", help="End with one line of JSON on stdout.")
        ] = False,
        said: Annotated[
            Literal["history", "new_leads"] | None,
            typer.Option(
                "--as",
                help="history moves the score and sends nothing; new_leads enters programs now.",
            ),
        ] = None,
        days: Annotated[
            int | None,
            typer.Option(min=0, max=MAX_DAYS, help="Over how many days new leads are let in."),
        ] = None,
        to: Annotated[
            str,
            typer.Option("--to", help="Address of a distant ingest; else the services' settings."),
        ] = "",
        key: Annotated[
            str, typer.Option("--key", envvar="RIPELINE_SECRET_KEY", help="Secret key for --to.")
        ] = "",
        rejects: Annotated[
            Path | None, typer.Option("--rejects", help="CSV of rejected rows with their reasons.")
        ] = None,
        templates: Annotated[
            bool, typer.Option("--templates", help="List the mappings that come along.")
        ] = False,
    ) -> None:
        if templates:
            return _list_templates()
        try:
            if file is None:
                raise Reject(
                    "no file is named", where="FILE", remedy="run `ripeline import --help`"
                )
            plan = (
                mapping_file.read(mapping) if mapping else _guessed(file, current, dry_run=dry_run)
            )
            job = Job(file, plan, _declared(plan, said, days, dry_run=dry_run), rejects)
            report = asyncio.run(_through(job, to, key) if to else _here(job, current()))
        except InvalidFile as broken:
            _end(str(broken), 2)
        except Reject as reject:
            _end(str(reject), 2)
        except Retry as away:
            _end(f"{away}. What was sent stays; import the file again, nothing counts twice", 1)
        _tell(report, file, as_json=as_json)


def _guessed(file: Path, current: Callable[[], Settings], *, dry_run: bool) -> MappingFile:
    """The mapping that the file's columns suggest, shown; without a person to agree it serves a dry
    run only.
    """
    table = _open(file)
    try:
        rows = [row.cells for row in islice(table.rows(), LOOKED_AT) if not row.reject]
    finally:
        table.close()
    text = written(guess(table.header, rows, file.name, facts_of(load(current().playbook)).types))
    _say(f"No mapping was given. The columns suggest this one:\n\n{text}")
    if not dry_run and not (_is_terminal() and typer.confirm("Import with it?", err=True)):
        raise Reject(
            "no mapping was given",
            where="--mapping",
            remedy="save the one above to a file, correct it, and name it",
        )
    return mapping_file.load(text, "the guessed mapping")


def _declared(
    plan: MappingFile, said: str | None, days: int | None, *, dry_run: bool
) -> ImportReport:
    """What the import says that it is: by option, else by mapping; asked where a person can answer,
    else history.
    """
    chosen = said or plan.mapping.as_
    if not chosen and plan.mapping.kind == "suppressions":
        chosen = HISTORY
    if not chosen and _is_terminal():
        _say("history: moves the score, sends nothing of its own. new_leads: enters programs now.")
        chosen = typer.prompt("Is this history or new_leads?", default=HISTORY, err=True)
        if chosen not in (HISTORY, NEW_LEADS):
            raise Reject(
                f"neither history nor new_leads: {chosen[:40]!r}",
                where="--as",
                remedy="answer one of the two",
            )
    if not chosen:
        _say(
            "Taken as history, which sends nothing of its own; say --as new_leads for leads "
            "that enter programs now."
        )
    over = plan.mapping.days if days is None else days
    return ImportReport(
        as_=chosen or HISTORY, days=over if chosen == NEW_LEADS else 0, dry_run=dry_run
    )


async def _here(job: Job, settings: Settings) -> ImportReport:
    """Through the same normaliser as ingest, straight to the broker."""
    publisher = Publisher(settings)
    running = found() or {}
    sink: Sink = DryRun() if job.report.dry_run else BrokerSink(publisher)
    if not job.report.dry_run and running.get("pids", {}).get("broker"):
        sink = Paced(sink, settings)
    try:
        return await _import(job, facts_of(load(settings.playbook)), sink, settings)
    finally:
        await publisher.close()


async def _through(job: Job, to: str, key: str) -> ImportReport:
    """The same by way of a distant ingest, which says what its playbook knows."""
    async with RemoteIngest(to, key, job.report.as_, job.report.days) as remote:
        return await _import(
            job, await remote.facts(), DryRun() if job.report.dry_run else remote, None
        )


async def _import(job: Job, facts: Facts, sink: Sink, settings: Settings | None) -> ImportReport:
    pepper = settings.pepper.get_secret_value().encode() if settings else b""
    clock = Clock.parse(settings.clock if settings else "")
    plan = job.written.mapping
    table = _open(job.file, plan.encoding, plan.delimiter)
    cleaner = facts.cleaner()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 50)
    with ExitStack() as stack:
        stack.callback(table.close)
        rows = Rows(job.written, table.header, facts)
        rejects = (
            stack.enter_context(job.rejects.open("w", encoding="utf-8-sig", newline=""))
            if job.rejects
            else None
        )
        advance = stack.enter_context(_bar(table.bytes, dry_run=job.report.dry_run))
        normaliser = Normaliser(cleaner, pepper, facts.sales(), frozenset(facts.own_crm_fields))
        pipeline = Pipeline(table, rows, normaliser, cleaner, sink, clock.now())
        return await Import(pipeline, job.report, rejects, advance).run()


class Paced:
    """Holds back where the in-memory broker would drop what the scorer has not read yet."""

    encodes = False

    def __init__(self, sink: Sink, settings: Settings) -> None:
        self._sink, self._settings = sink, settings

    async def put(self, batch: Batch) -> list[RefusedRow]:
        """Waits until there is room."""
        # The lag is known by asking only.
        while (await read_status(self._settings))["lag"]["scorer"] > HELD_BACK:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        return await self._sink.put(batch)


def _open(file: Path, encoding: str = "", delimiter: str = "") -> Table:
    try:
        return Table(file, encoding, delimiter)
    except OSError as error:
        raise Reject(
            f"cannot be read: {error.strerror}", where=file.name, remedy="name a CSV file"
        ) from None


def _list_templates() -> None:
    table = Shown("template", "for")
    for name, path in mapping_file.templates().items():
        table.add_row(name, path.read_text("utf-8").partition("\n")[0].removeprefix("#").strip())
    Console().print(table)


def _tell(report: ImportReport, file: Path, *, as_json: bool) -> None:
    for line, what, _ in report.first[:5]:
        _say(f"line {line}: {what}")
    if as_json:
        return print(json.dumps(report.as_json()))
    verb = "would be accepted" if report.dry_run else "accepted"
    print(
        f"{file.name}: {report.rows:,} rows, {report.accepted:,} {verb}, {report.rejected:,} "
        f"rejected, {report.leads:,} leads"
    )
    for reason, count in report.reasons.items():
        print(f"  {count:>9,}  {reason}")


@contextmanager
def _bar(size: int, *, dry_run: bool) -> Iterator[Callable[[ImportReport, int], None]]:
    """A progress bar on stderr, where somebody looks at it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("reading" if dry_run else "importing", total=max(size, 1))

        def advance(report: ImportReport, done: int) -> None:
            progress.update(
                task,
                completed=done,
                description=f"{report.rows:,} rows, {report.rejected:,} rejected",
            )

        yield advance


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _end(sentence: str, code: int) -> NoReturn:
    _say(sentence)
    raise typer.Exit(code)
