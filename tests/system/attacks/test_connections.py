"""Slow, endless and ambiguous requests on bare connections."""

import json
import re
import time

import pytest

from tests.support.ingest_process import IngestProcess
from tests.support.raw_http import problem_of, read_problem, read_to_end, send_until_closed
from tests.support.refusals import MEGABYTE, visit
from tests.system.attacks.limits import HEADER_SECONDS


def test_slowloris(strict: IngestProcess) -> None:
    """Fifty connections that never end their headers are all cut off in time, and others are served
    meanwhile.
    """
    began = time.monotonic()
    connections = [strict.connection() for _ in range(50)]
    for connection in connections:
        connection.sendall(b"POST /v1/events HTTP/1.1\r\nHost: x\r\n")
    assert strict.post("/v1/events", json=visit()).status_code == 200
    for letter in b"X-Slow":
        time.sleep(0.1)
        for connection in connections:
            connection.sendall(bytes([letter]))
    for connection in connections:
        assert problem_of(read_to_end(connection)) == (408, "slow")
    assert time.monotonic() - began < HEADER_SECONDS + 2
    assert strict.metric("ripeline_connections_cut_off_total", why="slow") >= 50


def test_a_connection_that_says_nothing(strict: IngestProcess) -> None:
    connection = strict.connection()
    assert read_to_end(connection, HEADER_SECONDS + 2) == b""


def test_a_second_request_that_stalls(strict: IngestProcess) -> None:
    """Slowloris behind a good request, on the same connection."""
    connection = strict.connection()
    connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    connection.sendall(b"GET /health/live HT")
    assert problem_of(read_to_end(connection, HEADER_SECONDS + 2)) == (408, "slow")


def test_a_body_that_trickles(strict: IngestProcess) -> None:
    """R.U.D.Y.: a byte now and then of a long body."""
    connection = strict.connection()
    connection.sendall(
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: "
        b"application/json\r\nContent-Length: 100000\r\n\r\n"
    )
    began = time.monotonic()
    for _ in range(15):
        time.sleep(0.1)
        try:
            connection.sendall(b" ")
        except OSError:
            break
    assert problem_of(read_to_end(connection)) == (408, "slow")
    assert time.monotonic() - began < HEADER_SECONDS + 2


def test_a_body_that_comes_steadily_is_waited_for(strict: IngestProcess) -> None:
    """The control: slower than a second, but at a pace."""
    body = json.dumps(visit(url="x" * 6000)).encode()
    head = (
        "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: "
        f"application/json\r\nContent-Length: {len(body)}\r\n"
    )
    connection = strict.connection()
    connection.sendall(
        f"{head}Authorization: Bearer {strict.keys['secret']}\r\nConnection: close\r\n\r\n".encode()
    )
    for start in range(0, len(body), 400):
        connection.sendall(body[start : start + 400])
        time.sleep(0.1)
    assert read_to_end(connection).startswith(b"HTTP/1.1 200")


CHUNKED = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "endless",
    [
        pytest.param((b"GET /health/live HTTP/1.1\r\nHost: x\r\n",
        b"X-A: " + b"a" * 1000 + b"\r\n"), id="headers"),
        pytest.param((b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-A: ", b"a" * 1000), id="one "
        "header"),
        pytest.param((b"GET /", b"a" * 1000), id="an address"),
        pytest.param(
            (CHUNKED + b"1\r\na\r\n0\r\n", b"X: " + b"a" * 997 + b"\r\n"),
            id="trailers",
        ),
        pytest.param(
            (CHUNKED, b"1;" + b"a" * 1000 + b"\r\na\r\n"),
            id="chunk extensions",
        ),
    ],
)  # fmt: skip
def test_what_never_ends(ingest: IngestProcess, endless: tuple[bytes, bytes]) -> None:
    """Headers, trailers or chunk extensions without end are cut off long before they fill the
    memory.
    """
    first, more = endless
    connection = ingest.connection()
    connection.settimeout(10)
    connection.sendall(first)
    assert send_until_closed(connection, more * 64, 50 * MEGABYTE) < 20 * MEGABYTE
    assert ingest.metric("ripeline_connections_cut_off_total", why="endless") >= 1


def test_headers_just_too_large_are_told_so(ingest: IngestProcess) -> None:
    connection = ingest.connection()
    connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n")
    time.sleep(0.2)
    connection.sendall(b"X-A: " + b"a" * 70_000)
    assert problem_of(read_to_end(connection)) == (431, "headers")


def test_one_gigabyte_in_chunks(ingest: IngestProcess) -> None:
    """The answer comes once the limit is passed, long before the gigabyte is sent; and the
    connection does not stay.
    """
    connection = ingest.connection()
    connection.sendall(
        f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ingest.keys['secret']}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    chunk, sent, received = b"10000\r\n" + b" " * 65536 + b"\r\n", 0, b""
    connection.setblocking(False)
    while not received and sent < 1024 * MEGABYTE:
        try:
            sent += connection.send(chunk[sent % len(chunk) :])
        except BlockingIOError:
            time.sleep(0.001)
        try:
            received = connection.recv(65536)
        except BlockingIOError:
            continue
    assert read_problem(connection, received) == (413, "too-large")
    assert sent < 40 * MEGABYTE
    began = time.monotonic()
    send_until_closed(connection, chunk, 100_000 * MEGABYTE)
    assert time.monotonic() - began < 10


def test_a_gigabyte_promised(ingest: IngestProcess) -> None:
    """Refused by its announcement, before a byte of it."""
    connection = ingest.connection()
    connection.sendall(b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n")
    assert read_problem(connection) == (413, "too-large")


def test_an_expect_header_does_not_invite_a_body_that_is_too_large(ingest: IngestProcess) -> None:
    connection = ingest.connection()
    connection.sendall(
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nExpect: "
        b"100-continue\r\nContent-Length: 1073741824\r\n\r\n"
    )
    assert read_problem(connection) == (413, "too-large")


@pytest.mark.parametrize(
    "smuggled",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n....",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length : 4\r\n\r\n....",
        b"X: a\r\n b\0c: d\r\n\r\n",
    ],
)
def test_request_smuggling(ingest: IngestProcess, smuggled: bytes) -> None:
    """Two lengths for one body: what a proxy takes for one request shall not be two for us."""
    connection = ingest.connection()
    connection.sendall(
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\n" + smuggled + b"GET /health/live "
        b"HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"live" not in answer


def test_requests_that_do_not_wait_for_each_other(ingest: IngestProcess) -> None:
    """The control: pipelined requests are no attack, and each is answered, in order."""
    first = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /health/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    connection = ingest.connection()
    connection.sendall(first * 20 + last[:30])
    time.sleep(0.2)
    connection.sendall(last[30:])
    assert re.findall(rb"HTTP/1.1 (\d+)", read_to_end(connection)) == [b"200"] * 20 + [b"404"]
