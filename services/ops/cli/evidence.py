"""`ripeline evidence`: options, progress and report."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from services.ingest.importing import mapping_file
from services.ops.cli.evaluate import progress_bars
from services.ops.cli.options import Json, end, nicely, whole_table
from services.ops.commands import models
from services.ops.commands.current import current_settings
from services.ops.learning import question
from services.ops.learning.mapping import QuestionMapping
from services.ops.learning.question import Question
from services.scorer.learning.shares import PARTS
from services.shared.errors import Reject
from services.shared.playbook.loading import InvalidFile

HELP = """Show how much content consumption predicts, and how much other signals do.

Content consumption is what people read, watch and look at; the other signals are who else of the
account acts, seniority, replies, meetings, requests, pace, what sales noted, and attributes. Each
alone and both together predict the outcome of leads whose account they have not seen.

Without a table it asks the archive. A TABLE has a mapping as `ripeline evaluate` has it, and beside
it:

    account: Company            # leads of one account are held out together
    content: [watched, read]    # types, or columns, that are content consumption

Example: ripeline evidence --json
Example: ripeline evidence events.csv --mapping events.yaml
"""


def evidence(
    table: Annotated[
        Path | None, typer.Argument(help="A CSV file; the archive.", dir_okay=False)
    ] = None,
    mapping: Annotated[str, typer.Option("--mapping", help="YAML file of the mapping.")] = "",
    plots_in: Annotated[
        Path, typer.Option("--plots", help="Folder for the plot of the human form.")
    ] = Path(),
    as_json: Json = False,
) -> None:
    with progress_bars() as progress:
        if table:
            asked = _of_table(table, mapping, progress)
        else:
            settings = current_settings()
            asked = nicely(
                lambda: question.of_archive(*asyncio.run(models.read_archive(settings, progress)))
            )
        found = nicely(lambda: question.answer(asked, progress))
    if as_json:
        return print(json.dumps(found))
    _print(found)
    plots_in.mkdir(parents=True, exist_ok=True)
    path = plots_in / f"{table.stem if table else 'archive'}.evidence.svg"
    path.write_text(question.drawn(found))
    print(f"plot: {path}")


def _of_table(table: Path, mapping: str, progress: Callable[[str, float], None]) -> Question:
    if not mapping:
        end("a table needs --mapping FILE: which columns are lead, type and time", 2)
    skipped = Counter[str]()
    try:
        written = mapping_file.read(mapping, model=QuestionMapping)
        asked, skipped = question.of_table(table, written, progress)
    except (InvalidFile, Reject) as broken:
        end(str(broken), 2)
    except OSError as error:
        end(f"{table}: {error.strerror}; name a file that can be read", 2)
    for reason, count in skipped.items():
        print(f"passed over: {count} × {reason}", file=sys.stderr)
    return asked


def _print(found: dict[str, Any]) -> None:
    console = Console()
    print(found["answer"])
    print(
        f"{found['n']} predictions of {found['leads']} leads, {found['outcomes']} with the "
        f"outcome; {found['groups']} groups by {found['grouped_by']}, held out in {found['folds']} "
        "parts"
    )
    shown = whole_table("signals", "nats", "95 %", "AUC", "95 %")
    for name in (*PARTS, "content_beyond_other", "other_beyond_content"):
        part = found[name]
        auc = "" if part["auc"] is None else f"{part['auc']:.3f}"
        between = (_between(part["intervals"][key]) for key in ("nats", "auc"))
        first, second = between
        shown.add_row(name.replace("_", " "), f"{part['nats']:.4f}", first, auc, second)
    console.print(shown)
    by_family = whole_table("family", "nats alone", "95 %", "AUC alone", "nats beyond all others")
    for each in found["signals"]:
        auc = "" if each["auc"] is None else f"{each['auc']:.3f}"
        by_family.add_row(
            f"{each['signal']} ({each['part']})", f"{each['nats']:.4f}",
            _between(each["intervals"]["nats"]), auc, f"{each['beyond']:.4f}",
        )  # fmt: skip
    console.print(by_family)
    for family, names in found["counted_as"].items():
        print(f"{family}: {', '.join(names)}")
    for column in found["refused_columns"]:
        print(f"refused: {column['column']}: {column['reason']}")


def _between(interval: list[float]) -> str:
    return f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else ""
