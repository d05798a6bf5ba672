"""One running system for all system tests: `ripeline up` as a user starts it, on real Kafka and
PostgreSQL.
"""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from services.nurture.rules.choice import Chooser, Lead
from services.ops.embedded.processes import tied
from services.shared.contracts.events import Snapshot
from services.shared.playbook.sections import Playbook
from services.shared.settings import HOME
from tests.support import present
from tests.support.servers import Postgres

T = TypeVar("T")
CRM_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CRM_RULES = """  system: hubspot
  fields:
    {our_stage: stage, our_chance: band, our_why: "join('; ', reasons)", our_sales: sales_status}"""
PEPPER = "the pepper of the system under test"
ON_SITE_S = 1.2  # in this system people leave the site so soon after their last act


class Site(ThreadingHTTPServer):
    """A company's web site: `pages` by path, and the addresses that were asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Visit)
        self.pages: dict[str, str] = {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Visit(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        page = self.server.pages.get(self.path.partition("?")[0])
        self.send_response(200 if page else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write((page or "").encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


class CrmFlow(ThreadingHTTPServer):
    """A CRM's flow: keeps what is written back, answers by `answers`, and holds back those in
    `held` until they are let go.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Told)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: dict[str, list[int]] = {}
        self.held: dict[str, threading.Event] = {}
        self.elsewhere = ""
        self.url = f"http://127.0.0.1:{self.server_address[1]}/in"

    def about(self, email: str) -> list[tuple[dict[str, str], bytes]]:
        """What came about the lead of this address."""
        return [one for one in list(self.got) if json.loads(one[1])["data"]["email"] == email]


class _Told(BaseHTTPRequestHandler):
    server: CrmFlow

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        email = json.loads(body)["data"]["email"]
        self.server.got.append(
            ({name.lower(): value for name, value in self.headers.items()}, body)
        )
        if email in self.server.held:
            self.server.held[email].wait(30)
        answers = self.server.answers.get(email)
        with suppress(OSError):  # the scorer may be dead by now
            self.send_response(answers.pop(0) if answers else 204)
            self.send_header("Location", self.server.elsewhere)
            self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


class System:
    """A running system, and how a stranger speaks to it: by HTTP only."""

    def __init__(self, line: dict[str, Any], site: Site, crm: CrmFlow, playbook: Playbook) -> None:
        self.line, self.site, self.crm, self.playbook = line, site, crm, playbook
        self.ingest, self.scorer, self.nurture = line["ingest"], line["scorer"], line["nurture"]
        self.keys: dict[str, str] = line["keys"]
        self.mail = Path(line["mail"])
        self.http = httpx.Client(timeout=20, follow_redirects=False)
        self._chooser = Chooser(playbook, sink=True)

    # -- speaking ---------------------------------------------------------------------------------

    def key(self, scope: str) -> dict[str, str]:
        """The header that signs in."""
        return {"Authorization": f"Bearer {self.keys[scope]}"}

    def post(
        self, path: str, scope: str = "secret", headers: dict[str, str] | None = None, **body: Any
    ) -> httpx.Response:
        """Posts to ingest."""
        return self.http.post(self.ingest + path, headers=self.key(scope) | (headers or {}), **body)

    def say(self, **interaction: Any) -> str:
        """Posts one interaction and returns its id."""
        said = {"id": uuid.uuid4().hex, **interaction}
        answer = self.post("/v1/events", json=said)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"accepted": 1, "ids": [said["id"]], "rejected": []}
        return str(said["id"])

    def ask(self, path: str, **params: Any) -> Any:
        """What the scorer answers to a query that it can answer."""
        answer = self.http.get(self.scorer + path, params=params, headers=self.key("query"))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def lookup(self, **identifier: Any) -> dict[str, Any] | None:
        """The lead of an identifier, if there is one."""
        answer = self.http.post(
            f"{self.scorer}/v1/leads/lookup", json=identifier, headers=self.key("query")
        )
        assert answer.status_code in (200, 404), answer.text
        return answer.json() if answer.status_code == 200 else None

    def known(self, events: int = 1, **identifier: Any) -> dict[str, Any]:
        """The lead of an identifier, once it counts so many events."""
        return until(
            lambda: (
                (lead := self.lookup(**identifier)) and lead["events_counted"] >= events and lead
            )
        )

    def timeline(self, lead: str) -> list[dict[str, Any]]:
        """What happened to a lead."""
        return list(self.ask(f"/v1/leads/{lead}/timeline", limit=1000)["items"])

    def touches(self, lead: str, **params: Any) -> list[dict[str, Any]]:
        """Nurture's decisions for a lead, without answers to what it asked for."""
        asked: dict[str, Any] = {"lead": lead, "limit": 1000} | params
        answer = self.http.get(
            f"{self.nurture}/v1/touches", params=asked, headers=self.key("query")
        )
        assert answer.status_code == 200, answer.text
        return [
            touch
            for touch in answer.json()["touches"]
            if touch["program"] not in self._chooser.service
        ]

    def mails(self, address: str, touch: str = "") -> list[EmailMessage]:
        """What has arrived there, or of it what a touch sent."""
        found = (
            message_from_bytes(file.read_bytes(), policy=policy.default)
            for file in sorted(self.mail.glob("*.eml"))
        )
        return [
            mail for mail in found if mail["To"] == address and touch in mail["X-Ripeline-Touch"]
        ]

    # -- inventing --------------------------------------------------------------------------------

    def address(self, name: str = "ann") -> str:
        """A new address at a company that is not held out."""
        while True:
            email = f"{name}@{uuid.uuid4().hex[:12]}.example"
            if not self._chooser.held_out(Lead("", Snapshot(stage="awareness", email=email))):
                return email


