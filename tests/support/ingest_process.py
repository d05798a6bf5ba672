"""An ingest of a test's own, with one more sender: Standard Webhooks.

`python -m tests.support.ingest_process` runs it; `IngestProcess` starts, stops and kills it.
"""

import asyncio
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import httpx
import msgspec
import uvloop
from confluent_kafka import Consumer, TopicPartition
from sqlalchemy import text

from services.ingest import __main__ as service
from services.ingest import wiring
from services.ingest.senders import Vault, connect, disconnect
from services.ingest.sources.contract import Sample, Source
from services.ops.embedded.processes import tied
from services.shared.contracts.events import INTERACTIONS, Interaction, InteractionEvent
from services.shared.db import open_engine
from services.shared.http.keys import Scope, new_key, register
from services.shared.logs import configure_logs
from services.shared.messaging import kafka
from services.shared.settings import ROOT, Settings
from tests.support import present, raw_http
from tests.support.ports import free_port
from tests.support.standard_webhooks import all_sources

PEPPER = "a pepper of the tests"
REFRESHED_S = 1.0  # after which changed keys and senders hold

_event = msgspec.json.Decoder(InteractionEvent).decode
_interaction = msgspec.json.Decoder(Interaction).decode


class IngestProcess:
    """One process of ingest, how a client speaks to it, and what it has published; `settings` are
    RIPELINE_ variables in lower case.
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

    # -- lifecycle --------------------------------------------------------------------------------

    def start(self) -> "IngestProcess":
        """Starts it and returns once it is ready."""
        command = tied([sys.executable, "-m", "tests.support.ingest_process"])
        # The log goes through a pipe: a test may forbid the process to write to files.
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=present.environment() | self._variables, stderr=subprocess.PIPE
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
        self.http.close()
        assert self._process.wait(20) == 0, self.log()

    def kill(self) -> None:
        """Ends it as a crash would."""
        assert self._process
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    @property
    def pid(self) -> int:
        """The process id."""
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

    # -- requests ---------------------------------------------------------------------------------

    def key(self, scope: str) -> dict[str, str]:
        """The header that signs in."""
        return {"Authorization": f"Bearer {self.keys[scope]}"}

    def post(
        self, path: str, scope: str = "secret", headers: dict[str, str] | None = None, **body: Any
    ) -> httpx.Response:
        """Posts with one of its keys."""
        return self.http.post(self.url + path, headers=self.key(scope) | (headers or {}), **body)

    def post_signed(self, source: Source, sample: Sample) -> httpx.Response:
        """Posts a signed request to its sender's address."""
        headers = {"Content-Type": sample.media, **sample.headers}
        path = getattr(sample, "path", "") or source.paths[0]
        return self.http.post(
            self.url + path, params=dict(sample.query), headers=headers, content=sample.body
        )

    def signed_request(
        self, source: Source, secret: str, at: datetime | None = None, sample: Sample | None = None
    ) -> Sample:
        """A request as the sender would sign it."""
        assert source.sample
        assert source.sign
        now = at or present.now()
        sample = sample or source.sample(f"{uuid.uuid4().hex[:12]}@signed.example", now)
        path = getattr(sample, "path", "") or source.paths[0]
        return source.sign(sample, secret, self.url + path, now)

    def connection(self) -> socket.socket:
        """A bare connection to it."""
        return raw_http.connect(self.port)

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value; 0 before there was anything to count."""
        wanted = "".join(rf'(?=[^}}]*{label}="{value}")' for label, value in labels.items())
        found = re.search(
            rf"^{name}(?:\{{{wanted}[^}}]*\}})? (\S+)$",
            self.http.get(f"{self.url}/metrics").text,
            re.MULTILINE,
        )
        return float(found[1]) if found else 0.0

    # -- database and broker ----------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """Settings that reach its database and its broker."""
        return Settings(database_url=self.database, kafka_bootstrap=self.bootstrap)

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
            lambda connection: connect(
                connection, Vault(PEPPER.encode()), source.name, secret, **more
            )
        )

    def disconnect(self, *ids: str) -> None:
        """Revokes it."""
        assert self._in_transaction(lambda connection: disconnect(connection, ids)) == len(ids)

    def sql(self, statement: str, **values: Any) -> None:
        """Executes a statement in the database."""
        self._in_transaction(lambda connection: connection.execute(text(statement), values))

    def count_published(self) -> int:
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

    @contextmanager
    def publishes_nothing(self) -> Iterator[None]:
        """Within it no interaction reaches the broker."""
        before = self.count_published()
        yield
        assert self.count_published() == before

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
            found: list[InteractionEvent] = []
            wanted = self.count_published()
            parts = consumer.list_topics(INTERACTIONS, timeout=10).topics[INTERACTIONS].partitions
            consumer.assign([TopicPartition(INTERACTIONS, part, 0) for part in parts])
            give_up = time.monotonic() + 60
            while len(found) < wanted:
                assert time.monotonic() < give_up, f"{len(found)} of {wanted}"
                polled = consumer.consume(1_000, timeout=1)
                found += [_event(record.value() or b"") for record in polled if not record.error()]
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


def create_topics_on(bootstrap: str) -> None:
    """Creates the topics."""
    asyncio.run(kafka.create_topics(Settings(kafka_bootstrap=bootstrap)))


if __name__ == "__main__":
    wiring.served = all_sources  # type: ignore[attr-defined]
    configure_logs("ingest", "info")
    uvloop.run(service.main(Settings()))
