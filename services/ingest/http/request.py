"""Reads a request within its limits: body (also chunked, also zipped), content type, and whether it
is a test.
"""

import asyncio
import time
import zlib

from starlette.requests import ClientDisconnect, Request

from services.ingest.sources.contract import InboundRequest
from services.shared.clock import Clock
from services.shared.contracts import trial_marks
from services.shared.contracts.provenance import Provenance
from services.shared.errors import Reject

MAX_BODY = 5 * 1024 * 1024  # bytes, zipped or unzipped
# a slower body is given up; `services.shared.http.wire` does so earlier where it hardly moves
BODY_SECONDS = 30
MAX_MEMBERS = 100  # of a gzip body: each costs more than its few bytes
GZIP = 16 + zlib.MAX_WBITS
PLAIN = frozenset({"", "identity"})
CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})


async def read(request: Request, clock: Clock, public_url: str = "") -> InboundRequest:
    """The request with its body. Raises Reject `too-large`, `media-type`, `invalid`."""
    media, _, parameters = request.headers.get("content-type", "").partition(";")
    _check_charset(parameters)
    body = await _body(request)
    path, query = request.scope["path"], request.scope["query_string"]
    address = f"{public_url.rstrip('/')}{path}{'?' if query else ''}{query.decode('latin-1')}"
    values = request.query_params if query else {}
    return InboundRequest(
        path,
        body,
        clock.now(),
        media.strip().lower(),
        request.headers,
        values,
        request.method,
        address,
    )


def marked(declared: Provenance, request: InboundRequest, pepper: bytes) -> Provenance:
    """What a request declares, and whether it is a test of ours. Raises Reject `forbidden` for the
    mark of a test that is not ours.
    """
    given = request.headers.get(trial_marks.HEADER)
    if given is None:
        return declared
    if not trial_marks.is_ours(pepper, given, time.time()):
        remedy = "test with `ripeline sources test`, or leave the header out"
        raise Reject(
            "not a mark of ours", where=trial_marks.HEADER, remedy=remedy, kind="forbidden"
        )
    return declared._replace(test=True)


async def _body(request: Request) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > MAX_BODY:
        raise _too_large()
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding not in PLAIN and coding not in ("gzip", "x-gzip"):
        what = f"content coding {coding[:20]!r}"
        raise Reject(
            what, where="Content-Encoding", remedy="send it plain or by gzip", kind="media-type"
        )
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_BODY:
                    raise _too_large()
                chunks.append(chunk)
    except ClientDisconnect:
        raise Reject("the request ended before its body", remedy="send it again") from None
    except TimeoutError:
        raise Reject(
            f"the body took longer than {BODY_SECONDS} s",
            remedy="send it again, faster",
            kind="slow",
        ) from None
    body = b"".join(chunks)
    return body if coding in PLAIN else unzipped(body)


def unzipped(body: bytes) -> bytes:
    """A gzip body's content, of all its members; a small body that swells beyond the limit costs no
    more than the limit.
    """
    plain, size = [], 0
    for _ in range(MAX_MEMBERS):
        unzip = zlib.decompressobj(GZIP)
        try:
            plain.append(unzip.decompress(body, MAX_BODY + 1 - size))
        except zlib.error:
            raise Reject(
                "not gzip",
                where="Content-Encoding",
                remedy="send what the header says, or leave it out",
            ) from None
        size += len(plain[-1])
        if size > MAX_BODY:
            raise _too_large()
        if not unzip.eof:
            raise Reject(
                "the gzip body is cut off", where="Content-Encoding", remedy="send it whole"
            )
        body = unzip.unused_data
        if not body:
            return b"".join(plain)
    remedy = "compress it in one piece"
    raise Reject(
        f"a gzip body of more than {MAX_MEMBERS} members",
        where="Content-Encoding",
        remedy=remedy,
        kind="too-large",
    )


def _check_charset(parameters: str) -> None:
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "charset" and value.strip('" ').lower() not in CHARSETS:
            raise Reject(
                f"charset {value[:20]!r}",
                where="Content-Type",
                remedy="send UTF-8",
                kind="media-type",
            )


def _too_large() -> Reject:
    remedy = f"send at most {MAX_BODY // 1024 // 1024} MB at once, unzipped"
    return Reject(
        f"the body is over {MAX_BODY // 1024 // 1024} MB",
        where="body",
        remedy=remedy,
        kind="too-large",
    )
