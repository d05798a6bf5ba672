"""How commands find the system that runs for this user: a state file that nobody else can read or
write.
"""

import os
import stat
import tempfile
from pathlib import Path

import msgspec


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
    """What the state file holds: also the process id of `up`, and the services' variables."""

    up: int
    environ: dict[str, str] = {}


def state_file() -> Path:
    """Where a running system of this user is described."""
    return Path(tempfile.gettempdir()) / f"ripeline-{os.getuid()}" / "up.json"


def write_state(system: RunningSystem) -> None:
    """Writes the state file for this user alone. Raises `SystemFailed` where its folder is not
    this user's.
    """
    file = state_file()
    file.parent.mkdir(mode=0o700, exist_ok=True)
    status = file.parent.lstat()
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    if not is_ours or status.st_mode & 0o077:
        raise SystemFailed(
            f"{file.parent} is not a folder of this user alone: remove it and start again"
        )
    new = file.with_suffix(f".{os.getpid()}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(msgspec.json.encode(system))
    new.replace(file)


def remove_state(system: RunningSystem) -> None:
    """Removes the state file if it still describes this system. Raises OSError where it is gone."""
    if state_file().read_bytes() == msgspec.json.encode(system):
        state_file().unlink()
        state_file().parent.rmdir()


def running_system() -> RunningSystem | None:
    """The system that runs for this user; None where none does."""
    try:
        file = state_file()
        status = file.lstat()
        if status.st_uid != os.getuid() or not stat.S_ISREG(status.st_mode):
            return None
        system = msgspec.json.decode(file.read_bytes(), type=RunningSystem)
        os.kill(system.up, 0)
    except (OSError, msgspec.DecodeError):
        return None
    return system
