"""The mapping of a file: which column means what, as typed YAML."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, field_validator, model_validator

from services.ingest.sources.imports import MAX_DAYS
from services.shared.playbook.frozen import FrozenModel

ALL = "all"
IDENTIFIERS = ("lead", "email", "user_id", "anonymous_id")
VALUES = ("source", "campaign", "company", "product", "content_id", "url")
# what says how a file is read, before anything is known of its columns
READING = ("encoding", "delimiter", "skip_lines", "sheet")
MAX_SKIPPED = 1_000  # lines
ANY = "*"  # of `equals`: whatever stands there
Step = int | str


def _list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _as(name: str) -> BeforeValidator:
    """A text stands for the mapping that has it under `name`."""
    return BeforeValidator(lambda value: {name: value} if isinstance(value, str) else value)


class Time(FrozenModel):
    """When it happened: a column, in a strptime `format` where it is not ISO, or one moment for all
    rows. `order` says whether 3/4/2026 begins with the day.

    `zone` is that of times that name none; without it they are in the company's.
    """

    column: str = ""
    format: str = ""
    order: Literal["", "dmy", "mdy"] = ""
    zone: str = ""
    constant: str = ""

    @model_validator(mode="after")
    def _exactly_one(self) -> "Time":
        if bool(self.column) == bool(self.constant):
            raise ValueError("name a column or a constant, not both")
        return self

    @field_validator("zone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            return name and ZoneInfo(name).key
        except (ValueError, OSError, KeyError):
            raise ValueError(f"no time zone {name!r}; write one like Europe/Berlin") from None


class Type(FrozenModel):
    """What happened: a `name` for all rows (or of a column), or a column whose values `names`
    translates.
    """

    name: str = ""
    column: str = ""
    names: dict[str, str] = {}

    @model_validator(mode="after")
    def _exactly_one(self) -> "Type":
        if bool(self.column) == bool(self.name):
            raise ValueError("write a type's name, or a column with names")
        return self


class Value(FrozenModel):
    """A value of every row: the cell of a column where a header has the name in `text`, else the
    text itself; `column` and `constant` say which.
    """

    text: str = Field("", alias="said")
    column: str = ""
    constant: str = ""

    @model_validator(mode="after")
    def _exactly_one(self) -> "Value":
        if sum(map(bool, (self.text, self.column, self.constant))) != 1:
            raise ValueError("write a word, or a column, or a constant")
        return self


class ExternalId(FrozenModel):
    """The lead's id in another system."""

    column: str
    system: str = "crm"


class Consent(FrozenModel):
    """A permission given or withdrawn: in every row, or where the column says one of `equals` (`*`:
    anything; left out: yes).
    """

    column: str = ""
    equals: Annotated[list[str], BeforeValidator(_list)] = []
    state: Literal["given", "withdrawn"] = "given"
    channel: str = "email"
    purpose: str = "marketing"
    basis: str = "import"
    text: str = ""
    at: Annotated[Time | None, _as("column")] = None

    @model_validator(mode="after")
    def _has_column(self) -> "Consent":
        if self.equals and not self.column:
            raise ValueError("`equals` needs a column")
        return self


class Outcome(FrozenModel):
    """Where the column says one of `equals` (without it: yes) the playbook's outcome was reached,
    at `time`.
    """

    column: str
    equals: Annotated[list[str], BeforeValidator(_list)] = []
    time: Annotated[Time | None, _as("column")] = None


class Column(NamedTuple):
    """A column that the mapping needs, and where it says so."""

    name: str
    where: tuple[Step, ...]


OptionalValue = Annotated[Value | None, _as("said")]


