"""The matrix of the library: its cells, gaps, overload and what ends."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from services.shared.playbook.coverage import ENOUGH, OVERLOADED, coverage
from services.shared.playbook.loading import load
from services.shared.settings import ROOT
from tests.support.nurture import item, with_parts

PLAYBOOK = load(ROOT / "deploy" / "playbook")
TODAY = date(2026, 5, 13)


def test_cells_hold_all_stages_personas_and_topics() -> None:
    found = coverage(PLAYBOOK, TODAY)
    assert len(found.cells) == len(found.stages) * len(found.personas) * len(found.topics)
    cell = next(
        c for c in found.cells if c[:3] == ("status_quo", "practitioner", "downtime")
    )  # fmt: skip
    assert "article-week-of-firefighting" in cell.items
    assert found.gaps == []
    assert {over.topic for over in found.overload} == {"planning"}


@pytest.mark.parametrize("example", sorted((ROOT / "deploy" / "examples").iterdir()))
def test_the_examples_have_no_gaps(example: Path) -> None:
    """U4."""
    found = coverage(load(example), TODAY)
    assert (found.gaps, found.overload, found.unused) == ([], [], [])


def test_gaps_are_told_for_each_language_and_reader() -> None:
    content = [item(str(n), personas=["buyer"] if n else []) for n in range(ENOUGH)]
    content += [item("de", language="de"), item("draft", state="draft"), item("s", service=True)]
    found = coverage(with_parts(PLAYBOOK, content=content, programs=[]), TODAY)
    gaps = {gap[:3]: gap.items for gap in found.gaps}
    assert ("awareness", "buyer", "en") not in gaps
    assert gaps["awareness", "practitioner", "en"] == 1
    assert gaps["awareness", "buyer", "de"] == 1
    assert gaps["decision", "buyer", "en"] == 0
    assert found.unused == ["0", "1", "2", "de"]


def test_too_much_on_one_topic_is_told() -> None:
    content = [item(str(n)) for n in range(OVERLOADED + 1)]
    found = coverage(with_parts(PLAYBOOK, content=content, programs=[]), TODAY)
    assert {over[:3] for over in found.overload} == {
        ("awareness", persona, "t") for persona in ("buyer", "practitioner")
    }


def test_what_ends_is_told_14_days_ahead() -> None:
    content = [
        item(str(days), valid_until=TODAY + timedelta(days=days)) for days in (-1, 0, 13, 14)
    ]
    found = coverage(with_parts(PLAYBOOK, content=content, programs=[]), TODAY)
    assert [(each.item, each.ended) for each in found.ending] == [
        ("-1", True), ("0", False), ("13", False),
    ]  # fmt: skip
    assert "-1" not in {name for cell in found.cells for name in cell.items}
