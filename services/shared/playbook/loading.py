"""Reads a playbook folder and names every problem in it by file, line and remedy."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from services.shared.playbook.sections import Playbook
from services.shared.playbook.validation import contradictions

SECTIONS = {
    "company": "playbook.yaml", "products": "playbook.yaml",
    "unnamed_product_weight": "playbook.yaml",
    "open_pixel": "playbook.yaml", "cadence": "playbook.yaml", "holdout": "playbook.yaml",
    "consent": "playbook.yaml", "personas": "playbook.yaml", "sales": "playbook.yaml",
    "crm": "playbook.yaml",
    "identity": "identity.yaml",
    "exclusions": "identity.yaml", "fit": "score.yaml", "engagement": "score.yaml",
    "pages": "score.yaml",
    "content": "content.yaml", "programs": "programs.yaml", "model": "model.json",
    "senders": "senders.yaml", "machines": "machines.yaml",
}  # fmt: skip
OPTIONAL = frozenset({"senders.yaml", "machines.yaml"})
COMPARE = "Compare with deploy/playbook, which shows every field"


@dataclass(frozen=True)
class FileProblem:
    """One thing that is wrong in a configuration file, and how to mend it."""

    file: str
    line: int
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}. {self.remedy}"


class InvalidFile(Exception):
    """Configuration files with problems; `problems` lists all that were found."""

    def __init__(self, problems: list[FileProblem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass
class _Read:
    """What the files hold: raw sections, the composed file of each (for line numbers), problems."""

    sections: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, tuple[str, yaml.Node | None]] = field(default_factory=dict)
    problems: list[FileProblem] = field(default_factory=list)


def load(folder: Path) -> Playbook:
    """Reads and validates a playbook folder. Raises `InvalidFile` with every problem."""
    read = _Read()
    for file in dict.fromkeys(SECTIONS.values()):
        _read_file(folder, file, read)
    if read.problems:
        raise InvalidFile(read.problems)
    try:
        playbook = Playbook.model_validate(read.sections)
    except ValidationError as error:
        raise InvalidFile(
            [_located(read, tuple(found["loc"]), found["msg"], COMPARE) for found in error.errors()]
        ) from None
    if problems := [_located(read, *found) for found in contradictions(playbook)]:
        raise InvalidFile(problems)
    return playbook


def _read_file(folder: Path, file: str, read: _Read) -> None:
    try:
        text = (folder / file).read_text("utf-8")
        node = yaml.compose(text, yaml.CSafeLoader)
        data = json.loads(text) if file.endswith(".json") else yaml.load(text, yaml.CSafeLoader)
    except FileNotFoundError:
        if file not in OPTIONAL:
            remedy = f"Put {file} into {folder.name}/"
            read.problems.append(FileProblem(file, 1, "the file is missing", remedy))
        return
    except (yaml.YAMLError, ValueError) as error:
        read.problems.append(_unreadable(file, error))
        return
    if file == "model.json":
        data = {"model": data}
    if not isinstance(data, dict):
        remedy = "Start with section names, e.g. `programs:`"
        read.problems.append(FileProblem(file, 1, "not a mapping", remedy))
        return
    for section, value in data.items():
        read.sources[section], read.sections[section] = (file, node), value
        if SECTIONS.get(section, file) != file:
            what = f"section {section!r} belongs into {SECTIONS[section]}"
            read.problems.append(FileProblem(file, 1, what, "Move it"))


def _unreadable(file: str, error: Exception) -> FileProblem:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else getattr(error, "lineno", 1)
    what = getattr(error, "problem", None) or getattr(error, "msg", str(error))
    return FileProblem(file, line, f"not readable: {what}", "Mend the syntax there")


def _located(read: _Read, path: tuple[int | str, ...], what: str, remedy: str) -> FileProblem:
    """The problem at a path like ("content", 3, "stages"), with the line of the file where the path
    leads, as far as it does.
    """
    file, node = read.sources.get(str(path[0]) if path else "", ("playbook.yaml", None))
    line = 1
    for step in path[1:] if file == "model.json" else path:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == step), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif (
            isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value)
        ):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return FileProblem(file, line, f"{'.'.join(str(step) for step in path)}: {what}", remedy)
