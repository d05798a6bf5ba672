"""`ripeline choice`: whether the learned choice of content is worth it."""

import json

from rich.console import Console

from services.nurture.library import comparisons
from services.ops.cli.options import Json, PlainTable, with_engine
from services.ops.commands.current import current_settings
from services.shared.clock import Clock
from services.shared.playbook.loading import load


def choice(as_json: Json = False) -> None:
    """Compare the learned choice of each program with its best single item.

    Progress is the share of touches after which the lead went a stage on by its own acts within
    fourteen days, less those that it answered by unsubscribing.

    Example: ripeline choice --json
    """
    settings = current_settings()
    playbook = load(settings.playbook)
    now = Clock.parse(settings.clock).now()
    found = with_engine(lambda engine: comparisons(engine, playbook, now))
    if as_json:
        print(json.dumps([one.report(program) for program, one in found.items()]))
        return
    if not found:
        print("no program learns its choice: `choice: learned` in programs.yaml makes it so")
    for program, one in found.items():
        table = PlainTable("item", "touches", "progress", title=program)
        for item in one.items:
            table.add_row(item.content, str(item.touches), f"{item.mean:.1%} ± {item.error:.1%}")
        table.add_row("learned", str(one.learned.touches), f"{one.learned.mean:.1%}")
        Console().print(table)
        print(f"{program}: {one.sentence}")
