"""Working time: days and hours on which somebody answers, across weekends, public holidays and
changes of clocks. Pure.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple, Self
from zoneinfo import ZoneInfo

from services.shared.playbook.handoff import Handoff, Owner
from services.shared.public_holidays import country_of_zone, is_holiday

FARTHEST_DAYS = 4_000  # that are looked at


class WorkingTime(NamedTuple):
    """Working days (0 is Monday) with the full hours from which and until which somebody works;
    `country` has the holidays (ISO 3166), '' for none.
    """

    zone: ZoneInfo
    days: frozenset[int]
    day_from: int
    day_until: int
    country: str = ""

    @classmethod
    def of(cls, rules: Handoff, company_zone: str, owner: Owner | None = None) -> Self:
        """That of the section, or of an owner with hours of its own."""
        zone = (owner.timezone if owner else "") or rules.timezone or company_zone
        start = owner.day_from if owner and owner.day_from is not None else rules.day_from
        end = owner.day_until if owner and owner.day_until is not None else rules.day_until
        country = (rules.country or country_of_zone(zone)) if rules.holidays else ""
        return cls(ZoneInfo(zone), frozenset(rules.working_days), start, end, country.upper())

    def is_working_day(self, day: date) -> bool:
        """Whether somebody works on that day."""
        return day.weekday() in self.days and not is_holiday(self.country, day)

    def is_open(self, moment: datetime) -> bool:
        """Whether somebody works at that moment."""
        return self.opens(moment) == moment

    def opens(self, moment: datetime) -> datetime:
        """The first instant of working time from `moment` on, in UTC."""
        start, _ = next(self._windows(moment))
        return max(start, moment.astimezone(UTC))

    def after_hours(self, moment: datetime, hours: float) -> datetime:
        """The instant at which so many working hours have passed since `moment`, in UTC."""
        left = timedelta(hours=hours)
        for start, end in self._windows(moment):
            begun = max(start, moment)
            if end - begun >= left:
                return (begun + left).astimezone(UTC)
            left -= end - begun
        raise AssertionError("working time without an end has one")

    def after_days(self, moment: datetime, days: int) -> datetime:
        """The same time of day so many working days later, counted from the first instant of
        working time, in UTC.
        """
        local = self.opens(moment).astimezone(self.zone)
        day, left = local.date(), days
        while left:
            day += timedelta(days=1)
            left -= self.is_working_day(day)
        return self._at(day, local.time())

    def after_calendar_days(self, moment: datetime, days: int) -> datetime:
        """The same time of day so many days later, in UTC."""
        local = moment.astimezone(self.zone)
        return self._at(local.date() + timedelta(days=days), local.time())

    def hours_between(self, since: datetime, until: datetime) -> float:
        """Working hours between two instants; 0 where the second is not later."""
        passed = timedelta()
        for start, end in self._windows(since):
            if start >= until:
                break
            passed += max(min(end, until) - max(start, since), timedelta())
        return passed / timedelta(hours=1)

    def _windows(self, moment: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Working time from `moment` on, a day at a time, in UTC."""
        day = moment.astimezone(self.zone).date()
        for ahead in range(FARTHEST_DAYS):
            each = day + timedelta(days=ahead)
            if self.is_working_day(each):
                end = self._at(each, time(self.day_until % 24), self.day_until == 24)
                if end > moment:
                    yield self._at(each, time(self.day_from)), end

    def _at(self, day: date, at: time, of_next_day: bool = False) -> datetime:
        """A time of day in UTC; the first of two, and what a change of clocks leaves out as late
        after the day's begin as it would be.
        """
        local = datetime.combine(day + timedelta(days=of_next_day), at, self.zone)
        return local.replace(fold=0).astimezone(UTC)
