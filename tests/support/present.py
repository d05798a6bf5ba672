"""The present of the tests: the machine's, or the moment that RIPELINE_TEST_AT names, for them and
for what they start.
"""

import os
import time
from datetime import datetime, timedelta

from services.shared.clock import Clock


def _clock() -> Clock:
    """That of the test that started this process; one that goes on from RIPELINE_TEST_AT; else
    the machine's.
    """
    if given := os.environ.get("RIPELINE_CLOCK"):
        return Clock.parse(given)
    if moment := os.environ.get("RIPELINE_TEST_AT"):
        return Clock(ahead=round(datetime.fromisoformat(moment).timestamp() - time.time(), 3))
    return Clock()


CLOCK = _clock()


def now() -> datetime:
    """The moment at which the tests and their services are."""
    return CLOCK.now()


def by_machine(moment: datetime) -> datetime:
    """The machine's time at this moment of the tests, for libraries that know no other clock."""
    return moment - timedelta(seconds=CLOCK.ahead)


def ago(**span: float) -> str:
    """A time before now, as senders write it."""
    return (now() - timedelta(**span)).isoformat()


def midday_zone() -> str:
    """A time zone in which it is about noon, so that no quiet hours delay a touch."""
    ahead = 12 - now().hour
    return f"Etc/GMT{-ahead:+d}"


def environment() -> dict[str, str]:
    """Our environment without any setting of Ripeline but the present, for processes that tests
    start.
    """
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RIPELINE_")}
    return plain | (
        {"RIPELINE_CLOCK": str(CLOCK), "RIPELINE_ENVIRONMENT": "test"} if CLOCK.ahead else {}
    )
