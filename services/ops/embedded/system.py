"""The whole system without Docker or Java: a real PostgreSQL, an in-memory broker, services as
processes.
"""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

from services.ops.embedded import mail_sink
from services.ops.embedded.child import ChildProcess, broker_address, wait_until_ready
from services.ops.embedded.postgres import EmbeddedPostgres
from services.ops.embedded.processes import free_port
from services.ops.embedded.spec import (
    HOST,
    Replica,
    SystemSpec,
    allot_ports,
    service_variables,
)
from services.ops.embedded.state import (
    ProcessIds,
    RunningSystem,
    SystemFailed,
    SystemInfo,
    remove_state,
    write_state,
)
from services.ops.embedded.supervision import Restarted, Supervisor
from services.shared.settings import PORTS, Settings

PROVISION_S = 90.0


class EmbeddedSystem:
    """Starts everything on entry, starts again what dies, and leaves nothing behind on exit.

    `environ` overrides what the services would get from our environment. `clock`, called once the
    parts stand and before the services start, gives their clock. `on_restart` is called for each
    part that was started again.
    """

    def __init__(
        self,
        spec: SystemSpec,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], str] | None = None,
        on_restart: Callable[[Restarted], None] = lambda _: None,
    ) -> None:
        self._spec, self._overrides, self._clock = spec, environ or {}, clock
        self._on_restart = on_restart
        self._supervisor = Supervisor(self._restarted)
        self._variables: dict[str, str] = {}
        self._ports: dict[Replica, int] = {}
        self._folder: Path | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._broker: ChildProcess | None = None
        self._mail_sink: asyncio.Server | None = None
        self._services: list[ChildProcess] = []
        self._state: RunningSystem | None = None
        self._started = time.time()

    async def __aenter__(self) -> Self:
        self._spec.check(os.environ)
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
    def mail(self) -> Path:
        """Where every mail is kept, one .eml each."""
        return self._own_folder / "mail"

    @property
    def embeds_broker(self) -> bool:
        """Whether the in-memory broker is in use."""
        return self._broker is not None

    @property
    def settings(self) -> Settings:
        """The settings that the services run with."""
        changed = {
            name: value for name, value in self._variables.items() if os.environ.get(name) != value
        }
        return Settings.of(changed)

    @property
    def taken_ports(self) -> dict[str, int]:
        """The services' own ports that others held at the start, by service."""
        return {
            replica.service: PORTS[replica.service]
            for replica, port in self._ports.items()
            if replica.number == 0 and port != PORTS[replica.service]
        }

    @property
    def public_url(self) -> str:
        """Where links in mails lead."""
        return self._variables["RIPELINE_PUBLIC_URL"]

    def info(self) -> SystemInfo:
        """Addresses, keys and process ids."""
        given = self._variables
        postgres = self._postgres.pid if self._postgres and self._postgres.running else None
        return SystemInfo(
            **{service: self._url(service) for service in PORTS},
            keys={
                scope: given[f"RIPELINE_{scope.upper()}_KEY"]
                for scope in ("secret", "public", "query")
            },
            mail=str(self.mail),
            pids=ProcessIds(
                **{service: self._pids(service) for service in PORTS},
                postgres=postgres,
                broker=self._broker.pid if self._broker else None,
            ),
            database=given["RIPELINE_DATABASE_URL"],
            kafka=given["RIPELINE_KAFKA_BOOTSTRAP"],
        )

    async def wait_for_failure(self) -> SystemFailed:
        """Returns when a part has died that cannot be started again."""
        await self._supervisor.failed.wait()
        return SystemFailed(self._supervisor.reason)

    async def stop(self) -> None:
        """Ends the services, then what they stand on; removes the temporary folder. May be called
        twice.
        """
        await self._supervisor.stop()
        for service in PORTS:
            await asyncio.gather(*(child.stop() for child in self._children(service)))
        if self._broker:
            await self._broker.stop()
        if self._postgres:
            self._postgres.stop()
        if self._mail_sink:
            self._mail_sink.close()
        if self._state:
            with suppress(OSError):
                remove_state(self._state)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _start(self) -> None:
        self._folder = _make_folder()
        self._ports = allot_ports(self._spec.replicas())
        self._variables = service_variables(self._folder, self._ports, self._spec, self._overrides)
        await self._start_parts()
        await self._provision()
        if self._clock:
            self._variables["RIPELINE_CLOCK"] = self._clock()
        await self._start_services()
        self._watch()
        self._write_state()

    async def _start_parts(self) -> None:
        """The mail sink, the broker and PostgreSQL, where no variable names another."""
        given = self._variables
        if not given.get("RIPELINE_SMTP_URL"):
            self._mail_sink = await mail_sink.serve(self.mail)
            given["RIPELINE_SMTP_URL"] = f"smtp://{mail_sink.address(self._mail_sink)}"
            given["RIPELINE_SMTP_IS_SINK"] = "true"
        if "RIPELINE_KAFKA_BOOTSTRAP" not in given:
            self._broker = self._child("broker", ["-m", "services.ops.embedded.broker"])
            await self._broker.start(stdout=asyncio.subprocess.PIPE)
        if "RIPELINE_DATABASE_URL" not in given:
            self._postgres = EmbeddedPostgres(self._own_folder / "postgres", free_port(HOST))
            try:
                self._postgres.start()
            except RuntimeError as error:
                raise SystemFailed(str(error)) from None
            given["RIPELINE_DATABASE_URL"] = self._postgres.url
        if self._broker:
            given["RIPELINE_KAFKA_BOOTSTRAP"] = await broker_address(self._broker)

    async def _provision(self) -> None:
        child = self._child("provision", ["-m", "services.ops", "provision"])
        process = await child.start()
        try:
            async with asyncio.timeout(PROVISION_S):
                code = await process.wait()
        except TimeoutError:
            code = -1
        finally:
            await child.stop()
        if code:
            raise SystemFailed(f"provision failed:\n{child.log_end()}")

    async def _start_services(self) -> None:
        for replica, port in self._ports.items():
            child = self._child(
                replica.service, ["-m", f"services.{replica.service}"], replica.number, port
            )
            self._services.append(child)
            await child.start()
        async with aiohttp.ClientSession() as http:
            await asyncio.gather(*(wait_until_ready(http, child) for child in self._services))

    def _child(
        self, name: str, arguments: list[str], number: int = 0, port: int = 0
    ) -> ChildProcess:
        outside = {
            name: value for name, value in os.environ.items() if not name.startswith("RIPELINE_")
        }
        own = {"RIPELINE_PORT": str(port)} if port else {}
        log = self._own_folder / "log" / f"{name}-{number}.log"
        return ChildProcess(name, arguments, outside | self._variables | own, log, port)

    def _logs(self) -> list[Path]:
        of_postgres = [self._postgres.log] if self._postgres else []
        return [*(self._own_folder / "log").glob("*.log"), *of_postgres]

    def _watch(self) -> None:
        self._supervisor.watch_logs(self._logs)
        for child in self._services:
            self._supervisor.watch_service(child)
        if self._postgres:
            self._supervisor.watch_postgres(self._postgres)
        if self._broker:
            self._supervisor.watch_broker(self._broker)

    def _restarted(self, part: Restarted) -> None:
        self._write_state()
        self._on_restart(part)

    def _write_state(self) -> None:
        info = msgspec.structs.asdict(self.info())
        self._state = RunningSystem(
            **info,
            up=os.getpid(),
            environ=self._variables,
            command=self._spec.command,
            directory=str(Path.cwd().resolve()),
            folder=str(self._own_folder),
            started=self._started,
        )
        write_state(self._state)

    @property
    def _own_folder(self) -> Path:
        assert self._folder is not None, "it is there once the system starts"
        return self._folder

    def _children(self, service: str) -> list[ChildProcess]:
        return [child for child in self._services if child.name == service]

    def _pids(self, service: str) -> list[int]:
        return [child.pid for child in self._children(service)]

    def _url(self, service: str) -> str:
        """Where the first process of a service listens; '' where it was left out."""
        return next((child.url for child in self._children(service)), "")


def _make_folder() -> Path:
    """A temporary folder with those of mail, logs and spool."""
    folder = Path(tempfile.mkdtemp(prefix="ripeline-run-")).resolve()
    folder.chmod(0o711)  # an unprivileged database user passes through; nobody lists it
    for name in ("mail", "log", "spool"):
        (folder / name).mkdir(mode=0o700)
    return folder