def until(ask: Callable[[], T | bool | None], seconds: float = 20) -> T:
    """What `ask` returns once it is true."""
    give_up = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < give_up, f"in vain for {seconds:g} s"
        time.sleep(0.1)
    return found  # type: ignore[return-value]


@pytest.fixture(scope="session")
def system(
    scratch: Path, postgres: Postgres, kafka: str, default_playbook: Playbook
) -> Iterator[System]:
    """The system; each test brings people of its own."""
    folder = scratch / "system"
    (folder / "tmp").mkdir(parents=True)
    for one in (folder, folder / "tmp"):
        one.chmod(0o755)
    shutil.copytree(HOME / "deploy" / "playbook", folder / "playbook")
    rules = folder / "playbook" / "playbook.yaml"
    rules.write_text(
        rules.read_text().replace("on_site_minutes: 30", f"on_site_minutes: {ON_SITE_S / 60}")
    )
    rules.write_text(rules.read_text().replace("  fields: {}", CRM_RULES))
    site, crm = Site(), CrmFlow()
    for server in (site, crm):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    given = {
        "RIPELINE_DATABASE_URL": asyncio.run(_new_database(postgres)),
        "RIPELINE_KAFKA_BOOTSTRAP": kafka,
        "RIPELINE_ENVIRONMENT": "test",  # in production no webhook goes to a loopback address
        "RIPELINE_CRM_URL": crm.url,
        "RIPELINE_CRM_SECRET": CRM_SECRET,
        "RIPELINE_PEPPER": PEPPER,
        "RIPELINE_ALLOWED_PAGES": json.dumps([f"{site.url}/thanks"]),
        "TMPDIR": str(folder / "tmp"),
    }
    with (folder / "up.log").open("ab") as log:
        command = [
            sys.executable,
            "-m",
            "services.ops",
            "up",
            "--playbook",
            str(folder / "playbook"),
        ]
        up = subprocess.Popen(
            tied(command),
            cwd=HOME,
            env=present.environment() | given,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        assert up.stdout
        first = up.stdout.readline()
        assert first, (folder / "up.log").read_text()
        yield System(json.loads(first), site, crm, default_playbook)
    finally:
        up.send_signal(signal.SIGTERM)
        code = up.wait(60)
        for server in (site, crm):
            server.shutdown()
            server.server_close()
    assert code == 0
    assert not list((folder / "tmp").iterdir())


async def _new_database(postgres: Postgres) -> str:
    admin = create_async_engine(
        postgres.url.replace("postgresql://", "postgresql+asyncpg://"), isolation_level="AUTOCOMMIT"
    )
    async with admin.connect() as connection:
        await connection.execute(text("CREATE DATABASE system TEMPLATE template_ripeline"))
    await admin.dispose()
    return f"{postgres.url.rpartition('/')[0]}/system"
