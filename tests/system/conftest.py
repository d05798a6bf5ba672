"""One running system for all system tests: `ripeline up` as a user starts it, on real Kafka and
PostgreSQL.
"""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.ops.embedded.processes import tied
from services.shared.playbook.sections import Playbook
from services.shared.settings import ROOT
from tests.support import present
from tests.support.company import CRM_RULES, CRM_SECRET, CrmFlow, Site, serving
from tests.support.databases import create_database
from tests.support.running_system import ON_SITE_S, PEPPER, System
from tests.support.servers import Postgres


@pytest.fixture(scope="session")
def system(
    scratch: Path, postgres: Postgres, kafka: str, default_playbook: Playbook
) -> Iterator[System]:
    """The system; each test brings people of its own."""
    folder = scratch / "system"
    (folder / "tmp").mkdir(parents=True)
    for path in (folder, folder / "tmp"):
        path.chmod(0o755)
    _write_playbook(folder / "playbook")
    with serving(Site()) as site, serving(CrmFlow()) as crm:
        variables = {
            "RIPELINE_DATABASE_URL": asyncio.run(create_database(postgres, "system")),
            "RIPELINE_KAFKA_BOOTSTRAP": kafka,
            "RIPELINE_ENVIRONMENT": "test",  # in production no webhook goes to a loopback address
            "RIPELINE_CRM_URL": crm.url,
            "RIPELINE_CRM_SECRET": CRM_SECRET,
            "RIPELINE_PEPPER": PEPPER,
            "RIPELINE_ALLOWED_PAGES": json.dumps([f"{site.url}/thanks"]),
            "TMPDIR": str(folder / "tmp"),
        }
        with _running(folder, variables) as started:
            system = System(started, site, crm, default_playbook)
            yield system
            system.http.close()
    assert not list((folder / "tmp").iterdir())


def _write_playbook(folder: Path) -> None:
    """The product's playbook, with short visits and a CRM."""
    shutil.copytree(ROOT / "deploy" / "playbook", folder)
    rules = folder / "playbook.yaml"
    text = rules.read_text()
    text = text.replace("on_site_minutes: 30", f"on_site_minutes: {ON_SITE_S / 60}")
    rules.write_text(text.replace("  fields: {}", CRM_RULES))


@contextmanager
def _running(folder: Path, variables: dict[str, str]) -> Iterator[dict[str, Any]]:
    """`ripeline up` until the end of the tests; what its first line says."""
    command = [sys.executable, "-m", "services.ops", "up", "--playbook", str(folder / "playbook")]
    with (folder / "up.log").open("ab") as log:
        up = subprocess.Popen(
            tied(command),
            cwd=ROOT,
            env=present.environment() | variables,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        assert up.stdout
        first = up.stdout.readline()
        assert first, (folder / "up.log").read_text()
        yield json.loads(first)
    finally:
        up.send_signal(signal.SIGTERM)
        code = up.wait(60)
        if up.stdout:
            up.stdout.close()
    assert code == 0
