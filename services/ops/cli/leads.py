"""`ripeline lead show`: one lead, and why it stands where it does."""

import asyncio
import json
from datetime import datetime
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from services.ops.cli.options import DATES, Json, in_utc, whole_table
from services.ops.commands.current import current_settings
from services.ops.commands.showing import Shown
from services.ops.commands.showing import show as shown
from services.scorer.model.explanation import Ledger
from services.scorer.queries.lines import Words, day_of, texts, why_of
from services.scorer.queries.responses import LedgerResponse
from services.scorer.queries.summary import outlook_in_words
from services.scorer.queries.summary_response import LeadInFullResponse
from services.scorer.wording import chance, name_of, plain, signed
from services.shared.clock import to_us


def show(
    lead: Annotated[str, typer.Argument(help="Its id, a mail address, or SYSTEM:ID.")],
    product: Annotated[str, typer.Option(help="The playbook's first product.")] = "",
    at: Annotated[
        datetime | None, typer.Option(formats=DATES, help="UTC; as it was known then.")
    ] = None,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="Every step, also those that round to nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show where a lead stands and why: one sentence, the strongest grounds, how long they last.

    Example: ripeline lead show ann@firm.example
    """
    moment = in_utc(at)
    found = asyncio.run(shown(current_settings(), lead, product, to_us(moment) if moment else None))
    if as_json:
        return print(json.dumps(_answer(found)))
    _print(found)
    if ledger:
        _print_ledger(found.found.ledger, found.words)


def _answer(shown: Shown) -> dict[str, object]:
    """The lead as the API has it, with its ledger."""
    found = shown.found
    answer = LeadInFullResponse.in_full(found.lead, found.summary)
    ledger = LedgerResponse.of(found.ledger, shown.words)
    builtin: dict[str, object] = msgspec.to_builtins(answer)
    return builtin | {"ledger": msgspec.to_builtins(ledger)}


def _print(shown: Shown) -> None:
    lead, summary = shown.found.lead, shown.found.summary
    name = name_of(lead.traits, lead.identifiers)
    detail = f" ({name.detail})" if name.detail else ""
    likely = chance(lead.likelihood, calibrated=lead.calibrated)
    print(f"{name.name}{detail}: {plain(lead.stage)}, chance {likely}, fit {lead.fit.grade}")
    print(summary.sentence)
    for ground in summary.grounds_for:
        print(f"  + {ground.text} ({ground.why})")
    if against := summary.ground_against:
        print(f"  - {against.text} ({against.why})")
    for sentence in outlook_in_words(summary, lead, shown.words):
        print(sentence)


def _print_ledger(ledger: Ledger, words: Words) -> None:
    table = whole_table("day", "what", "log-odds", "points", "why")
    for line, text in zip(ledger.lines, texts(ledger, words), strict=True):
        cells = (
            day_of(line.at, ledger.as_of, words), text, f"{line.delta:+.2f}", signed(line.points),
            why_of(line, words.model),
        )  # fmt: skip
        table.add_row(*cells)
    Console().print(table)
