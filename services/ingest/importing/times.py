"""Times as files write them: ISO in all its forms, days and months in the order of their column,
English months, seconds or milliseconds since 1970, spreadsheets' days, or a format that the mapping
names.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from services.ingest.importing.header import Header
from services.ingest.importing.mapping import Time
from services.shared.clock import EPOCH
from services.shared.errors import Reject

DIGITS = re.compile(r"\d{5,19}(\.\d{1,12})?")
CALENDAR = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}  # by the number of digits
YEARS = range(1970, 2101)  # of times that are written in digits alone
SECONDS, MILLIS = range(9, 11), range(12, 14)  # digits of a number since 1970
NEAR_1970 = timedelta(seconds=1_000_000)  # a number that small counts something else
TOMORROW = timedelta(days=1)  # what lies behind it is in the future, wherever on earth it is
SERIAL = re.compile(r"[2-7]\d{4}(?:[.,]\d{1,15})?")  # days since 1900 from 1954 to 2119
SERIAL_0 = datetime(1899, 12, 30)  # noqa: DTZ001 the zone is that of the column

CLOCK = (
    r"(?:[ T,]\s*+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,6})\d*+)?)?\s*+(?:([AaPp])\.?[Mm]\.?)?"
    r"\s*+(Z|UTC|GMT|[+-]\d{2}:?\d{2})?)?"
)
YEAR_FIRST = re.compile(r"(\d{4})([/.\-])(\d{1,2})\2(\d{1,2})" + CLOCK, re.IGNORECASE)
YEAR_LAST = re.compile(r"(\d{1,2})([/.\-])(\d{1,2})\2(\d{4})" + CLOCK, re.IGNORECASE)
DAY_MONTH = re.compile(
    r"(\d{1,2})[ .\-]\s?([a-z]{3,9})\.?[ ,\-]{1,2}(\d{4})" + CLOCK, re.IGNORECASE
)
MONTH_DAY = re.compile(r"([a-z]{3,9})\.? (\d{1,2}),? (\d{4})" + CLOCK, re.IGNORECASE)
MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
OFFSET = re.compile(r"(?<=[\d.]) ?(UTC|GMT|Z)$", re.IGNORECASE)
DATE = re.compile(r"\d{1,4}[/.\-]\d{1,2}[/.\-]\d{1,4}\b.*", re.DOTALL)

AMBIGUOUS = "a date that can be read in two ways"
DMY, MDY, EITHER = "dmy", "mdy", "either"

Cells = list[str]
Read = Callable[[Cells], datetime | None]


class Manner(NamedTuple):
    """How a column writes its times: the order of day and month (`dmy`, `mdy`, '' for unknown), and
    whether its numbers are a spreadsheet's days.
    """

    order: str = ""
    serial: bool = False


PLAIN = Manner()
Manners = Mapping[int, Manner]  # by the column's number


def reader(
    time: Time | None,
    header: Header,
    zone: str,
    manners: Manners | None = None,
    now: datetime | None = None,
) -> Read:
    """How the moment of a row is read, in UTC: None where the row has none. It raises Reject for
    what is no time.

    `zone` is that of times that name none, where the mapping does not say another. `manners` say
    how the file's columns write their times; without `now` the system's clock tells what is in the
    future.
    """
    if time is None:
        return _undated
    near = ZoneInfo(time.zone or zone)
    if time.constant:
        moment = parse(time.constant, near, time.format, Manner(time.order))
        return lambda _: moment
    found = header.find(time.column)
    if found is None:
        return _undated
    column, form = found, time.format
    manner = (manners or {}).get(column, PLAIN)
    manner = manner._replace(order=time.order or manner.order)
    latest = (now or datetime.now(UTC)) + TOMORROW

    def read(cells: Cells) -> datetime | None:
        text = cells[column].strip()
        if not text:
            return None
        moment = parse(text, near, form, manner)
        if moment > latest and not form and (DIGITS.fullmatch(text) or is_serial(text)):
            raise _no_time("digits that would be a time in the future")
        return moment

    return read


@lru_cache(maxsize=4096)
def parse(text: str, zone: tzinfo, form: str = "", manner: Manner = PLAIN) -> datetime:
    """The moment in UTC; where the text names no zone it is in `zone`. Raises Reject."""
    try:
        moment = _formatted(text, form) if form else _plain(text, manner)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        if form:
            raise Reject(
                "a time in another format", where="time", remedy=f"the mapping's format is {form!r}"
            ) from None
        if DATE.fullmatch(text) and (not YEAR_LAST.fullmatch(text) or order_of(text) == EITHER):
            remedy = (
                "say which is the day: in the mapping write `time: {column: …, order: dmy}`, or "
                "mdy, or name a `format` like '%d/%m/%Y'"
            )
            raise Reject(AMBIGUOUS, where="time", remedy=remedy) from None
        raise _no_time("not a time") from None


@lru_cache(maxsize=4096)
def order_of(text: str) -> str:
    """Which order of day and month the text shows: `dmy`, `mdy`, `either`, or '' for none."""
    date = YEAR_LAST.fullmatch(text)
    if not date or date[1] == date[3]:
        return ""
    first, second = int(date[1]), int(date[3])
    if first > 12 and second > 12:
        return ""
    return DMY if first > 12 else MDY if second > 12 else EITHER


def is_serial(text: str) -> bool:
    """Whether it may be a spreadsheet's day."""
    return SERIAL.fullmatch(text) is not None


