"""docs/requirements.md says in one sentence each what the ids mean that tests cite."""

import ast
import re
from collections.abc import Iterator

from services.shared.settings import ROOT

CITED = re.compile(r"\b([IDSGNHMUO])(\d+)(?:-\1(\d+))?\b")  # N11, or N1-N6 for all six
ENTRY = re.compile(r"^- \*\*([A-Z]\d+)\*\* (.+)$", re.MULTILINE)
NOT_YET = "\n## Not yet\n"
DOCUMENTED, _, LATER = (ROOT / "docs" / "requirements.md").read_text().partition(NOT_YET)


def test_every_id_that_a_test_cites_is_explained_and_the_other_way_round() -> None:
    explained = {name for name, _ in ENTRY.findall(DOCUMENTED)}
    cited = set(_cited())
    assert cited - explained == set(), "write a sentence for each into docs/requirements.md"
    assert explained - cited == set(), "no test cites these: they belong under `Not yet`"


def test_what_no_test_shows_yet_stands_apart() -> None:
    later = {name for name, _ in ENTRY.findall(LATER)}
    assert later
    assert later & set(_cited()) == set(), "tests cite these: they no longer belong to `Not yet`"


def test_an_id_has_one_sentence() -> None:
    entries = ENTRY.findall(DOCUMENTED) + ENTRY.findall(LATER)
    assert len(entries) == len(dict(entries)) == (DOCUMENTED + LATER).count("\n- ")
    for name, sentence in entries:
        assert sentence.endswith("."), name
        assert ". " not in sentence, name


def _cited() -> Iterator[str]:
    """The ids in the docstrings of tests."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                for group, first, last in CITED.findall(ast.get_docstring(node) or ""):
                    for number in range(int(first), int(last or first) + 1):
                        yield f"{group}{number}"
