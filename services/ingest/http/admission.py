"""Who may post: keys, the origins of public ones, and the limits of everybody."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, NamedTuple

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp

from services.shared.errors import Reject
from services.shared.http.keys import ApiKey, ApiKeys, bearer, normal_origin
from services.shared.http.rates import Headers, RateLimits, network_of


class Admitted(NamedTuple):
    """Whom the key admits, whose share of the spool is used, and the header fields of the rate
    limits.
    """

    key: ApiKey
    spool_owner: str
    rate_headers: Headers


class Admission:
    """Admits who has a key; a public key only from its origins, and it alone may stand in an
    address. Counts everybody.
    """

    def __init__(self, keys: ApiKeys, allowed_origins: Sequence[str], rates: RateLimits) -> None:
        self._keys, self._rates = keys, rates
        self._origins = frozenset(map(normal_origin, allowed_origins))

    def admit(self, request: Request, in_body: str = "", *, in_page: bool = False) -> Admitted:
        """The sender by its key: from the Authorization header, `?key=`, or the body. Raises Reject
        `unauthorized`, `forbidden`, `too-many`.

        `in_page` says that the body's key stood in a page, for all to read.
        """
        given, exposed_in = presented_key(request.headers.get("authorization")), ""
        if not given and request.scope["query_string"]:
            given, exposed_in = request.query_params.get("key", ""), "an address"
        if not given:
            given, exposed_in = in_body, "a page" if in_page else ""
        key = self._keys.authorize(given, "secret", "public")
        if key.scope == "secret":
            if exposed_in:
                raise _exposed(exposed_in)
            return Admitted(key, key.name, self._rates.count_key(key.id))
        headers = self._rates.count_address(request)
        self._check_origin(key, request.headers.get("origin"))
        owner = f"{key.name} {network_of(request)}"
        return Admitted(key, owner, [*self._rates.count_key(key.id), *headers])

    def admit_without_key(self, request: Request, source: str) -> str:
        """Counts somebody who needs no key; returns whose share of the spool is used. Raises Reject
        `too-many`.
        """
        self._rates.count_address(request)
        return f"{source} {network_of(request)}"

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
    """Lets browsers post from a page whose origin the settings or any key allow; admission
    checks the one key in use.
    """

    def __init__(self, app: ASGIApp, *, keys: ApiKeys, **named: Any) -> None:
        super().__init__(app, **named)
        self._keys = keys

    def is_allowed_origin(self, origin: str) -> bool:
        """Whether the settings or any key in force allow it."""
        return super().is_allowed_origin(origin) or self._keys.allows_origin(normal_origin(origin))


def presented_key(authorization: str | None) -> str:
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


def _exposed(where: str) -> Reject:
    remedy = (
        "send it in the Authorization header, and make a new one: this one has been open to view"
    )
    return Reject(f"a secret key in {where}", where="key", remedy=remedy, kind="forbidden")
