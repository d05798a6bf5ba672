"""Signing in to a page with an API key. The cookie holds the key's id and a MAC, so that no browser
keeps the key itself.
"""

import hmac
from urllib.parse import urlsplit

from starlette.requests import Request

from services.shared.http.keys import ApiKey, ApiKeys, Scope

COOKIE = "ripeline_session"


class SignedOut(Exception):
    """Nobody is signed in, or the key is no longer in force."""


class PageSessions:
    """Sessions at pages that want keys of one scope; a session lasts as long as its key is in
    force, and nothing is stored of it.
    """

    def __init__(self, keys: ApiKeys, pepper: bytes, scope: Scope = "query") -> None:
        self._keys, self._pepper, self._scope = keys, pepper, scope

    def sign_in(self, given: str) -> str:
        """The cookie for a key. Raises Reject `unauthorized` or `forbidden`."""
        return self._cookie(self._keys.authorize(given.strip(), self._scope))

    def key_of(self, cookie: str) -> ApiKey:
        """The key that a cookie was made for. Raises SignedOut."""
        key = self._keys.in_force(cookie.partition(".")[0])
        if (
            not key
            or key.scope != self._scope
            or not hmac.compare_digest(cookie.encode(), self._cookie(key).encode())
        ):
            raise SignedOut
        return key

    def _cookie(self, key: ApiKey) -> str:
        """`id.mac`; the key's hash is signed too, so that a new secret under the same id ends the
        sessions of the old one.
        """
        signed = b"page\0" + key.id.encode() + b"\0" + key.hash
        return f"{key.id}.{hmac.digest(self._pepper, signed, 'sha256').hex()}"


def cookie_of(request: Request, name: str) -> str:
    """The cookie of this name; '' without one. Values in quotes, which Python takes quadratic time
    to read, are left as they are: ours have none.
    """
    pairs = (pair.partition("=") for pair in request.headers.get("cookie", "").split(";"))
    return next((value.strip() for given, _, value in pairs if given.strip() == name), "")


def is_cross_site(request: Request) -> bool:
    """Whether a page of another site made the browser send this. Old browsers send neither header:
    the cookie's SameSite alone protects them.
    """
    if site := request.headers.get("sec-fetch-site", ""):
        return site not in ("same-origin", "none")
    # our own pages send `null`, because they send no referrer
    origin = request.headers.get("origin", "null")
    return origin != "null" and urlsplit(origin).netloc != request.headers.get("host", "")
