"""`ripeline learn` and `ripeline model`."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from services.ingest.importing import mapping_file
from services.ops.cli.evaluate import in_words as in_words_of_capacity
from services.ops.cli.evaluate import progress_bars
from services.ops.cli.options import Json, PlaybookFolder, end, nicely, say, whole_table
from services.ops.commands import models
from services.ops.commands.current import current_settings
from services.ops.commands.models import Learned
from services.ops.learning.mapping import FilterMapping, TableMapping, kind_of
from services.ops.learning.named import learn_from_table
from services.ops.learning.of_leads import learn_from_leads
from services.scorer import checking
from services.scorer.learning.evidence import in_words
from services.scorer.models import COLD_START, written
from services.scorer.queries.filters import SALES_FILTERS, LeadFilter
from services.shared.errors import Reject
from services.shared.playbook.loading import InvalidFile, load
from services.shared.playbook.stage_model import Model
from services.shared.settings import ROOT

app = typer.Typer(
    no_args_is_help=True, help="The model of the estimate: learned versions, and the one in use."
)


HELP = """Learn the estimate from the company's own outcomes, beside the running system.

The stages' rates, what acts and attributes say beyond them, and the calibration are learned from
the stored events. The learned version comes into use only where it predicts later outcomes better
than the running one; everybody is then scored again. Otherwise it says why, and the running one
stays.

With a TABLE no system need run: events are learned from by a mapping as `ripeline filter` has it,
with their outcome, attributes of leads by one as `ripeline evaluate` has it, and the model is
written to a file.

