"""An ingest of a test's own, with one more sender who signs: the scheme of Standard Webhooks,
signed and verified by its library.

`python -m tests.support.attacked_ingest` runs it; `Ingest` starts, stops and kills it from a test.
"""

import asyncio
import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import httpx
import msgspec
import uvloop
from confluent_kafka import Consumer, TopicPartition
from sqlalchemy import text
from standardwebhooks import Webhook, WebhookVerificationError

from services.ingest import __main__ as service
from services.ingest.registry import served
from services.ingest.senders import Vault, connect, disconnect
from services.ingest.sources import canonical
from services.ingest.sources.contract import InboundRequest, Sample, Secret, Source
from services.ingest.sources.reading.signatures import fitting, fresh
from services.ops.embedded.processes import tied
from services.shared.contracts.events import INTERACTIONS, Interaction, InteractionEvent
from services.shared.db import open_engine
from services.shared.http.keys import Scope, new_key, register
from services.shared.messaging.kafka import make_topics
from services.shared.playbook.sections import Playbook
from services.shared.settings import HOME, Settings
from services.shared.telemetry import configure_logs
from tests.support import present
from tests.support.servers import free_port

PEPPER = "a pepper of the tests"


def _verify(post: InboundRequest, secrets: Sequence[Secret]) -> Secret:
    fresh(post.headers.get("webhook-timestamp", ""), post.received_at, "webhook-timestamp")

    def fits(value: str) -> bool:
        try:
            Webhook(value).verify(post.body, dict(post.headers))
        except (WebhookVerificationError, ValueError):
            return False
        return True

    return fitting(secrets, fits, "webhook-signature")


def _sample(address: str, now: datetime) -> Sample:
    said = {
        "id": uuid.uuid4().hex,
        "type": "demo_requested",
        "email": address,
        "occurred_at": now.isoformat(),
    }
    return Sample(json.dumps(said).encode(), "application/json")


