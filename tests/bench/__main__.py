"""`python -m tests.bench [--json] [--only P1,P4] [--quick]`: speed and memory, each beside the
limit of this machine.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from tests.bench import (
    folding,
    importing,
    ingest,
    learning,
    pages,
    programs,
    reading,
    reports,
    scoring,
    whole,
)
from tests.bench.measure import Line, Outcome, report_progress
from tests.bench.world import World

Benchmark = Callable[[World], Awaitable[Outcome]]
NAMES = (
    "P1",
    "P2",
    "P4",
    "P8",
    "P9",
    "P11",
    "P12",
    "P13",
    "P14",
    "P15",
    "long_lead",
    "learn",
    "import",
)
WITH_SERVERS: dict[str, Benchmark] = {  # in the order in which one's backlog is not another's
    "long_lead": scoring.long_lead,
    "P4": scoring.applying,
    "P9": reading.one_lead,
    "P13": pages.lists,
    "P14": pages.long_lead_page,
    "P15": reports.million,
    "P12": programs.programs,
    "P8": whole.webhook_to_decision,
    "P1": ingest.singles,
    "P2": ingest.batches,
    "learn": learning.slowed,
    "import": importing.files,
}
MEMORY_GOAL = 200  # MiB a service


async def measure(world: World, names: Sequence[str]) -> tuple[dict[str, Any], list[Line]]:
    """Runs the named benchmarks; returns the JSON object and the lines of the table."""
    found: dict[str, Outcome] = {}
    if "P11" in names:
        report_progress("P11 …")
        found["P11"] = folding.fold(world.playbook, quick=world.quick)
    if some := [name for name in WITH_SERVERS if name in names]:
        report_progress("starting Kafka and PostgreSQL …")
        await world.start()
        try:
            for name in some:
                report_progress(f"{name} …")
                found[name] = await WITH_SERVERS[name](world)
                report_progress(f"  {json.dumps(found[name].value)}")
        finally:
            await world.stop()
    values = {name: found[name].value for name in NAMES if name in found} | {
        "rss_mib": world.rss_mib
    }
    lines = [line for name in NAMES if name in found for line in found[name].lines]
    return values, lines + [
        _memory(service, used) for service, used in sorted(world.rss_mib.items())
    ]


def _memory(service: str, used: float) -> Line:
    return Line(
        "memory",
        f"{service}, at most",
        f"{used:.0f} MiB",
        "",
        f"{used:.0f} MiB",
        f"≤ {MEMORY_GOAL} MiB",
        used <= MEMORY_GOAL,
    )


def table(lines: Sequence[Line], caption: str) -> Table:
    """What a person reads."""
    shown = Table(title="Ripeline, beside the limits of this machine", caption=caption)
    for heading, justify in (
        ("", "left"),
        ("what", "left"),
        ("ours", "right"),
        ("limit", "right"),
        ("result", "right"),
        ("goal", "right"),
    ):
        shown.add_column(heading, justify=justify)  # type: ignore[arg-type]
    shown.add_column("")
    for line in lines:
        shown.add_row(*line[:6], "[green]met[/]" if line.met else "[red]short[/]")
    return shown


def main() -> None:
    """Parses, measures, reports."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--json", action="store_true", help="one JSON object as the last line of stdout"
    )
    parser.add_argument("--only", default=",".join(NAMES), help=f"some of {','.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="shorter and fewer rounds")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := set(names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    began, load = time.monotonic(), [round(os.getloadavg()[0], 2)]
    with tempfile.TemporaryDirectory(prefix="ripeline-bench-") as folder:
        os.chmod(folder, 0o755)  # the server's own user passes through it
        values, lines = uvloop.run(measure(World(Path(folder), quick=arguments.quick), names))
    load.append(round(os.getloadavg()[0], 2))
    caption = (
        f"{time.monotonic() - began:.0f} s on {os.cpu_count()} processors; load average "
        f"{load[0]} before, {load[1]} after"
    )
    if arguments.json:
        report_progress(caption)
        print(json.dumps(values | {"load_average": load}))
    else:
        Console().print(table(lines, caption))


if __name__ == "__main__":
    main()
