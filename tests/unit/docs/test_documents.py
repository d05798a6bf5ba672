"""The documents of the interfaces are what the code says, and good ones of their kind."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import yaml

from services.ops.documents.__main__ import documents
from services.ops.documents.examples import BY_TYPE
from services.shared.contracts import events
from services.shared.settings import ROOT

DOCS, NODE = ROOT / "docs", ROOT / "tests" / "node"
MADE = documents()
ASYNC_API = yaml.safe_load(MADE["asyncapi.yaml"])
TYPE = re.compile(r'"((?:[a-z_]+\.)?[a-z_]+\.v\d+)"')
PROBLEM = "application/problem+json"
INFORMATION = 2  # the parser's severity of what is neither an error nor a warning


@pytest.mark.parametrize("name", MADE)
def test_a_document_is_what_the_code_says(name: str) -> None:
    written = (DOCS / name).read_text(encoding="utf-8") if (DOCS / name).exists() else ""
    assert written == MADE[name], f"run `make docs` and commit docs/{name}"


def test_no_document_is_of_an_interface_that_is_gone() -> None:
    there = {path.name for path in (DOCS / "openapi").iterdir()}
    assert there == {name.rpartition("/")[2] for name in MADE if name.startswith("openapi/")}


def test_the_same_code_gives_the_same_documents() -> None:
    assert documents() == MADE


@pytest.mark.parametrize("service", ["ingest", "scorer", "nurture"])
def test_every_route_documents_what_it_takes_and_answers(service: str) -> None:
    """U3: with a schema and an example each; refusals are problem documents."""
    document = json.loads(MADE[f"openapi/{service}.json"])
    schemas = document["components"]["schemas"]
    for path, status, media, content in _bodies(document):
        if not path.startswith("/v1/"):
            continue
        assert status < "400" or media == PROBLEM, (path, status)
        if media in ("application/json", PROBLEM):
            schema = content["schema"]
            schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
            assert schema, (path, status)
            assert {"example", "examples"} & (content.keys() | schema.keys()), (path, status)


def test_the_parser_of_asyncapi_finds_nothing_wrong() -> None:
    node = shutil.which("node") or "node"
    done = subprocess.run(
        [node, NODE / "asyncapi.mjs", DOCS / "asyncapi.yaml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"`make test` installs tests/node: {done.stderr}"
    answer = json.loads(done.stdout)
    assert [problem for problem in answer["found"] if problem["severity"] < INFORMATION] == []
    assert set(answer["channels"]) == set(events.TOPICS)
    assert {name for names in answer["channels"].values() for name in names} == set(BY_TYPE)


@pytest.mark.parametrize("type_", BY_TYPE)
def test_what_the_code_encodes_fits_the_schema_of_its_message(type_: str) -> None:
    message = ASYNC_API["components"]["messages"][type_]
    schema = message["payload"] | {"components": ASYNC_API["components"]}
    example = json.loads(BY_TYPE[type_])
    assert message["examples"] == [{"payload": example}]
    assert _problems(schema, example) == []
    assert _problems(schema, example | {"time": "yesterday"})
    assert _problems(schema, example | {"type": "other.v1"})


def test_every_type_of_event_that_the_code_names_is_documented() -> None:
    named = {
        name
        for path in (ROOT / "services").rglob("*.py")
        if path.parent.name != "documents"
        for name in TYPE.findall(path.read_text(encoding="utf-8"))
    }
    assert named == set(BY_TYPE)


def _bodies(document: dict[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """(path, status, content type, content) of each documented body; a request's status is ''."""
    for path, operations in document["paths"].items():
        for operation in operations.values():
            bodies = {"": operation.get("requestBody", {})} | operation["responses"]
            for status, body in bodies.items():
                for media, content in body.get("content", {}).items():
                    yield path, status, media, content


def _problems(schema: dict[str, Any], instance: Any) -> list[str]:
    validator = jsonschema_rs.Draft7Validator(schema, validate_formats=True)
    return [error.message for error in validator.iter_errors(instance)]
