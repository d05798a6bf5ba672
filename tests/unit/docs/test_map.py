"""The README and docs/architecture.md name what is there, and all rooms that are there."""

import re
import tomllib

import pytest

from services.shared.settings import ROOT

QUOTED = re.compile(r"`([\w.-]+(?:/[\w.-]*)+)`")  # a path, which has a slash but does not begin so
PLACES = (ROOT, ROOT / "services")
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", [README, ARCHITECTURE], ids=["README", "architecture"])
def test_every_path_named_exists(text: str) -> None:
    named = QUOTED.findall(text)
    assert len(named) > 10
    assert [path for path in named if not any((root / path).exists() for root in PLACES)] == []


def test_a_lead_passes_eight_files() -> None:
    _, _, rest = README.partition("eight files that a lead passes\n\n| file | what happens there |")
    rows = [line for line in rest.partition("\n\n")[0].splitlines() if "`services/" in line]
    assert len(rows) == 8


def test_every_room_is_in_the_architecture() -> None:
    rooms = {
        f"{path.parent.name}/{path.name}{'/' if path.is_dir() else ''}"
        for service in (ROOT / "services").iterdir()
        if service.is_dir()
        for path in service.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
        if path.name != "__init__.py"
    }
    assert rooms - set(QUOTED.findall(ARCHITECTURE)) == set(), "say what they hold"


def test_the_order_of_imports_is_the_one_that_import_linter_holds() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    orders = {
        contract["containers"][0].removeprefix("services").removeprefix("."): contract["layers"]
        for contract in contracts["contracts"]
        if contract["type"] == "layers"
    }
    assert set(orders) == {"", "ingest", "scorer", "nurture", "shared", "ops"}
    written = " ".join(ARCHITECTURE.split())
    for service, layers in orders.items():
        assert f"{service}: {' → '.join(layers)}".removeprefix(": ") in written


def test_the_architecture_reads_in_one_sitting() -> None:
    assert len(ARCHITECTURE.splitlines()) <= 150
