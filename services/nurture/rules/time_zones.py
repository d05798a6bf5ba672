"""In which time zones a lead may live, read as people and tools write them. Pure."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from tzlocal.windows_tz import win_tz

from services.shared.public_holidays import country_of_zone

MAX_NAME = 80  # characters of what may be a zone's name or a country's
WIDEST = timedelta(hours=14)  # no zone is further from UTC
# UTC-5, GMT+02:00, +0530; Windows also writes (UTC+01:00) Amsterdam, Berlin
OFFSET = re.compile(r"\(?(?:utc|gmt)?([+\u2212-])(\d{1,2})(?::?(\d{2}))?(?:\).{0,60})?")


def zones_of(traits: Mapping[str, Any], company: str) -> tuple[tzinfo, ...]:
    """The lead's own zone; where that is not known or not understood, every zone of its country;
    where that is not either, the company's.
    """
    own = read_zone(traits.get("timezone"))
    if own is not None:
        return (own,)
    return zones_of_country(traits.get("country")) or (read_zone(company) or UTC,)


def is_unreadable(traits: Mapping[str, Any]) -> bool:
    """Whether the lead names a zone that is not understood."""
    name = traits.get("timezone")
    return name not in (None, "") and read_zone(name) is None


def read_zone(name: object) -> tzinfo | None:
    """The zone of a name of IANA's or Windows', or of a distance from UTC; None for anything else.

    Case and blanks do not matter.
    """
    return _zone(name) if isinstance(name, str) and len(name) <= MAX_NAME else None


def zones_of_country(country: object) -> tuple[tzinfo, ...]:
    """The zones of a country, by its code of ISO 3166 or its English name; none where it is not
    known.
    """
    if not isinstance(country, str) or len(country) > MAX_NAME:
        return ()
    return _countries().get(_plain(country), ())


def country_of(traits: Mapping[str, Any], company: str) -> str:
    """The code (ISO 3166) of the lead's country; where that is not known, of its own zone's, and
    where it has none of the company's; '' where nothing tells.
    """
    named = traits.get("country")
    if isinstance(named, str) and len(named) <= MAX_NAME and (code := _codes().get(_plain(named))):
        return code
    zone = read_zone(traits.get("timezone")) or read_zone(company)
    return country_of_zone(getattr(zone, "key", ""))


def latest_day(zones: tuple[tzinfo, ...], now: datetime) -> date:
    """The day in the zone that is furthest ahead."""
    return max(now.astimezone(zone).date() for zone in zones)


def _plain(name: str) -> str:
    return re.sub(r"[\s_]", "", name).casefold()


@lru_cache(1024)
def _zone(written: str) -> tzinfo | None:
    plain = _plain(written)
    if name := _names().get(plain):
        return ZoneInfo(name)
    found = OFFSET.fullmatch(plain)
    if found is None:
        return None
    offset = timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
    if offset > WIDEST or int(found[3] or 0) > 59:
        return None
    return timezone(offset if found[1] == "+" else -offset)


@lru_cache(1)
def _names() -> dict[str, str]:
    """IANA's names, and by Windows' names (CLDR) those that they stand for."""
    windows = {_plain(name): zone for name, zone in win_tz.items()}
    return windows | {_plain(name): name for name in available_timezones()}


@lru_cache(1)
def _countries() -> dict[str, tuple[tzinfo, ...]]:
    """Zones by country, from the tables of tzdata."""
    zones: dict[str, list[tzinfo]] = {}
    for codes, _, zone, *_ in _table("zone1970.tab"):
        for code in codes.split(","):
            zones.setdefault(code, []).append(ZoneInfo(zone))
    known = {}
    for code, name in _table("iso3166.tab"):
        for word in (code, name):
            known[_plain(word)] = tuple(zones.get(code, ()))
    return known


@lru_cache(1)
def _codes() -> dict[str, str]:
    """Codes of countries by their codes and English names."""
    return {_plain(word): code for code, name in _table("iso3166.tab") for word in (code, name)}


def _table(name: str) -> list[list[str]]:
    lines = (files("tzdata") / "zoneinfo" / name).read_text("utf-8").splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]
