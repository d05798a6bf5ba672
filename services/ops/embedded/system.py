"""The whole system without Docker or Java: a real PostgreSQL, an in-memory broker, services as
processes.
"""

import asyncio
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from services.ops.embedded import mail_sink as sink
from services.ops.embedded.postgres import EmbeddedPostgres
from services.ops.embedded.processes import free_port, tied
from services.ops.embedded.state import Failed, state_file, write_state
from services.shared.http.keys import new_key
from services.shared.settings import PORTS, ROOT, Settings

READY_S = 60.0
GRACE_S = 12.0
PROVISION_S = 90.0
SHORT_LIFE_S = 2.0  # a service that dies sooner than this waits a moment before it is started again
RESTART_PAUSE_S = 0.5
TAIL = 30
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Wish:
    """What is to run: how many of each, by which playbook."""

    scorers: int = 1
    nurtures: int = 1
    nurture: bool = True
    playbook: Path | None = None

    def check(self, environ: Mapping[str, str]) -> None:
        """Raises `Failed` for what cannot be had."""
        if self.scorers < 1 or self.nurtures < 1:
            raise Failed(
                "at least one scorer and one nurture are needed; --no-nurture leaves nurture out", 2
            )
        if (self.scorers > 1 or self.nurtures > 1) and not environ.get("RIPELINE_KAFKA_BOOTSTRAP"):
            raise Failed(
                "the in-memory broker serves one consumer a group, so replicas cannot share "
                "the work on it: "
                "set RIPELINE_KAFKA_BOOTSTRAP to an Apache Kafka, or leave --scorers and "
                "--nurtures at 1",
                2,
            )

    def replicas(self) -> list[tuple[str, int]]:
        """(service, number) of each process, in the order in which they are stopped."""
        counts = {
            "ingest": 1,
            "scorer": self.scorers,
            "nurture": self.nurtures if self.nurture else 0,
        }
        return [(service, number) for service, n in counts.items() for number in range(n)]


@dataclass
class Child:
    """One process of ours, with its log."""

    name: str
    arguments: list[str]
    environ: dict[str, str]
    log: Path
    port: int = 0
    process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def start(self, stdout: int | None = None) -> asyncio.subprocess.Process:
        """Starts it in a session of its own, so that Ctrl-C reaches us alone; it dies when
        we die.
        """
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *tied([sys.executable, *self.arguments]), env=self.environ, cwd=ROOT,
                start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL, stdout=stdout or log, stderr=log,
            )  # fmt: skip
        return self.process

    async def stop(self) -> None:
        """SIGTERM and patience, then SIGKILL."""
        if self.process is None or self.process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), GRACE_S)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()

    def tail(self) -> str:
        """The last lines of its log."""
        lines = (
            self.log.read_text("utf-8", "replace").splitlines()[-TAIL:] if self.log.exists() else []
        )
        return "\n".join(f"  {line}" for line in lines)


