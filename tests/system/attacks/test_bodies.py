"""Bodies that grow when they are opened, or have too many parts."""

import gzip
import json
import time
import zlib

import pytest

from tests.support.ingest_process import IngestProcess
from tests.support.refusals import JSON, MEGABYTE, refused, visit
from tests.support.running_system import System

ZIPPED = JSON | {"Content-Encoding": "gzip"}


def test_a_gzip_bomb_in_many_members(ingest: IngestProcess) -> None:
    """Members are one body: its limit holds for their sum, and what stands after the first is not
    lost.
    """
    member = gzip.compress(b" " * MEGABYTE)
    refused(ingest.post("/v1/events", content=member * 6, headers=ZIPPED), 413, "too-large", "body")
    first, second = json.dumps(visit()), json.dumps(visit())
    halves = gzip.compress(f"[{first},".encode()) + gzip.compress(f"{second}]".encode())
    assert ingest.post("/v1/events", content=halves, headers=ZIPPED).json()["accepted"] == 2


def test_a_gzip_body_of_nothing_but_members(ingest: IngestProcess) -> None:
    """A quarter of a million empty members cost more than their few bytes."""
    began = time.monotonic()
    answer = ingest.post("/v1/events", content=gzip.compress(b"") * 200_000, headers=ZIPPED)
    refused(answer, 413, "too-large", "Content-Encoding")
    assert time.monotonic() - began < 5


def test_something_after_the_end_of_a_gzip_body(ingest: IngestProcess) -> None:
    body = gzip.compress(json.dumps(visit()).encode())
    refused(
        ingest.post("/v1/events", content=body + b"more", headers=ZIPPED),
        400,
        "invalid",
        "Content-Encoding",
    )


def test_gzip_within_gzip_and_other_codings(ingest: IngestProcess) -> None:
    inner = gzip.compress(json.dumps(visit()).encode())
    refused(ingest.post("/v1/events", content=gzip.compress(inner), headers=ZIPPED), 400, "invalid")
    for coding in ("gzip, gzip", "deflate", "zstd", "gzip;q=1"):
        headers = JSON | {"Content-Encoding": coding}
        refused(
            ingest.post("/v1/events", content=inner, headers=headers),
            415,
            "media-type",
            "Content-Encoding",
        )


def test_a_deflate_bomb_inside_multipart(ingest: IngestProcess) -> None:
    """A part's own coding is not undone: the bomb stays as small as it came, and is no text."""
    bomb = zlib.compress(b"a" * 100 * MEGABYTE, 9)
    head = 'Content-Disposition: form-data; name="email"\r\nContent-Encoding: deflate'
    body = f"--xx\r\n{head}\r\n\r\n".encode() + bomb + b"\r\n--xx--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=xx"}
    with ingest.publishes_nothing():
        refused(
            ingest.post("/v1/forms/demo", "public", content=body, headers=headers), 400, "invalid"
        )


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("application/x-www-form-urlencoded", b"&".join(b"f%d=1" % n for n in range(300_000))),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 60_000 + b"--x--",
        ),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n1\r\n" * 300_000 + b"--x--"),
        ("application/json", b"{" + b",".join(b'"f%d":1' % n for n in range(300_000)) + b"}"),
    ],
    ids=["urlencoded", "multipart", "nameless parts", "json"],
)
def test_a_form_of_hundreds_of_thousands_of_fields(
    ingest: IngestProcess, media: str, body: bytes
) -> None:
    began = time.monotonic()
    answer = ingest.post("/v1/forms/demo", "public", content=body, headers={"Content-Type": media})
    refused(answer, 413, "too-large")
    assert time.monotonic() - began < 5


def test_a_body_that_no_question_needs(system: System) -> None:
    """The services that answer questions read 64 KB, of strangers too, and not a byte more."""
    big = json.dumps({"email": "a" * 100_000}).encode()
    for url in (
        f"{system.scorer}/v1/leads/lookup",
        f"{system.scorer}/sign-in",
        f"{system.scorer}/find",
    ):
        answer = system.http.post(url, content=big, headers=JSON)
        assert answer.status_code == 413, (url, answer.text)
