"""Signing in to a page with an API key. The cookie holds the key's id and a MAC, so that no browser
keeps the key itself.
"""

import hmac
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.requests import Request

from services.shared.http.keys import ApiKey, ApiKeys, Scope

COOKIE = "ripeline_session"
MAX_DIGITS = 12  # of a ticket's time
TICKET_S = 60  # how long one may take from one service's page to another's


class SignedOut(Exception):
    """Nobody is signed in, or the key is no longer in force."""


class PageSessions:
    """Sessions at pages where one signs in with keys of one scope; those that began at another
    page, with a key of one of the scopes in `admits`, hold as well. A session lasts as long as its
    key is in force, and nothing is stored of it.
    """

    def __init__(
        self, keys: ApiKeys, pepper: bytes, scope: Scope = "query", *, admits: Sequence[Scope] = ()
    ) -> None:
        self._keys, self._pepper, self._scope = keys, pepper, scope
        self._scopes = {scope, *admits}

    def sign_in(self, given: str) -> str:
        """The cookie for a key. Raises Reject `unauthorized` or `forbidden`."""
        return self._cookie(self._keys.authorize(given.strip(), self._scope))

    def key_of(self, cookie: str) -> ApiKey:
        """The key that a cookie was made for. Raises SignedOut."""
        key = self._known(cookie.partition(".")[0])
        if not hmac.compare_digest(cookie.encode(), self._cookie(key).encode()):
            raise SignedOut
        return key

    def ticket(self, key: ApiKey) -> str:
        """What takes a session to a page on another host, where cookies of this one do not go; for
        TICKET_S seconds.
        """
        return self._ticket(key, int(time.time()) + TICKET_S)

    def redeem(self, ticket: str) -> str:
        """The cookie for a ticket. Raises SignedOut."""
        key_id, _, rest = ticket.partition(".")
        ends, key = rest.partition(".")[0], self._known(key_id)
        is_number = ends.isascii() and ends.isdecimal() and len(ends) <= MAX_DIGITS
        if not is_number or not time.time() <= int(ends) <= time.time() + TICKET_S:
            raise SignedOut
        if not hmac.compare_digest(ticket.encode(), self._ticket(key, int(ends)).encode()):
            raise SignedOut
        return self._cookie(key)

    def _known(self, key_id: str) -> ApiKey:
        key = self._keys.in_force(key_id)
        if not key or key.scope not in self._scopes:
            raise SignedOut
        return key

    def _ticket(self, key: ApiKey, ends: int) -> str:
        signed = b"ticket\0" + key.id.encode() + b"\0" + b"%d" % ends + b"\0" + key.hash
        return f"{key.id}.{ends}.{hmac.digest(self._pepper, signed, 'sha256').hex()}"

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
