"""`ripeline evaluate`: options, progress and report."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from services.ingest.importing import mapping_file
from services.ops.cli.options import PlainTable, end
from services.ops.learning import curve, evaluation, plots, result, tables
from services.ops.learning.evaluation import Evaluation
from services.ops.learning.mapping import TableMapping
from services.shared.errors import Reject
from services.shared.playbook.loading import InvalidFile

HELP = """Show how well outcomes can be predicted from a table; no system need run.

The mapping is that of an import, and says what is predicted and how it is judged:

    kind: events                # or leads: one row a lead, with attributes
    lead: Customer
    type: What
    time: When
    outcome: {type: purchased}  # or {column: Converted, equals: yes}
    landmarks: [1, 7, 21]       # days of a lead's life at which is predicted
    horizon: 30                 # days within which the outcome counts
    capacity: 20                # leads that sales can work a week
    folds: {by: lead, k: 5}     # or {by: time, at: 0.7}

Every prediction is made by a model that has not seen that lead, or that time. Columns that can only
be known after the outcome are refused and named. docs/learning.md explains the figures.

Example: ripeline evaluate leads.csv --mapping leads.yaml --out scored.csv
"""


def evaluate(
    table: Annotated[Path, typer.Argument(help="The table, as a CSV file.", dir_okay=False)],
    mapping: Annotated[str, typer.Option("--mapping", help="YAML file of the mapping.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="CSV of every prediction.", dir_okay=False)
    ] = None,
    plots_in: Annotated[
        Path, typer.Option("--plots", help="Folder for the plots of the human form.")
    ] = Path(),
    few: Annotated[
        bool, typer.Option("--few-outcomes", help="Also show what few outcomes teach; takes long.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    try:
        written = mapping_file.read(mapping, model=TableMapping)
        assert isinstance(written.mapping, TableMapping)
        with progress_bars() as progress:
            read = tables.read(table, written, progress)
            found = evaluation.evaluate(read, written.mapping, progress)
            report = result.summary(found, progress, written.mapping.capacity)
            if few:
                points = curve.curve(read, written.mapping, progress)
                report["few_outcomes"] = [point._asdict() for point in points]
    except (InvalidFile, Reject) as broken:
        end(str(broken), 2)
    except OSError as error:
        end(f"{table}: {error.strerror}; name a file that can be read", 2)
    for reason, count in read.skipped.items():
        print(f"passed over: {count} × {reason}", file=sys.stderr)
    if out:
        result.write_scored(out, found)
    if as_json:
        return print(json.dumps(report))
    _print(report, found)
    _draw(plots_in, table.stem, found)


def _print(report: dict[str, Any], found: Evaluation) -> None:
    console = Console()
    parts = {"all": report}
    if report["suspect_columns"]:
        parts["without suspects"] = report["without_suspects"]
    if "frozen" in report:
        parts["without recalibration"] = report["frozen"]
    parts |= {name.replace("_", " "): part for name, part in report["by_moment"].items()}
    shown = PlainTable("predictions", "n", "base", "AUC", "log loss", "Brier", "ECE", "top tenth")
    for name, part in parts.items():
        auc = "" if part["auc"] is None else f"{part['auc']:.3f}"
        figures = (part[key] for key in ("log_loss", "brier", "ece", "precision_at_10"))
        shown.add_row(
            name, str(part["n"]), f"{part['base']:.1%}", auc, *(f"{value:.3f}" for value in figures)
        )
    console.print(shown)
    console.print(in_words(report["precision_at_capacity"]))
    low, high = report["intervals"].get("auc", (None, None))
    if low is not None:
        console.print(f"AUC between {low:.3f} and {high:.3f} (95 %, by resampling leads)")
    for name, auc in report["baselines"].items():
        if auc is not None:
            console.print(f"{name.replace('_', ' ')}: AUC {auc:.3f}")
    for point in report.get("few_outcomes", ()):
        console.print(
            f"learned from {point['outcomes']} outcomes: log loss {point['log_loss']:.4f}, of the "
            f"share alone {point['base_log_loss']:.4f}"
        )
    for kind in ("refused", "suspect"):
        for column in report[f"{kind}_columns"]:
            console.print(f"{kind}: {column['column']}: {column['reason']}", markup=False)
    if found.findings.refused:
        console.print("What is known at capture all the same: name it under `known_at_capture`.")


def in_words(capacity: dict[str, Any]) -> str:
    """Precision at sales' capacity in a sentence."""
    size = capacity["capacity"]
    many = "a tenth of the leads" if size is None else f"{size} leads"
    return (
        f"whoever works {many} a week finds the outcome in {capacity['precision']:.1%} of "
        f"{capacity['taken']} leads"
    )


def _draw(folder: Path, name: str, found: Evaluation) -> None:
    headline = result.headline(found)
    drawn = {
        "reliability": plots.reliability(result.bins(headline)),
        "gain": plots.gain(result.gain(headline.outcome, headline.p)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for kind, text in drawn.items():
        path = folder / f"{name}.{kind}.svg"
        path.write_text(text)
        print(f"{kind}: {path}")


@contextmanager
def progress_bars() -> Iterator[evaluation.Progress]:
    """A bar for each step, on a terminal's stderr."""
    columns = (TextColumn("{task.description:>16}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(step: str, share: float) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=1.0)
            bars.update(tasks[step], completed=share)

        yield progress
