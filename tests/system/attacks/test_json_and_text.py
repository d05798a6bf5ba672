"""JSON and text that break parsers and databases."""

import uuid

import pytest

from tests.support.ingest_process import IngestProcess
from tests.support.raw_http import problem_of, read_to_end
from tests.support.refusals import JSON, refused, visit

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/events", DEEP),
        ("/v1/events", f'{{"type": "x", "anonymous_id": "a", "traits": {{"a": {DEEP}}}}}'),
        ("/v1/events", '{"a":' * 100_000 + "1" + "}" * 100_000),
        (
            "/v1/events",
            f'{{"specversion": "1.0", "id": "1", "source": "/a", "type": "x", "data": {DEEP}}}',
        ),
        ("/v1/track", f'{{"event": "x", "anonymousId": "a", "properties": {{"a": {DEEP}}}}}'),
        (
            "/v1/batch",
            f'{{"batch": [{{"type": "track", "event": "x", "anonymousId": "a", '
            f'"properties": {{"a": {DEEP}}}}}]}}',
        ),
        ("/v1/batch", f'{{"batch": {DEEP}}}'),
        ("/v1/forms/demo", f'{{"email": "a@b.example", "a": {DEEP}}}'),
    ],
)
def test_100_000_deep_json(ingest: IngestProcess, path: str, body: str) -> None:
    with ingest.publishes_nothing():
        refused(ingest.post(path, content=body, headers=JSON), 400, "invalid")


HOSTILE = {
    "NaN": "NaN", "Infinity": "-Infinity", "1e400": "1e400", "2^63": "9223372036854775808",
    "NUL": r'"a\u0000b"',
    "high surrogate": r'"\ud83d"', "low surrogate": r'"\ude00"', "control character": '"a\tb"',
    "comment": '"a" /* b */',
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    ("path", "around"),
    [
        ("/v1/track", '{"event": "x", "anonymousId": "a", "messageId": "m", "properties": '
        '{"n": %s}}'),
        ("/v1/batch", '{"batch": [{"type": "track", "event": "x", "anonymousId": "a", '
        '"properties": {"n": %s}}]}'),
        ("/v1/events", '{"specversion": "1.0", "id": "1", "source": "/a", "type": "x", "data": '
        '{"user_id": "u", "url": %s}}'),
        ("/v1/forms/demo", '{"email": "a@b.example", "n": %s}'),
    ],
    ids=["call", "batch", "CloudEvent", "form"],
)  # fmt: skip
def test_values_that_break_databases_and_parsers(
    ingest: IngestProcess, path: str, around: str, name: str
) -> None:
    with ingest.publishes_nothing():
        answer = ingest.post(path, content=(around % HOSTILE[name]).encode(), headers=JSON)
        refused(answer, 400, "invalid")


@pytest.mark.parametrize(
    "fields",
    [b"email=a%40b.example&name=%00", b"email=a%40b.example&name=%FF",
    b"email=a%40b.example&name=%C0%A0",
     b"email=a%40b.example&name=%ED%A0%80", b"email=a%40b.example&name=\xc0\xaf",
     b"email=a%40b.example&%00=1"],
)  # fmt: skip
def test_nul_invalid_utf_8_and_overlong_in_a_form(ingest: IngestProcess, fields: bytes) -> None:
    with ingest.publishes_nothing():
        refused(
            ingest.post("/v1/forms/demo", "public", content=fields, headers=FORM), 400, "invalid"
        )


def test_bytes_that_are_no_utf_8_in_headers_and_addresses(ingest: IngestProcess) -> None:
    """They are nobody's key and nobody's form, and harm nothing."""
    for header in (b"Bearer \xc0\xa0", b"Bearer rl_\xff_" + b"x" * 43, b"Basic \xff\xfe"):
        answer = ingest.http.post(
            f"{ingest.url}/v1/events", json=visit(), headers=[(b"Authorization", header)]
        )
        refused(answer, 401, "unauthorized")
    ce = [
        (b"ce-id", b"%C0%A0"),
        (b"ce-type", b"\xc0\xa0"),
        (b"ce-source", b"\xff"),
        (b"ce-specversion", b"1.0"),
    ]
    sent = [
        *ce,
        (b"Authorization", f"Bearer {ingest.keys['secret']}".encode()),
        (b"Content-Type", b"application/json"),
    ]
    refused(
        ingest.http.post(f"{ingest.url}/v1/events", content=b"{}", headers=sent), 400, "invalid"
    )
    connection = ingest.connection()
    connection.sendall(
        b"POST /v1/forms/%C0%A0%FF%00 HTTP/1.1\r\nHost: x\r\nContent-Length: "
        b"0\r\nConnection: close\r\n\r\n"
    )
    assert problem_of(read_to_end(connection)) == (401, "unauthorized")


def test_duplicate_keys(ingest: IngestProcess) -> None:
    """The last one counts, in the answer as in what is published."""
    first, last = uuid.uuid4().hex, uuid.uuid4().hex
    body = f'{{"id": "{first}", "type": "page_viewed", "anonymous_id": "a-1", "id": "{last}"}}'
    assert ingest.post("/v1/events", content=body, headers=JSON).json()["ids"] == [last]
