"""Reads a table with arms into arrays."""

from collections import Counter
from collections.abc import Callable
from itertools import compress
from pathlib import Path

import numpy as np

from services.ingest.importing import times
from services.ingest.importing.cells import folded, matches, number, values_of
from services.ingest.importing.header import Header
from services.ingest.importing.mapping_file import MappingFile
from services.ingest.importing.opening import opened
from services.ops.learning.rows import FAR_TIME, ZONE, days_of, manners_of, plausible, rows_of
from services.ops.reports.lift_mapping import LiftMapping
from services.scorer.effects.report import ArmTable
from services.scorer.effects.units import I
from services.shared.errors import Reject

MOST_ARMS = 20
HOLDOUT = frozenset(map(folded, (
    "hold-out", "held out", "control", "control group", "no e-mail", "no mail", "no message",
    "none", "nothing", "untreated", "not treated", "not nurtured", "0", "false", "no",
)))  # fmt: skip


def read(path: Path, written: MappingFile, progress: Callable[[float], None]) -> ArmTable:
    """Reads the table. Raises Reject for what no lift can be measured on, InvalidFile for a mapping
    that names a column which is not there.
    """
    mapping = written.mapping
    assert isinstance(mapping, LiftMapping)
    manners = manners_of(path, written, needed=bool(mapping.entered_at))
    with opened(path, written) as table:
        rows = _Rows(mapping, table.header, manners)
        for row in rows_of(table, lambda _, done: progress(done)):
            rows.add(row)
    return rows.table()


class _Rows:
    """Takes rows and makes arrays of them."""

    def __init__(self, mapping: LiftMapping, header: Header, manners: times.Manners) -> None:
        self._mapping = mapping
        self._arm, self._outcome = (
            header.find(mapping.arm.column),
            header.find(mapping.outcome.column),
        )
        self._account, self._known = header.find(mapping.account), header.find(mapping.baseline)
        self._entered = times.reader(mapping.entered_at, header, ZONE, manners)
        self._wanted = values_of(mapping.outcome.equals)
        self._arms: dict[str, int] = {}
        self._accounts: dict[tuple[str, int], int] = {}
        self._rows: list[tuple[int, int, float, float, bool]] = []
        self._skipped: Counter[str] = Counter()

    def add(self, row: list[str] | Reject) -> None:
        """Takes a row, or counts why not."""
        assert self._arm is not None
        assert self._outcome is not None
        if isinstance(row, Reject):
            self._skipped[row.title] += 1
            return
        if not (name := row[self._arm].strip()):
            self._skipped["no arm"] += 1
            return
        entered = self._days(row)
        if np.isnan(entered):
            self._skipped["no time of entry that can be read"] += 1
            return
        arm = self._arms.setdefault(name, len(self._arms))
        if len(self._arms) > MOST_ARMS:
            raise Reject(
                f"the column {self._mapping.arm.column!r} has more than {MOST_ARMS} values",
                where="arm",
                remedy="name the column that says who was treated and who was held out",
            )
        account = row[self._account].strip().casefold() if self._account is not None else ""
        unit = len(self._accounts)
        unit = self._accounts.setdefault((account or f"\0{unit}", arm), unit)
        outcome = matches(row[self._outcome], self._wanted)
        self._rows.append((arm, unit, entered, self._baseline(row), outcome))

    def table(self) -> ArmTable:
        """What was taken, in the order of entry."""
        near = plausible(np.array([row[2] for row in self._rows]))
        self._skipped[FAR_TIME] += int((~near).sum())
        rows = sorted(compress(self._rows, near), key=lambda row: row[2])
        if self._mapping.horizon and rows:
            matured = rows[-1][2] - self._mapping.horizon
            kept = [row for row in rows if row[2] <= matured]
            self._skipped["entered less than the horizon before the last"] += len(rows) - len(kept)
            rows = kept
        if not rows:
            raise Reject(
                "the table has no rows that can be read",
                where="file",
                remedy="; ".join(f"{count} rows: {why}" for why, count in self._skipped.items())
                or "it has a header alone",
            )
        arm, unit, entered, known, outcome = zip(*rows, strict=True)
        arms = list(self._arms)
        held_out = _held_out(arms, np.bincount(arm, minlength=len(arms)), self._mapping)
        return ArmTable(
            arms,
            held_out,
            np.array(arm, np.int64),
            np.array(unit, np.int64),
            np.array(entered),
            np.array(known),
            np.array(outcome, np.bool_),
            +self._skipped,
            _by_calendar(arms, held_out, self._mapping),
        )

    def _days(self, row: list[str]) -> float:
        return days_of(self._entered, row) if self._mapping.entered_at else 0.0

    def _baseline(self, row: list[str]) -> float:
        cell = row[self._known].strip() if self._known is not None else ""
        try:
            return number(cell.removesuffix("%")) if cell else np.nan
        except Reject:
            self._skipped["baseline is not a number (the row counts, with the mean)"] += 1
            return np.nan


def _held_out(arms: list[str], counts: I, mapping: LiftMapping) -> set[int]:
    """The arms that are the hold-out. Raises Reject where that is not plain."""
    named = values_of(mapping.arm.holdout) if mapping.arm.holdout else HOLDOUT
    found = {place for place, arm in enumerate(arms) if matches(arm, named)}
    listed = ", ".join(f"{arm} ({counts[place]} rows)" for place, arm in enumerate(arms))
    column = mapping.arm.column
    if len(arms) < 2:
        raise Reject(
            f"every row is in the arm {arms[0]}: there is nothing to compare it with",
            where="arm",
            remedy=f"look at the column {column!r}: some leads must have been held out",
        )
    if not found or len(found) == len(arms):
        raise Reject(
            f"which arm was held out? The column {column!r} has {listed}",
            where="arm",
            remedy=f"write `arm: {{column: {column}, holdout: {arms[0]}}}` with the right value",
        )
    return found


def _by_calendar(arms: list[str], held_out: set[int], mapping: LiftMapping) -> set[int]:
    """The arms that got the same content by the calendar. Raises Reject where these are the
    hold-out, or no others are left.
    """
    if not mapping.arm.calendar:
        return set()
    named = values_of(mapping.arm.calendar)
    found = {place for place, arm in enumerate(arms) if matches(arm, named)}
    if not found:
        raise Reject(
            f"no row is in the arm {mapping.arm.calendar[0]!r} that `calendar` names",
            where="arm",
            remedy=f"write one of {', '.join(arms)}, or leave `calendar` out",
        )
    if found & held_out or (found and len(found | held_out) == len(arms)):
        raise Reject(
            f"`calendar` of `arm` leaves no arm that was nurtured: there are {', '.join(arms)}",
            where="arm",
            remedy="name under `calendar` only the arm that got the same content by the calendar",
        )
    return found
