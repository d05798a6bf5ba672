"""Ingest's OpenAPI document: every route names what it takes and what it answers, with examples."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from services.ingest.wiring import wire
from services.shared.settings import Settings

HEALTH = ("/health/", "/metrics")  # of all services


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("openapi") / "spool"
    document = wire(Settings(spool_dir=folder)).app().openapi()
    assert not folder.exists()  # nothing was opened
    return document


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if not path.startswith(HEALTH)
    }


def test_every_schema_that_is_referred_to_stands_there(document: dict[str, Any]) -> None:
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert named == set(document["components"]["schemas"])


def test_every_body_has_a_schema_and_an_example(document: dict[str, Any]) -> None:
    taking = {name: found for name, found in operations(document).items() if "requestBody" in found}
    assert len(taking) > 30
    for name, operation in taking.items():
        for media, content in operation["requestBody"]["content"].items():
            assert content["schema"], (name, media)
            assert "example" in content or content["schema"] == {"type": "string"}, (name, media)


def test_every_success_is_described_and_json_has_schema_and_example(
    document: dict[str, Any],
) -> None:
    for name, operation in operations(document).items():
        success = [answer for code, answer in operation["responses"].items() if code < "400"]
        assert success, name
        for answer in success:
            assert answer["description"], name
            if json_answer := answer.get("content", {}).get("application/json"):
                schema = json_answer["schema"]
                assert all("$ref" in one for one in schema.get("anyOf", [schema])), name
                assert "example" in json_answer, name


def test_every_refusal_is_a_problem_document_with_an_example(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        refusals = {
            code: answer for code, answer in operation["responses"].items() if code >= "400"
        }
        assert refusals or name == "GET /o/{token}.gif", name
        for code, answer in refusals.items():
            content = answer["content"]["application/problem+json"]
            assert content["schema"], (name, code)
            assert content["example"]["status"] == int(code), name


def test_pages_for_people_who_import_stay_out_of_it(document: dict[str, Any]) -> None:
    assert not [path for path in document["paths"] if path.startswith("/import")]
