"""Reads a request within its limits: body (also chunked, also unzipped), content type, key and
origin.
"""

import asyncio
import base64
import binascii
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp

from services.ingest.sources.contract import Post
from services.shared.clock import Clock
from services.shared.errors import Reject
from services.shared.http.keys import ApiKey, ApiKeys, bearer, normal_origin
from services.shared.http.rates import Headers, RateLimits, network_of

MAX_BODY = 5 * 1024 * 1024
# a body that trickles is given up; `services.shared.wire` does so earlier where it hardly moves
BODY_SECONDS = 30
MAX_MEMBERS = 100  # of a gzip body: each costs more than its few bytes
GZIP = 16 + zlib.MAX_WBITS
PLAIN = frozenset({"", "identity"})
CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})


async def read(request: Request, clock: Clock, public_url: str = "") -> Post:
    """The request with its body. Raises Reject `too-large`, `media-type`, `invalid`."""
    media, _, parameters = request.headers.get("content-type", "").partition(";")
    _check_charset(parameters)
    body = await _body(request)
    path, query = request.scope["path"], request.scope["query_string"]
    address = f"{public_url.rstrip('/')}{path}{'?' if query else ''}{query.decode('latin-1')}"
    values = request.query_params if query else {}
    return Post(
        path,
        body,
        clock.now(),
        media.strip().lower(),
        request.headers,
        values,
        request.method,
        address,
    )


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


class Entrant(NamedTuple):
    """Who was let in: the key, whose share of the spool is used, and the header fields that tell of
    the limits.
    """

    key: ApiKey
    owner: str
    headers: Headers


class Gate:
    """Lets in who has a key; a public one only from its origins, and it alone may stand in an
    address. Counts everybody.
    """

    def __init__(self, keys: ApiKeys, allowed_origins: Sequence[str], rates: RateLimits) -> None:
        self._keys, self._origins, self._rates = (
            keys,
            frozenset(map(normal_origin, allowed_origins)),
            rates,
        )

    def admit(self, request: Request, in_body: str = "", *, in_page: bool = False) -> Entrant:
        """The sender by its key: from the Authorization header, `?key=`, or the body. Raises
        Reject.

        `in_page` tells that the body's key stood in a page, for all to read.
        """
        given, where = presented(request.headers.get("authorization")), ""
        if not given and request.scope["query_string"]:
            given, where = request.query_params.get("key", ""), "an address"
        if not given:
            given, where = in_body, "a page" if in_page else ""
        key = self._keys.authorize(given, "secret", "public")
        if key.scope == "secret":
            if where:
                remedy = (
                    "send it in the Authorization header, and make a new one: this one "
                    "has been open to view"
                )
                raise Reject(
                    f"a secret key in {where}", where="key", remedy=remedy, kind="forbidden"
                )
            return Entrant(key, key.name, self._rates.count_key(key.id))
        headers = self._rates.count_address(request)
        self._check_origin(key, request.headers.get("origin"))
        return Entrant(
            key, f"{key.name} {network_of(request)}", [*self._rates.count_key(key.id), *headers]
        )

    def passer_by(self, request: Request, door: str) -> str:
        """Counts somebody who needs no key; returns whose share of the spool is used. Raises
        Reject.
        """
        self._rates.count_address(request)
        return f"{door} {network_of(request)}"

    def _check_origin(self, key: ApiKey, origin: str | None) -> None:
        allowed = self._origins if key.origins is None else key.origins
        if origin and not allowed & {"*", normal_origin(origin)}:
            setting = (
                "RIPELINE_ALLOWED_ORIGINS" if key.origins is None else "the origins of its key"
            )
            raise Reject(
                "this origin may not post",
                where="Origin",
                remedy=f"add it to {setting}",
                kind="forbidden",
            )


class Cors(CORSMiddleware):
    """Tells browsers to let a page post whose origin the settings or any key allow; the gate looks
    at the one key in use.
    """

    def __init__(self, app: ASGIApp, *, keys: ApiKeys, **named: Any) -> None:
        super().__init__(app, **named)
        self._keys = keys

    def is_allowed_origin(self, origin: str) -> bool:
        """Whether there is a way in for it."""
        return super().is_allowed_origin(origin) or self._keys.allows_origin(normal_origin(origin))


def presented(authorization: str | None) -> str:
    """The key in an Authorization header: as Bearer, or as the user name of Basic; ''
    without one.
    """
    scheme, _, given = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return bearer(authorization)
    try:
        return base64.b64decode(given).decode("ascii").partition(":")[0]
    except (binascii.Error, ValueError):
        return ""


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
