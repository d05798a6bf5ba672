"""The OpenAPI documents under generated requests: whatever they allow, and much that they do not,
is answered below 500; and a client generated from them works.
"""

import importlib
import json
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any, get_args, get_type_hints

import httpx
import pytest

from services.ops.commands.status import read
from services.shared.settings import ROOT, Settings
from tests.support import present
from tests.support.running_system import System

EXAMPLES = 10
ALIKE = "/v1/(identify|page|screen|group|alias)$|^/metrics$|/v1/hooks/(?!typeform|zapier)"
# One handler with /v1/track; one that asks nothing; and of the webhooks one that signs and one that
# brings a key.
KEYS = {"ingest": "secret", "scorer": "query", "nurture": "query"}


def committed(service: str) -> dict[str, Any]:
    """The service's document in docs/openapi."""
    document = json.loads((ROOT / "docs" / "openapi" / f"{service}.json").read_text())
    return dict(document)


@pytest.mark.parametrize("service", KEYS)
def test_no_generated_request_is_answered_with_a_5xx(
    system: System, service: str, tmp_path: Path
) -> None:
    """U3."""
    url = str(getattr(system, service))
    command = [
        str(Path(sys.executable).parent / "schemathesis"), "run", f"{url}/openapi.json", "--header",
        f"Authorization: Bearer {system.keys[KEYS[service]]}", "--checks", "not_a_server_error",
        "--phases",
        "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), "--seed", "7", "--no-color",
        "--request-timeout", "10",
        "--exclude-path-regex", ALIKE,
    ]  # fmt: skip
    ran = subprocess.run(
        command,
        cwd=tmp_path,
        env=present.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    count = re.search(r"(\d+) generated, (\d+) passed", ran.stdout)
    assert count
    assert int(count[1]) == int(count[2]) > 30


@pytest.mark.parametrize("service", KEYS)
def test_every_document_names_its_paths_and_how_to_sign_in(system: System, service: str) -> None:
    document = httpx.get(f"{getattr(system, service)}/openapi.json").json()
    paths = set(document["paths"])
    assert {"/health/live", "/health/ready", "/metrics"} <= paths
    own = {
        "ingest": {
            "/v1/events",
            "/v1/forms/{form}",
            "/v1/track",
            "/v1/batch",
            "/l/{token}",
            "/u/{token}",
            "/p/{token}",
        },
        "scorer": {
            "/v1/leads",
            "/v1/leads/lookup",
            "/v1/leads/{lead_id}",
            "/v1/leads/{lead_id}/explain",
            "/v1/leads/{lead_id}/status",
        },
        "nurture": {"/v1/touches"},
    }
    assert own[service] <= paths


@pytest.mark.parametrize("service", KEYS)
def test_a_running_service_serves_the_document_that_is_committed(
    system: System, service: str
) -> None:
    """U3: apart from examples, which show the playbook of the installation."""
    served = httpx.get(f"{getattr(system, service)}/openapi.json").json()
    assert without_examples(served) == without_examples(committed(service))


def without_examples(part: Any) -> Any:
    """The part of a document without the members that are called `example`."""
    if isinstance(part, dict):
        return {name: without_examples(x) for name, x in part.items() if name != "example"}
    return [without_examples(x) for x in part] if isinstance(part, list) else part


class GeneratedClient:
    """What `openapi-python-client` makes of a committed document, signed in at its service; it
    leaves out operations that take neither JSON nor a form.
    """

    def __init__(self, system: System, service: str, folder: Path) -> None:
        self._document, self._folder = committed(service), folder
        self._package = f"generated_{service}"
        source, config = folder / f"{service}.json", folder / "config.json"
        source.write_text(json.dumps(with_one_body(self._document)))
        config.write_text('{"post_hooks": []}')
        done = subprocess.run(
            [
                Path(sys.executable).parent / "openapi-python-client", "generate",
                "--path", source, "--output-path", folder / self._package,
                "--meta", "none", "--config", config,
            ],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        self._address, self._key = getattr(system, service), system.keys[KEYS[service]]

    def call(
        self, method: str, path: str, *arguments: str, body: Any = None, **named: Any
    ) -> tuple[int, Any]:
        """The status, and the body of the answer as the client's models read it."""
        name = re.sub("_+", "_", self._document["paths"][path][method]["operationId"])
        (file,) = self._folder.glob(f"{self._package}/api/*/{name}.py")
        module = importlib.import_module(f"{self._package}.api.{file.parent.name}.{name}")
        if body is not None:
            hint = get_type_hints(module.sync_detailed)["body"]
            models = [part for part in (hint, *get_args(hint)) if hasattr(part, "from_dict")]
            named["body"] = models[0].from_dict(body)
        package = importlib.import_module(self._package)
        with package.AuthenticatedClient(base_url=self._address, token=self._key) as client:
            answer = module.sync_detailed(*arguments, client=client, **named)
        parsed = answer.parsed
        return int(answer.status_code), parsed.to_dict() if hasattr(parsed, "to_dict") else parsed


def with_one_body(document: dict[str, Any]) -> dict[str, Any]:
    """The document with JSON alone where an operation takes JSON and other types as well: between
    bodies the generator decides by `isinstance` on lists of models, which Python refuses.
    """
    small: dict[str, Any] = json.loads(json.dumps(document))
    for operations in small["paths"].values():
        for operation in operations.values():
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                operation["requestBody"]["content"] = {
                    "application/json": content["application/json"]
                }
    return small


def test_a_generated_client_posts_an_event_and_reads_its_lead(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """U3."""
    monkeypatch.syspath_prepend(tmp_path)
    ingest, scorer, nurture = (GeneratedClient(system, name, tmp_path) for name in KEYS)
    email, event = system.address(), uuid.uuid4().hex
    posted = ingest.call(
        "post", "/v1/events", body={"id": event, "type": "demo_requested", "email": email}
    )
    assert posted == (200, {"accepted": 1, "ids": [event], "rejected": []})
    known = system.wait_for_lead(1, email=email)
    assert scorer.call("post", "/v1/leads/lookup", body={"email": email})[0] == 200
    status, lead = scorer.call("get", "/v1/leads/{lead_id}", known["id"])
    assert (status, lead["id"], lead["stage"]) == (200, known["id"], "decision")
    assert lead["identifiers"]["email"] == [email]
    status, answer = nurture.call("get", "/v1/touches", lead=uuid.UUID(known["id"]))
    assert status == 200
    assert {touch["lead"] for touch in answer["touches"]} <= {known["id"]}


async def test_whatever_was_accepted_could_be_applied(system: System) -> None:
    """O4: no generated event that got its 2xx ends as a dead letter."""
    state = await read(Settings(database_url=system.database, kafka_bootstrap=system.kafka))
    assert state.dead_letters == 0
