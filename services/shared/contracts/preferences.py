"""What people ask of our mails: traits that their page, forms and other tools write and nurture
obeys; the last word counts, null lifts it.

The readers take a trait as people and tools write it and give its normal form, None for what is
null or blank. They raise Reject for what they cannot read. Pure.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from services.shared.errors import Reject

TOPICS = "mail_topics"  # a list of the topics that mails may be about
PACE = "mail_pace"  # one of GAPS
PAUSED_UNTIL = "mail_paused_until"  # the day from which mails may come again, as 2030-01-31
LANGUAGE = "language"  # a tag of BCP 47, such as de-AT
GAPS = {"weekly": timedelta(days=7), "monthly": timedelta(days=30)}  # between two mails, at least
USUAL = "usual"  # the word that lifts a pace

MAX_TEXT = 80  # characters of a day, a pace or a language
MAX_TOPICS = 100
SECONDS, MILLISECONDS = re.compile(r"\d{10}(?:\.\d+)?"), re.compile(r"\d{13}")
DAY_OF_WEEK = re.compile(r"[^\W\d_]{2,10}\.?,? +(?=\w)")
CLOCK_TIME = re.compile(
    r"[T, ] ?(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,]\d+)?)? ?"
    r"(?P<half>[ap]\.?m\.?)? ?(?:Z|UTC|GMT)? ?(?:[+-]\d{2}:?\d{2})? ?(?:\([\w ]*\))?",
    re.IGNORECASE,
)
YEAR_FIRST = re.compile(r"(?P<year>\d{4})([/.-])(?P<month>\d{1,2})\2(?P<day>\d{1,2})(?!\d)")
DOTTED = re.compile(r"(?P<day>\d{1,2})\. ?(?P<month>\d{1,2})\. ?(?P<year>\d{4})(?!\d)")
YEAR_LAST = re.compile(r"(?P<first>\d{1,2})([/-])(?P<second>\d{1,2})\2(?P<year>\d{4})(?!\d)")
DAY_OF_MONTH = r"(?P<day>\d{1,2})(?:st|nd|rd|th|\.)?"
MONTH_NAME = r"(?P<name>[^\W\d_]{3,9})\.?"
NAMED = (
    re.compile(rf"{DAY_OF_MONTH}[ -]{MONTH_NAME},?[ -](?P<year>\d{{4}})(?!\d)", re.IGNORECASE),
    re.compile(rf"{MONTH_NAME} {DAY_OF_MONTH},? (?P<year>\d{{4}})(?!\d)", re.IGNORECASE),
)
MONTHS = (
    "january januar jänner", "february februar feber", "march märz maerz", "april", "may mai",
    "june juni", "july juli", "august", "september", "october oktober", "november",
    "december dezember",
)  # fmt: skip
TAG = re.compile(r"([a-z]{2,3})(?:-[a-z0-9]{1,8}){0,8}", re.IGNORECASE)

# as people and tools write them: in English and in the language itself
LANGUAGES = {
    "english": "en", "german": "de", "deutsch": "de", "french": "fr", "français": "fr",
    "francais": "fr", "spanish": "es", "español": "es", "espanol": "es", "italian": "it",
    "italiano": "it", "dutch": "nl", "nederlands": "nl", "portuguese": "pt", "português": "pt",
    "portugues": "pt", "polish": "pl", "polski": "pl", "czech": "cs", "čeština": "cs",
    "danish": "da", "dansk": "da", "swedish": "sv", "svenska": "sv", "norwegian": "no",
    "norsk": "no", "finnish": "fi", "suomi": "fi", "hungarian": "hu", "magyar": "hu",
    "romanian": "ro", "română": "ro", "turkish": "tr", "türkçe": "tr", "russian": "ru",
    "русский": "ru", "ukrainian": "uk", "українська": "uk", "greek": "el", "ελληνικά": "el",
    "japanese": "ja", "日本語": "ja", "chinese": "zh", "中文": "zh", "korean": "ko", "한국어": "ko",
    "arabic": "ar", "العربية": "ar", "hebrew": "he", "עברית": "he", "hindi": "hi",
}  # fmt: skip

DAY_REMEDY = "write it as year-month-day, such as 2030-01-31"


def read_day(value: object) -> date | None:
    """The day from which mails may come again: of a moment within a day, the next one.

    Reads ISO 8601, seconds or milliseconds since 1970 (in UTC), days with the month's English or
    German name, and numbers with `/`, `.` or `-` where one order of them alone is a day.
    """
    text = _text(PAUSED_UNTIL, value, DAY_REMEDY)
    if not text:
        return None
    try:
        day, within = _moment(text)
        return day + timedelta(days=1) if within and day < date.max else day
    except (ValueError, OverflowError, OSError):
        raise _unreadable(PAUSED_UNTIL, "not a day", DAY_REMEDY) from None


def read_pace(value: object) -> str | None:
    """A key of GAPS; None for the usual pace."""
    remedy = f"write {', '.join(GAPS)} or {USUAL}"
    pace = _text(PACE, value, remedy).casefold()
    if pace in ("", USUAL):
        return None
    if pace not in GAPS:
        raise _unreadable(PACE, "not a pace that we know", remedy)
    return pace


def read_topics(value: object) -> tuple[str, ...] | None:
    """The topics as they are written, without blanks and repetitions; () for none at all, None for
    every topic.

    Reads a list, `a;b`, `a,b`, and a list as JSON in a text; `none` and `all` are words for it.
    """
    remedy = "write a list of topics, or one text such as cost;tools; an empty one means none"
    if value is None:
        return None
    if isinstance(value, str):
        word = value.strip().casefold()
        if word == "all":
            return None
        value = [] if word == "none" else _split(value)
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise _unreadable(TOPICS, "not a list of topics", remedy)
    topics = tuple(dict.fromkeys(topic for each in value if (topic := each.strip())))
    if len(topics) > MAX_TOPICS:
        raise _unreadable(TOPICS, f"more than {MAX_TOPICS} topics", "name fewer")
    return topics


def is_among(topic: str, topics: Sequence[str]) -> bool:
    """Whether the topic is one of them; case does not matter."""
    wanted = topic.strip().casefold()
    return any(wanted == each.casefold() for each in topics)


def read_language(value: object) -> str | None:
    """A language tag with `-`, its first part, the language itself, in lower case; `de_AT.UTF-8` is
    `de-AT`, and `German (Austria)` is `de`.
    """
    remedy = "write a language tag such as de or de-AT"
    text = _text(LANGUAGE, value, remedy).partition(".")[0].partition("@")[0].replace("_", "-")
    if not text:
        return None
    if named := LANGUAGES.get(text.partition("(")[0].strip().lower()):
        return named
    tag = TAG.fullmatch(text)
    if tag is None:
        raise _unreadable(LANGUAGE, "not a language tag", remedy)
    return tag[1].lower() + text[len(tag[1]) :]


def _day_as_text(value: object) -> str | None:
    day = read_day(value)
    return day.isoformat() if day else None


def _topics_as_list(value: object) -> list[str] | None:
    topics = read_topics(value)
    return None if topics is None else list(topics)


_READERS: Mapping[str, Callable[[object], Any]] = {
    TOPICS: _topics_as_list,
    PACE: read_pace,
    PAUSED_UNTIL: _day_as_text,
    LANGUAGE: read_language,
}
PREFERENCES = frozenset(_READERS)


def normal_traits(traits: Mapping[str, Any]) -> dict[str, Any]:
    """The traits with preferences in the form in which they are stored: an ISO day, a pace in
    lower case, a list of topics, a language tag.
    """
    return {
        name: reader(value) if (reader := _READERS.get(name)) else value
        for name, value in traits.items()
    }


def _text(name: str, value: object, remedy: str) -> str:
    """The value as a text without space around it; '' for null. Forms send a list where a field
    stands twice: its only value that is not blank counts.
    """
    if isinstance(value, list):
        filled = [each for each in value if each not in ("", None)]
        value = filled[0] if len(filled) == 1 else (value if filled else None)
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _unreadable(name, "neither a text nor a number", remedy)
    text = value if isinstance(value, str) else repr(value)
    if len(text) > MAX_TEXT:
        raise _unreadable(name, f"longer than {MAX_TEXT} characters", remedy)
    return " ".join(text.split())


def _split(text: str) -> object:
    """The parts of a text of several topics."""
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return None
    return text.split(";" if ";" in text else ",")


def _moment(text: str) -> tuple[date, bool]:
    """(day, whether the moment lies within it). Raises ValueError, OverflowError, OSError."""
    if SECONDS.fullmatch(text) or MILLISECONDS.fullmatch(text):
        seconds = float(text)
        moment = datetime.fromtimestamp(seconds / 1000 if len(text) == 13 else seconds, UTC)
        return moment.date(), bool(moment.hour or moment.minute or moment.second)
    if text.isdigit():
        if len(text) != 8:
            raise ValueError
        return date.fromisoformat(text), False
    try:
        moment = datetime.fromisoformat(text)
        return moment.date(), any(moment.timetuple()[3:6])
    except ValueError:
        return _written_day(text)


def _written_day(text: str) -> tuple[date, bool]:
    """The same of a day as people write it, perhaps with its name before and a time after it."""
    for bare in (text, text[_after_name(text) :]):
        for pattern in (YEAR_FIRST, DOTTED, YEAR_LAST, *NAMED):
            if found := pattern.match(bare):
                return _day_of(found), _is_within(bare[found.end() :])
    raise ValueError


def _after_name(text: str) -> int:
    """Where a text goes on after the name of a day of the week."""
    found = DAY_OF_WEEK.match(text)
    return found.end() if found else 0


def _day_of(found: re.Match[str]) -> date:
    parts = found.groupdict()
    year = int(parts["year"])
    if name := parts.get("name"):
        return date(year, _month(name.casefold()), int(parts["day"]))
    if "first" not in parts:
        return date(year, int(parts["month"]), int(parts["day"]))
    first, second = int(parts["first"]), int(parts["second"])
    if first != second and max(first, second) <= len(MONTHS):
        raise _unreadable(PAUSED_UNTIL, "a day that can be read in two ways", DAY_REMEDY)
    day, month = (first, second) if second <= len(MONTHS) else (second, first)
    return date(year, month, day)


def _month(name: str) -> int:
    """The number of a month by its name or how that begins. Raises ValueError."""
    for number, names in enumerate(MONTHS, 1):
        if any(full.startswith(name) for full in names.split()):
            return number
    raise ValueError


def _is_within(rest: str) -> bool:
    """Whether the time after a day is later than its midnight. Raises ValueError for what is no
    time.
    """
    if not rest:
        return False
    found = CLOCK_TIME.fullmatch(rest)
    if found is None:
        raise ValueError
    hour, minute, second = (int(found[part] or 0) for part in ("hour", "minute", "second"))
    if (found["half"] or "").lower().startswith("a") and hour == 12:
        hour = 0
    return bool(hour or minute or second)


def _unreadable(name: str, title: str, remedy: str) -> Reject:
    return Reject(title, where=f"/traits/{name}", remedy=remedy)