def _sign(sample: Sample, secret: str, _: str, now: datetime) -> Sample:
    name, now = f"msg.{uuid.uuid4().hex}", present.by_machine(now)  # the library verifies by it
    signature = Webhook(secret).sign(name, now, sample.body.decode())
    headers = {
        "webhook-id": name,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
    return sample._replace(headers=headers)


def _new_secret() -> tuple[str, str]:
    value = "whsec_" + base64.b64encode(os.urandom(24)).decode()
    return value, value


_event = msgspec.json.Decoder(InteractionEvent).decode
_interaction = msgspec.json.Decoder(Interaction).decode

HOUSE = Source(
    "house", canonical.parse, ("/v1/hooks/house",), verify=_verify, sample=_sample, sign=_sign,
    new_secret=_new_secret
)  # fmt: skip


def signing(playbook: Playbook) -> list[Source]:
    """Every sender who signs and can be imitated."""
    return [
        one
        for one in [*served(playbook), HOUSE]
        if one.verify and one.sample and one.sign and one.new_secret
    ]


class Ingest:
    """A process of ingest and the strangers before its doors; `settings` are RIPELINE_ variables in
    lower case.
    """

    def __init__(self, folder: Path, database: str, bootstrap: str, **settings: str) -> None:
        self.folder, self.database, self.bootstrap = folder, database, bootstrap
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "ingest.log").touch()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(timeout=30)
        given = {
            "environment": "test", "database_url": database, "kafka_bootstrap": bootstrap,
            "pepper": PEPPER,
            "port": str(self.port), "public_url": self.url, "spool_dir": str(folder / "spool"),
            **settings,
        }  # fmt: skip
        self._variables = {f"RIPELINE_{name.upper()}": value for name, value in given.items()}
        self._process: subprocess.Popen[bytes] | None = None
        self.keys = {scope: self.new_key(scope) for scope in ("secret", "public")}

    # -- living -----------------------------------------------------------------------------------

    def start(self) -> "Ingest":
        """Starts it and returns once it is ready."""
        command = tied([sys.executable, "-m", "tests.support.attacked_ingest"])
        # The log goes through a pipe: a test may forbid the process to write to files.
        self._process = subprocess.Popen(
            command, cwd=HOME, env=present.environment() | self._variables, stderr=subprocess.PIPE
        )
        threading.Thread(target=self._keep_log, args=[self._process.stderr], daemon=True).start()
        give_up = time.monotonic() + 40
        while not self._is_ready():
            assert time.monotonic() < give_up, self.log()
            assert self._process.poll() is None, self.log()
            time.sleep(0.1)
        return self

    def _keep_log(self, stream: IO[bytes]) -> None:
        with (self.folder / "ingest.log").open("ab") as log, stream:
            for line in stream:
                log.write(line)
                log.flush()

    def stop(self) -> None:
        """Ends it in order."""
        assert self._process
        self._process.terminate()
        assert self._process.wait(20) == 0, self.log()

    def kill(self) -> None:
        """Ends it as a crash would."""
        assert self._process
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    @property
    def pid(self) -> int:
        """The process of now."""
        assert self._process
        return self._process.pid

    def log(self) -> str:
        """What it has logged."""
        return (self.folder / "ingest.log").read_text(errors="replace")

    def _is_ready(self) -> bool:
        try:
            return self.http.get(f"{self.url}/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    # -- speaking ---------------------------------------------------------------------------------

    def key(self, scope: str) -> dict[str, str]:
        """The header that signs in."""
        return {"Authorization": f"Bearer {self.keys[scope]}"}

    def post(
        self, path: str, scope: str = "secret", headers: dict[str, str] | None = None, **body: Any
    ) -> httpx.Response:
        """Posts with one of its keys."""
        return self.http.post(self.url + path, headers=self.key(scope) | (headers or {}), **body)

    def hook(self, source: Source, sample: Sample) -> httpx.Response:
        """Posts as a sender who signs does."""
        headers = {"Content-Type": sample.media, **sample.headers}
        path = getattr(sample, "path", "") or source.paths[0]
        return self.http.post(
            self.url + path, params=dict(sample.query), headers=headers, content=sample.body
        )

    def signed(
        self, source: Source, secret: str, at: datetime | None = None, sample: Sample | None = None
    ) -> Sample:
        """A request as the sender would sign it."""
        assert source.sample
        assert source.sign
        now = at or present.now()
        sample = sample or source.sample(f"{uuid.uuid4().hex[:12]}@signed.example", now)
        path = getattr(sample, "path", "") or source.paths[0]
        return source.sign(sample, secret, self.url + path, now)

    def wire(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value; 0 before there was anything to count."""
        wanted = "".join(rf'(?=[^}}]*{label}="{value}")' for label, value in labels.items())
        found = re.search(
            rf"^{name}(?:\{{{wanted}[^}}]*\}})? (\S+)$",
            self.http.get(f"{self.url}/metrics").text,
            re.MULTILINE,
        )
        return float(found[1]) if found else 0.0

    # -- behind the doors -------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """Settings that reach its database and its broker."""
        return Settings(database_url=self.database, kafka_bootstrap=self.bootstrap)  # type: ignore[arg-type]

    def new_key(self, scope: Scope, **more: Any) -> str:
        """Registers a key; a name of its own tells it from the others."""
        key = new_key()
        self._in_database(
            lambda engine: register(engine, key, more.pop("name", "default"), scope, **more)
        )
        return key

    def connect(self, source: Source, secret: str, **more: Any) -> str:
        """Registers what verifies a sender's signatures; returns its id."""
        return self._in_transaction(
            lambda one: connect(one, Vault(PEPPER.encode()), source.name, secret, **more)
        )

    def disconnect(self, *ids: str) -> None:
        """Revokes it."""
        assert self._in_transaction(lambda one: disconnect(one, ids)) == len(ids)

    def sql(self, statement: str, **values: Any) -> None:
        """Does something to the database."""
        self._in_transaction(lambda one: one.execute(text(statement), values))

    def arrived(self) -> int:
        """How many interactions the broker holds."""

        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "none"})
        try:
            parts = consumer.list_topics(INTERACTIONS, timeout=10).topics[INTERACTIONS].partitions
            return sum(
                consumer.get_watermark_offsets(TopicPartition(INTERACTIONS, part), timeout=10)[1]
                for part in parts
            )
        finally:
            consumer.close()

    def interactions(self) -> list[tuple[datetime, Interaction]]:
        """All interactions that the broker holds, with their times, each partition in its order."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "reading",
                "enable.auto.commit": False,
            }
        )
        try:
            found, wanted = [], self.arrived()
            parts = consumer.list_topics(INTERACTIONS, timeout=10).topics[INTERACTIONS].partitions
            consumer.assign([TopicPartition(INTERACTIONS, part, 0) for part in parts])
            give_up = time.monotonic() + 60
            while len(found) < wanted:
                assert time.monotonic() < give_up, f"{len(found)} of {wanted}"
                found += [
                    _event(record.value())
                    for record in consumer.consume(1_000, timeout=1)
                    if not record.error()
                ]
            return [(event.time, _interaction(event.data)) for event in found]
        finally:
            consumer.close()

    def _in_database(self, work: Any) -> Any:
        async def run() -> Any:
            engine = open_engine(self.settings)
            try:
                return await work(engine)
            finally:
                await engine.dispose()

        return asyncio.run(run())

    def _in_transaction(self, work: Any) -> Any:
        async def run(engine: Any) -> Any:
            async with engine.begin() as connection:
                return await work(connection)

        return self._in_database(run)


def make_ready(bootstrap: str) -> None:
    """Creates the topics."""
    asyncio.run(make_topics(Settings(kafka_bootstrap=bootstrap)))


if __name__ == "__main__":
    service.served = lambda rules: [*served(rules), HOUSE]  # type: ignore[attr-defined]
    configure_logs("ingest", "info")
    uvloop.run(service.main(Settings()))
