"""Times as files write them: ISO in all its forms, seconds or milliseconds since 1970, or a format
that the mapping names.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from services.ingest.importing.header import Header
from services.ingest.importing.mapping import Time
from services.shared.clock import EPOCH
from services.shared.errors import Reject

SINCE_1970 = re.compile(r"\d{9,10}(\.\d{1,6})?|\d{12,13}")
MILLIS = 11  # digits from which on a number counts milliseconds
YEAR_FIRST = re.compile(r"(\d{4})/(\d{1,2})/(\d{1,2})(.*)", re.DOTALL)
OFFSET = re.compile(r"(?<=[\d.]) ?(UTC|GMT|Z)$", re.IGNORECASE)
DATE = re.compile(r"\d{1,4}[/.\-]\d{1,2}[/.\-]\d{1,4}\b.*", re.DOTALL)

AMBIGUOUS = "a date that can be read in two ways"

Cells = list[str]
Read = Callable[[Cells], datetime | None]


def reader(time: Time | None, header: Header, zone: str) -> Read:
    """How the moment of a row is read, in UTC: None where the row has none. It raises Reject for
    what is no time.

    `zone` is that of times that name none, where the mapping does not say another.
    """
    if time is None:
        return _undated
    near = ZoneInfo(time.zone or zone)
    if time.constant:
        moment = parse(time.constant, near, time.format)
        return lambda _: moment
    found = header.find(time.column)
    if found is None:
        return _undated
    column, form = found, time.format

    def read(cells: Cells) -> datetime | None:
        text = cells[column].strip()
        return parse(text, near, form) if text else None

    return read


@lru_cache(maxsize=4096)
def parse(text: str, zone: tzinfo, form: str = "") -> datetime:
    """The moment in UTC; where the text names no zone it is in `zone`. Raises Reject."""
    try:
        moment = _formatted(text, form) if form else _plain(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        if form:
            raise Reject(
                "a time in another format", where="time", remedy=f"the mapping's format is {form!r}"
            ) from None
        if DATE.fullmatch(text):
            remedy = (
                "say which is the day: in the mapping write `time: {column: …, format: "
                "'%d/%m/%Y'}`, or '%m/%d/%Y'"
            )
            raise Reject(AMBIGUOUS, where="time", remedy=remedy) from None
        remedy = "write 2026-03-04 or 2026-03-04T05:06:07Z, or name the `format` in the mapping"
        raise Reject("not a time", where="time", remedy=remedy) from None


def _undated(_: Cells) -> None:
    return None


def _formatted(text: str, form: str) -> datetime:
    return datetime.strptime(text, form)  # noqa: DTZ007 the zone follows where the format has none


def _plain(text: str) -> datetime:
    if SINCE_1970.fullmatch(text):  # before ISO, which reads some of these as days and times
        number = float(text)
        return EPOCH + timedelta(
            seconds=number / 1000 if len(text.partition(".")[0]) > MILLIS else number
        )
    with suppress(ValueError):
        return datetime.fromisoformat(text)
    if slashed := YEAR_FIRST.fullmatch(text):
        year, month, day, rest = slashed.groups()
        text = f"{year}-{month:0>2}-{day:0>2}{rest}"
    return datetime.fromisoformat(OFFSET.sub("+00:00", text))
