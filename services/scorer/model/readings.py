"""What people and forms write for a trait, read as a word, a number or a day; the same for tables
that are learned from and for leads that are scored.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from typing import Any

from services.shared.playbook.learned import Reading

MOST_LETTERS = 80  # of a word that has a weight of its own
# what forms and exports write where nothing was chosen or known
PLACEHOLDERS = frozenset({
    "", "-", "--", "---", "–", "—", ".", "?", "#n/a", "n/a", "n.a.", "na", "nan", "nil", "none",
    "null", "undefined", "unknown", "not specified", "not provided", "not available", "not set",
    "not known", "select", "select...", "please select", "select one", "select an option", "choose",
    "choose one", "(select)", "- select -", "-select-", "-- select --", "(none)", "(blank)",
    "(empty)", "(unknown)", "bitte wählen", "bitte auswählen", "keine angabe", "k.a.", "k. a.",
    "unbekannt", "sélectionner", "inconnu", "non renseigné", "seleccionar", "desconocido",
    "selezionare", "sconosciuto", "selecteer", "onbekend",
})  # fmt: skip
NUMBER = re.compile(r"[-+]?\d[\d.,' ]*")
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?")
DOTTED = re.compile(r"-?[1-9]\d{0,2}(?:\.\d{3})+")
AROUND = "%€$£ "
BLANKS = str.maketrans({"\u00a0": " ", "\u202f": " ", "’": "'", "−": "-"})
ISO = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?:[ t].*)?")
YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})(?:[ t,].*)?")
NAMED = re.compile(
    r"(?:(\d{1,2})[. -]{1,2})?([^\W\d_]{3,9})\.?[ -](?:(\d{1,2}),? )?(\d{4})(?: .*)?"
)
MONTHS = {
    name: number
    for number, names in enumerate(
        ("jan", "feb", "mar mär mrz", "apr", "may mai", "jun", "jul", "aug", "sep", "oct okt",
         "nov", "dec dez"),
        1,
    )
    for name in names.split()
}  # fmt: skip


def word(value: Any) -> str:
    """A value as a word in small letters and single blanks; '' for what says nothing."""
    if value is None or isinstance(value, dict | list):
        return ""
    text = " ".join(str(value).casefold().split())[:MOST_LETTERS]
    return "" if text in PLACEHOLDERS else text


def number_of(value: Any, reading: Reading = "number") -> float | None:
    """A value as a finite number, a day as its number in the calendar; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        return READERS[reading](plain(value))
    return _finite(value)


def _finite(value: int | float | str) -> float | None:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def plain(text: str) -> str:
    """A text in small letters, single blanks and plain signs."""
    return " ".join(text.translate(BLANKS).casefold().split())


def bare(text: str) -> str:
    """A number without the signs around it."""
    return text.strip(AROUND)


def _number(text: str, *, decimal_comma: bool) -> float | None:
    """A number with thousands set apart or not, % and currency signs around; a comma is a decimal
    one where it cannot set thousands apart, or by `decimal_comma`.
    """
    digits = bare(text)
    if not NUMBER.fullmatch(digits):
        return None
    digits = digits.replace(" ", "").replace("'", "")
    if DOTTED.fullmatch(digits) and (decimal_comma or digits.count(".") > 1):
        digits = digits.replace(".", "")
    elif digits.rfind(",") > digits.rfind(".") and not (
        THOUSANDS.fullmatch(digits) and not decimal_comma
    ):
        digits = digits.replace(".", "").replace(",", ".")
    else:
        digits = digits.replace(",", "")
    return _finite(digits)


def _day(text: str, form: re.Pattern[str], *, year: int, month: int, day: int) -> float | None:
    """The number of a day; the others are the groups of its parts."""
    found = form.fullmatch(text)
    if not found:
        return None
    return _ordinal(*(found[part] for part in (year, month, day)))


def _named_day(text: str) -> float | None:
    found = NAMED.fullmatch(text)
    if not found or bool(found[1]) == bool(found[3]):
        return None
    return _ordinal(found[4], str(MONTHS.get(found[2][:3], 0)), found[1] or found[3])


def _ordinal(*parts: str) -> float | None:
    try:
        return float(date(*map(int, parts)).toordinal())
    except ValueError:
        return None


# in the order in which a column is tried
READERS: dict[Reading, Callable[[str], float | None]] = {
    "number": partial(_number, decimal_comma=False),
    "decimal comma": partial(_number, decimal_comma=True),
    "day": partial(_day, form=ISO, year=1, month=3, day=4),
    "day, day first": partial(_day, form=YEAR_LAST, year=4, month=3, day=1),
    "day, month first": partial(_day, form=YEAR_LAST, year=4, month=1, day=3),
    "day, month named": _named_day,
}


def reading_of(texts: Mapping[str, int], share: float) -> Reading | None:
    """How cells are read, each given with how often it occurs: what reads at least `share` of them;
    None where they are words.
    """
    least = share * sum(texts.values())
    numbers = [digits for text in texts if NUMBER.fullmatch(digits := bare(plain(text)))]
    has_decimal_comma = any("," in each and not THOUSANDS.fullmatch(each) for each in numbers)
    for reading, read in READERS.items():
        if reading == "number" and has_decimal_comma:
            continue
        if sum(count for text, count in texts.items() if read(plain(text)) is not None) >= least:
            return reading
    return None
