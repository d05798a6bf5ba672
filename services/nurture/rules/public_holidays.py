"""Public holidays by country, of the whole of it, with the days that stand for them. Pure."""

from datetime import date
from functools import lru_cache

import holidays


def is_holiday(country: str, day: date) -> bool:
    """Whether nobody works there on that day; `country` is a code of ISO 3166. Of a country that is
    not known no day is.
    """
    return bool(country) and day in _holidays(country, day.year)


@lru_cache(2048)
def _holidays(country: str, year: int) -> frozenset[date]:
    try:
        return frozenset(holidays.country_holidays(country, years=year))
    except NotImplementedError:
        return frozenset()
