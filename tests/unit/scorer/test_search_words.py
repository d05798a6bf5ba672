"""By which words a lead is found, and how phone numbers are compared."""

import pytest

from services.scorer.model.search_words import (
    MAX_NUMBERS,
    MAX_WORDS,
    asked_number,
    asked_visitor,
    is_same_number,
    number_of,
    search_text,
    words_of,
)


def test_words_are_those_of_name_company_and_address_and_the_numbers_of_phones() -> None:
    traits = {"name": "Zoë  Müller-Lüdenscheidt", "company": "ACME & Söhne", "phone": "030 1234567"}
    assert search_text(traits, "z.mueller@acme.co.example") == (
        "zoe muller ludenscheidt acme sohne z mueller co #765432103"
    )
    assert search_text({"first_name": "Jo", "last_name": "Day"}, "") == "jo day"
    assert search_text({"name": 7, "company": {"name": "x"}, "phone": None}, "") is None
    assert search_text({}, "") is None
    assert words_of("O’Neil 株式会社 Straße 54") == ["o", "neil", "株式会社", "strasse", "54"]


def test_what_is_kept_of_a_lead_is_bounded() -> None:
    traits = {f"phone_{n}": f"0301234{n:04}" for n in range(50)}
    found = search_text(traits | {"name": "a " * 5000 + "b" * 5000, "company": "c d " * 300}, "")
    assert found
    assert len(found.split(" ")) <= MAX_WORDS + MAX_NUMBERS
    assert len(found) < 2_000


WRITTEN = [
    "+49 (0)151 234-5678", "+49 151 2345678", "0049 151 2345678", "0151/2345678", "(0151) 2345678",
    "0151 234 56 78 ext. 12", "٠١٥١٢٣٤٥٦٧٨", "151.234.5678", "+491512345678;ext=7",
]  # fmt: skip


@pytest.mark.parametrize("question", [*WRITTEN[:5], "151.234.5678", "2345678"])
def test_a_number_is_found_however_it_is_written(question: str) -> None:
    asked = asked_number(question)
    assert asked
    for written in WRITTEN:
        assert is_same_number(number_of(written), asked), written
    assert not is_same_number(number_of("+49 151 2345679"), asked)


def test_numbers_of_two_countries_are_not_one_and_what_is_short_or_a_word_is_none() -> None:
    assert not is_same_number(number_of("+49 151 2345678"), asked_number("+43 151 2345678"))
    for question in ("1234", "Studio 54321", "", "()-", "x" * 300):
        assert asked_number(question) == ""
    assert number_of(None) == number_of("none") == number_of(True) == ""


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ("Visitor 3f9a2c", "3f9a2c"), ("visitor  3F9A2C", "3f9a2c"), ("123456", "123456"),
        ("visitor3f9a2c", ""), ("Visitor 3f9a2", ""), ("3f9a2c1", ""), ("3f9a2g", ""),
        ("visitor", ""), ("", ""), ("visitor " * 40, ""), ("٣f9a2c", ""),
    ],
)  # fmt: skip
def test_a_visitor_is_asked_for_by_its_short_name(question: str, code: str) -> None:
    assert asked_visitor(question) == code
