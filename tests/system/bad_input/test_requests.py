"""Requests that are none, or too large: refused whole."""

import gzip
import json
import uuid
from collections.abc import Iterator

import pytest

from tests.support.refusals import JSON, MEGABYTE, refused, visit
from tests.support.running_system import System, wait_until

LIMIT = 5 * MEGABYTE


@pytest.mark.parametrize(
    "media", ["text/plain", "application/xml", "image/png", "multipart/form-data"]
)
def test_another_content_type_is_refused_with_those_that_are_known(
    system: System, media: str
) -> None:
    answer = system.post("/v1/events", content=json.dumps(visit()), headers={"Content-Type": media})
    body = refused(answer, 415, "media-type", "Content-Type")
    assert "application/x-ndjson" in body["detail"]


def test_another_charset_or_content_coding_is_refused(system: System) -> None:
    latin = {"Content-Type": "application/json; charset=iso-8859-1"}
    refused(
        system.post("/v1/events", content=json.dumps(visit()), headers=latin),
        415,
        "media-type",
        "Content-Type",
    )
    brotli = JSON | {"Content-Encoding": "br"}
    refused(
        system.post("/v1/events", content=b"..", headers=brotli),
        415,
        "media-type",
        "Content-Encoding",
    )
    false = JSON | {"Content-Encoding": "gzip"}
    refused(
        system.post("/v1/events", content=b"plain", headers=false),
        400,
        "invalid",
        "Content-Encoding",
    )
    cut = gzip.compress(json.dumps(visit()).encode())[:-9]
    refused(
        system.post("/v1/events", content=cut, headers=false), 400, "invalid", "Content-Encoding"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"  ",
        b"{",
        b"[{}",
        b"[{}]]",
        b"nul",
        b"5",
        b'"text"',
        b"\xff\xfe",
        b'{"type":"x",}',
        b"[1,2]",
    ],
)
def test_what_is_no_interaction_is_a_400(system: System, body: bytes) -> None:
    answer = system.post("/v1/events", content=body, headers=JSON)
    assert refused(answer, 400, "invalid")["title"]


def padded(size: int) -> bytes:
    """A sound body of so many bytes."""
    body = json.dumps(visit()).encode()
    return body + b" " * (size - len(body))


def test_a_body_of_5_megabytes_is_taken_and_one_byte_more_is_not(system: System) -> None:
    assert system.post("/v1/events", content=padded(LIMIT), headers=JSON).status_code == 200
    refused(
        system.post("/v1/events", content=padded(LIMIT + 1), headers=JSON), 413, "too-large", "body"
    )


def test_a_chunked_body_has_the_same_limit(system: System) -> None:
    def chunks(body: bytes) -> Iterator[bytes]:
        for start in range(0, len(body), 256 * 1024):
            yield body[start : start + 256 * 1024]

    assert system.post("/v1/events", content=chunks(padded(LIMIT)), headers=JSON).status_code == 200
    refused(
        system.post("/v1/events", content=chunks(padded(LIMIT + 1)), headers=JSON),
        413,
        "too-large",
        "body",
    )


def test_a_zipped_body_is_measured_unzipped(system: System) -> None:
    zipped = JSON | {"Content-Encoding": "gzip"}
    assert (
        system.post("/v1/events", content=gzip.compress(padded(LIMIT)), headers=zipped).status_code
        == 200
    )
    bomb = gzip.compress(padded(200 * MEGABYTE), compresslevel=9)
    assert len(bomb) < MEGABYTE
    refused(system.post("/v1/events", content=bomb, headers=zipped), 413, "too-large", "body")


def test_ten_thousand_items_are_taken_and_one_more_takes_none(system: System) -> None:
    somebody, nobody = f"many-{uuid.uuid4().hex}", f"none-{uuid.uuid4().hex}"
    many = [
        {"id": f"{somebody}-{n}", "type": "noted", "anonymous_id": somebody} for n in range(10_000)
    ]
    answer = system.post("/v1/events", json=many)
    assert answer.status_code == 200
    assert answer.json()["accepted"] == 10_000
    over = [{"id": f"{nobody}-{n}", "type": "noted", "anonymous_id": nobody} for n in range(10_001)]
    refused(system.post("/v1/events", json=over), 413, "too-large")
    lines = {"Content-Type": "application/x-ndjson"}
    refused(
        system.post("/v1/events", content="\n".join(map(json.dumps, over)), headers=lines),
        413,
        "too-large",
    )
    wait_until(lambda: system.wait_for_lead(anonymous_id=somebody)["events_counted"] == 10_000, 60)
    assert system.lookup(anonymous_id=nobody) is None