Example: ripeline learn --json
Example: ripeline learn events.csv --mapping events.yaml --out model.json
"""


def learn(
    table: Annotated[
        Path | None, typer.Argument(help="Events as a CSV file; the archive.", dir_okay=False)
    ] = None,
    mapping: Annotated[str, typer.Option("--mapping", help="YAML file of the mapping.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the learned model.", dir_okay=False)
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Store the version, and keep the running one.")
    ] = False,
    with_curve: Annotated[
        bool,
        typer.Option("--curve/--no-curve", help="How a model does that learned from few outcomes."),
    ] = True,
    playbook: PlaybookFolder = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn; the same gives the same file.")] = 0,
    as_json: Json = False,
) -> None:
    with progress_bars() as progress:
        if table:
            done = _from_table(table, mapping, playbook, seed, with_curve, progress)
        else:
            settings = current_settings()
            done = nicely(
                lambda: asyncio.run(
                    models.learn_from_archive(
                        settings, use=not keep, seed=seed, with_curve=with_curve, progress=progress
                    )
                )
            )
    if out and done.model:
        out.write_text(written(done.model))
    if as_json:
        return print(json.dumps(_answer(done, out)))
    _print(done)


def _from_table(
    table: Path,
    mapping: str,
    playbook: Path | None,
    seed: int,
    with_curve: bool,
    progress: Callable[[str, float], None],
) -> Learned:
    if not mapping:
        end("a table needs --mapping FILE: which columns are lead, type and time", 2)
    try:
        own = load(playbook or ROOT / "deploy" / "playbook")
        if kind_of(mapping) == "leads":
            read, learn_from = mapping_file.read(mapping, model=TableMapping), learn_from_leads
        else:
            read, learn_from = mapping_file.read(mapping, model=FilterMapping), learn_from_table
        verdict = learn_from(table, read, own, progress, seed=seed, with_curve=with_curve)
    except (InvalidFile, Reject) as broken:
        end(str(broken), 2)
    except OSError as error:
        end(f"{table}: {error.strerror}; name a file that can be read", 2)
    version = verdict.model.version if verdict.model else ""
    return Learned(False, verdict.why, version, "", verdict.model, verdict.against)


def _answer(done: Learned, out: Path | None) -> dict[str, Any]:
    learned = done.model.learned if done.model else None
    return {
        "replaced": done.replaced,
        "why": done.why,
        "better": bool(done.against and done.against["low"] > 0),
        "version": done.version or None,
        "running": (done.version if done.replaced else done.running) or None,
        "training": learned.training.model_dump() if learned else None,
        "evidence": learned.evidence if learned else None,
        "against_running": done.against or None,
        "file": str(out) if out and done.model else None,
    }


def _print(done: Learned) -> None:
    if done.model:
        _print_model(done.model)
    if done.replaced:
        print(f"in use is {done.version}, before it {done.running}: {done.why}")
        return print(f"back: ripeline model use {done.running}")
    print(f"in use stays {done.running}: {done.why}" if done.running else done.why)


def _print_model(model: Model) -> None:
    learned = model.learned
    if learned is None:
        return
    print(f"{learned.version}: {model.about} κ {model.kappa:g}")
    evidence = learned.evidence
    shown = whole_table("predictions", "n", "base", "AUC", "log loss", "ECE", "top tenth")
    for name in ("learned", "without_suspects", "cold_start", "share"):
        if part := evidence.get(name):
            for kind, figures in {"all": part, **part.get("by_moment", {})}.items():
                shown.add_row(
                    f"{name.replace('_', ' ')}, {kind.replace('_', ' ')}", str(figures["n"]),
                    f"{figures['base']:.1%}",
                    "" if figures["auc"] is None else f"{figures['auc']:.3f}",
                    *(f"{figures[key]:.3f}" for key in ("log_loss", "ece", "precision_at_10")),
                )  # fmt: skip
    if shown.row_count:
        Console().print(shown)
    if found := evidence.get("learned", {}).get("precision_at_capacity"):
        print(in_words_of_capacity(found))
    for kind in ("refused", "suspect"):
        for column in evidence.get(f"{kind}_columns", ()):
            print(f"{kind}: {column['column']}: {column['reason']}")
    rival = "share of outcomes" if "share" in evidence else "cold start"
    for point in evidence.get("few_outcomes", ()):
        print(
            f"learned from {point['outcomes']} outcomes: {point['excess']:+.4f} nats against the "
            f"{rival}, mean of {point['resamples']}"
        )


Version = Annotated[str, typer.Argument(help=f"A version, {COLD_START}, or a file.")]


@app.command()
def show(
    version: Annotated[str, typer.Argument(help="A version; the one in use.")] = "",
    as_file: Annotated[bool, typer.Option("--file", help="Print the version's file.")] = False,
    as_json: Json = False,
) -> None:
    """Show a version: what it was learned from, and the evidence for it.

    Example: ripeline model show --json
    """
    settings = current_settings()
    found = asyncio.run(models.shown(settings, version))
    if as_file:
        return print(asyncio.run(models.text_of(settings, found["version"])), end="")
    if as_json:
        return print(json.dumps(found))
    used = "in use" if found["in_use"] else "not in use"
    print(f"{found['version']} ({used}): {found['about']}")
    if training := found["training"]:
        print(
            f"{training['outcomes']} outcomes, {training['leads']} leads, {training['events']} "
            f"events, {training['began'][:10]} to {training['until'][:10]}"
        )
        if gain := found["evidence"].get("gain"):
            print(f"against the cold start: {in_words(gain)}")
    print(f"versions: {', '.join(found['versions'])}")
    for use_ in found["history"]:
        print(f"{use_['since'][:16]}  {use_['version']}  {use_['why']}")


@app.command()
def check(as_json: Json = False) -> None:
    """Compare predictions with what came of them now; otherwise it is done every night.

    Example: ripeline model check --json
    """
    settings = current_settings()
    found = nicely(lambda: asyncio.run(checking.check(settings)))
    if found is None:
        end("another check is under way; `ripeline status` says when one was made")
    if as_json:
        return print(json.dumps(found))
    print(
        f"{found['version']}: {found['matured']} predictions have matured, as of {found['as_of']}"
    )
    if found["all"]:
        print(in_words_of_capacity(found["all"]["precision_at_capacity"]))
    table = whole_table("month", "n", "predicted", "happened", "AUC", "ECE")
    for month in found["months"]:
        auc = "" if month["auc"] is None else f"{month['auc']:.3f}"
        shares = (f"{month[key]:.1%}" for key in ("predicted", "base"))
        table.add_row(month["month"], str(month["n"]), *shares, auc, f"{month['ece']:.3f}")
    if table.row_count:
        Console().print(table)
    for alarm in found["alarms"]:
        print(f"alarm, {alarm['kind']}: {alarm['what']}")


def forecast(
    product: Annotated[str, typer.Option(help="The playbook's first product.")] = "",
    stage: Annotated[str, typer.Option(help="Only leads in this stage.")] = "",
    min_likelihood: Annotated[float | None, typer.Option(min=0, max=1)] = None,
    min_fit: Annotated[float | None, typer.Option(min=0, max=100)] = None,
    min_engagement: Annotated[float | None, typer.Option(min=0, max=100)] = None,
    company: Annotated[str, typer.Option(help="Only leads of this company.")] = "",
    sales_status: Annotated[
        str, typer.Option(help="What sales reported last; none, or any for all.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Forecast how many leads of a list reach the outcome, with an interval, and how past forecasts
    did.

    Example: ripeline forecast --stage decision --json
    """
    status = next((name for name in SALES_FILTERS if name == sales_status), None)
    if status is None:
        end(f"no status {sales_status!r}: use one of {', '.join(filter(None, SALES_FILTERS))}", 2)
    asked = LeadFilter(
        product=product, stage=stage, min_likelihood=min_likelihood, min_fit=min_fit,
        min_engagement=min_engagement, company=company, sales_status=status,
    )  # fmt: skip
    found = asyncio.run(models.forecast(current_settings(), asked))
    if as_json:
        return print(msgspec.json.encode(found).decode())
    print(
        f"{found.expected:.1f} of {found.leads} leads within {found.horizon_days:.0f} days "
        f"({found.outcome}), 95 % interval {found.low:.0f} to {found.high:.0f}"
    )
    if not found.calibrated:
        print("not calibrated on own outcomes yet: the interval allows for it")
    table = whole_table("past forecast", "leads", "expected", "interval", "happened")
    for each in found.past:
        between = f"{each.low:.0f} to {each.high:.0f}"
        table.add_row(
            each.at[:10], str(each.leads), f"{each.expected:.1f}", between, str(each.happened)
        )
    if table.row_count:
        Console().print(table)


@app.command()
def diff(
    version: Version,
    other: Annotated[str, typer.Argument(help="Another; the one in use.")] = "",
    as_json: Json = False,
) -> None:
    """Show what a version has otherwise than the one in use, or than another.

    Example: ripeline model diff cold-start
    """
    settings = current_settings()
    before = other or asyncio.run(models.shown(settings))["version"]
    found = asyncio.run(models.difference(settings, before, version))
    if as_json:
        return print(
            json.dumps(
                {"before": before, "after": version, "differences": [d._asdict() for d in found]}
            )
        )
    table = whole_table("what", before, version)
    for each in found:
        table.add_row(each.path, _said(each.before), _said(each.after))
    Console().print(table)


def _said(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


@app.command()
def use(version: Version, as_json: Json = False) -> None:
    """Put a version in use; everybody is scored again by it, without a restart.

    Example: ripeline model use cold-start
    """
    before = asyncio.run(models.use(current_settings(), version, models.in_file(version)))
    after = asyncio.run(models.shown(current_settings()))["version"]
    if as_json:
        return print(json.dumps({"version": after, "before": before, "replaced": after != before}))
    if after == before:
        return say(f"{after} is in use already")
    print(f"in use is {after}; back: ripeline model use {before}")
