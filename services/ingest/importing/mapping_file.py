"""Reads a mapping from YAML; every problem has its file, line and remedy."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from services.ingest.importing.header import Header
from services.ingest.importing.mapping import Mapping, Step, needed
from services.shared.playbook.loading import FileProblem, InvalidFile
from services.shared.settings import ROOT

TEMPLATES = ROOT / "deploy" / "imports"


class MappingFile:
    """A mapping with the YAML that it stands in, so that problems name their lines."""

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
                f"{_dotted(where)}: no column {name!r} in the file",
                header.like(name),
            )
            for name, where in needed(self.mapping)
            if header.find(name) is None
        ]
        if problems and header.hint:
            what, _, remedy = header.hint.partition(": ")
            problems.append(FileProblem(self._file, 1, what, remedy))
        if problems:
            raise InvalidFile(problems)


def load(text: str, file: str, model: type[Mapping] = Mapping) -> MappingFile:
    """Reads a mapping of the form `model`. Raises `InvalidFile` with every problem, each with file,
    line and remedy.
    """
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
        return MappingFile(model.model_validate(given), file, node)
    except ValidationError as error:
        raise InvalidFile(list(_problems(error, file, node, model))) from None


def read(named: str, more: Sequence[str] = (), model: type[Mapping] = Mapping) -> MappingFile:
    """The mapping of a file, or of a template by its name, with `more` lines at its end, which
    count where it says something else, of the form `model`. Raises `InvalidFile`.
    """
    path = template(named) or Path(named)
    try:
        text = path.read_text("utf-8-sig")
        return load("\n".join([text.rstrip("\n"), *more, ""]), path.name, model)
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "not UTF-8"
        remedy = f"Name a YAML file, or one of the templates {', '.join(sorted(templates()))}"
        raise InvalidFile([FileProblem(path.name, 1, f"not readable: {what}", remedy)]) from None


def template(name: str) -> Path | None:
    """The template of this name."""
    return templates().get(name)


def templates() -> dict[str, Path]:
    """The templates that the product has, by name."""
    return {path.stem: path for path in sorted(TEMPLATES.glob("*.yaml"))}


def _problems(
    error: ValidationError, file: str, node: yaml.Node | None, model: type[Mapping]
) -> Iterator[FileProblem]:
    for mistake in error.errors():
        where = tuple(mistake["loc"])
        path = _dotted(where)
        if mistake["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(where[-1]), _keys(model, where[:-1]), 1)
            remedy = f"Did you mean `{near[0]}`?" if near else f"{model.guide} lists every key"
            yield FileProblem(file, _line(node, where), f"{path}: no such key", remedy)
        else:
            what = mistake["msg"].removeprefix("Value error, ")
            if mistake["type"] == "missing":
                what = "is missing"
            yield FileProblem(
                file,
                _line(node, where),
                f"{path}: {what}" if path else what,
                f"{model.guide} shows every key",
            )


def _keys(model: type[BaseModel], where: Sequence[Step]) -> list[str]:
    """The keys that the model has at a path."""
    for step in where:
        field = next((f for n, f in model.model_fields.items() if step in (n, f.alias)), None)
        inner = list(_types(field.annotation if field else None))
        model = inner[0] if inner else model
    return [field.alias or name for name, field in model.model_fields.items()]


def _types(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models within an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _types(part)


def _dotted(where: Sequence[Step]) -> str:
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
