"""`ripeline rehearse`."""

import gc
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from services.ops.cli.options import PlainTable, end, say
from services.ops.rehearsal.cast import Options
from services.ops.rehearsal.rehearsal import Rehearsal, rehearse
from services.shared.playbook.loading import InvalidFile, load
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings

MOST_LEADS, MOST_DAYS = 20_000, 730
PLOT, EVENTS = "rehearsal.svg", "events.jsonl"
COURSES = {"nurtured": "nurtured", "left_alone": "left alone", "calendar": "calendar drip"}
HELP = """Rehearse a playbook on simulated people, in virtual time, without servers.

The people are those of `ripeline demo`, and every rule is the one that sends for real.
They are nurtured by the playbook, and for comparison left alone, and written to by the calendar:
one item after another at the program's usual pace, whatever the stage.
All figures are simulated, never a forecast: no mail makes these people buy sooner.

With --out FILE each decision is a line of FILE; what the leads did is events.jsonl beside it, and
the plot rehearsal.svg. docs/rehearsal.md says what each field means, so that every rule can be
checked from these files. The same seed, start and playbook bring the same bytes.

Look at the touches per lead, at what was withheld and why, at items that nobody got, and at who
unsubscribes against the calendar drip.

Example: ripeline rehearse --playbook deploy/playbook --leads 500 --days 90 --out touches.jsonl
"""


def rehearse_playbook(
    playbook: Annotated[
        Path | None, typer.Option(help="Folder of the playbook; left out: the one that is in use.")
    ] = None,
    leads: Annotated[
        int, typer.Option(min=1, max=MOST_LEADS, help="How many simulated people.")
    ] = 2000,
    days: Annotated[
        int, typer.Option(min=1, max=MOST_DAYS, help="How many days of virtual time.")
    ] = 180,
    seed: Annotated[int, typer.Option(help="The same seed brings the same people.")] = 1,
    start: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="First day; left out: the first of this month."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File for the decisions, one a line.", dir_okay=False)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The last line of stdout is the summary as JSON.")
    ] = False,
    tell_progress: Annotated[
        bool, typer.Option("--progress", help="JSON lines of progress on stderr, for programs.")
    ] = False,
) -> None:
    """As HELP says."""
    folder = playbook or Settings.read().playbook
    loaded = _loaded(folder, as_json=as_json)
    if out:
        _check_writable(out)
    first = (start or datetime.now(UTC).replace(day=1)).replace(
        hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC
    )
    options = Options(leads, days, seed, first)
    gc.freeze()  # what is read so far stays
    gc.disable()  # nothing goes in circles, and the process ends after it
    with _progress(tell=tell_progress) as progress:
        found = rehearse(loaded, options, progress)
    if out:
        _write(found, out)
    if as_json:
        return print(json.dumps(found.summary), flush=True)
    _print(found.summary)


def _loaded(folder: Path, *, as_json: bool) -> Playbook:
    """Ends with the problems of `ripeline playbook check` where there are some."""
    if not folder.is_dir():
        end(f"--playbook: there is no folder {folder}; make one by `ripeline playbook new`", 2)
    try:
        return load(folder)
    except InvalidFile as broken:
        if as_json:
            print(json.dumps({"problems": [vars(problem) for problem in broken.problems]}))
        else:
            for problem in broken.problems:
                print(problem)
        end(f"{folder.name} has faults; `ripeline playbook check {folder}` shows them", 1)


def _check_writable(out: Path) -> None:
    """Before the work, that its result can be kept."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
        if out.exists():
            out.open("ab").close()
    except OSError as error:
        end(f"--out: {out} cannot be written: {error.strerror}; choose another place", 2)


def _write(found: Rehearsal, out: Path) -> None:
    try:
        out.write_bytes(found.touches)
        out.with_name(EVENTS).write_bytes(found.events)
        out.with_name(PLOT).write_text(found.plot, "utf-8")
    except OSError as error:
        end(f"--out: {error.filename} cannot be written: {error.strerror}", 1)
    say(f"decisions: {out}; what leads did: {out.with_name(EVENTS)}; plot: {out.with_name(PLOT)}")


@contextmanager
def _progress(*, tell: bool) -> Iterator[Callable[[str, float], None]]:
    """A bar on a terminal's stderr, or lines for a program."""
    if tell:
        yield lambda step, share: say(json.dumps({"step": step, "share": round(share, 3)}))
        return
    columns = (TextColumn("{task.description:>12}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bars:
        task = bars.add_task("people", total=1.0)

        def progress(step: str, share: float) -> None:
            bars.update(task, description=step, completed=share)

        yield progress


def _print(summary: dict[str, Any]) -> None:
    print(
        f"{summary['leads']} simulated people, {summary['days']} days from "
        f"{summary['start'][:10]} on; {summary['holdout']:.0%} of companies held out."
    )
    shown = PlainTable(
        "simulated", "moved a stage on", "steps", "unsubscribed", "sends", "per lead"
    )
    for name, words in COURSES.items():
        course = summary["comparison"][name]
        shown.add_row(
            words,
            f"{course['progressed']} ({course['progressed_share']:.1%})",
            str(course["steps"]),
            f"{course['unsubscribed']} ({course['unsubscribed_share']:.1%})",
            str(course["sends"]),
            f"{course['sends_per_lead']:.1f}",
        )
    Console().print(shown)
    requested = summary["comparison"]["nurtured"]["requested_sends"]
    print(f"{requested} touches more were asked for by form.")
    withheld = ", ".join(f"{count} {reason}" for reason, count in summary["withheld"].items())
    print(f"Withheld: {withheld or 'none'}; {summary['waiting']} wait at the end.")
    if unused := [item for item, count in summary["content_sent"].items() if not count]:
        print(f"Sent to nobody: {', '.join(unused)}.")
    print(summary["note"])
