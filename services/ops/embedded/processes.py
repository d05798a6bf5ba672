"""What local child processes need: a free port, and an end when the process that started
them ends.
"""

import ctypes
import os
import pwd
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Ask Linux for that signal when the thread that started this process ends; elsewhere do
    nothing.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def tied(
    program: Sequence[str | Path], *, number: signal.Signals = signal.SIGTERM, account: str = "-"
) -> list[str]:
    """A command that becomes `program`, as user `account` where one is named, and ends with its
    parent.

    The pid stays the same, so that the caller signals the program itself.
    """
    return [sys.executable, "-I", "-S", __file__, number.name, account, *map(str, program)]


def _drop_to(account: str) -> None:
    entry = pwd.getpwnam(account)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


if __name__ == "__main__":
    name, account, *program = sys.argv[1:]
    if account != "-":
        _drop_to(account)
    die_with_parent(signal.Signals[name])  # last: a change of user resets it
    os.execv(program[0], program)
