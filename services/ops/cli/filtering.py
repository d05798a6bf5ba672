"""`ripeline filter`: options, progress and summary."""

import json
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from services.ingest.importing import mapping_file
from services.ops.cli.evaluate import progress_bars
from services.ops.cli.options import DATES, Json, PlaybookFolder, end, in_utc, whole_table
from services.ops.learning import filtering
from services.ops.learning.mapping import FilterMapping
from services.shared.clock import DAY, EPOCH
from services.shared.errors import Reject
from services.shared.playbook.loading import InvalidFile, load
from services.shared.playbook.stage_model import Model
from services.shared.settings import ROOT

HELP = """Show what the stage filter believes after each event of a table; no system need run.

The mapping names the columns; types are event types of the product, or marks of its model:

    kind: events
    lead: Customer
    type: {column: What, names: {Visit: page_viewed}}
    time: When

The file has a line for each event: lead, at, type, the share of each stage, the published stage and
the likelihood just after it, of a person of whom nothing is known.

Example: ripeline filter events.csv --mapping events.yaml --out beliefs.csv --every 1
"""


def filter_events(
    table: Annotated[Path, typer.Argument(help="The events, as a CSV file.", dir_okay=False)],
    mapping: Annotated[str, typer.Option("--mapping", help="YAML file of the mapping.")],
    out: Annotated[Path, typer.Option("--out", help="CSV to write.", dir_okay=False)],
    model: Annotated[
        Path | None,
        typer.Option("--model", help="Model file; else the playbook's.", dir_okay=False),
    ] = None,
    playbook: PlaybookFolder = None,
    every: Annotated[
        float, typer.Option("--every", min=0, help="Also every so many days between two events.")
    ] = 0.0,
    until: Annotated[
        datetime | None,
        typer.Option("--until", formats=DATES, help="With --every: also after the last, in UTC."),
    ] = None,
    as_json: Json = False,
) -> None:
    try:
        written = mapping_file.read(mapping, model=FilterMapping)
        fold = filtering.fold_of(load(playbook or ROOT / "deploy" / "playbook"), _model(model))
        with progress_bars() as progress:
            acts = filtering.read(table, written, fold, progress)
            moment = in_utc(until)
            last = (moment - EPOCH) // filtering.MICROSECOND if moment else None
            looks = filtering.filtered(fold, acts, int(every * DAY), last, progress)
        lines = filtering.write(out, fold, looks)
    except (InvalidFile, Reject) as broken:
        end(str(broken), 2)
    except OSError as error:
        end(f"{error.filename or table}: {error.strerror}; name a file that can be used", 2)
    report = _summary(acts, looks, lines) | {"unweighed": dict(filtering.unweighed(fold, acts))}
    if as_json:
        return print(json.dumps(report))
    _print(report, out)


def _model(path: Path | None) -> Model | None:
    if path is None:
        return None
    try:
        return Model.model_validate_json(path.read_bytes())
    except ValidationError as broken:
        first = broken.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Reject(
            f"no model: {first['msg']}",
            where=f"{path.name}: {where}" if where else path.name,
            remedy="name a model.json, as a playbook or `ripeline learn` has it",
        ) from None


def _summary(
    acts: filtering.Acts, looks: dict[str, list[filtering.Look]], lines: int
) -> dict[str, Any]:
    published = Counter(seen[-1].view.stage for seen in looks.values())
    return {
        "leads": len(acts.leads),
        "events": sum(map(len, acts.leads.values())),
        "lines": lines,
        "published": dict(published.most_common()),
        "skipped_rows": dict(acts.skipped),
    }


def _print(report: dict[str, Any], out: Path) -> None:
    shown = whole_table("published at last", "leads")
    for stage, leads in report["published"].items():
        shown.add_row(stage, str(leads))
    Console().print(shown)
    print(f"{report['events']} events of {report['leads']} leads, {report['lines']} lines: {out}")
    for name, words in (
        ("unweighed", "says nothing to the filter"),
        ("skipped_rows", "passed over"),
    ):
        for what, count in report[name].items():
            print(f"{words}: {count} × {what}", file=sys.stderr)
