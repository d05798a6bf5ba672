"""The mapping of a file: which column means what, as typed YAML; every mistake is told with its
line and remedy.
"""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from services.ingest.sources.imports import MAX_DAYS
from services.shared.playbook.frozen import FrozenModel
from services.shared.playbook.loading import FileProblem, InvalidFile
from services.shared.settings import ROOT

TEMPLATES = ROOT / "deploy" / "imports"
ALL = "all"
IDENTIFIERS = ("lead", "email", "user_id", "anonymous_id")
WORDS = ("source", "campaign", "company", "product", "content_id", "url")
ANY = "*"  # of `equals`: whatever stands there
Step = int | str


def _list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _as(name: str) -> BeforeValidator:
    """A text stands for the mapping that has it under `name`."""
    return BeforeValidator(lambda value: {name: value} if isinstance(value, str) else value)


class Time(FrozenModel):
    """When it happened: a column, in a strptime `format` where it is not ISO, or one moment for all
    rows.

    `zone` is that of times that name none; without it they are in the company's.
    """

    column: str = ""
    format: str = ""
    zone: str = ""
    constant: str = ""

    @model_validator(mode="after")
    def _one(self) -> "Time":
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
    def _one(self) -> "Type":
        if bool(self.column) == bool(self.name):
            raise ValueError("write a type's name, or a column with names")
        return self


class Said(FrozenModel):
    """A word that goes with every row: a column's where a header has this name, else the word
    itself; or plainly one of both.
    """

    said: str = ""
    column: str = ""
    constant: str = ""

    @model_validator(mode="after")
    def _one(self) -> "Said":
        if sum(map(bool, (self.said, self.column, self.constant))) != 1:
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
    def _told(self) -> "Consent":
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


Word = Annotated[Said | None, _as("said")]


class Mapping(FrozenModel):
    """The whole mapping; all values are texts as they stand in the YAML."""

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
    source: Word = None
    campaign: Word = None
    company: Word = None
    product: Word = None
    content_id: Word = None
    url: Word = None
    cost: Word = None
    outcome: Outcome | None = None
    drop: Annotated[list[str], BeforeValidator(_list)] = []
    as_: Literal["history", "new_leads"] | None = Field(None, alias="as")
    days: int = Field(1, ge=0, le=MAX_DAYS)
    encoding: str = ""
    delimiter: str = Field("", max_length=1)
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


class Column(NamedTuple):
    """A column that the mapping needs, and where it says so."""

    name: str
    where: tuple[Step, ...]


def needed(mapping: Mapping) -> Iterator[Column]:
    """Every column that has to be in the file."""
    for name in IDENTIFIERS:
        if column := getattr(mapping, name):
            yield Column(column, (name,))
    if mapping.external_id:
        yield Column(mapping.external_id.column, ("external_id", "column"))
    if mapping.type and mapping.type.column:
        yield Column(mapping.type.column, ("type", "column"))
    if isinstance(mapping.traits, dict):
        yield from (Column(column, ("traits", trait)) for trait, column in mapping.traits.items())
    for number, consent in enumerate(mapping.consent):
        if consent.column:
            yield Column(consent.column, ("consent", number, "column"))
        yield from _of_time(consent.at, "consent", number, "at")
    if mapping.outcome:
        yield Column(mapping.outcome.column, ("outcome", "column"))
        yield from _of_time(mapping.outcome.time, "outcome", "time")
    for name in (*WORDS, "cost"):
        if (word := getattr(mapping, name)) and word.column:
            yield Column(word.column, (name, "column"))
    yield from _of_time(mapping.time, "time")
    yield from (Column(column, ("drop", number)) for number, column in enumerate(mapping.drop))


def _of_time(time: Time | None, *where: Step) -> Iterator[Column]:
    if time and time.column:
        yield Column(time.column, (*where, "column"))


