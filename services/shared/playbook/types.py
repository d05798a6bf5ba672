"""Checks sections against their types, and says what is wrong in words; what is wrong is replaced,
so that everything else can be checked as well.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Set
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from services.shared.playbook.contradiction import Contradiction, did_you_mean
from services.shared.playbook.sections import Playbook

COMPARE = "Compare with deploy/playbook, which shows every field"
REQUIRED = ("company", "engagement", "personas", "model")
ROUNDS = 4  # each mends what the one before uncovered
STAND_IN = "?"
SIMPLE: dict[Any, Any] = {str: STAND_IN, int: 1, float: 1.0, bool: False}

Path = tuple[int | str, ...]


class Checked(NamedTuple):
    """A playbook whose broken parts are replaced, None where that cannot be; what is wrong; and the
    paths that were replaced.
    """

    playbook: Playbook | None
    problems: list[Contradiction]
    replaced: set[Path]


def checked(
    sections: Mapping[str, Any], missed: Set[str], shipped: Callable[[], Mapping[str, Any]]
) -> Checked:
    """Checks sections; `missed` are those that could not be read. In the place of the needed ones
    that cannot be used stand those of the `shipped` playbook.
    """
    raw = copy.deepcopy(dict(sections))
    problems: list[Contradiction] = []
    replaced: set[Path] = {(section,) for section in missed}
    if missed & {*REQUIRED}:
        raw |= {name: shipped()[name] for name in REQUIRED if name in missed}
    for _ in range(ROUNDS):
        try:
            return Checked(Playbook.model_validate(raw), problems, replaced)
        except ValidationError as error:
            found = _without_other_branches(raw, error.errors(include_url=False))
        for path, details in found:
            if path not in replaced:
                problems.append(_in_words(path, details))
            top = str(path[0]) if path else ""
            if top in REQUIRED and (path in replaced or len(path) == 1 or top == "model"):
                raw[top] = shipped()[top]
                replaced.add((top,))
            elif path in replaced:
                raw.pop(top, None)
            else:
                _replace(raw, path, details["type"])
            replaced.add(path)
    return Checked(None, problems, replaced)


def _without_other_branches(
    raw: Any, errors: Iterable[ErrorDetails]
) -> list[tuple[Path, ErrorDetails]]:
    """(path, error), once for each path; of the branches of a union the one that is most like what
    was written.
    """
    best: dict[Path, ErrorDetails] = {}
    for details in errors:
        path = _plain(raw, details["loc"], is_missing=details["type"] == "missing")
        if path not in best or details["type"] == "literal_error":
            best[path] = details
    return [
        (path, details)
        for path, details in best.items()
        if not any(len(other) > len(path) and other[: len(path)] == path for other in best)
    ]


def _plain(raw: Any, loc: Path, *, is_missing: bool) -> Path:
    """The path without pydantic's names of a union's branches."""
    path: list[int | str] = []
    for place, step in enumerate(loc):
        is_there = step in raw if isinstance(raw, dict) else _is_place(raw, step)
        if is_there:
            raw = raw[step]
        elif not (is_missing and place == len(loc) - 1):
            continue
        path.append(step)
    return tuple(path)


def _is_place(raw: Any, step: int | str) -> bool:
    return isinstance(raw, list) and isinstance(step, int) and step < len(raw)


def _in_words(path: Path, details: ErrorDetails) -> Contradiction:
    kind, given = details["type"], details["input"]
    name = str(path[-1]) if path else ""
    if kind == "extra_forbidden":
        known = fields_at(path[:-1])
        what = "no such field" if len(path) > 1 else "no such section"
        return Contradiction(path, what, did_you_mean(name, known) + COMPARE)
    if kind == "missing":
        return Contradiction(path, "it is missing", f"Add `{name}`. {COMPARE}")
    if kind == "literal_error":
        known = [str(value) for value in get_args(_annotation_at(path))]
        what = f"{str(given)[:60]!r} is none of {', '.join(known)}"
        return Contradiction(path, what, did_you_mean(given, known) + COMPARE)
    what = details["msg"].removeprefix("Value error, ")
    if kind == "string_type" and isinstance(given, bool):
        word = "yes" if given else "no"
        remedy = f"Put it into quotes: YAML takes a bare `{word}` for {str(given).lower()}. "
        return Contradiction(path, what, remedy + COMPARE)
    if kind == "string_type" and isinstance(given, int | float):
        return Contradiction(path, what, f'Put it into quotes: "{given}". {COMPARE}')
    return Contradiction(path, what, COMPARE)


def fields_at(path: Path) -> list[str]:
    """The names of the fields of the model at a path; none where there is no model."""
    model = next(iter(_models(_annotation_at(path))), None)
    return list(model.model_fields) if model else []


def _annotation_at(path: Path) -> Any:
    annotation: Any = Playbook
    for step in path:
        for model in _models(annotation):
            if step in model.model_fields:
                annotation = model.model_fields[str(step)].annotation
                break
        else:
            inner = [part for part in _parts(annotation) if get_origin(part) in (list, dict, tuple)]
            annotation = get_args(inner[0])[-1] if inner else Any
    return annotation


def _parts(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, UnionType):
        return get_args(annotation)
    return (annotation,)


def _models(annotation: Any) -> list[type[BaseModel]]:
    return [
        part
        for part in _parts(annotation)
        if isinstance(part, type) and issubclass(part, BaseModel)
    ]


def _replace(raw: Any, path: Path, kind: str) -> None:
    """Replaces the value at a path by one that is sound, or takes it out where it may be missing
    or is not known.
    """
    parent = raw
    for step in path[:-1]:
        parent = parent[step]
    if not path or not isinstance(parent, dict | list):
        return
    last: Any = path[-1]
    has_default = any(
        last in model.model_fields and not model.model_fields[last].is_required()
        for model in _models(_annotation_at(path[:-1]))
    )
    if isinstance(parent, dict) and (kind == "extra_forbidden" or has_default):
        parent.pop(last, None)
    else:
        parent[last] = _sound(_annotation_at(path))


def _sound(annotation: Any) -> Any:
    """A value of the type."""
    for part in _parts(annotation):
        origin = get_origin(part)
        if origin is Literal:
            return get_args(part)[0]
        if origin is list:
            return [_sound(get_args(part)[0])]
        if origin is dict:
            return {}
        if part in SIMPLE:
            return SIMPLE[part]
        for model in _models(part):
            return {
                name: _sound(field.annotation)
                for name, field in model.model_fields.items()
                if field.is_required()
            }
    return None