class Mapping(FrozenModel):
    """The whole mapping; all values are texts as they stand in the YAML.

    `guide` is the page that explains its keys, `column_lists` are keys that are lists of columns.
    """

    guide: ClassVar[str] = "docs/importing.md"
    column_lists: ClassVar[tuple[str, ...]] = ("drop",)

    kind: Literal["leads", "events", "suppressions"]
    lead: str = ""
    email: str = ""
    user_id: str = ""
    anonymous_id: str = ""
    external_id: Annotated[ExternalId | None, _as("column")] = None
    type: Annotated[Type | None, _as("name")] = None
    time: Annotated[Time | None, _as("column")] = None
    traits: dict[str, str] | str = {}
    consent: Annotated[list[Annotated[Consent, _as("column")]], BeforeValidator(_list)] = []
    source: OptionalValue = None
    campaign: OptionalValue = None
    company: OptionalValue = None
    product: OptionalValue = None
    content_id: OptionalValue = None
    url: OptionalValue = None
    cost: OptionalValue = None
    outcome: Outcome | None = None
    drop: Annotated[list[str], BeforeValidator(_list)] = []
    as_: Literal["history", "new_leads"] | None = Field(None, alias="as")
    days: int = Field(1, ge=0, le=MAX_DAYS)
    encoding: str = ""
    delimiter: str = Field("", max_length=1)
    skip_lines: int = Field(0, ge=0, le=MAX_SKIPPED)
    sheet: str = ""
    missing: Literal["refuse", "ignore"] = "refuse"

    @model_validator(mode="before")
    @classmethod
    def _without_blanks(cls, given: Any) -> Any:
        return (
            {name: value for name, value in given.items() if value != ""}
            if isinstance(given, dict)
            else given
        )

    @field_validator("traits")
    @classmethod
    def _all(cls, given: dict[str, str] | str) -> dict[str, str] | str:
        if isinstance(given, str) and given != ALL:
            raise ValueError(f"write `{ALL}`, or trait: column line by line")
        return given

    @model_validator(mode="after")
    def _makes_sense(self) -> "Mapping":
        if not self.external_id and not any(getattr(self, name) for name in IDENTIFIERS):
            raise ValueError(
                f"nothing says who it is: name a column for {', '.join(IDENTIFIERS)} or external_id"
            )
        if self.kind == "events" and not self.type:
            raise ValueError("events need a `type`")
        if self.kind == "suppressions" and not (self.lead or self.email):
            raise ValueError("suppressions need the column of an `email`")
        return self

    def further(self) -> Iterator[Column]:
        """The columns that only a mapping of another form needs."""
        yield from ()

    def further_times(self) -> Iterator[tuple[Time | None, tuple[Step, ...]]]:
        """The times that only a mapping of another form has, and where it says so."""
        yield from ()


def dated(mapping: Mapping) -> Iterator[tuple[Time, tuple[Step, ...]]]:
    """Every time of the mapping that stands in a column, and where it says so."""
    times: list[tuple[Time | None, tuple[Step, ...]]] = [(mapping.time, ("time",))]
    times += [(rule.at, ("consent", n, "at")) for n, rule in enumerate(mapping.consent)]
    if mapping.outcome:
        times.append((mapping.outcome.time, ("outcome", "time")))
    times += mapping.further_times()
    yield from ((time, where) for time, where in times if time and time.column)


def identifying(mapping: Mapping) -> Iterator[Column]:
    """The columns that say who it is."""
    for name in IDENTIFIERS:
        if column := getattr(mapping, name):
            yield Column(column, (name,))
    if mapping.external_id:
        yield Column(mapping.external_id.column, ("external_id", "column"))


def needed(mapping: Mapping) -> Iterator[Column]:
    """Every column that has to be in the file."""
    yield from identifying(mapping)
    if mapping.type and mapping.type.column:
        yield Column(mapping.type.column, ("type", "column"))
    if isinstance(mapping.traits, dict):
        yield from (Column(column, ("traits", trait)) for trait, column in mapping.traits.items())
    for number, consent in enumerate(mapping.consent):
        if consent.column:
            yield Column(consent.column, ("consent", number, "column"))
        yield from _of_time(consent.at, "consent", number, "at")
    if mapping.outcome:
        if mapping.outcome.column:
            yield Column(mapping.outcome.column, ("outcome", "column"))
        yield from _of_time(mapping.outcome.time, "outcome", "time")
    for name in (*VALUES, "cost"):
        if (value := getattr(mapping, name)) and value.column:
            yield Column(value.column, (name, "column"))
    yield from _of_time(mapping.time, "time")
    for key in mapping.column_lists:
        yield from (Column(column, (key, n)) for n, column in enumerate(getattr(mapping, key)))
    yield from mapping.further()


def _of_time(time: Time | None, *where: Step) -> Iterator[Column]:
    if time and time.column:
        yield Column(time.column, (*where, "column"))
