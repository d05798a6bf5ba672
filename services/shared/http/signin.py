"""Signing in to a page: the cookie names a key and is sealed, so that the key itself stays in
nobody's browser.
"""

import hmac
from urllib.parse import urlsplit

from starlette.requests import Request

from services.shared.http.keys import Key, Keys, Scope

COOKIE = "ripeline_session"


class SignedOut(Exception):
    """Nobody is signed in, or the key is no longer in force."""


class Seats:
    """Who sits at a page that wants keys of one scope; a seat lasts as long as its key is
    in force.
    """

    def __init__(self, keys: Keys, pepper: bytes, scope: Scope = "query") -> None:
        self._keys, self._pepper, self._scope = keys, pepper, scope

    def open(self, given: str) -> str:
        """The cookie for a key. Raises Reject `unauthorized` or `forbidden`."""
        return self._sealed(self._keys.check(given.strip(), self._scope))

    def holder(self, cookie: str) -> Key:
        """The key behind a cookie. Raises SignedOut."""
        key = self._keys.in_force(cookie.partition(".")[0])
        if (
            not key
            or key.scope != self._scope
            or not hmac.compare_digest(cookie.encode(), self._sealed(key).encode())
        ):
            raise SignedOut
        return key

    def _sealed(self, key: Key) -> str:
        """The key's hash is part of the seal: another secret under the same id opens no old
        seat.
        """
        seal = hmac.digest(
            self._pepper, b"page\0" + key.id.encode() + b"\0" + key.hash, "sha256"
        ).hex()
        return f"{key.id}.{seal}"


def from_elsewhere(request: Request) -> bool:
    """Whether another site's page made the browser send this; from old browsers the cookie's
    SameSite alone keeps that out.
    """
    if site := request.headers.get("sec-fetch-site", ""):
        return site not in ("same-origin", "none")
    # our own pages say null, for they send no referrer
    origin = request.headers.get("origin", "null")
    return origin != "null" and urlsplit(origin).netloc != request.headers.get("host", "")
