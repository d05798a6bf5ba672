"""The OpenAPI documents under generated requests: whatever they allow, and much that they do not,
is answered below 500.
"""

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from services.ops.commands.status import read
from services.shared.settings import Settings
from tests.support import present
from tests.support.running_system import System

EXAMPLES = 10
ALIKE = "/v1/(identify|page|screen|group|alias)$|^/metrics$|/v1/hooks/(?!typeform|zapier)"
# One handler with /v1/track; one that asks nothing; and of the webhooks one that signs and one that
# brings a key.
KEYS = {"ingest": "secret", "scorer": "query", "nurture": "query"}


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


async def test_whatever_was_accepted_could_be_applied(system: System) -> None:
    """O4: no generated event that got its 2xx ends as a dead letter."""
    state = await read(Settings(database_url=system.database, kafka_bootstrap=system.kafka))
    assert state["dead_letters"] == 0
