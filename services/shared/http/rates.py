"""How many requests one sender may make: counted in the memory of this process, which is bounded
however many senders there are.

A limit is written ("20000/10seconds") and read as by the library `limits`. Its store in memory is
not used: it keeps every sender for a whole window and starts a thread to look through them all.
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

from services.shared.errors import Kind, Reject
from services.shared.settings import Settings
from services.shared.telemetry import LIMITED

MAX_SENDERS = 50_000  # counted at once; beyond, the one whose window began first is forgotten
GUESSING: frozenset[Kind] = frozenset({"unauthorized", "signature", "stale", "not-connected"})
Headers = Sequence[tuple[bytes, bytes]]  # as ASGI has them


class TooManyRequests(Reject):
    """A request over the limit; `headers` say which limit, and when to send again."""

    def __init__(self, limit: str, seconds: int, headers: Headers) -> None:
        remedy = (
            "send it again after the seconds in Retry-After; fewer requests with more "
            "events each do as much"
        )
        super().__init__(f"too many requests of this {limit}", remedy=remedy, kind="too-many")
        self.headers = [*headers, (b"retry-after", b"%d" % seconds)]


class Window(msgspec.Struct):
    """The requests of one sender since its window began."""

    ends: float  # in seconds of the monotonic clock
    count: int = 0


class RateLimit:
    """A limit for each sender of a kind (`name`: key, address), over fixed windows of time."""

    def __init__(self, name: str, limit: str, max_senders: int = MAX_SENDERS) -> None:
        parsed = parse(limit)
        self._name, self._max_senders = name, max_senders
        self._amount, self._seconds = parsed.amount, parsed.get_expiry()
        self._policy = (
            b"ratelimit-policy",
            b'"%s";q=%d;w=%d' % (name.encode(), self._amount, self._seconds),
        )
        self._windows: OrderedDict[str, Window] = OrderedDict()  # in the order in which they end

    def count(self, sender: str) -> Headers:
        """Counts one request and returns the header fields that say how many its sender has left
        (draft-ietf-httpapi-ratelimit-headers). Raises TooManyRequests.
        """
        now = time.monotonic()
        window = self._windows.get(sender)
        if window is None or window.ends <= now:
            window = self._begin(sender, now)
        window.count += 1
        left, seconds = self._amount - window.count, ceil(window.ends - now)
        state = (b"ratelimit", b'"%s";r=%d;t=%d' % (self._name.encode(), max(left, 0), seconds))
        if left < 0:
            LIMITED.labels(self._name).inc()
            raise TooManyRequests(self._name, seconds, (self._policy, state))
        return self._policy, state

    def _begin(self, sender: str, now: float) -> Window:
        self._windows.pop(sender, None)
        while self._windows and (
            len(self._windows) >= self._max_senders
            or next(iter(self._windows.values())).ends <= now
        ):
            self._windows.popitem(last=False)
        window = self._windows[sender] = Window(now + self._seconds)
        return window


class RateLimits:
    """The limits of an installation; each process counts by itself."""

    def __init__(self, settings: Settings) -> None:
        self._keys = RateLimit("key", settings.rate_per_key) if settings.rate_per_key else None
        self._addresses = (
            RateLimit("address", settings.rate_per_address) if settings.rate_per_address else None
        )

    def count_key(self, name: str) -> Headers:
        """Counts a request with a key or a valid signature. Raises TooManyRequests."""
        return self._keys.count(name) if self._keys else ()

    def count_address(self, request: Request) -> Headers:
        """Counts a request of an address. Raises TooManyRequests."""
        return self._addresses.count(network_of(request)) if self._addresses else ()

    def limit_guessing(self, request: Request, reject: Reject) -> Reject:
        """The refusal to answer with: `reject`, or TooManyRequests where the address has tried keys
        or signatures too often.
        """
        if reject.kind in GUESSING:
            try:
                self.count_address(request)
            except TooManyRequests as too_many:
                return too_many
        return reject


def network_of(request: Request) -> str:
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
