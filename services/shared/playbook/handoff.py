"""The playbook's section `handoff`: who gets which lead, how many, and how long they have."""

from datetime import date
from typing import Self
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from services.shared.playbook.frozen import FrozenModel


def _known_zone(value: str) -> str:
    try:
        return ZoneInfo(value).key if value else ""
    except (ValueError, OSError, KeyError):
        raise ValueError("no time zone; write a name such as Europe/Berlin") from None


class Absence(FrozenModel):
    """Days on which an owner gets nothing, the first and the last among them."""

    first_day: date
    last_day: date

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last_day < self.first_day:
            raise ValueError("it ends before it begins; swap first_day and last_day")
        return self


class Territory(FrozenModel):
    """Leads whose trait has one of these values, in any case."""

    trait: str
    one_of: list[str] = Field(min_length=1)


class Owner(FrozenModel):
    """Who takes leads over, by mail address.

    `weight` is the share in the round robin, 0 for accounts and territories alone; `per_week` how
    many a week at most. Without hours and time zone of its own the section's count.
    """

    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)
    name: str = ""
    weight: float = Field(1, ge=0, le=100)
    per_week: int | None = Field(None, ge=0)
    accounts: list[str] = Field([], description="domains of companies whose leads are theirs")
    territories: list[Territory] = []
    absent: list[Absence] = []
    timezone: str = ""
    day_from: int | None = Field(None, ge=0, le=23)
    day_until: int | None = Field(None, ge=1, le=24)

    _zone = field_validator("timezone")(_known_zone)

    @field_validator("email")
    @classmethod
    def _as_people_have_it(cls, value: str) -> str:
        return value.lower()


class ResponseHours(FrozenModel):
    """Working hours until the first response, by the kind of hand-off."""

    raised_hand: float = Field(2, gt=0, le=1000)
    ready: float = Field(16, gt=0, le=1000)
    reawakened: float = Field(16, gt=0, le=1000)


class Handoff(FrozenModel):
    """When leads are handed over to sales, to whom, and what the clock is.

    `ready_stages`: the model's last stage where none is named. `capacity_per_week`: no limit where
    it is not set. `expires_days` are working days, or days of the calendar without `business_days`.
    `country`: of the time zone where none is named. `again_days`: who was given back is handed over
    again so long after it at the earliest. `reawaken_days` of silence come before an alert.
    `own_reasons` come beside `sales.disqualify_reasons`; `no_show_reasons` give the owner credit in
    the round robin.
    """

    owners: list[Owner] = []
    owner_trait: str = "owner"
    capacity_per_week: int | None = Field(None, ge=0)
    raised_hand: list[str] = ["demo_requested", "enquired"]
    ready_stages: list[str] = []
    min_likelihood: float = Field(0, ge=0, le=1)
    response_hours: ResponseHours = ResponseHours()
    reassign: bool = True
    expires_days: int = Field(7, ge=1, le=90)
    business_days: bool = True
    working_days: list[int] = Field([0, 1, 2, 3, 4], min_length=1)
    day_from: int = Field(9, ge=0, le=23)
    day_until: int = Field(17, ge=1, le=24)
    timezone: str = ""
    holidays: bool = True
    country: str = Field("", max_length=2, description="ISO 3166, for public holidays")
    again_days: float = Field(30, ge=0, le=3660)
    reawaken_days: float = Field(60, ge=7, le=3660)
    own_reasons: list[str] = ["bad_timing", "not_ready", "not_reached", "no_show", "wrong_owner"]
    no_show_reasons: list[str] = ["no_show", "not_reached", "bad_data"]

    _zone = field_validator("timezone")(_known_zone)

    @field_validator("working_days")
    @classmethod
    def _days(cls, value: list[int]) -> list[int]:
        if not all(0 <= day <= 6 for day in value):
            raise ValueError("a working day is 0 (Monday) to 6 (Sunday)")
        return sorted(set(value))

    @model_validator(mode="after")
    def _hours(self) -> Self:
        for person in (None, *self.owners):
            start = self.day_from if person is None or person.day_from is None else person.day_from
            end = self.day_until if person is None or person.day_until is None else person.day_until
            if end <= start:
                whose = f" of {person.email}" if person else ""
                raise ValueError(f"the working day{whose} ends before it begins; raise day_until")
        if len({owner.email.lower() for owner in self.owners}) < len(self.owners):
            raise ValueError("an owner is named twice; each mail address stands once")
        return self

    @property
    def by_email(self) -> dict[str, Owner]:
        """The owners by mail address."""
        return {owner.email: owner for owner in self.owners}