@dataclass
class Embedded:
    """Starts everything on entry, starts again what dies, and leaves nothing behind on exit.

    `environ` overrides what the services would get from ours; `clock`, asked once the parts stand
    and before the services start, is their clock; `tell` gets a JSON-able dict for each service
    that was started again.
    """

    wish: Wish = field(default_factory=Wish)
    environ: Mapping[str, str] = field(default_factory=dict)
    clock: Callable[[], str] | None = None
    tell: Callable[[dict[str, Any]], None] = lambda _: None
    broken: asyncio.Event = field(default_factory=asyncio.Event)
    reason: str = ""
    variables: dict[str, str] = field(default_factory=dict)

    _ports: dict[tuple[str, int], int] = field(default_factory=dict)
    _folder: Path | None = None
    _postgres: EmbeddedPostgres | None = None
    _broker: Child | None = None
    _sink: asyncio.Server | None = None
    _services: list[Child] = field(default_factory=list)
    _watchers: list[asyncio.Task[None]] = field(default_factory=list)
    _state: str = ""

    async def __aenter__(self) -> Self:
        self.wish.check(os.environ)
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def folder(self) -> Path:
        """The temporary folder of this system."""
        assert self._folder is not None
        return self._folder

    @property
    def mail(self) -> Path:
        """Where every mail lands, one .eml each."""
        return self.folder / "mail"

    @property
    def embeds_broker(self) -> bool:
        """Whether the in-memory broker is in use."""
        return self._broker is not None

    @property
    def settings(self) -> Settings:
        """The settings that the services run with."""
        return Settings.of(
            {name: value for name, value in self.variables.items() if os.environ.get(name) != value}
        )

    def url(self, service: str) -> str:
        """Where the first process of a service listens; empty where it was left out."""
        return next((child.url for child in self._services if child.name == service), "")

    def line(self) -> dict[str, Any]:
        """What a person with curl needs to know."""
        pids = {
            service: [child.pid for child in self._services if child.name == service]
            for service in PORTS
        }
        given = self.variables
        return {
            **{service: self.url(service) for service in PORTS},
            "keys": {
                scope: given[f"RIPELINE_{scope.upper()}_KEY"]
                for scope in ("secret", "public", "query")
            },
            "mail": str(self.mail),
            "pids": {
                **pids,
                "postgres": self._postgres.pid
                if self._postgres and self._postgres.running
                else None,
                "broker": self._broker.pid if self._broker else None,
            },
            "database": given["RIPELINE_DATABASE_URL"],
            "kafka": given["RIPELINE_KAFKA_BOOTSTRAP"],
        }

    async def _start(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ripeline-run-")).resolve()  # noqa: ASYNC240  # once, at the start
        self._folder.chmod(0o711)  # an unprivileged database user passes through; nobody lists it
        for name in ("mail", "log", "spool"):
            (self._folder / name).mkdir(mode=0o700)
        self.variables = self._variables()
        await self._start_parts()
        await self._provision()
        if self.clock:
            self.variables["RIPELINE_CLOCK"] = self.clock()
        await self._start_services()
        self._keep_state()

    def _variables(self) -> dict[str, str]:
        """Every RIPELINE_ variable of the services: ours where nobody says otherwise."""
        ports = self._ports = allot_ports(self.wish.replicas())
        mine = {
            "RIPELINE_ENVIRONMENT": "production",
            "RIPELINE_HOST": HOST,
            "RIPELINE_PUBLIC_URL": f"http://{HOST}:{ports['ingest', 0]}",
            "RIPELINE_SPOOL_DIR": str(self.folder / "spool"),
            "RIPELINE_PEPPER": secrets.token_urlsafe(32),
            "RIPELINE_MAIL_FROM": "Ripeline <nurture@ripeline.example>",
            "RIPELINE_KAFKA_SESSION_TIMEOUT_MS": "6000",
        }
        mine |= {f"RIPELINE_{scope}_KEY": new_key() for scope in ("SECRET", "PUBLIC", "QUERY")}
        given = {
            name: value
            for name, value in os.environ.items()
            if name.startswith("RIPELINE_") and value
        }
        given.pop("RIPELINE_PORT", None)
        variables = mine | given | dict(self.environ)
        if self.wish.playbook:
            variables["RIPELINE_PLAYBOOK"] = str(self.wish.playbook.resolve())
        return variables

    async def _start_parts(self) -> None:
        given = self.variables
        if not given.get("RIPELINE_SMTP_URL"):
            self._sink = await sink.serve(self.mail)
            given |= {
                "RIPELINE_SMTP_URL": f"smtp://{sink.address(self._sink)}",
                "RIPELINE_SMTP_IS_SINK": "true",
            }
        if "RIPELINE_KAFKA_BOOTSTRAP" not in given:
            self._broker = self._child("broker", ["-m", "services.ops.embedded.broker"])
            await self._broker.start(stdout=asyncio.subprocess.PIPE)
        if "RIPELINE_DATABASE_URL" not in given:
            self._postgres = EmbeddedPostgres(self.folder / "postgres", free_port(HOST))
            try:
                self._postgres.start()
            except RuntimeError as error:
                raise Failed(str(error)) from None
            given["RIPELINE_DATABASE_URL"] = self._postgres.url
        if self._broker:
            given["RIPELINE_KAFKA_BOOTSTRAP"] = await self._bootstrap(self._broker)

    async def _bootstrap(self, broker: Child) -> str:
        """The address that the in-memory broker tells in its first line."""
        assert broker.process is not None
        assert broker.process.stdout is not None
        try:
            said = await asyncio.wait_for(broker.process.stdout.readline(), READY_S)
            return str(json.loads(said)["bootstrap"])
        except (TimeoutError, ValueError, KeyError):
            raise Failed(f"the in-memory broker did not start:\n{broker.tail()}") from None

    async def _provision(self) -> None:
        child = self._child("provision", ["-m", "services.ops", "provision"])
        process = await child.start()
        try:
            code = await asyncio.wait_for(process.wait(), PROVISION_S)
        except TimeoutError:
            code = -1
        finally:
            await child.stop()
        if code:
            raise Failed(f"provision failed:\n{child.tail()}")

    async def _start_services(self) -> None:
        for service, number in self.wish.replicas():
            port = self._ports[service, number]
            own = {"RIPELINE_PORT": str(port)}
            child = self._child(service, ["-m", f"services.{service}"], own, number)
            child.port = port
            self._services.append(child)
            await child.start()
        async with aiohttp.ClientSession() as http:
            await asyncio.gather(*(_ready(http, child) for child in self._services))
        self._watchers = [asyncio.create_task(self._watch(child)) for child in self._services]
        self._watchers.append(asyncio.create_task(self._watch_parts()))

    def _child(
        self, name: str, arguments: list[str], own: Mapping[str, str] | None = None, number: int = 0
    ) -> Child:
        plain = {
            name: value for name, value in os.environ.items() if not name.startswith("RIPELINE_")
        }
        log = self.folder / "log" / f"{name}-{number}.log"
        return Child(name, arguments, plain | self.variables | dict(own or {}), log)

    async def _watch(self, child: Child) -> None:
        """Starts a service again, on its port, whenever it dies."""
        loop = asyncio.get_running_loop()
        while child.process is not None:
            began = loop.time()
            await child.process.wait()
            if loop.time() - began < SHORT_LIFE_S:
                await asyncio.sleep(RESTART_PAUSE_S)
            await child.start()
            self._keep_state()
            self.tell({"service": child.name, "pid": child.pid})

    async def _watch_parts(self) -> None:
        """Starts PostgreSQL again on its data; with the in-memory broker all that waited in it is
        gone.
        """
        while True:
            await asyncio.sleep(0.5)
            if (
                self._broker
                and self._broker.process
                and self._broker.process.returncode is not None
            ):
                return self._fall(
                    f"the in-memory broker died, and what it held with it:\n{self._broker.tail()}"
                )
            if self._postgres and not self._postgres.running:
                try:
                    self._postgres.start()
                except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                    return self._fall(f"PostgreSQL died and did not start again: {error}")
                self._keep_state()
                self.tell({"service": "postgres", "pid": self._postgres.pid})

    def _fall(self, reason: str) -> None:
        self.reason = reason
        self.broken.set()

    async def stop(self) -> None:
        """Ends services, then what they stand on; removes the temporary folder. May be called
        twice.
        """
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        self._watchers.clear()
        for service in PORTS:
            await asyncio.gather(
                *(child.stop() for child in self._services if child.name == service)
            )
        if self._broker:
            await self._broker.stop()
        if self._postgres:
            self._postgres.stop()
        if self._sink:
            self._sink.close()
        self._forget_state()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _keep_state(self) -> None:
        self._state = json.dumps(self.line() | {"up": os.getpid(), "environ": self.variables})
        write_state(self._state)

    def _forget_state(self) -> None:
        with suppress(OSError):
            if self._state and state_file().read_text() == self._state:
                state_file().unlink()
                state_file().parent.rmdir()


async def _ready(http: aiohttp.ClientSession, child: Child) -> None:
    """Waits until a service says that it is ready. Raises `Failed` with the end of its log."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + READY_S
    while loop.time() < give_up:
        if child.process is None or child.process.returncode is not None:
            raise Failed(f"{child.name} ended before it was ready:\n{child.tail()}")
        with suppress(aiohttp.ClientError, TimeoutError):
            async with http.get(
                f"{child.url}/health/ready", timeout=aiohttp.ClientTimeout(2)
            ) as response:
                if response.status == 200:
                    return
        await asyncio.sleep(0.1)
    raise Failed(f"{child.name} was not ready after {READY_S:.0f} s:\n{child.tail()}")


def allot_ports(replicas: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """A port for each process: the service's own where it is free, else any free one."""
    ports: dict[tuple[str, int], int] = {}
    for service, number in replicas:
        wanted = PORTS[service] if number == 0 else 0
        port = wanted if wanted and _is_free(wanted) else free_port(HOST)
        while port in ports.values():
            port = free_port(HOST)
        ports[service, number] = port
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
