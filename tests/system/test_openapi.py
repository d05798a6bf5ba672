"""The OpenAPI documents under generated requests: whatever they allow, and much that they do not,
is answered as they say; and clients generated from them, in Python and TypeScript, are sound in
their types and carry the README's events.
"""

import importlib
import json
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import httpx
import pytest

from services.ops.commands.status import read
from services.shared.settings import ROOT, Settings
from tests.support import present
from tests.support.running_system import System

# of ingest's many paths one of each handler
FEW = "^/v1/(events|forms|track|import$|leads|touches|hooks/zapier)|^/health"
KEYS = {"ingest": "secret", "scorer": "query", "nurture": "query"}
NODE = ROOT / "tests" / "node"


def committed(service: str) -> dict[str, Any]:
    """The service's document in docs/openapi."""
    document = json.loads((ROOT / "docs" / "openapi" / f"{service}.json").read_text())
    return dict(document)


@pytest.mark.parametrize("service", KEYS)
def test_generated_requests_are_answered_as_the_document_says(
    system: System, service: str, tmp_path: Path
) -> None:
    """U3: all of Schemathesis' own checks."""
    count = checked(system, service, tmp_path, "--max-examples", "5", "--include-path-regex", FEW)
    assert count > 30


@pytest.mark.long
@pytest.mark.parametrize("service", KEYS)
def test_many_more_generated_requests_of_all_paths_are(
    system: System, service: str, tmp_path: Path
) -> None:
    assert checked(system, service, tmp_path, "--max-examples", "50", seconds=900) > 60


def checked(system: System, service: str, folder: Path, *options: str, seconds: float = 120) -> int:
    """How many generated requests were answered well, which are all; not faster than one address
    without a key may ask. The configuration is that of the repository.
    """
    url = str(getattr(system, service))
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        "--config-file", str(ROOT / "schemathesis.toml"),
        "run", f"{url}/openapi.json", "--header",
        f"Authorization: Bearer {system.keys[KEYS[service]]}", "--phases",
        "examples,coverage,fuzzing", "--seed", "7", "--no-color", "--request-timeout", "10",
        "--rate-limit", "95/s", *options,
    ]  # fmt: skip
    ran = subprocess.run(
        command,
        cwd=folder,
        env=present.environment(),
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    count = re.search(r"(\d+) generated, (\d+) passed", ran.stdout)
    assert count
    assert int(count[1]) == int(count[2])
    return int(count[1])


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
        self._document, self.folder = committed(service), folder
        self._package = f"generated_{service}"
        source, config = folder / f"{service}.json", folder / "config.json"
        source.write_text(json.dumps(self._document))
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
        (file,) = self.folder.glob(f"{self._package}/api/*/{name}.py")
        module = importlib.import_module(f"{self._package}.api.{file.parent.name}.{name}")
        if body is not None:
            hint = get_type_hints(module.sync_detailed)["body"]
            models = [part for part in (hint, *get_args(hint)) if hasattr(part, "from_dict")]
            model = next((part for part in models if part.__name__ == "Item"), models[0])
            several = isinstance(body, list)
            named["body"] = (
                [model.from_dict(each) for each in body] if several else model.from_dict(body)
            )
        package = importlib.import_module(self._package)
        with package.AuthenticatedClient(base_url=self._address, token=self._key) as client:
            answer = module.sync_detailed(*arguments, client=client, **named)
        parsed = answer.parsed
        return int(answer.status_code), parsed.to_dict() if hasattr(parsed, "to_dict") else parsed


README: list[dict[str, Any]] = [
    {
        "id": "e1", "type": "content_downloaded", "content_id": "whitepaper-four-kinds",
        "traits": {"first_name": "Ada", "title": "Maintenance manager"},
        "consent": [
            {"channel": "email", "purpose": "marketing", "state": "given", "basis": "form"}
        ],
    },
    {"id": "e2", "type": "demo_requested"},
]  # fmt: skip


@pytest.fixture(scope="module")
def clients(
    system: System, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, GeneratedClient]]:
    """The three generated clients, in one folder, where Python finds them."""
    folder = tmp_path_factory.mktemp("clients")
    sys.path.insert(0, str(folder))
    yield {name: GeneratedClient(system, name, folder) for name in KEYS}
    sys.path.remove(str(folder))


def test_a_generated_client_posts_the_readmes_events_and_reads_their_lead(
    system: System, clients: dict[str, GeneratedClient]
) -> None:
    """U3."""
    email, ids = system.address(), [uuid.uuid4().hex, uuid.uuid4().hex]
    events = [each | {"id": id_, "email": email} for each, id_ in zip(README, ids, strict=True)]
    posted = clients["ingest"].call("post", "/v1/events", body=events)
    assert posted == (200, {"accepted": 2, "ids": ids, "rejected": []})
    known = system.wait_for_lead(2, email=email)
    scorer, nurture = clients["scorer"], clients["nurture"]
    assert scorer.call("post", "/v1/leads/lookup", body={"email": email})[0] == 200
    status, lead = scorer.call("get", "/v1/leads/{lead_id}", known["id"])
    assert (status, lead["id"], lead["stage"]) == (200, known["id"], "decision")
    assert lead["identifiers"]["email"] == [email]
    assert lead["traits"]["title"] == "Maintenance manager"
    status, answer = nurture.call("get", "/v1/touches", lead=uuid.UUID(known["id"]))
    assert status == 200
    assert {touch["lead"] for touch in answer["touches"]} <= {known["id"]}


def test_the_generated_clients_types_are_sound(clients: dict[str, GeneratedClient]) -> None:
    """U3: by mypy, all of their modules."""
    folder = clients["ingest"].folder
    packages = [folder / f"generated_{name}" for name in KEYS]
    options = ("--config-file", "", "--cache-dir", folder / "mypy")
    run(sys.executable, "-m", "mypy", *options, *packages, folder=folder)


def test_a_typescript_client_posts_the_readmes_events(system: System, tmp_path: Path) -> None:
    """U3: types by openapi-typescript, in strict mode, and requests by openapi-fetch."""
    for name in ("readme.mts", "tsconfig.json"):
        shutil.copy(NODE / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    tools = tmp_path / "node_modules" / ".bin"
    for name in KEYS:
        document = ROOT / "docs" / "openapi" / f"{name}.json"
        run(tools / "openapi-typescript", document, "-o", f"{name}.d.ts", folder=tmp_path)
    run(tools / "tsc", "-p", tmp_path, folder=tmp_path)
    keys = system.keys["secret"], system.keys["query"]
    said = run(
        "node", "readme.mjs", system.ingest, system.scorer, system.nurture, *keys,
        system.address(), folder=tmp_path,
    )  # fmt: skip
    answer = json.loads(said)
    assert answer["accepted"] == 2
    assert uuid.UUID(answer["lead"])
    assert answer["touches"] is not None


def run(*command: Any, folder: Path) -> str:
    """What a program prints that ends well."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


async def test_whatever_was_accepted_could_be_applied(system: System) -> None:
    """O4: no generated event that got its 2xx ends as a dead letter."""
    state = await read(Settings(database_url=system.database, kafka_bootstrap=system.kafka))
    assert state.dead_letters == 0
