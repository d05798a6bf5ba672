"""Ports for the servers of tests: below those that the kernel gives to outgoing connections, each
given once, and from a range of its own where RIPELINE_TEST_PORTS names one (`FIRST-LAST`), so that
two runs side by side never meet on one.
"""

import os
import random
import socket
from collections.abc import Iterator

RANGE = os.environ.get("RIPELINE_TEST_PORTS", "10000-31999")


def _ports() -> Iterator[int]:
    first, last = map(int, RANGE.split("-"))
    yield from random.sample(range(first, last + 1), last + 1 - first)


_untried = _ports()


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nobody listens."""
    for port in _untried:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no port of {RANGE} is free: name another range in RIPELINE_TEST_PORTS")
