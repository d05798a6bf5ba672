"""How commands find the system that runs for this user: a state file that nobody else can read or
write.
"""

import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any


class Failed(Exception):
    """The system could not be started, or fell; the message is for people, `code` the command's
    exit code.
    """

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def state_file() -> Path:
    """Where a running system of this user is described."""
    return Path(tempfile.gettempdir()) / f"ripeline-{os.getuid()}" / "up.json"


def write_state(text: str) -> None:
    """Writes the state file for this user alone. Raises `Failed` where somebody else holds its
    folder.
    """
    file = state_file()
    file.parent.mkdir(mode=0o700, exist_ok=True)
    held = file.parent.lstat()
    if not stat.S_ISDIR(held.st_mode) or held.st_uid != os.getuid() or held.st_mode & 0o077:
        raise Failed(f"{file.parent} is not a folder of this user alone: remove it and start again")
    new = file.with_suffix(f".{os.getpid()}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)
    new.replace(file)


def found() -> dict[str, Any] | None:
    """What runs for this user: the line that `up` printed, `up` (its pid) and `environ`; None for
    nothing.
    """
    try:
        file = state_file()
        held = file.lstat()
        if held.st_uid != os.getuid() or not stat.S_ISREG(held.st_mode):
            return None
        state: dict[str, Any] = json.loads(file.read_text())
        os.kill(state["up"], 0)
    except (OSError, ValueError, KeyError):
        return None
    return state
