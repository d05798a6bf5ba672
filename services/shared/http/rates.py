"""How many requests one sender may make: in memory of this process, bounded however many senders
there are.

The words of a limit ("20000/10seconds") and their meaning are those of the library `limits`. Its
store in memory is not used: it keeps everybody for a whole window and starts a thread to look
through them all.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from math import ceil

import msgspec
from fastapi import Request
from limits import parse

from services.shared.errors import Reject
from services.shared.settings import Settings
from services.shared.telemetry import LIMITED

ROOM = 50_000  # senders that are counted at once; the one whose window began first makes way
GUESSES = frozenset({"unauthorized", "signature", "stale", "not-connected"})
Headers = Sequence[tuple[bytes, bytes]]


class TooMany(Reject):
    """A request over the limit; `headers` say which limit, and after how many seconds there is room
    again.
    """

    def __init__(self, whose: str, seconds: int, headers: Headers) -> None:
        remedy = (
            "send it again after the seconds in Retry-After; fewer requests with more "
            "events each do as much"
        )
        super().__init__(f"too many requests of this {whose}", remedy=remedy, kind="too-many")
        self.headers = [*headers, (b"retry-after", b"%d" % seconds)]


class Window(msgspec.Struct):
    """The requests of one sender since its window began."""

    ends: float
    count: int = 0


class Rate:
    """A limit for each sender of a kind; `words` as `limits` writes them."""

    def __init__(self, whose: str, words: str, room: int = ROOM) -> None:
        limit = parse(words)
        self._whose, self._room = whose, room
        self._most, self._seconds = limit.amount, limit.get_expiry()
        self._policy = (
            b"ratelimit-policy",
            b'"%s";q=%d;w=%d' % (whose.encode(), self._most, self._seconds),
        )
        self._windows: OrderedDict[str, Window] = OrderedDict()  # in the order in which they end

    @property
    def senders(self) -> int:
        """How many are counted now."""
        return len(self._windows)

    def count(self, who: str) -> Headers:
        """Counts one request and returns the header fields that tell where its sender stands.
        Raises TooMany.
        """
        now = time.monotonic()
        window = self._windows.get(who)
        if window is None or window.ends <= now:
            window = self._begin(who, now)
        window.count += 1
        left, seconds = self._most - window.count, ceil(window.ends - now)
        standing = (b"ratelimit", b'"%s";r=%d;t=%d' % (self._whose.encode(), max(left, 0), seconds))
        if left < 0:
            LIMITED.labels(self._whose).inc()
            raise TooMany(self._whose, seconds, (self._policy, standing))
        return self._policy, standing

    def _begin(self, who: str, now: float) -> Window:
        self._windows.pop(who, None)
        while self._windows and (
            len(self._windows) >= self._room or next(iter(self._windows.values())).ends <= now
        ):
            self._windows.popitem(last=False)
        window = self._windows[who] = Window(now + self._seconds)
        return window


class Rates:
    """The limits of an installation; each process counts by itself."""

    def __init__(self, settings: Settings) -> None:
        self._of_key = Rate("key", settings.rate_per_key) if settings.rate_per_key else None
        self._of_address = (
            Rate("address", settings.rate_per_address) if settings.rate_per_address else None
        )

    def key(self, name: str) -> Headers:
        """Counts a request of somebody who has signed in. Raises TooMany."""
        return self._of_key.count(name) if self._of_key else ()

    def address(self, request: Request) -> Headers:
        """Counts a request of an address. Raises TooMany."""
        return self._of_address.count(network(request)) if self._of_address else ()

    def guessed(self, request: Request, reject: Reject) -> Reject:
        """The refusal of a request; `too-many` in its stead where an address tries keys or
        signatures again and again.
        """
        if reject.kind in GUESSES:
            try:
                self.address(request)
            except TooMany as too_many:
                return too_many
        return reject


def network(request: Request) -> str:
    """Where a request comes from: its IPv4 address, or its IPv6 network of 64 bits, all of which
    one sender may use.
    """
    return _network(request.client.host) if request.client else ""


@lru_cache(maxsize=4096)
def _network(host: str) -> str:
    try:
        address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if isinstance(address, IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or IPv6Network((address, 64), strict=False))
