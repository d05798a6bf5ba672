"""Reads a playbook folder and names every problem in it by file, line and remedy."""

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from services.shared.playbook.sections import Playbook
from services.shared.playbook.validation import contradictions


class Problem(Exception):
    """One thing that is wrong in a playbook: file, line, what, and how to mend it."""

    def __init__(self, file: str, line: int, what: str, remedy: str) -> None:
        super().__init__(f"{file}:{line}: {what}. {remedy}")
        self.file, self.line, self.what, self.remedy = file, line, what, remedy


class Broken(Exception):
    """A playbook with problems; `problems` lists all that were found."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


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
    "senders": "senders.yaml",
}  # fmt: skip
OPTIONAL = frozenset({"senders.yaml"})


def load(folder: Path) -> Playbook:
    """Reads and validates a playbook folder. Raises `Broken` with every problem, each with file,
    line and remedy.
    """
    sources: dict[str, tuple[str, yaml.Node | None]] = {}
    raw: dict[str, Any] = {}
    problems: list[Problem] = []
    for file in dict.fromkeys(SECTIONS.values()):
        try:
            text = (folder / file).read_text("utf-8")
            node = yaml.compose(text, yaml.CSafeLoader)
            data = json.loads(text) if file.endswith(".json") else yaml.load(text, yaml.CSafeLoader)
        except FileNotFoundError:
            if file in OPTIONAL:
                continue
            problems.append(
                Problem(file, 1, "the file is missing", f"Put {file} into {folder.name}/")
            )
            continue
        except (yaml.YAMLError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark else getattr(error, "lineno", 1)
            what = getattr(error, "problem", None) or getattr(error, "msg", str(error))
            problems.append(Problem(file, line, f"not readable: {what}", "Mend the syntax there"))
            continue
        if file == "model.json":
            data = {"model": data}
        if not isinstance(data, dict):
            problems.append(
                Problem(file, 1, "not a mapping", "Start with section names, e.g. `programs:`")
            )
            continue
        for section, value in data.items():
            sources[section] = (file, node)
            raw[section] = value
            if SECTIONS.get(section, file) != file:
                problems.append(
                    Problem(
                        file, 1, f"section {section!r} belongs into {SECTIONS[section]}", "Move it"
                    )
                )
    if problems:
        raise Broken(problems)
    try:
        playbook = Playbook.model_validate(raw)
    except ValidationError as error:
        raise Broken(
            [_located(sources, tuple(one["loc"]), one["msg"]) for one in error.errors()]
        ) from None
    problems = [
        _located(sources, loc, what, remedy) for loc, what, remedy in contradictions(playbook)
    ]
    if problems:
        raise Broken(problems)
    return playbook


def _located(
    sources: dict[str, tuple[str, yaml.Node | None]],
    loc: tuple[int | str, ...],
    what: str,
    remedy: str = "Compare with deploy/playbook, which shows every field",
) -> Problem:
    """Finds the line of a path like ("content", 3, "stages") in the composed YAML."""
    file, node = sources.get(str(loc[0]) if loc else "", ("playbook.yaml", None))
    line = 1
    for step in loc[1:] if file == "model.json" else loc:
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
    path = ".".join(str(step) for step in loc)
    return Problem(file, line, f"{path}: {what}", remedy)
