"""Columns of a table, read as numbers or levels, and as values of the log-odds layer: missing is a
value of its own, rare levels are taken together, misspelt ones belong to the level that they meant.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rapidfuzz import process as fuzzy
from rapidfuzz.distance import DamerauLevenshtein

from services.scorer.learning.histories import B, F, I
from services.scorer.model.readings import number_of, reading_of
from services.scorer.model.readings import word as read_word

NUMERIC_SHARE = 0.95  # of the filled cells
MOST_LEVELS = 50
LEAST_OF_LEVEL = 10  # rows of a level of its own
MISSPELT = 1  # edits; 2 in words of at least LONG letters
LONG = 8
KNOTS = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9)  # quantiles at which a number's slope may change
REACH = (0.005, 0.995)  # quantiles: a number beyond them counts like them
MASS, MOST_MASSES = 0.03, 8  # share of rows of a number that has a weight of its own
MOST_VALUES = 1_000  # of all columns: rarer levels go first
OTHER, MISSING = "other", "missing"
NOTHING = -1  # code of a cell in which nothing stands


class Column(NamedTuple):
    """A column of N cells: `codes` (N) are places in `words`, NOTHING where missing; `numbers` (N,
    NaN where missing) where it is one of numbers or dates (in days).
    """

    name: str
    codes: I
    words: list[str]
    numbers: F | None = None

    @property
    def filled(self) -> B:
        """Where something stands (N)."""
        if self.numbers is not None:
            return ~np.isnan(self.numbers)
        return self.codes != NOTHING


class Encoded(NamedTuple):
    """Values (N, P), whose log-odds have a prior of unit scale, and their names."""

    values: F
    names: list[str]


def column(name: str, cells: Sequence[str]) -> Column:
    """Reads a column: numbers (or dates) where nearly all of its filled cells are, else words in
    small letters and single blanks.
    """
    places: dict[str, int] = {"": NOTHING}
    by_cell = {
        cell: places.setdefault(word, len(places) - 1)
        for cell in dict.fromkeys(cells)
        for word in (read_word(cell),)
    }
    codes = np.array([by_cell[cell] for cell in cells], np.int64)
    words = list(places)[1:]
    counts = np.bincount(codes + 1, minlength=len(words) + 1)[1:]
    by_word = dict(zip(words, counts.tolist(), strict=True))
    if len(words) > 2 and (reading := reading_of(by_word, NUMERIC_SHARE)):
        found = [number_of(each, reading) for each in words]
        of_word = np.array([np.nan if each is None else each for each in [*found, None]])
        return Column(name, codes, words, of_word[codes])
    return Column(name, codes, words)


class Encoder:
    """Values of columns, as learned from training rows."""

    def __init__(self, columns: Sequence[Column], rows: I) -> None:
        counts = [
            np.zeros(0) if column.numbers is not None else _counts(column, rows)
            for column in columns
        ]
        least = _least(np.concatenate([*counts, np.zeros(0)]))
        self._parts = [
            _Numbers(column, rows) if column.numbers is not None else _Levels(column, n, least)
            for column, n in zip(columns, counts, strict=True)
        ]

    def __call__(self, columns: Sequence[Column], rows: I) -> Encoded:
        """The rows' values of the same columns."""
        found = [
            part.encode(column, rows) for part, column in zip(self._parts, columns, strict=True)
        ]
        values = [encoded.values for encoded in found] or [np.zeros((len(rows), 0))]
        return Encoded(np.concatenate(values, axis=1), [n for e in found for n in e.names])


def _counts(column: Column, rows: I) -> F:
    """How many rows have each word."""
    found = np.bincount(column.codes[rows] + 1, minlength=len(column.words) + 1)
    return found[1:].astype(np.float64)


def _least(counts: F) -> float:
    """How many rows a level has at least that has a value of its own, so that there are not more
    than MOST_VALUES.
    """
    most = np.sort(counts)[::-1][:MOST_VALUES]
    return max(LEAST_OF_LEVEL, float(most[-1]) if len(most) == MOST_VALUES else 0)


class _Numbers:
    """A number as its standardised value, hinges at its quantiles, whether it is one of the numbers
    that many rows share, and whether it is missing.
    """

    def __init__(self, column: Column, rows: I) -> None:
        assert column.numbers is not None
        known = column.numbers[rows]
        known = known[~np.isnan(known)]
        if not known.size:
            known = np.zeros(1)
        self._low, self._high = map(float, np.quantile(known, REACH))
        distinct, counts = np.unique(known, return_counts=True)
        common = np.argsort(-counts, kind="stable")[:MOST_MASSES]
        self._masses = np.sort(distinct[common[counts[common] >= MASS * len(rows)]])
        knots = np.unique(np.quantile(known, KNOTS))
        self._knots = knots[(knots > self._low) & (knots < self._high)]
        kept = np.clip(known, self._low, self._high)
        self._mean, self._scale = float(kept.mean()), float(kept.std()) or 1.0

    def encode(self, column: Column, rows: I) -> Encoded:
        assert column.numbers is not None
        numbers = column.numbers[rows]
        missing = np.isnan(numbers)
        kept = np.clip(np.where(missing, self._mean, numbers), self._low, self._high)
        values = np.column_stack([
            (kept - self._mean) / self._scale,
            np.maximum(kept[:, None] - self._knots, 0) / self._scale,
            numbers[:, None] == self._masses,
            missing,
        ])  # fmt: skip
        over = [f"{column.name} over {knot:g}" for knot in self._knots]
        masses = [f"{column.name}: {mass:g}" for mass in self._masses]
        return Encoded(values, [column.name, *over, *masses, f"{column.name}: {MISSING}"])


class _Levels:
    """A level as one of those that are frequent enough, another, or missing."""

    def __init__(self, column: Column, counts: F, least: float) -> None:
        order = np.argsort(-counts, kind="stable")[:MOST_LEVELS]
        frequent = [column.words[place] for place in order if counts[place] >= least]
        self._names = [*frequent, OTHER, MISSING]
        meant = _Spelling(frequent)
        self._place = {word: meant.place(word) for word in column.words}

    def encode(self, column: Column, rows: I) -> Encoded:
        size = len(self._names)
        place = np.array([*(self._place.get(word, size - 2) for word in column.words), size - 1])
        values = np.zeros((len(rows), size))
        values[np.arange(len(rows)), place[column.codes[rows]]] = 1
        return Encoded(values, [f"{column.name}: {name}" for name in self._names])


class _Spelling:
    """The frequent level that a rare one is a misspelling of."""

    def __init__(self, frequent: Sequence[str]) -> None:
        self._frequent = list(frequent)
        self._known = {word: place for place, word in enumerate(frequent)}

    def place(self, word: str) -> int:
        """The place of the level that is meant, that after the last where it is none of them."""
        if word in self._known:
            return self._known[word]
        most = MISSPELT + (len(word) >= LONG)
        if len(word) <= 2 * most or any(character.isdigit() for character in word):
            return len(self._frequent)
        found = fuzzy.extractOne(
            word, self._frequent, scorer=DamerauLevenshtein.distance, score_cutoff=most
        )
        return found[2] if found else len(self._frequent)
