"""What people write for a trait, read alike in tables and live."""

from datetime import date

import pytest

from services.scorer.learning.attributes import column
from services.scorer.model.attributes import of_attribute
from services.scorer.model.readings import number_of, reading_of, word
from services.shared.playbook.learned import Numbers, Reading

DAY = float(date(2025, 3, 4).toordinal())


@pytest.mark.parametrize(
    ("text", "reading", "number"),
    [
        ("1,234", "number", 1234), ("1,234.5", "number", 1234.5), ("12,5", "number", 12.5),
        ("1,234", "decimal comma", 1.234), ("1.234", "decimal comma", 1234),
        ("1.234,56 \u20ac", "decimal comma", 1234.56), ("1\u202f234,5", "decimal comma", 1234.5),
        ("\u22123", "number", -3), ("45 %", "number", 45), ("CTO", "number", None),
        ("1" * 400, "number", None), (True, "number", None), (7, "day", 7),
        ("2025-03-04T10:00:00Z", "day", DAY), ("2025/3/4", "day", DAY), ("2025-02-30", "day", None),
        ("04.03.2025 10:00", "day, day first", DAY), ("3/4/2025", "day, month first", DAY),
        ("4 Mar 2025", "day, month named", DAY), ("March 4, 2025", "day, month named", DAY),
        ("4. M\u00e4rz 2025", "day, month named", DAY), ("4 Foo 2025", "day, month named", None),
    ],
)  # fmt: skip
def test_a_value_is_read_as_its_column_is(
    text: object, reading: Reading, number: float | None
) -> None:
    assert number_of(text, reading) == number


@pytest.mark.parametrize(
    ("texts", "reading"),
    [
        (["1", "2.5", "1,000"], "number"), (["1,5", "2.000,0", "3"], "decimal comma"),
        (["2025-03-04", "2025-03-05"], "day"), (["13.02.2025", "01.02.2025"], "day, day first"),
        (["02/13/2025", "02/01/2025"], "day, month first"), (["Mar 4, 2025"], "day, month named"),
        (["1-10", "11-50"], None), (["A, B", "1"], None),
    ],
)  # fmt: skip
def test_nearly_all_cells_say_how_a_column_is_read(
    texts: list[str], reading: Reading | None
) -> None:
    assert reading_of(dict.fromkeys(texts, 1), 0.95) == reading


def test_a_number_counts_live_as_it_was_learned() -> None:
    """Whether a sender posts a number or what people write for it."""
    cells = [f"{n:,}" for n in range(900, 1_100)]
    learned = column("Employees", cells)
    assert learned.numbers is not None
    weights = Numbers(trait="Employees", low=0, high=2_000, mean=0, scale=1, slope=1.0, knots=[],
                      hinges=[], missing=-1.0)  # fmt: skip
    assert [of_attribute(weights, cell) for cell in cells] == learned.numbers.tolist()
    assert of_attribute(weights, 1_050) == of_attribute(weights, "1,050")
    assert of_attribute(weights, "Select") == -1.0


@pytest.mark.parametrize("text", ["", "Select", "n/a", " Keine  Angabe ", "\u2014", "(Unknown)"])
def test_what_forms_write_where_nothing_was_chosen_says_nothing(text: str) -> None:
    assert word(text) == ""
