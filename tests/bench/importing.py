"""Files: rows a second through the importer alone, and into lead state, beside `send()` of the same
records.
"""

import csv
import json
import sys
import time
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.shared.settings import ROOT
from tests.bench.measure import Line, Outcome
from tests.bench.world import Progress, World

ALONE, INTO_STATE = 25_000, 10_000  # rows a second
EVENTS = (
    "kind: events\nuser_id: Lead\ntype: {column: Act, names: {1: page_viewed, 2: "
    "form_submitted, 3: call_held}}\ntime: At\n"
)
LEADS = """
kind: leads
email: E-mail
type: event_attended
time: At
traits: {title: Title, first_name: First name, last_name: Last name}
company: Company
consent: {column: OK, equals: yes, basis: fair}
source: fair
"""


async def files(world: World) -> Outcome:
    """The importer alone with events and with leads, then both as fast as the scorer takes
    them in.
    """
    rows = 40_000 if world.quick else 200_000
    plans = {
        "events": (EVENTS, _events(world.folder / "events.csv", rows)),
        "leads": (LEADS, _leads(world.folder / "leads.csv", rows)),
    }
    values: dict[str, float] = {}
    lines: list[Line] = []
    for name, (plan, file) in plans.items():
        before = await _applied(world)
        values[name] = rate = await _imported(world, plan, file, rows)
        lines.append(_line(f"{name}: the importer alone", rate, ALONE))
        async with world.running("services.scorer"):
            progress = Progress(world)
            seen = await progress.until(before + rows, 600)
            await progress.close()
        values[f"{name}_into_state"] = rate = (seen[-1][1] - seen[0][1]) / (
            seen[-1][0] - seen[0][0]
        )
        lines.append(_line(f"{name}: from the topic into lead state", rate, INTO_STATE))
    return Outcome({name: round(rate) for name, rate in values.items()}, lines)


async def _applied(world: World) -> int:
    progress = Progress(world)
    applied = await progress.read()
    await progress.close()
    return applied


async def _imported(world: World, plan: str, file: Path, rows: int) -> float:
    """Rows a second of the command, without its start: that of a file of one row is taken off."""
    mapping = file.with_suffix(".yaml")
    mapping.write_text(plan)
    single_row = file.with_name("single_row.csv")
    with file.open() as whole:
        single_row.write_text("".join(next(whole) for _ in range(2)))
    start = await _command(world, single_row, mapping, 1)
    return rows / max(await _command(world, file, mapping, rows) - start, 1e-3)


async def _command(world: World, file: Path, mapping: Path, rows: int) -> float:
    began = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "services.ops",
        "import",
        str(file),
        "--mapping",
        str(mapping),
        "--as",
        "history",
        "--json",
    ]
    process = await create_subprocess_exec(*command, cwd=ROOT, env=world.variables, stdout=PIPE)
    interactions, _ = await process.communicate()
    took = time.perf_counter() - began
    if json.loads(interactions)["accepted"] != rows:
        raise AssertionError(f"not all rows were accepted: {interactions!r}")
    return took


def _line(what: str, rate: float, goal: int) -> Line:
    return Line(
        "import", what, f"{rate:,.0f} rows/s", "", f"{rate:,.0f}", f"≥ {goal:,}", rate >= goal
    )


def _events(file: Path, rows: int) -> Path:
    """Five acts a lead, in order, as a log has them."""
    start = datetime.now(UTC) - timedelta(days=60)
    with file.open("w", newline="") as stream:
        write = csv.writer(stream).writerow
        write(["Lead", "Act", "At"])
        for n in range(rows):
            write(
                [
                    f"lead-{n % (rows // 5)}",
                    n % 3 + 1,
                    (start + timedelta(seconds=n * 5_000_000 / rows)).isoformat(sep=" "),
                ]
            )
    return file


def _leads(file: Path, rows: int) -> Path:
    with file.open("w", newline="") as stream:
        write = csv.writer(stream).writerow
        write(["E-mail", "First name", "Last name", "Title", "Company", "At", "OK"])
        for n in range(rows):
            write(
                [
                    f"p{n}@firm{n % 5000}.example",
                    f"Ann{n}",
                    "Smith",
                    "Plant manager",
                    f"Firm {n % 5000}",
                    "2026-11-01 10:00",
                    "yes",
                ]
            )
    return file
