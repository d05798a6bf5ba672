"""Every refusal has a stable type, a status and a paragraph that says how to mend it."""

import ast
import re
from collections.abc import Iterator

from services.shared.contracts.consent import DOUBLE_OPT_IN
from services.shared.contracts.event_types import (
    BASES_NOT_FROM_PAGES,
    NOT_FROM_PAGES,
    OURS_ALONE,
    REFUSALS,
)
from services.shared.contracts.sales import STATUS_OF
from services.shared.http.problems import STATUS, TYPES
from services.shared.settings import ROOT

TEXT = (ROOT / "docs" / "errors.md").read_text()
PARAGRAPHS = dict(re.findall(r"^## (.+)\n\n((?:.+\n)+)", TEXT, re.MULTILINE))


def kinds() -> Iterator[tuple[str, str]]:
    """(kind, file) of everything that is refused anywhere in the services."""
    for file in (ROOT / "services").rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name | ast.Attribute):
                name = call.func.id if isinstance(call.func, ast.Name) else call.func.attr
                for word in call.keywords if name in ("Reject", "__init__") else ():
                    if word.arg == "kind":
                        yield from (
                            (node.value, file.name)
                            for node in ast.walk(word.value)
                            if isinstance(node, ast.Constant)
                        )


def test_every_kind_that_the_services_refuse_with_has_a_status_and_a_paragraph() -> None:
    used = {kind: file for kind, file in kinds() if kind}
    assert {"unauthorized", "spool-share", "too-many"} <= used.keys()
    assert {kind: file for kind, file in used.items() if kind not in STATUS} == {}
    assert {kind: file for kind, file in used.items() if kind not in PARAGRAPHS} == {}


def test_no_status_is_left_over() -> None:
    assert set(STATUS) == {kind for kind, _ in kinds()} | {"invalid"}


def test_every_paragraph_is_a_types_anchor_and_tells_its_status_first() -> None:
    """`type` leads to the heading of its name."""
    assert PARAGRAPHS.keys() == STATUS.keys()
    assert f"{TYPES}too-large" in TEXT
    for kind, paragraph in PARAGRAPHS.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind)
        if kind != "key-form":
            assert paragraph.startswith(str(STATUS[kind])), kind


def test_what_is_reserved_is_listed() -> None:
    """The lists in the document are those that are refused."""
    types, bases = re.findall(r"^- (?:types|bases of a consent): ((?:.+\n(?=  ))*.+)$", TEXT, re.M)
    assert set(re.findall(r"`(\w+)`", types)) == NOT_FROM_PAGES
    assert set(re.findall(r"`(\w+)`", bases)) == BASES_NOT_FROM_PAGES == {DOUBLE_OPT_IN}
    assert set(re.findall(r"`(\w+)`", PARAGRAPHS["reserved-type"])) == OURS_ALONE
    assert NOT_FROM_PAGES.isdisjoint(REFUSALS - {"email_complained"})
    assert STATUS_OF.keys() <= NOT_FROM_PAGES
