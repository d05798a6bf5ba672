"""What the command line shows: examples in every help, addresses in one piece."""

from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

from services.ops.__main__ import app as command_line
from services.ops.cli.options import whole_table
from services.ops.cli.sources import _block
from services.ops.commands.sources import SourceRemark, SourceStatus


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize(
    "words", [*commands(get_command(command_line)), ("sources",)], ids=" ".join
)
def test_every_help_has_an_example(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(command_line, [*words, "--help"])
    assert shown.exit_code == 0
    assert f"ripeline {' '.join(words)}" in " ".join(shown.stdout.partition("Example: ")[2].split())


def test_a_source_keeps_its_address_whole_in_80_columns() -> None:
    remark = SourceRemark(
        "consent-word", "consent", "Nein", "", 12, "2026-11-27T08:00:00Z",
        "a word for consent that is not understood; no consent was taken from it",
    )  # fmt: skip
    address = "http://127.0.0.1:43211/v1/hooks/salesforce-outbound?secret=SECRET"
    source = SourceStatus(
        "salesforce", "Salesforce's outbound messages", address, True, 1, "heard",
        "2026-11-27T08:00:00Z", 120, 3, "signature", [], "", [remark._asdict()],
    )  # fmt: skip
    lines = _block(source).splitlines()
    assert f"    {address}" in lines
    assert all(len(line) <= 80 for line in lines)
    text = " ".join(" ".join(lines).split())
    assert "1 secret is connected; last heard 2026-11-27 08:00 UTC, 120 accepted" in text
    assert "! 12 × consent »Nein«: a word for consent that is not understood; no" in text
    waiting = source._replace(last_heard_at=None, accepted=0, refused=0, secrets=0, remarks=[])
    assert _block(waiting).splitlines()[2:] == [
        "    no secret is connected; waiting for the first event"
    ]


def test_a_table_cuts_nothing_off() -> None:
    table = whole_table("variable", "value", "meaning")
    name, value = "RIPELINE_MIGRATION_WAIT_S_AND_MORE", "https://www.example.com/" + 60 * "x"
    table.add_row(name, value, "how long it waits " * 5)
    console = Console(width=80, record=True, file=StringIO())
    console.print(table)
    shown = console.export_text()
    assert name in shown
    assert "…" not in shown
    assert shown.count("x") >= 60
