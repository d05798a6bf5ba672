"""How commands find the systems that run for this user: a state file of each, which nobody else can
read or write.
"""

import os
import stat
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

FIRST = "up.json"  # the state file of a system that began while no other ran
OURSELVES = frozenset({"localhost", "127.0.0.1", "0.0.0.0", "::1", "::"})


class SystemFailed(Exception):
    """The system could not be started, or broke; the message is for people, `code` the command's
    exit code: 2 for what was asked wrongly, 1 for the rest.
    """

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class ProcessIds(msgspec.Struct, frozen=True):
    """The processes of each service, and of what they need; None where it is not embedded."""

    ingest: list[int] = []
    scorer: list[int] = []
    nurture: list[int] = []
    postgres: int | None = None
    broker: int | None = None


class SystemInfo(msgspec.Struct, frozen=True):
    """What a person with curl needs to know of a running system: the line that `up` prints.

    Addresses of the services, '' for one that was left out; keys by scope; the folder of the mail;
    addresses of database and broker.
    """

    ingest: str = ""
    scorer: str = ""
    nurture: str = ""
    keys: dict[str, str] = {}
    mail: str = ""
    pids: ProcessIds = ProcessIds()
    database: str = ""
    kafka: str = ""


class RunningSystem(SystemInfo, frozen=True, kw_only=True):
    """What the state file holds: also the process id of `up`, the services' variables, and where,
    when (seconds since 1970) and by which command it was started.
    """

    up: int
    environ: dict[str, str] = {}
    command: str = "up"
    directory: str = ""
    folder: str = ""
    started: float = 0.0

    @property
    def address(self) -> str:
        """What tells it from others."""
        return self.ingest or self.scorer or self.folder

    def is_at(self, where: str) -> bool:
        """Whether that is an address of its services, the folder in which it was started, or one
        of its own.
        """
        if "://" in where:
            public = self.environ.get("RIPELINE_PUBLIC_URL", "")
            own = (self.ingest, self.scorer, self.nurture, public)
            return _place(where) in {_place(url) for url in own if url}
        path = Path(where).expanduser().resolve()
        return str(path) == self.directory or bool(self.folder and path.is_relative_to(self.folder))


def _place(url: str) -> tuple[str, int | None]:
    """The host and port of an address; all names of this machine are one."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return url, None
    host = (parts.hostname or "").lower()
    return "localhost" if host in OURSELVES else host, port


def state_file() -> Path:
    """Where the first running system of this user is described."""
    return Path(tempfile.gettempdir()) / f"ripeline-{os.getuid()}" / FIRST


def write_state(system: RunningSystem) -> None:
    """Writes the state file for this user alone; that of another system that runs stays. Raises
    `SystemFailed` where its folder is not this user's.
    """
    folder = state_file().parent
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    if not is_ours or status.st_mode & 0o077:
        raise SystemFailed(
            f"{folder} is not a folder of this user alone: remove it and start again"
        )
    first = _read(state_file())
    of_another = _own_file(system).exists() or (first is not None and first.up != system.up)
    file = _own_file(system) if of_another else state_file()
    new = file.with_suffix(f".{os.getpid()}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(msgspec.json.encode(system))
    new.replace(file)


def remove_state(system: RunningSystem) -> None:
    """Removes the state file of this system. Raises OSError where it is gone."""
    own = _own_file(system)
    file = own if own.exists() else state_file()
    if msgspec.json.decode(file.read_bytes(), type=RunningSystem).up == system.up:
        file.unlink()
    if not any(file.parent.iterdir()):
        file.parent.rmdir()


def running_systems() -> list[RunningSystem]:
    """The systems that run for this user, in the order of their start."""
    found = map(_read, sorted(state_file().parent.glob("up*.json")))
    return sorted((each for each in found if each), key=lambda system: system.started)


def running_system() -> RunningSystem | None:
    """The first of the systems that run for this user; None where none does."""
    return next(iter(running_systems()), None)


def embeds_broker(kafka: str) -> bool:
    """Whether that is the in-memory broker of a system that runs here."""
    return any(system.kafka == kafka and system.pids.broker for system in running_systems())


def _own_file(system: RunningSystem) -> Path:
    return state_file().with_name(f"up-{system.up}.json")


def _read(file: Path) -> RunningSystem | None:
    """The system of a state file; None where none runs or the file is not this user's."""
    try:
        status = file.lstat()
        if status.st_uid != os.getuid() or not stat.S_ISREG(status.st_mode):
            return None
        system = msgspec.json.decode(file.read_bytes(), type=RunningSystem)
        os.kill(system.up, 0)
    except (OSError, msgspec.DecodeError):
        return None
    return system
