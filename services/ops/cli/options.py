"""What several commands share: options, and how they end."""

import asyncio
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.table import Table
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ops.commands.current import current_settings
from services.shared.db import open_engine

T = TypeVar("T")

LOWEST = 19  # priority
DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"]

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout instead of text.")]
Expires = Annotated[datetime | None, typer.Option(formats=DATES, help="UTC.")]
PlaybookFolder = Annotated[
    Path | None, typer.Option(help="Folder of the playbook.", exists=True, file_okay=False)
]


def in_utc(moment: datetime | None) -> datetime | None:
    """The moment of an option, which is written in UTC."""
    return moment.replace(tzinfo=UTC) if moment else None


def with_engine(work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    """Runs work on the current system's database."""

    async def run() -> T:
        engine = open_engine(current_settings())
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    return asyncio.run(run())


class _Command:
    """What is known of the command; `owns_process` says whether its process does nothing else."""

    owns_process = False


_command = _Command()


class PlainTable(Table):
    """A table in whose cells nothing is markup, whoever wrote it."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(
            *(Text(cell) if isinstance(cell, str) else cell for cell in cells), **options
        )


def whole_table(first: str, *others: str) -> Table:
    """A table that cuts nothing off, however narrow the terminal is; what stands in its first
    column stays in one piece.
    """
    table = PlainTable()
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, overflow="fold")
    return table


def nicely(work: Callable[[], T]) -> T:
    """Runs work in a thread of the lowest priority, to which other processes need not give way;
    where the process is the command's own, so are the threads of its libraries.
    """
    if _command.owns_process:
        for thread in _others():
            with suppress(OSError):  # it may have ended
                os.setpriority(os.PRIO_PROCESS, thread, LOWEST)
    with ThreadPoolExecutor(1, initializer=lambda: os.nice(LOWEST)) as pool:
        return pool.submit(work).result()


def own_process() -> None:
    """Says that the process does nothing but the command."""
    _command.owns_process = True


def _others() -> list[int]:
    """The other threads of this process, by the system's numbers; none where it does not tell."""
    folder, own = Path("/proc/self/task"), threading.get_native_id()
    found = [int(each.name) for each in folder.iterdir()] if folder.is_dir() else []
    return [each for each in found if each != own]


def say(sentence: str) -> None:
    """A sentence for people, on stderr."""
    print(sentence, file=sys.stderr, flush=True)


def print_line(value: Any) -> None:
    """One JSON object on a line of stdout, at once."""
    print(json.dumps(value), flush=True)


def end(sentence: str, code: int = 1) -> NoReturn:
    """Ends the command with a sentence and an exit code."""
    say(sentence)
    raise typer.Exit(code)
