"""What several commands share: options, and how they end."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ops.commands.current import current_settings
from services.shared.db import open_engine

T = TypeVar("T")
NICE = 10
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


def whole_table(first: str, *others: str) -> Table:
    """A table that cuts nothing off, however narrow the terminal is; what stands in its first
    column stays in one piece.
    """
    table = Table()
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, overflow="fold")
    return table


def nicely(work: Callable[[], T]) -> T:
    """Runs work in a thread of low priority, to which other processes need not give way."""
    with ThreadPoolExecutor(1, initializer=lambda: os.nice(NICE)) as pool:
        return pool.submit(work).result()


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
