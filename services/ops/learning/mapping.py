"""The mapping of a table with outcomes: as for an import, and how to learn from it and to judge."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import yaml
from pydantic import BeforeValidator, Field, model_validator

from services.ingest.importing.header import Header
from services.ingest.importing.mapping import ALL, IDENTIFIERS, Column, Mapping, Outcome
from services.scorer.learning.histories import I
from services.shared.playbook.frozen import FrozenModel

DEFAULT_LANDMARKS = [1.0, 3.0, 7.0, 14.0, 21.0]
DEFAULT_HORIZON = 90.0  # days, as the model's
# names of columns that tell accounts apart
ACCOUNTS = (
    "account", "account_id", "account id", "account name", "company", "company_id", "company id",
    "company name", "organisation", "organization", "domain", "buying_group",
)  # fmt: skip


def _list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class TableOutcome(Outcome):
    """What is predicted: an event of a `type`, or a row whose `column` has one of `equals`."""

    column: str = ""
    type: str = ""

    @model_validator(mode="after")
    def _exactly_one(self) -> "TableOutcome":
        if bool(self.column) == bool(self.type):
            raise ValueError("name the `type` of an event, or a `column` with `equals`")
        return self


class Folds(FrozenModel):
    """How rows are held out: `k` parts of the leads, `seeds` times; or what comes after the first
    `at` of the leads. `online` learns on, from outcomes that come `label_delay` rows late.
    """

    by: Literal["lead", "time"] = "lead"
    k: int = Field(5, ge=2, le=50)
    seeds: int = Field(1, ge=1, le=20)
    at: float = Field(0.7, gt=0, lt=1)
    online: bool = False
    label_delay: int = Field(0, ge=0)

    def of(self, fold: int, rows: int) -> tuple[I, I]:
        """Seed and number of a fold, for each of its rows."""
        return np.full(rows, fold // self.k), np.full(rows, fold)

    @model_validator(mode="after")
    def _online_by_time(self) -> "Folds":
        if self.online and self.by != "time":
            raise ValueError("`online` needs `by: time`")
        return self


class TableMapping(Mapping):
    """The mapping of a table for `ripeline evaluate`."""

    guide: ClassVar[str] = "docs/learning.md"
    column_lists: ClassVar[tuple[str, ...]] = ("drop", "known_at_capture")

    kind: Literal["leads", "events"]
    outcome: TableOutcome
    landmarks: Annotated[list[float], BeforeValidator(_list)] = DEFAULT_LANDMARKS
    horizon: float = Field(DEFAULT_HORIZON, gt=0)
    folds: Folds = Folds()
    capacity: int | None = Field(None, ge=1)  # leads that sales can work a week
    known_at_capture: Annotated[list[str], BeforeValidator(_list)] = []

    @model_validator(mode="after")
    def _makes_sense(self) -> "TableMapping":
        if self.kind == "leads":
            if self.outcome and self.outcome.type:
                raise ValueError("a table of leads needs an outcome's `column` and `equals`")
            return self
        if not self.key:
            raise ValueError("events need the column of their `lead`")
        if not self.time or not self.time.column:
            raise ValueError("events need the column of their `time`")
        if not self.type and not (self.outcome and self.outcome.column):
            raise ValueError("events need a `type`")
        if not self.landmarks or min(self.landmarks) < 0:
            raise ValueError("`landmarks` are days of a lead's life, 0 or more")
        return self

    @property
    def key(self) -> str:
        """The column that tells one lead from another, '' where rows do."""
        return next((column for name in IDENTIFIERS if (column := getattr(self, name))), "")

    def account_in(self, header: Header) -> int | None:
        """The place of the column of accounts that are held out together; None for leads alone."""
        return None

    @property
    def takes_all(self) -> bool:
        """Whether every column that is not used otherwise is an attribute: so for leads, unless the
        mapping lists traits.
        """
        return self.traits == ALL or (self.kind == "leads" and not self.traits)


class QuestionMapping(TableMapping):
    """The mapping of a table for `ripeline evidence`: `account` is the column of what is held out
    together, `content` are the types, or columns of a table of leads, that are content consumption.
    """

    column_lists: ClassVar[tuple[str, ...]] = ("drop", "known_at_capture")

    account: str = ""
    content: Annotated[list[str], BeforeValidator(_list)] = []

    def further(self) -> Iterator[Column]:
        if self.account:
            yield Column(self.account, ("account",))

    def account_in(self, header: Header) -> int | None:
        """The place of the column of accounts: as named, else by its name."""
        company = self.company
        named = self.account or (company and (company.column or company.text)) or ""
        if named:
            return header.find(named)
        return next((place for name in ACCOUNTS if (place := header.find(name)) is not None), None)


class FilterMapping(TableMapping):
    """The mapping of a table of events for `ripeline filter`: what is only for learning may be left
    out.
    """

    kind: Literal["events"]
    outcome: TableOutcome | None = None  # type: ignore[assignment]  # narrower where learned from


def kind_of(mapping: str) -> str:
    """The kind that a mapping's file says it has; '' where that cannot be read."""
    try:
        given = yaml.load(Path(mapping).read_text("utf-8-sig"), yaml.CBaseLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return ""
    return str(given.get("kind", "")) if isinstance(given, dict) else ""
