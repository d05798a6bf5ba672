"""The mapping of a table with two or more arms."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from services.ingest.importing.mapping import Column, Mapping, Outcome, Step, Time
from services.shared.playbook.frozen import FrozenModel


def _as_column(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


def _list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class Arm(FrozenModel):
    """The column of the arm, and which of its values are the hold-out; known words for it where
    none is named. Those of `calendar` got the same content by the calendar.
    """

    column: str
    holdout: Annotated[list[str], BeforeValidator(_list)] = []
    calendar: Annotated[list[str], BeforeValidator(_list)] = []


class LiftMapping(Mapping):
    """The mapping of a table for `ripeline lift`: one row a lead."""

    kind: Literal["leads"] = "leads"
    arm: Annotated[Arm, BeforeValidator(_as_column)]
    outcome: Annotated[Outcome, BeforeValidator(_as_column)]
    account: str = ""
    entered_at: Annotated[Time | None, BeforeValidator(_as_column)] = None
    baseline: str = ""
    horizon: float = Field(0.0, ge=0)
    alpha: float = Field(0.05, gt=0, lt=0.5)
    planned: int = Field(10_000, ge=100)

    @model_validator(mode="after")
    def _makes_sense(self) -> "LiftMapping":
        if self.entered_at and not self.entered_at.column:
            raise ValueError("`entered_at` needs a column")
        if self.horizon and not self.entered_at:
            raise ValueError("`horizon` needs `entered_at`, the time at which it begins")
        return self

    def further_times(self) -> Iterator[tuple[Time | None, tuple[Step, ...]]]:
        yield self.entered_at, ("entered_at",)

    def further(self) -> Iterator[Column]:
        yield Column(self.arm.column, ("arm", "column"))
        for name in ("account", "baseline"):
            if column := getattr(self, name):
                yield Column(column, (name,))
        if self.entered_at:
            yield Column(self.entered_at.column, ("entered_at", "column"))
