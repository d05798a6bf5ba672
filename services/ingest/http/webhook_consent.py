"""Our consent to receive webhooks (HTTP 1.1 Web Hooks for Event Delivery 1.0, § 4): OPTIONS by
which a sender such as Azure Event Grid asks, before its first event, whether it may post here.

It admits nobody: posting takes a key as ever. A callback that the sender offers is not called, for
the answer itself says yes.
"""

import re

from limits import parse
from starlette.requests import Request
from starlette.responses import Response

from services.shared.errors import Reject
from services.shared.settings import Settings

ASKED = "WebHook-Request-"
ORIGIN = f"{ASKED}Origin"
SENDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}(?::[0-9]{1,5})?")
METHODS = "OPTIONS, POST"
ANY = "*"


class WebhookConsent:
    """Answers who asks, with the rate that a key has."""

    def __init__(self, settings: Settings) -> None:
        self._rate = per_minute(settings.rate_per_key)

    async def answer(self, request: Request) -> Response:
        """200 that allows the sender's own origin. Raises Reject where the request names none."""
        origin = request.headers.get(ORIGIN, "")
        if not SENDER.fullmatch(origin):
            raise Reject(
                "no host name" if origin else "the header is missing",
                where=ORIGIN,
                remedy="name the sender by its host, e.g. eventgrid.azure.net",
            )
        headers = {
            "Allow": METHODS,
            "WebHook-Allowed-Origin": origin,
            "WebHook-Allowed-Rate": self._rate,
        }
        return Response(status_code=200, headers=headers)


def per_minute(limit: str) -> str:
    """A limit of requests as so many a minute, at least 1; `*` for none."""
    if not limit:
        return ANY
    parsed = parse(limit)
    return str(max(1, int(parsed.amount * 60 // parsed.get_expiry())))
