"""Public holidays by country, of the whole of it, with the days that stand for them. Pure."""

from datetime import date
from functools import lru_cache
from importlib.resources import files

import holidays


def is_holiday(country: str, day: date) -> bool:
    """Whether nobody works there on that day; `country` is a code of ISO 3166. Of a country that is
    not known no day is.
    """
    return bool(country) and day in _holidays(country, day.year)


def country_of_zone(zone: str) -> str:
    """The code (ISO 3166) of the country of a zone by its name of IANA's; '' where it has none."""
    return _countries_of_zones().get(zone, "")


@lru_cache(2048)
def _holidays(country: str, year: int) -> frozenset[date]:
    try:
        return frozenset(holidays.country_holidays(country, years=year))
    except NotImplementedError:
        return frozenset()


@lru_cache(1)
def _countries_of_zones() -> dict[str, str]:
    lines = (files("tzdata") / "zoneinfo" / "zone.tab").read_text("utf-8").splitlines()
    columns = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return {zone: code for code, _, zone, *_ in columns}
