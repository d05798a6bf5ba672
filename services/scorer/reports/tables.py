"""Reports as tables: what the API, the page, the command line and CSV all show. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from services.scorer.reports.shares import share_of
from services.shared.spreadsheet import csv_of

Cell = str | int | float | None
Row = dict[str, Cell]
Kind = Literal["key", "count", "share", "number"]
LEAST = 20  # touches whose time is over, for a share of them to say something


class Column(msgspec.Struct, frozen=True):
    """A column: a `key` tells rows apart, a `count` opens what it counts."""

    name: str
    title: str
    kind: Kind = "count"


class ReportTable(msgspec.Struct, frozen=True):
    """A table; `notes` say what its numbers do not tell yet."""

    name: str
    title: str
    columns: list[Column]
    rows: list[Row]
    notes: list[str] = []

    @property
    def keys(self) -> list[str]:
        """The names of the columns that tell rows apart."""
        return [column.name for column in self.columns if column.kind == "key"]

    def csv(self) -> str:
        """The table as RFC 4180 has it; no cell is taken for a formula."""
        names = [column.name for column in self.columns]
        return csv_of([names, *([row.get(name) for name in names] for row in self.rows)])


TOUCHES = (
    Column("decided", "decided"),
    Column("held_out", "held out"),
    Column("sent", "sent"),
    Column("delivered", "delivered"),
    Column("bounced", "bounced"),
    Column("clicked", "clicked by people"),
    Column("replied", "replied"),
    Column("moved", "moved forward"),
    Column("moved_share", "of those 14 days old", "share"),
    Column("left", "left"),
)
COUNTED = (*(c.name for c in TOUCHES if c.kind == "count"), "followed", "moved_of_followed")


def rolled_up(rows: Iterable[Row], keys: Sequence[str]) -> list[Row]:
    """Counts of touches summed over all that `keys` do not tell apart, in their order."""
    sums: dict[tuple[Cell, ...], Row] = defaultdict(lambda: dict.fromkeys(COUNTED, 0))
    for row in rows:
        total = sums[tuple(row[key] for key in keys)]
        for name in COUNTED:
            total[name] = int(total[name] or 0) + int(row[name] or 0)
    return [
        dict(zip(keys, key, strict=True)) | total
        for key, total in sorted(sums.items(), key=lambda item: tuple(map(str, item[0])))
    ]


def of_touches(name: str, title: str, keys: Sequence[Column], rows: Iterable[Row]) -> ReportTable:
    """A table of touches and what came of them: the share that moved forward is of touches that are
    14 days old, and a number that says nothing is left out, with a note.
    """
    counted = rolled_up(rows, [column.name for column in keys])
    silent = _without_reports(counted)
    shown, thin = [], 0
    for row in counted:
        followed, moved = int(row["followed"] or 0), int(row["moved_of_followed"] or 0)
        share = share_of(moved, followed) if followed >= LEAST else None
        thin += share is None and bool(row["sent"])
        row["moved_share"] = round(share.share, 4) if share else None
        if row.get("channel") in silent:
            row["delivered"] = None
        shown.append(row)
    notes = [
        f"Nobody reports deliveries of {channel}: that column says nothing there."
        for channel in sorted(silent)
    ]
    if thin:
        notes.append(
            f"{thin} rows have fewer than {LEAST} touches that are 14 days old: what share of them "
            "moved leads forward says nothing yet."
        )
    return ReportTable(name, title, [*keys, *TOUCHES], shown, notes)


def _without_reports(rows: Iterable[Row]) -> set[str]:
    """Channels by which something was sent and nothing reported as delivered."""
    sent: dict[str, int] = defaultdict(int)
    delivered: dict[str, int] = defaultdict(int)
    for row in rows:
        if channel := row.get("channel"):
            sent[str(channel)] += int(row["sent"] or 0)
            delivered[str(channel)] += int(row["delivered"] or 0)
    return {channel for channel, count in sent.items() if count and not delivered[channel]}
