"""What is refused before all of it has come: the refusal is read by clients that first write all of
their body, whether or not they keep the connection.
"""

import http.client
import json
import subprocess
from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import httpx
import pytest

from services.shared.http.wire import LINGER_BYTES, LINGER_IDLE_S
from tests.support import raw_http
from tests.support.ingest_process import IngestProcess
from tests.support.refusals import JSON, MEGABYTE, refused
from tests.support.running_system import System

BIG = 20 * MEGABYTE
FETCH = """
const [url, authorization, size, chunked] = process.argv.slice(1);
const bytes = new Uint8Array(Number(size)).fill(32);
const body = chunked === "1" ? new Blob([bytes]).stream() : bytes;
const headers = { authorization, "content-type": "application/json" };
const answer = await fetch(url, { method: "POST", headers, body, duplex: "half" });
console.log(JSON.stringify([answer.status, (await answer.json()).type]));
"""


def pieces() -> Iterator[bytes]:
    """A large body in chunks."""
    for _ in range(BIG // MEGABYTE):
        yield b" " * MEGABYTE


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("connection", ["close", "keep-alive"])
@pytest.mark.parametrize(
    ("path", "scope"),
    [("/v1/events", "secret"), ("/v1/forms/demo", "public"), ("/v1/import", "secret")],
)
def test_httpx_reads_the_refusal(
    ingest: IngestProcess, path: str, scope: str, connection: str, chunked: bool
) -> None:
    headers = JSON | {"Connection": connection}
    body = pieces() if chunked else b" " * BIG
    refused(ingest.post(path, scope, content=body, headers=headers), 413, "too-large", "body")


def test_urllib_reads_the_refusal(ingest: IngestProcess) -> None:
    """It closes its connections, and fails on the first piece that it cannot write."""
    for data in (b" " * BIG, pieces()):
        request = Request(f"{ingest.url}/v1/events", data, JSON | ingest.key("secret"))
        with pytest.raises(HTTPError) as answer:
            urlopen(request, timeout=30)
        assert answer.value.code == 413
        assert json.loads(answer.value.read())["type"].endswith("#too-large")
        answer.value.close()


@pytest.mark.parametrize("chunked", [False, True])
def test_fetch_of_node_reads_the_refusal(ingest: IngestProcess, chunked: bool) -> None:
    words = [
        f"{ingest.url}/v1/events",
        ingest.key("secret")["Authorization"],
        str(BIG),
        str(int(chunked)),
    ]
    done = subprocess.run(
        ["node", "--input-type=module", "-e", FETCH, *words], capture_output=True, timeout=60
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    status, kind = json.loads(done.stdout)
    assert (status, kind.rpartition("#")[2]) == (413, "too-large")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_bare_connection_reads_the_refusal(ingest: IngestProcess, version: str) -> None:
    connection = raw_http.connect(ingest.port)
    head = f"POST /v1/hooks/mailgun HTTP/{version}\r\nHost: x\r\nConnection: close\r\n"
    connection.sendall(f"{head}Content-Length: {BIG}\r\n\r\n".encode())
    for piece in pieces():
        connection.sendall(piece)
    assert raw_http.problem_of(raw_http.read_to_end(connection)) == (413, "too-large")


def test_others_than_the_body_are_refused_as_early_and_read_as_well(ingest: IngestProcess) -> None:
    """Another method, no such address, and an upload that nobody is signed in for."""
    for method, path, status in (
        ("POST", "/v1/nothing", 404), ("PUT", "/v1/events", 405), ("POST", "/import", 303),
    ):  # fmt: skip
        client = http.client.HTTPConnection("127.0.0.1", ingest.port, timeout=30)
        client.request(method, path, b" " * BIG, JSON | {"Connection": "close"})
        answer = client.getresponse()
        assert answer.status == status, path
        answer.read()
        client.close()


def test_the_rest_is_dropped_within_limits_only(ingest: IngestProcess) -> None:
    """Of bytes, and of seconds in which none comes."""
    head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    connection = raw_http.connect(ingest.port)
    connection.sendall(head % (1 << 40))
    sent = raw_http.send_until_closed(connection, b" " * MEGABYTE, 4 * LINGER_BYTES)
    assert LINGER_BYTES / 2 < sent < 2 * LINGER_BYTES
    quiet = raw_http.connect(ingest.port)
    quiet.sendall(head % BIG)
    answer = raw_http.read_to_end(quiet, LINGER_IDLE_S + 3)
    assert raw_http.problem_of(answer) == (413, "too-large")


def test_a_connection_that_is_kept_serves_the_next_request(ingest: IngestProcess) -> None:
    client = http.client.HTTPConnection("127.0.0.1", ingest.port, timeout=30)
    for _ in range(2):
        client.request("POST", "/v1/events", b" " * BIG, JSON | ingest.key("secret"))
        answer = client.getresponse()
        assert answer.status == 413
        answer.read()
    client.request("GET", "/health/live")
    assert client.getresponse().status == 200
    client.close()


def test_the_services_that_answer_questions_are_read_as_well(system: System) -> None:
    for url in (f"{system.scorer}/v1/leads/lookup", f"{system.scorer}/find"):
        for body in (b" " * BIG, pieces()):
            headers = JSON | {"Connection": "close"}
            answer = httpx.post(url, content=body, headers=headers, timeout=30)
            assert answer.status_code in (303, 413), answer.text
