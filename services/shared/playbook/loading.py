"""Reads a playbook folder and names every problem in it by file, line and remedy."""

import json
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from services.shared.playbook import mail_html
from services.shared.playbook.contradiction import Contradiction
from services.shared.playbook.sections import Playbook
from services.shared.playbook.types import checked
from services.shared.playbook.validation import contradictions

MODEL = "model.json"
SECTIONS = {
    "company": "playbook.yaml", "state": "playbook.yaml", "test_addresses": "playbook.yaml",
    "products": "playbook.yaml",
    "unnamed_product_weight": "playbook.yaml",
    "open_pixel": "playbook.yaml", "tracking": "playbook.yaml",
    "cadence": "playbook.yaml", "holdout": "playbook.yaml",
    "sending": "playbook.yaml",
    "consent": "playbook.yaml", "inbound": "playbook.yaml", "personas": "playbook.yaml",
    "sales": "playbook.yaml", "handoff": "playbook.yaml", "calls": "playbook.yaml",
    "crm": "playbook.yaml",
    "identity": "identity.yaml",
    "exclusions": "identity.yaml", "fit": "score.yaml", "engagement": "score.yaml",
    "pages": "score.yaml",
    "content": "content.yaml", "programs": "programs.yaml", "after_loss": "programs.yaml",
    "model": MODEL,
    "senders": "senders.yaml", "machines": "machines.yaml",
}  # fmt: skip
OPTIONAL = frozenset({"senders.yaml", "machines.yaml"})
SHIPPED = Path(__file__).resolve().parents[3] / "deploy" / "playbook"


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

    def in_short(self) -> str:
        """The first problem, and how many more there are."""
        more = len(self.problems) - 1
        return f"{self.problems[0]}" + (f" ({more} more)" if more else "")


@dataclass
class _Read:
    """What the files hold: raw sections, the composed file of each (for line numbers), problems;
    and the files that could not be read.
    """

    sections: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, tuple[str, yaml.Node | None]] = field(default_factory=dict)
    problems: list[FileProblem] = field(default_factory=list)
    unreadable: set[str] = field(default_factory=set)

    @property
    def missed(self) -> set[str]:
        """The sections of which nothing is known."""
        return {section for section, file in SECTIONS.items() if file in self.unreadable}


def load(folder: Path) -> Playbook:
    """Reads and validates a playbook folder; without a model of its own it has the one that comes
    along. Raises `InvalidFile` with every problem.
    """
    read = _Read()
    for file in dict.fromkeys(SECTIONS.values()):
        _read_file(folder, file, read)
    _read_layouts(folder / mail_html.FOLDER, read)
    given = checked(read.sections, read.missed, _shipped)
    found = [problem for problem in given.problems if problem.path[:1] not in _tops(read.missed)]
    if given.playbook:
        found += _contradictions(given.playbook, given.replaced)
    problems = read.problems + [_located(read, problem) for problem in found]
    if problems or given.playbook is None:
        raise InvalidFile(problems)
    return given.playbook


def _tops(sections: Iterable[str]) -> set[tuple[int | str, ...]]:
    return {(section,) for section in sections}


def _shipped() -> dict[str, Any]:
    """The sections of the playbook that comes along."""
    read = _Read()
    for file in dict.fromkeys(SECTIONS.values()):
        _read_file(SHIPPED, file, read)
    return read.sections


def _contradictions(
    playbook: Playbook, replaced: Set[tuple[int | str, ...]]
) -> list[Contradiction]:
    """What does not fit together, but for what only a replaced part makes it seem."""
    return [
        found
        for found in contradictions(playbook)
        if (found.about,) not in replaced
        and not any(found.path[:length] in replaced for length in range(1, len(found.path) + 1))
    ]


def _read_file(folder: Path, file: str, read: _Read) -> None:
    try:
        text = (folder / file).read_text("utf-8")
        node = yaml.compose(text, yaml.CSafeLoader)
        data = json.loads(text) if file.endswith(".json") else yaml.load(text, yaml.CSafeLoader)
    except FileNotFoundError:
        if file == MODEL and folder != SHIPPED:
            _read_file(SHIPPED, file, read)
        elif file not in OPTIONAL:
            read.unreadable.add(file)
            remedy = f"Put {file} into {folder.name}/"
            read.problems.append(FileProblem(file, 1, "the file is missing", remedy))
        return
    except (yaml.YAMLError, ValueError, OSError) as error:
        read.unreadable.add(file)
        read.problems.append(_unreadable(file, error))
        return
    read.problems += _twice(file, node)
    if file == MODEL:
        data = {"model": data}
    if not isinstance(data, dict):
        read.unreadable.add(file)
        remedy = "Start with section names, e.g. `programs:`"
        read.problems.append(FileProblem(file, 1, "not a mapping", remedy))
        return
    for section, value in data.items():
        read.sources[section], read.sections[section] = (file, node), value
        if SECTIONS.get(section, file) != file:
            what = f"section {section!r} belongs into {SECTIONS[section]}"
            read.problems.append(FileProblem(file, 1, what, "Move it"))


def _read_layouts(folder: Path, read: _Read) -> None:
    """The section `mails`: the text of every layout by its file's name."""
    layouts: dict[str, str] = {}
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        if path.suffix in mail_html.ENDINGS:
            try:
                layouts[path.name] = path.read_text("utf-8")
            except (ValueError, OSError) as error:
                read.problems.append(_unreadable(f"{mail_html.FOLDER}/{path.name}", error))
    if layouts:
        read.sections[mail_html.FOLDER] = layouts


def _unreadable(file: str, error: Exception) -> FileProblem:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else getattr(error, "lineno", 1)
    what = getattr(error, "problem", None) or getattr(error, "msg", str(error))
    return FileProblem(file, line, f"not readable: {what}", "Mend the syntax there")


def _twice(file: str, root: yaml.Node | None) -> list[FileProblem]:
    """Keys that stand twice in one mapping: YAML takes the last and says nothing."""
    found, seen = [], set()
    nodes = [root]
    while nodes:
        node = nodes.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            nodes += [value for _, value in node.value]
            lines: dict[str, int] = {}
            for key, _ in node.value:
                line = key.start_mark.line + 1
                first = lines.setdefault(key.value, line)
                if first != line and key.value != "<<":
                    what = f"{key.value!r} stands twice, also in line {first}"
                    found.append(FileProblem(file, line, what, "Take one of the two out"))
    return sorted(found, key=lambda problem: problem.line)


def _located(read: _Read, problem: Contradiction) -> FileProblem:
    """The problem with the line of the file where its path leads, as far as it does."""
    path, what, remedy = problem[:3]
    if path[:1] == (mail_html.FOLDER,) and len(path) > 1:
        return FileProblem("/".join(map(str, path)), max(1, problem.below), what, remedy)
    top = str(path[0]) if path else ""
    file, node = read.sources.get(top, (SECTIONS.get(top, "playbook.yaml"), None))
    line = 1
    for step in path[1:] if file == MODEL else path:
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
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        line = node.start_mark.line + 1 + problem.below
    return FileProblem(file, line, f"{'.'.join(str(step) for step in path)}: {what}", remedy)
