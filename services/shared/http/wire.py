"""HTTP on the wire, for senders who do harm by being slow or without end: their connection is cut
off, and they are told why.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.shared.errors import Reject
from services.shared.http.problems import problem_response
from services.shared.telemetry import CUT_OFF

LEAST_RATE = 1024  # bytes a second that a request brings, on average, once its patience is used up
OVERHEAD = 64 * 1024  # bytes of request line, headers and trailers
FRAMING = 16  # bytes around each byte of a body: the smallest chunks need 5
# how long the rest of a request that was answered early is thrown away, so that its sender sees the
# answer
LINGER_S = 5.0


class Strict(HttpToolsProtocol):
    """uvicorn's protocol with limits to what it has none for: the time and the size of headers, and
    the pace of bodies.

    `patience` are the seconds in which a request's headers are there, and after which its pace is
    looked at.
    """

    def __init__(self, *args: Any, patience: float, **named: Any) -> None:
        super().__init__(*args, **named)
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None
        self._receiving = self._in_headers = False
        self._began = 0.0
        # bytes of the request that comes in, on the wire and without all that is around them
        self._received = self._body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look_after(self._patience)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_looking()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)
        if self._receiving:
            if self._received > OVERHEAD + FRAMING * self._body:
                self._cut_off(
                    "endless",
                    Reject(
                        "there is too much around the body",
                        remedy="send fewer headers",
                        kind="headers",
                    ),
                )
            elif self._timer is None:
                self._look_after(self._patience)

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
        self._stop_looking()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._receiving and not self._in_headers and self.cycle.response_complete:
            self._look_after(LINGER_S)

    def _look_after(self, seconds: float) -> None:
        self._stop_looking()
        self._timer = self.loop.call_later(seconds, self._look)

    def _stop_looking(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Whether a request that is not complete may go on."""
        self._timer = None
        spent = self.loop.time() - self._began
        answered = self.cycle is not None and self.cycle.response_complete and not self._in_headers
        if (
            self._receiving
            and not self._in_headers
            and not answered
            and self._received >= LEAST_RATE * spent
        ):
            self._look_after(1.0)
            return
        self._cut_off(
            "slow",
            Reject("the request came too slowly", remedy="send it again, in one go", kind="slow"),
        )

    def _cut_off(self, why: str, reject: Reject) -> None:
        """Closes the connection; tells why where no answer has begun and none is owed to an earlier
        request.
        """
        self._stop_looking()
        if self.transport.is_closing():
            return
        if self._receiving:
            CUT_OFF.labels(why).inc()
        mine = self.cycle is not None and not self._in_headers
        silent = (
            self.cycle.response_started
            if mine
            else self.cycle is not None and not self.cycle.response_complete
        )
        if self._receiving and not silent and not self.pipeline:
            self.transport.write(_as_bytes(reject))
        if mine:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


def _as_bytes(reject: Reject) -> bytes:
    answer = problem_response(reject)
    headers = [*answer.raw_headers, (b"connection", b"close")]
    lines = b"".join(b"%s: %s\r\n" % field for field in headers)
    return STATUS_LINE[answer.status_code] + lines + b"\r\n" + bytes(answer.body)