class Header:
    """The names of a file's columns; space around a name and its case do not matter."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = [name.strip() for name in names]
        self._exact: dict[str, int] = {}
        self._folded: dict[str, int] = {}
        for number, name in enumerate(self.names):
            self._exact.setdefault(name, number)
            self._folded.setdefault(name.casefold(), number)

    def find(self, name: str) -> int | None:
        """The column's number; None where there is none."""
        name = name.strip()
        found = self._exact.get(name)
        return self._folded.get(name.casefold()) if found is None else found

    def like(self, name: str) -> str:
        """What to do about a column that is not there."""
        near = difflib.get_close_matches(name, self.names, 1)
        return (
            f"Did you mean {near[0]!r}?"
            if near
            else f"The columns are {', '.join(map(repr, self.names[:40]))}"
        )


class Written:
    """A mapping as somebody wrote it."""

    def __init__(self, mapping: Mapping, file: str, node: yaml.Node | None) -> None:
        self.mapping, self._file, self._node = mapping, file, node

    def check(self, header: Header) -> None:
        """Raises `InvalidFile` with every column that the file does not have."""
        if self.mapping.missing == "ignore":
            return
        problems = [
            FileProblem(
                self._file,
                _line(self._node, where),
                f"{_path(where)}: no column {name!r} in the file",
                header.like(name),
            )
            for name, where in needed(self.mapping)
            if header.find(name) is None
        ]
        if problems:
            raise InvalidFile(problems)


def load(text: str, file: str) -> Written:
    """Reads a mapping. Raises `InvalidFile` with every problem, each with file, line and remedy."""
    try:
        node = yaml.compose(text, yaml.CBaseLoader)
        given = yaml.load(text, yaml.CBaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = f"not readable: {getattr(error, 'problem', None) or error}"
        raise InvalidFile(
            [FileProblem(file, mark.line + 1 if mark else 1, what, "Mend the YAML there")]
        ) from None
    if not isinstance(given, dict):
        raise InvalidFile(
            [FileProblem(file, 1, "not a mapping", "Begin with `kind: leads` and `email: COLUMN`")]
        )
    try:
        return Written(Mapping.model_validate(given), file, node)
    except ValidationError as error:
        raise InvalidFile(list(_problems(error, file, node))) from None


def read(named: str) -> Written:
    """The mapping of a file, or of a template by its name. Raises `InvalidFile`."""
    path = template(named) or Path(named)
    try:
        return load(path.read_text("utf-8-sig"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "not UTF-8"
        remedy = f"Name a YAML file, or one of the templates {', '.join(sorted(templates()))}"
        raise InvalidFile([FileProblem(path.name, 1, f"not readable: {what}", remedy)]) from None


def template(name: str) -> Path | None:
    """The template of this name."""
    return templates().get(name)


def templates() -> dict[str, Path]:
    """The templates that the product brings, by name."""
    return {path.stem: path for path in sorted(TEMPLATES.glob("*.yaml"))}


def _problems(error: ValidationError, file: str, node: yaml.Node | None) -> Iterator[FileProblem]:
    for one in error.errors():
        where = tuple(one["loc"])
        path = _path(where)
        if one["type"] == "extra_forbidden":
            near = difflib.get_close_matches(
                str(where[-1]),
                [field.alias or name for name, field in Mapping.model_fields.items()],
                1,
            )
            remedy = f"Did you mean `{near[0]}`?" if near else "docs/importing.md lists every key"
            yield FileProblem(file, _line(node, where), f"{path}: no such key", remedy)
        else:
            what = one["msg"].removeprefix("Value error, ")
            yield FileProblem(
                file,
                _line(node, where),
                f"{path}: {what}" if path else what,
                "docs/importing.md shows every key",
            )


def _path(where: Sequence[Step]) -> str:
    return ".".join(str(step) for step in where)


def _line(node: yaml.Node | None, where: Sequence[Step]) -> int:
    """The line of a path like ("consent", 0, "column"); steps that the file does not spell out are
    passed over.
    """
    line = 1
    for step in where:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == step), None)
            if found:
                line, node = found[0].start_mark.line + 1, found[1]
        elif (
            isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value)
        ):
            node = node.value[step]
            line = node.start_mark.line + 1
    return line
