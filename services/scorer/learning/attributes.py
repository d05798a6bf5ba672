"""Columns of a table, read as numbers or levels, and as values of the log-odds layer: missing is a
value of its own, rare levels are taken together, misspelt ones belong to the level that they meant.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rapidfuzz import process as fuzzy
from rapidfuzz.distance import DamerauLevenshtein

from services.scorer.learning.histories import F, I

# what forms and exports write where nothing was chosen or known
PLACEHOLDERS = frozenset({
    "", "-", "--", ".", "?", "#n/a", "n/a", "n.a.", "na", "nan", "nil", "none", "null", "undefined",
    "unknown", "not specified", "not provided", "select", "please select", "select one", "choose",
    "choose one", "(select)", "- select -", "-select-", "(none)", "(blank)", "bitte wählen",
    "keine angabe", "k.a.", "unbekannt", "sélectionner", "inconnu", "seleccionar", "selezionare",
})  # fmt: skip
NUMBER = re.compile(r"[-+−]?\d[\d.,' ]*")
NUMERIC_SHARE = 0.95  # of the filled cells
MOST_LEVELS = 50
LEAST_OF_LEVEL = 10  # rows of a level of its own
MISSPELT = 1  # edits; 2 in words of at least LONG letters
LONG = 8
KNOTS = (0.2, 0.4, 0.6, 0.8)  # quantiles at which a number's slope may change
OTHER, MISSING = "other", "missing"


class Column(NamedTuple):
    """A column of N cells: `numbers` (N, NaN where missing) or `levels` (N), '' where missing."""

    name: str
    levels: list[str]
    numbers: F | None

    @property
    def filled(self) -> np.ndarray:
        """Where something stands (N)."""
        if self.numbers is not None:
            return ~np.isnan(self.numbers)
        return np.array([level != "" for level in self.levels], np.bool_)


class Encoded(NamedTuple):
    """Values (N, P) with the scales that a unit prior on their log-odds has, and their names."""

    values: F
    names: list[str]


def column(name: str, cells: Sequence[str]) -> Column:
    """Reads a column: numbers where nearly all of its filled cells are, else levels in small
    letters and single blanks.
    """
    levels = [_level(cell) for cell in cells]
    distinct = Counter(filter(None, levels))
    read = {level: _number(level) for level in distinct}
    filled = sum(distinct.values())
    numeric = sum(count for level, count in distinct.items() if read[level] is not None)
    if filled and numeric >= NUMERIC_SHARE * filled and len(distinct) > 2:
        values = [read.get(level) for level in levels]
        return Column(name, levels, np.array([np.nan if v is None else v for v in values], float))
    return Column(name, levels, None)


def _level(cell: str) -> str:
    text = " ".join(cell.casefold().split())
    return "" if text in PLACEHOLDERS else text


def _number(text: str) -> float | None:
    """A number with a point or a comma, thousands set apart or not, % and currency signs around."""
    bare = text.strip("%€$£ ")
    if not NUMBER.fullmatch(bare):
        return None
    digits = bare.replace(" ", "").replace("'", "").replace("−", "-")
    if digits.rfind(",") > digits.rfind("."):
        digits = digits.replace(".", "").replace(",", ".", 1)
    digits = digits.replace(",", "")
    try:
        return float(digits)
    except ValueError:
        return None


class Encoder:
    """Values of columns, as learned from training rows."""

    def __init__(self, columns: Sequence[Column], rows: I) -> None:
        self._parts = [
            _Numbers(column, rows) if column.numbers is not None else _Levels(column, rows)
            for column in columns
        ]

    def __call__(self, columns: Sequence[Column], rows: I) -> Encoded:
        """The rows' values of the same columns."""
        found = [
            part.encode(column, rows) for part, column in zip(self._parts, columns, strict=True)
        ]
        values = [encoded.values for encoded in found] or [np.zeros((len(rows), 0))]
        return Encoded(np.concatenate(values, axis=1), [n for e in found for n in e.names])


class _Numbers:
    """A number as its standardised value, hinges at its quantiles, and whether it is missing."""

    def __init__(self, column: Column, rows: I) -> None:
        assert column.numbers is not None
        known = column.numbers[rows]
        known = known[~np.isnan(known)]
        self._knots = np.unique(np.quantile(known, KNOTS)) if known.size else np.zeros(0)
        low, high = np.quantile(known, (0.01, 0.99)) if known.size else (0.0, 0.0)
        self._low, self._high = float(low), float(high)
        kept = np.clip(known, low, high)
        self._mean = float(kept.mean()) if kept.size else 0.0
        self._scale = float(kept.std()) or 1.0 if kept.size else 1.0

    def encode(self, column: Column, rows: I) -> Encoded:
        assert column.numbers is not None
        numbers = column.numbers[rows]
        missing = np.isnan(numbers)
        kept = np.clip(np.where(missing, self._mean, numbers), self._low, self._high)
        hinges = [np.maximum(kept - knot, 0) / self._scale for knot in self._knots]
        values = [(kept - self._mean) / self._scale, *hinges, missing.astype(np.float64)]
        over = [f"{column.name} over {knot:g}" for knot in self._knots]
        return Encoded(np.column_stack(values), [column.name, *over, f"{column.name}: {MISSING}"])


class _Levels:
    """A level as one of those that are frequent enough, another, or missing."""

    def __init__(self, column: Column, rows: I) -> None:
        counts = Counter(column.levels[row] for row in rows)
        counts.pop("", None)
        frequent = [
            level for level, count in counts.most_common(MOST_LEVELS) if count >= LEAST_OF_LEVEL
        ]
        self._place = {level: place for place, level in enumerate(frequent)}
        self._meant = _Spelling(frequent)

    def encode(self, column: Column, rows: I) -> Encoded:
        names = [*self._place, OTHER, MISSING]
        values = np.zeros((len(rows), len(names)))
        places = {"": len(names) - 1}
        for number, row in enumerate(rows):
            level = column.levels[row]
            if level not in places:
                meant = self._meant(level)
                places[level] = len(names) - 2 if meant is None else self._place[meant]
            values[number, places[level]] = 1
        return Encoded(values, [f"{column.name}: {name}" for name in names])


class _Spelling:
    """The frequent level that a rare one is a misspelling of."""

    def __init__(self, frequent: Sequence[str]) -> None:
        self._frequent = list(frequent)
        self._known = frozenset(frequent)

    def __call__(self, level: str) -> str | None:
        if level in self._known:
            return level
        if any(character.isdigit() for character in level):
            return None
        most = MISSPELT + (len(level) >= LONG)
        found = fuzzy.extractOne(
            level, self._frequent, scorer=DamerauLevenshtein.distance, score_cutoff=most
        )
        return found[0] if found and len(level) > 2 * most else None
