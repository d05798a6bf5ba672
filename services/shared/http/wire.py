"""Limits of connections: a request that is too slow, or has headers or chunks without end, is
answered with a problem document and its connection is closed. What comes after an early answer is
read and dropped, within limits: a connection that is closed upon unread data loses its answer.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.shared.errors import Reject
from services.shared.http.problems import problem_response
from services.shared.telemetry import CUT_OFF

MIN_BYTES_PER_SECOND = 1024  # on average, once the seconds for the headers are over
MAX_OVERHEAD = 64 * 1024  # bytes of request line, headers and trailers
MAX_FRAMING = 16  # bytes around each byte of a body: the smallest chunks need 5
# how much of the rest of a request that was answered early is read and dropped, for how long, and
# for how long where nothing comes
LINGER_BYTES = 64 * 1024 * 1024
LINGER_S, LINGER_IDLE_S = 30.0, 5.0
CHECK_EVERY_S = 1.0
SLOW = Reject("the request came too slowly", remedy="send it again, in one go", kind="slow")
ENDLESS = Reject("there is too much around the body", remedy="send fewer headers", kind="headers")


class _Transport:
    """A connection as uvicorn's request sees it, which closes it once it has answered."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write, self.is_closing, self.close = transport.write, transport.is_closing, close


class LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the limits that it lacks: time and size of headers, pace of bodies.

    A request's headers must be complete within `header_seconds`; after that its pace is checked
    every second.
    """

    def __init__(self, *args: Any, header_seconds: float, **named: Any) -> None:
        super().__init__(*args, **named)
        self._header_seconds = header_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._receiving = self._in_headers = False
        self._began = 0.0
        self._received = self._body = 0  # bytes of the request so far: all of it, of its body
        self._lingers = self._closes = False  # after an early answer; once the request is here
        self._answered_at, self._answered_after, self._seen = 0.0, 0, 0  # seconds, bytes, bytes

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._given = _Transport(transport, self._close)
        self._check_after(self._header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_check()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)
        if self._lingers and self._received - self._answered_after > LINGER_BYTES:
            self._cut_off("endless", ENDLESS)
        elif self._receiving:
            if self._received > MAX_OVERHEAD + MAX_FRAMING * self._body:
                self._cut_off("endless", ENDLESS)
            elif self._timer is None:
                self._check_after(self._header_seconds)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._receiving = self._in_headers = True
        self._lingers = False
        self._began, self._received, self._body = self.loop.time(), 0, 0

    def on_headers_complete(self) -> None:
        self._in_headers = False
        super().on_headers_complete()
        if self.cycle is not None:
            self.cycle.transport = self._given  # type: ignore[assignment]  # what it is given to write to

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._receiving = self._lingers = False
        self._cancel_check()
        super().on_message_complete()
        if self._closes:
            self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_early():
            self._lingers, self._answered_at = True, self.loop.time()
            self._answered_after = self._seen = self._received
            self._check_after(LINGER_IDLE_S)

    def _is_early(self) -> bool:
        """Whether the request is answered while its body still comes."""
        return self._receiving and not self._in_headers and bool(self.cycle.response_complete)

    def _close(self) -> None:
        """Closes the connection for the request, once the rest of it is here."""
        if self._is_early():
            self._closes = True
        else:
            self.transport.close()

    def _check_after(self, seconds: float) -> None:
        self._cancel_check()
        self._timer = self.loop.call_later(seconds, self._check)

    def _cancel_check(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        """Lets a request go on that comes fast enough; otherwise closes the connection."""
        self._timer = None
        now, seen = self.loop.time(), self._seen
        self._seen = self._received
        if self._lingers:
            if self._received > seen and now - self._answered_at < LINGER_S:
                self._check_after(LINGER_IDLE_S)
                return
        elif (
            self._receiving
            and not self._in_headers
            and self._received >= MIN_BYTES_PER_SECOND * (now - self._began)
        ):
            self._check_after(CHECK_EVERY_S)
            return
        self._cut_off("slow", SLOW)

    def _cut_off(self, why: str, reject: Reject) -> None:
        """Closes the connection; sends the refusal first, unless an answer has begun or an earlier
        request is not answered yet.
        """
        self._cancel_check()
        if self.transport.is_closing():
            return
        if self._receiving:
            CUT_OFF.labels(why).inc()
        # uvicorn's cycle is this request's once its headers are complete, else an earlier one's
        is_own = self.cycle is not None and not self._in_headers
        answering = (
            self.cycle.response_started
            if is_own
            else self.cycle is not None and not self.cycle.response_complete
        )
        if self._receiving and not answering and not self.pipeline:
            self.transport.write(_encoded(reject))
        if is_own:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


def _encoded(reject: Reject) -> bytes:
    answer = problem_response(reject)
    headers = [*answer.raw_headers, (b"connection", b"close")]
    lines = b"".join(b"%s: %s\r\n" % field for field in headers)
    return STATUS_LINE[answer.status_code] + lines + b"\r\n" + bytes(answer.body)
