"""The schemas of the playbook's files take what `playbook check` takes, and name what it names."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from services.shared.playbook.schema import schema_name, schemas
from services.shared.settings import ROOT

SCHEMAS = {file: json.loads(text) for file, text in schemas().items()}
PLAYBOOKS = [ROOT / "deploy" / "playbook", *sorted((ROOT / "deploy" / "examples").iterdir())]
FILES = [
    folder / file for folder in PLAYBOOKS for file in SCHEMAS if (folder / file).exists()
]  # fmt: skip


def read(path: Path) -> Any:
    """A file as an editor has it, in which a date is a text."""
    return json.loads(json.dumps(yaml.safe_load(path.read_text("utf-8")), default=date.isoformat))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_schema_takes_every_file_that_comes_along(path: Path) -> None:
    validator = jsonschema_rs.validator_for(SCHEMAS[path.name])
    assert [str(error) for error in validator.iter_errors(read(path))] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_file_names_its_schema(path: Path) -> None:
    first = path.read_text("utf-8").splitlines()[0]
    schema = first.removeprefix("# yaml-language-server: $schema=")
    there = (path.parent / schema).resolve()
    assert there == ROOT / "deploy" / "playbook" / "schema" / schema_name(path.name)
    assert there.is_file()


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("content.yaml", {"content": [{"id": "a"}]}),
        ("content.yaml", {"contents": []}),
        ("playbook.yaml", {"company": {"name": "A"}, "personas": []}),
        ("programs.yaml", {"programs": [{"id": "a", "name": "A", "goal": "g", "state": "on"}]}),
    ],
)
def test_a_schema_refuses_what_is_wrong(file: str, change: Any) -> None:
    assert not jsonschema_rs.validator_for(SCHEMAS[file]).is_valid(change)