def _no_time(what: str) -> Reject:
    remedy = "write 2026-03-04 or 2026-03-04T05:06:07Z, or name the `format` in the mapping"
    return Reject(what, where="time", remedy=remedy)


def _undated(_: Cells) -> None:
    return None


def _formatted(text: str, form: str) -> datetime:
    return datetime.strptime(text, form)  # noqa: DTZ007 the zone follows where the format has none


def _plain(text: str, manner: Manner) -> datetime:
    if manner.serial and is_serial(text):
        days = float(text.replace(",", "."))
        return SERIAL_0 + timedelta(seconds=round(days * 86_400))
    if DIGITS.fullmatch(text):  # before ISO, which reads some of these as days and times
        return _digits(text)
    with suppress(ValueError):
        return datetime.fromisoformat(text)
    if date := YEAR_FIRST.fullmatch(text):
        year, _, month, day, *clock = date.groups()
        return _moment(year, month, day, clock)
    if date := YEAR_LAST.fullmatch(text):
        first, _, second, year, *clock = date.groups()
        order = order_of(text)
        if order == EITHER:
            order = manner.order
        elif not order and first == second:
            order = DMY
        if not order:
            raise ValueError(text)
        day, month = (first, second) if order == DMY else (second, first)
        return _moment(year, month, day, clock)
    if date := DAY_MONTH.fullmatch(text):
        day, name, year, *clock = date.groups()
        return _moment(year, _month(name), day, clock)
    if date := MONTH_DAY.fullmatch(text):
        name, day, year, *clock = date.groups()
        return _moment(year, _month(name), day, clock)
    return datetime.fromisoformat(OFFSET.sub("+00:00", text))


def _digits(text: str) -> datetime:
    """A calendar date without marks, or a number since 1970. Raises ValueError."""
    whole, _, fraction = text.partition(".")
    if (form := CALENDAR.get(len(whole))) and not fraction:
        with suppress(ValueError):
            moment = _formatted(whole, form)
            if moment.year in YEARS and moment - EPOCH.replace(tzinfo=None) >= NEAR_1970:
                return moment
    if len(whole) not in (*SECONDS, *MILLIS):
        raise ValueError(text)
    since = timedelta(seconds=float(text) / (1000 if len(whole) in MILLIS else 1))
    if since < NEAR_1970:
        raise ValueError(text)
    return EPOCH + since


def _month(name: str) -> str:
    """The number of an English month, written in full or by its beginning. Raises ValueError."""
    found = [n for n, month in enumerate(MONTHS, 1) if month.startswith(name.lower())]
    if len(found) != 1:
        raise ValueError(name)
    return str(found[0])


def _moment(year: str, month: str, day: str, clock: list[str | None]) -> datetime:
    """The moment of a date and the groups of `CLOCK`. Raises ValueError."""
    hour, minute, second, fraction, half, zone = clock
    hours = int(hour or 0)
    if half:
        if not 1 <= hours <= 12:
            raise ValueError(hour)
        hours = hours % 12 + (12 if half in "Pp" else 0)
    micros = int((fraction or "").ljust(6, "0"))
    return datetime(
        int(year), int(month), int(day), hours, int(minute or 0), int(second or 0), micros,
        tzinfo=_offset(zone) if zone else None,
    )  # fmt: skip


def _offset(zone: str) -> tzinfo:
    if zone[0] not in "+-":
        return UTC
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if zone[0] == "-" else offset)
