"""The world of a run: real Kafka and PostgreSQL, services as processes of their own, and what
memory they took.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from services.ops.commands.provision import provision
from services.ops.embedded import mail_sink as sink
from services.shared.contracts.events import INTERACTIONS
from services.shared.db import migrate, open_engine, rows
from services.shared.http.keys import new_key
from services.shared.messaging.kafka import Outgoing, Publisher
from services.shared.playbook import loading
from services.shared.settings import Settings
from tests.bench.limits import TOPIC
from tests.support.ports import free_port
from tests.support.processes import Process, settings_of
from tests.support.servers import Kafka, Postgres

MIB = 1024 * 1024


class World:
    """One installation; `quick` shortens every round."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.folder, self.quick = folder, quick
        self.kafka = Kafka(folder / "kafka", free_port())
        self.postgres = Postgres(folder / "postgres", free_port())
        self.keys = {scope: new_key() for scope in ("secret", "public", "query")}
        self.playbook = loading.load(Settings().playbook)
        self.rss_mib: dict[str, float] = {}

    async def start(self) -> None:
        """Starts the servers and makes the installation."""
        self.mail = await sink.serve(self.folder / "mail")
        self.postgres.start()
        await asyncio.to_thread(self.kafka.start)
        self.variables = {
            "RIPELINE_ENVIRONMENT": "test",
            "RIPELINE_DATABASE_URL": self.postgres.url,
            "RIPELINE_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "RIPELINE_PEPPER": "bench",
            "RIPELINE_SPOOL_DIR": str(self.folder / "spool"),
            "RIPELINE_SMTP_URL": f"smtp://{sink.address(self.mail)}",
            "RIPELINE_SMTP_IS_SINK": "true",
            **{f"RIPELINE_{scope.upper()}_KEY": key for scope, key in self.keys.items()},
        }
        self.settings = settings_of(self.variables)
        await provision(self.settings)
        topic = NewTopic(TOPIC, self.settings.kafka_partitions, self.settings.kafka_replication)
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap, "log_level": 0})
        admin.create_topics([topic])[TOPIC].result(20)

    async def stop(self) -> None:
        """Ends the servers."""
        await asyncio.to_thread(self.kafka.stop)
        self.postgres.stop()
        self.mail.close()

    @property
    def rounds(self) -> int:
        """How often each side of a ratio is measured."""
        return 3 if self.quick else 5

    @property
    def seconds(self) -> float:
        """How long one round of load lasts."""
        return 1.0 if self.quick else 2.0

    @asynccontextmanager
    async def running(self, *modules: str, database: str = "") -> AsyncIterator[list[Process]]:
        """Processes that are ready, on the installation's database or another; the peak of each
        service's resident memory is kept.
        """
        own = {"RIPELINE_DATABASE_URL": database} if database else {}
        processes = [
            Process(module, self.variables | own, self.folder / f"{module}.log")
            for module in modules
        ]
        for process in processes:
            await process.start()
        watch = asyncio.create_task(self._watch(processes))
        try:
            await asyncio.gather(*(process.ready() for process in processes))
            yield processes
            if died := [process for process in processes if process.deaths]:
                raise AssertionError(f"{died[0].module} died:\n{died[0].tail()}")
        finally:
            watch.cancel()
            await asyncio.gather(*(process.stop() for process in processes))

    async def _watch(self, processes: Sequence[Process]) -> None:
        while True:
            for process in processes:
                package, _, name = process.module.rpartition(".")
                with suppress(psutil.Error):
                    used = psutil.Process(process.pid).memory_info().rss / MIB
                    if package == "services":
                        self.rss_mib[name] = round(max(used, self.rss_mib.get(name, 0.0)), 1)
            await asyncio.sleep(0.2)

    async def database(self, name: str) -> Settings:
        """Settings with a migrated database of its own on the same server."""
        admin = create_async_engine(
            self.postgres.url.replace("postgresql:", "postgresql+asyncpg:"),
            isolation_level="AUTOCOMMIT",
        )
        async with admin.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name}"))
        await admin.dispose()
        settings = self.settings.model_copy(
            update={"database_url": type(self.settings.database_url)(self._url(name))}
        )
        engine = open_engine(settings)
        await migrate(engine)
        await engine.dispose()
        return settings

    def _url(self, name: str) -> str:
        return f"{self.postgres.url.rpartition('/')[0]}/{name}"

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Puts records on their topics, without ingest."""
        publisher = Publisher(self.settings)
        for start in range(0, len(records), 5_000):
            await publisher.publish(records[start : start + 5_000])
        await publisher.close()


class Progress:
    """How many interactions the scorer has applied, by its own notes."""

    def __init__(self, world: World) -> None:
        self._engine = open_engine(world.settings)

    async def read(self) -> int:
        """Applied so far."""
        async with self._engine.connect() as connection:
            found = await rows(
                connection,
                "SELECT coalesce(sum(next_offset), 0)::bigint AS n FROM scorer.progress WHERE "
                "topic = :topic", topic=INTERACTIONS,
            )  # fmt: skip
        return int(found[0].n)

    async def until(self, wanted: int, seconds: float = 120) -> list[tuple[float, int]]:
        """(moment, applied) at each change until so many are applied."""
        seen: list[tuple[float, int]] = []
        give_up = time.perf_counter() + seconds
        while not seen or seen[-1][1] < wanted:
            applied, now = await self.read(), time.perf_counter()
            if not seen or applied > seen[-1][1]:
                seen.append((now, applied))
            if now > give_up:
                raise TimeoutError(f"the scorer applied {applied} of {wanted}")
            await asyncio.sleep(0.01)
        return seen

    async def close(self) -> None:
        """Lets go of the database."""
        await self._engine.dispose()
