"""By which words people find a lead: those of its name, company and address, its phone numbers
however they are written, and the short names of visitors.

A word is in lower case and without accents. A number is `#` and its digits from the last to the
first, without zeros before it: so what was written with a country's code and what was written
without one begin alike.
"""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from itertools import islice
from typing import Any

NAMES = ("name", "first_name", "last_name", "company")
MAX_TEXT = 200  # characters of a trait that are read
MAX_WORD, MAX_WORDS, MAX_NUMBERS = 40, 24, 4
SHORTEST_WORD = 2  # of a question; of a name every word counts
WORD = re.compile(r"[^\W_]+")
PHONE_TRAIT = re.compile(r"phone|mobil|telef|^tel|handy|whatsapp", re.IGNORECASE)
# what stands in numbers beside digits, and what is dialled after one
WRITTEN = re.compile(r"[\d\s()+./\u2010-\u2015\u2212-]+")
EXTENSION = re.compile(r"ext|[x#;,]", re.IGNORECASE)
SHORTEST_NUMBER, LONGEST_NUMBER = 5, 15  # digits; E.164 has no more
VISITOR_DIGITS = 6
ASKED_VISITOR = re.compile(rf"(?:visitor +)?([0-9a-f]{{{VISITOR_DIGITS}}})", re.IGNORECASE)
SURE = 8  # last digits that two ways to write one number share


def search_text(traits: Mapping[str, Any], email: str) -> str | None:
    """The words and numbers of a lead, with spaces between; None where it has none."""
    written = [traits.get(name) for name in NAMES]
    words = [word for text in written if isinstance(text, str) for word in words_of(text)]
    words += words_of(email.rpartition(".")[0])
    numbers = (number_of(text) for name, text in traits.items() if PHONE_TRAIT.search(name))
    found = dict.fromkeys(words[:MAX_WORDS])
    found |= dict.fromkeys(islice(filter(None, numbers), MAX_NUMBERS))
    return " ".join(found) or None


def words_of(text: str) -> list[str]:
    """The words of a text, as they are compared."""
    text = text[:MAX_TEXT]
    if not text.isascii():
        apart = unicodedata.normalize("NFKD", text)
        text = "".join(sign for sign in apart if not unicodedata.combining(sign))
    return [word[:MAX_WORD] for word in WORD.findall(text.casefold())]


def number_of(written: Any) -> str:
    """A phone number as it is compared; '' where it is none."""
    text = str(written)[:MAX_TEXT] if isinstance(written, str | int) else ""
    text = EXTENSION.split(text, maxsplit=1)[0].replace("(0)", "")
    digits = "".join(str(int(sign)) for sign in text if sign.isdecimal()).lstrip("0")
    return f"#{digits[: -LONGEST_NUMBER - 1 : -1]}" if len(digits) >= SHORTEST_NUMBER else ""


def asked_number(question: str) -> str:
    """The number that a question is; '' where it is none."""
    text = EXTENSION.split(question, maxsplit=1)[0]
    return number_of(text) if WRITTEN.fullmatch(text.strip()) else ""


def is_same_number(one: str, other: str) -> bool:
    """Whether two numbers may be one, of which perhaps only the end was given."""
    return one.startswith(other) or other.startswith(one)


def visitor_code(anonymous_id: str) -> str:
    """What tells visitors apart, whose ids may begin alike: `3f9a2c`; `scorer.visitor_code` in SQL
    is the same.
    """
    return hashlib.sha256(anonymous_id.encode()).hexdigest()[:VISITOR_DIGITS]


def asked_visitor(question: str) -> str:
    """The code of a visitor that a question is; '' where it is none."""
    found = ASKED_VISITOR.fullmatch(question)
    return found[1].lower() if found else ""
