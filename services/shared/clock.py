"""The clock that all services take as a setting: the wall clock, the demo's compressed one, or one
that is set ahead.
"""

import time
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, tzinfo

US = 1_000_000  # microseconds in a second: the unit of every instant inside the fold
DAY = 86_400 * US
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime, exact."""
    delta = moment - EPOCH
    return (delta.days * 86_400 + delta.seconds) * US + delta.microseconds


def from_us(instant: int) -> datetime:
    """The aware UTC datetime of microseconds since 1970; the end of the calendar for what lies
    beyond, as the margin of a plot may.
    """
    seconds, micros = divmod(int(instant), US)
    try:
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)
    except (ValueError, OverflowError):
        return FIRST if instant < 0 else LAST


def local_time(moment: datetime, zone: tzinfo) -> datetime:
    """The moment by a zone's clock; in UTC at the ends of the calendar, which it would leave."""
    try:
        return moment.astimezone(zone)
    except OverflowError:
        return moment.astimezone(UTC)


def rfc3339(moment: datetime) -> str:
    """`2026-01-02T03:04:05.000006Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True)
class Clock:
    """Maps the machine's time to the system's: `days` pass in `seconds` from `origin`, ending at
    the wall clock.

    `days=0` is the wall clock itself, `ahead` the seconds by which all of it is moved (negative:
    into the past). Written as the setting `ORIGIN,DAYS,SECONDS`, e.g. `1767225600.0,60,60`, or
    `ORIGIN,DAYS,SECONDS,AHEAD`.
    """

    origin: float = 0.0
    days: float = 0.0
    seconds: float = 1.0
    ahead: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Clock":
        """The clock of a setting; the empty string is the wall clock."""
        if not text:
            return cls()
        origin, days, seconds, *ahead = (float(part) for part in text.split(","))
        return cls(origin, days, seconds, *ahead)

    def __str__(self) -> str:
        return ",".join(map(str, astuple(self))) if self.days or self.ahead else ""

    def now_us(self) -> int:
        """The present, in microseconds since 1970."""
        wall = time.time()
        remaining = 1.0 - (wall - self.origin) / self.seconds
        if not self.days or remaining <= 0:
            return int((wall + self.ahead) * US)
        end = self.origin + self.seconds + self.ahead
        return int((end - self.days * 86_400 * min(remaining, 1.0)) * US)

    def now(self) -> datetime:
        """The present, as an aware datetime."""
        return from_us(self.now_us())

    @property
    def compressed(self) -> bool:
        """Whether time still runs faster than life."""
        return bool(self.days) and time.time() < self.origin + self.seconds
