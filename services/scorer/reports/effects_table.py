"""The effects of the arms as one table: of all leads, by source, and by age at entry. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from services.scorer.reports.tables import Column, ReportTable, Row

EFFECTS = "effects"
COMPARED = {
    "": "nurturing against nothing",
    "choosing": "nurturing against the calendar",
    "calendar": "the calendar against nothing",
}
PARTS = {"by_source": "source", "by_age_at_entry": "days known at entry"}
COLUMNS = [
    Column("comparison", "comparison", "key"),
    Column("by", "by", "key"),
    Column("among", "among", "key"),
    Column("n", "leads", "number"),
    Column("outcomes", "with the outcome", "number"),
    Column("n_against", "leads, against", "number"),
    Column("outcomes_against", "with the outcome, against", "number"),
    Column("effect", "effect", "share"),
    Column("low", "from", "share"),
    Column("high", "to", "share"),
]
NOTE = (
    "Effect: outcomes a lead, nurtured less compared. Each interval holds however often one looks, "
    "and alone: of twenty without an effect one may show one."
)


def effects_table(lift: Mapping[str, Any]) -> ReportTable:
    """The table of what `ripeline lift --json` says; without an interval where there is none."""
    rows = [
        row
        for name, title in COMPARED.items()
        if (found := lift.get(name) if name else lift)
        for row in _rows(title, found)
    ]
    thin = sum(row["low"] is None for row in rows)
    lacking = f"{thin} rows have no interval: it needs 20 accounts with the outcome in each arm."
    notes = [NOTE, lacking] if thin else [NOTE]
    return ReportTable(EFFECTS, "What it causes, by source and by age", COLUMNS, rows, notes)


def _rows(comparison: str, found: Mapping[str, Any]) -> Iterator[Row]:
    if not any(found["n"].values()):
        return
    yield _row(comparison, "all leads", "", found)
    for part, by in PARTS.items():
        for among, one in found.get(part, {}).items():
            yield _row(comparison, by, among, one)


def _row(comparison: str, by: str, among: str, one: Mapping[str, Any]) -> Row:
    """The first arm is the one that is compared with the other."""
    (n, against), (outcomes, others) = one["n"].values(), one["outcomes"].values()
    low, high = one["interval"] or (None, None)
    return {
        "comparison": comparison, "by": by, "among": among,
        "n": n, "outcomes": outcomes, "n_against": against, "outcomes_against": others,
        "effect": one["effect"], "low": low, "high": high,
    }  # fmt: skip
