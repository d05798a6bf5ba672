"""A load driver over bare connections that are kept alive; it checks every answer."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import httptools


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes


class Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._answer: asyncio.Future[Answer] | None = None

    async def ask(self, request: bytes) -> Answer:
        """Sends a whole request and waits for its answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Lets go."""
        self._transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the server hung up"))

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        body, self._body = b"".join(self._body), []
        status = self._parser.get_status_code()
        self._parser = httptools.HttpResponseParser(self)
        assert self._answer
        self._answer.set_result(Answer(status, body))


async def connect(url: str) -> Client:
    """A connection to the server of an address."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(Client, parts.hostname or "", parts.port or 80)
    return client


def request(
    method: str, path: str, body: bytes = b"", key: str = "", headers: Mapping[str, str] = {}
) -> bytes:
    """A request as it goes over the wire."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: bench",
        f"Content-Length: {len(body)}",
        "Content-Type: application/json",
    ]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def flood(
    url: str, requests: Iterator[bytes], connections: int, seconds: float, good: bytes
) -> float:
    """Requests a second on so many connections, each sending its next one after its answer, in
    which `good` must stand.
    """
    clients = [await connect(url) for _ in range(connections)]
    began = time.perf_counter()

    async def keep_asking(client: Client) -> int:
        count = 0
        while time.perf_counter() < began + seconds:
            _check(await client.ask(next(requests)), good)
            count += 1
        return count

    counts = await asyncio.gather(*map(keep_asking, clients))
    took = time.perf_counter() - began
    for client in clients:
        client.close()
    return sum(counts) / took


async def pace(
    url: str, make: Callable[[], bytes], connections: int, rate: float, seconds: float, good: bytes
) -> float:
    """Sends `rate` requests a second, each at its own moment whatever the answers before it took;
    returns the rate reached.
    """
    clients = [await connect(url) for _ in range(connections)]
    began, moments = time.perf_counter(), iter(range(int(rate * seconds)))

    async def keep_pace(client: Client) -> int:
        count = 0
        for moment in moments:
            await asyncio.sleep(max(0.0, began + moment / rate - time.perf_counter()))
            _check(await client.ask(make()), good)
            count += 1
        return count

    counts = await asyncio.gather(*map(keep_pace, clients))
    took = time.perf_counter() - began
    for client in clients:
        client.close()
    return sum(counts) / max(took, seconds)


def _check(answer: Answer, good: bytes) -> None:
    if answer.status != 200 or good not in answer.body:
        raise AssertionError(f"answered {answer.status}: {answer.body[:500]!r}")
