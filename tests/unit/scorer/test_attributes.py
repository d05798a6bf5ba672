"""Columns of an export as values of the layer."""

import numpy as np
import pytest

from services.scorer.learning import attributes
from services.scorer.learning.attributes import Encoder, column


def encoded(cells: list[str], more: list[str] = []) -> dict[str, list[float]]:  # noqa: B006
    """Values by name of `cells`, of which it is learned, and of `more`."""
    read = column("x", [*cells, *more])
    every = np.arange(len(cells) + len(more))
    found = Encoder([read], np.arange(len(cells)))([read], every)
    return dict(zip(found.names, found.values.T.tolist(), strict=True))


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("12", 12), ("1,234", 1234), ("1.234,5", 1234.5), ("1'000", 1000), ("€ 12.5", 12.5),
        ("7 %", 7), ("0,125", 0.125), ("1.234.567", 1234567), ("-3", -3), ("−3", -3),
        ("2025-03-04", 739314), ("2025-03-04 10:00", 739314),
    ],
)  # fmt: skip
def test_numbers_and_dates_are_read_as_people_write_them(cell: str, number: float) -> None:
    kinds = ["2025-01-01", "2025-01-02"] if "-0" in cell else ["1", "2"]
    read = column("x", [cell, *kinds * 20])
    assert read.numbers is not None
    assert read.numbers[0] == number


@pytest.mark.parametrize("cell", ["", "Select", " select ", "N/A", "null", "?", "Bitte wählen"])
def test_placeholders_are_missing(cell: str) -> None:
    assert not column("x", [cell]).filled[0]
    assert not column("x", [cell, *map(str, range(40))]).filled[0]


def test_missing_is_a_value_of_its_own() -> None:
    words = encoded(["a", "b"] * 20 + ["Select"])
    assert words["x: missing"] == [0.0] * 40 + [1.0]
    numbers = encoded([*map(str, range(40)), "NA"])
    assert numbers["x: missing"] == [0.0] * 40 + [1.0]


def test_a_misspelt_level_is_the_one_that_was_meant_and_a_rare_one_another() -> None:
    cells = ["Machinery"] * 20 + ["Retail"] * 20
    values = encoded(cells, ["Machinry", "machinery ", "Retial", "Fishing", "retail 2"])
    assert values["x: machinery"][40:] == [1, 1, 0, 0, 0]
    assert values["x: retail"][40:] == [0, 0, 1, 0, 0]
    assert values["x: other"][40:] == [0, 0, 0, 1, 1]


def test_a_number_that_many_share_has_a_value_of_its_own() -> None:
    values = encoded(["999"] * 50 + list(map(str, range(50))))
    assert sum(values["x: 999"]) == 50
    assert [name for name in values if name.startswith("x over")]


def test_what_differs_in_every_row_has_no_value_of_its_own() -> None:
    assert list(encoded([f"called {n} times" for n in range(200)])) == ["x: other", "x: missing"]


def test_numbers_beyond_those_learned_from_count_like_the_last() -> None:
    values = encoded([str(n) for n in range(1000)], ["100000", "999"])
    assert values["x"][-2] == values["x"][-1]


def test_of_very_many_levels_the_frequent_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes, "MOST_VALUES", 3)
    cells = ["a"] * 40 + ["b"] * 30 + ["c"] * 20 + ["d"] * 15
    assert list(encoded(cells)) == ["x: a", "x: b", "x: c", "x: other", "x: missing"]


def test_an_empty_column_is_taken() -> None:
    assert encoded([""] * 5)["x: missing"] == [1.0] * 5
