"""Limits of connections: a request that is too slow, or has headers or chunks without end, is
answered with a problem document and its connection is closed.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.shared.errors import Reject
from services.shared.http.problems import problem_response
from services.shared.telemetry import CUT_OFF

MIN_BYTES_PER_SECOND = 1024  # on average, once the seconds for the headers are over
MAX_OVERHEAD = 64 * 1024  # bytes of request line, headers and trailers
MAX_FRAMING = 16  # bytes around each byte of a body: the smallest chunks need 5
# how long the rest of a request that was answered early is read and dropped, so that its sender
# sees the answer
LINGER_S = 5.0
CHECK_EVERY_S = 1.0
SLOW = Reject("the request came too slowly", remedy="send it again, in one go", kind="slow")
ENDLESS = Reject("there is too much around the body", remedy="send fewer headers", kind="headers")


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

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._check_after(self._header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_check()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)
        if self._receiving:
            if self._received > MAX_OVERHEAD + MAX_FRAMING * self._body:
                self._cut_off("endless", ENDLESS)
            elif self._timer is None:
                self._check_after(self._header_seconds)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._receiving = self._in_headers = True
        self._began, self._received, self._body = self.loop.time(), 0, 0

    def on_headers_complete(self) -> None:
        self._in_headers = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._receiving = False
        self._cancel_check()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._receiving and not self._in_headers and self.cycle.response_complete:
            self._check_after(LINGER_S)

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
        spent = self.loop.time() - self._began
        answered = self.cycle is not None and self.cycle.response_complete and not self._in_headers
        if (
            self._receiving
            and not self._in_headers
            and not answered
            and self._received >= MIN_BYTES_PER_SECOND * spent
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
