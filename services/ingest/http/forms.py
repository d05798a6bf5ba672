"""Web forms, with or without JavaScript: admission, traps for robots, delivery, the page that
follows.
"""

import time
import uuid
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
from fastapi import Request, Response
from starlette.responses import RedirectResponse

from services.ingest.http import form_token
from services.ingest.http.admission import Admission
from services.ingest.http.answers import answered
from services.ingest.http.dependencies import Dependencies
from services.ingest.http.events import wrong_media
from services.ingest.http.request import read
from services.ingest.normalise import Receipt
from services.ingest.sources import forms
from services.ingest.sources.contract import InboundRequest
from services.ingest.sources.forms import Fields
from services.shared.contracts.events import encode_bytes
from services.shared.errors import Reject
from services.shared.runtime import fault_point
from services.shared.telemetry import REFUSED


class FormToken(msgspec.Struct, frozen=True):
    """The answer that carries a token for one form."""

    token: str


class Forms:
    """The routes of forms; `thanks` makes the page after a form that names none of its own."""

    def __init__(
        self, parts: Dependencies, admission: Admission, thanks: Callable[[], Response]
    ) -> None:
        self._parts, self._admission, self._thanks = parts, admission, thanks

    async def submit(self, form: str, request: Request) -> Response:
        """A web form, with or without JavaScript; it is safe before the answer, whatever the broker
        does.
        """
        inbound = await read(request, self._parts.clock, self._parts.settings.public_url)
        if inbound.media not in forms.SOURCE.media:
            raise wrong_media(inbound.media, forms.SOURCE.media)
        fields = forms.fields(inbound)
        key, spool_owner, rate_headers = self._admission.admit(
            request, forms.text(fields, "_key"), in_page=True
        )
        next_page = self._next_page(fields)
        receipt = Receipt(
            f"{forms.SOURCE.name}:{key.name}",
            inbound.received_at,
            time.time(),
            many=False,
            public=key.scope == "public",
        )
        await self._store(form, fields, receipt, spool_owner)
        fault_point("between_spool_and_answer")
        answer = self._answer(receipt, inbound, next_page)
        answer.raw_headers += rate_headers
        return answer

    async def token(self, form: str, request: Request) -> Response:
        """A token for a form that is shown now: a page puts it into the field `_token`."""
        admitted = self._admission.admit(request)
        token = FormToken(form_token.issue(self._parts.pepper, form, time.time()))
        answer = Response(
            encode_bytes(token), headers={"Cache-Control": "no-store"},
            media_type="application/json",
        )  # fmt: skip
        answer.raw_headers += admitted.rate_headers
        return answer

    async def _store(self, form: str, fields: Fields, receipt: Receipt, spool_owner: str) -> None:
        """Stores the submission; one by a robot is dropped under an id that looks like success."""
        if trap := self._trap(form, fields):
            REFUSED.labels(forms.SOURCE.name, trap).inc()
            receipt.ids.append(uuid.uuid4().hex)
            return
        submission = forms.submission(form, fields, self._parts.words.consent)
        self._parts.normaliser.take([submission], receipt)
        await self._parts.delivery.publish_or_spool(receipt.records, spool_owner)

    def _trap(self, form: str, fields: Fields) -> str:
        """The trap that a robot went into, or ''. Raises Reject `form-token` for a token that does
        not fit.
        """
        if forms.text(fields, "_hp"):
            return "honeypot"
        token = forms.text(fields, "_token")
        if not token and self._parts.settings.form_tokens == "optional":
            return ""
        age = form_token.age(self._parts.pepper, form, token, time.time())
        return "too-quick" if age < form_token.QUICKEST_S else ""

    def _next_page(self, fields: Fields) -> str:
        """The page that the form leads to, '' for ours. Raises Reject for one that is not
        allowed.
        """
        page = forms.text(fields, "_next")
        if page and not may_redirect(page, self._parts.settings.allowed_pages):
            raise Reject(
                "this page is not on the list",
                where="/_next",
                remedy="add its beginning to RIPELINE_ALLOWED_PAGES",
            )
        return page

    def _answer(self, receipt: Receipt, inbound: InboundRequest, next_page: str) -> Response:
        answer = answered(receipt, forms.SOURCE, self._parts.statistics)
        if answer.status_code != 200:
            return answer
        if next_page:
            return RedirectResponse(next_page, 303)
        return answer if _wants_json(inbound) else self._thanks()


class PageAddress(NamedTuple):
    """The parts of a URL that decide whether a redirect is allowed."""

    scheme: str
    host: str
    path: str


def may_redirect(page: str, allowed: list[str]) -> bool:
    """Whether a form may lead to this URL: on an allowed host, and below the allowed path."""
    if not page.isprintable() or any(character in page for character in " \\") or "/.." in page:
        return False
    target = _address(page)
    return target is not None and any(
        _is_below(target, prefix) for prefix in map(_address, allowed) if prefix
    )


def _is_below(target: PageAddress, prefix: PageAddress) -> bool:
    return (
        prefix.scheme in ("http", "https")
        and target[:2] == prefix[:2]
        and target.path.startswith(prefix.path)
    )


def _address(url: str) -> PageAddress | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return PageAddress(parts.scheme.lower(), parts.netloc.lower(), parts.path or "/")


def _wants_json(inbound: InboundRequest) -> bool:
    accept = inbound.headers.get("accept", "")
    return inbound.media == forms.JSON or (
        "application/json" in accept and "text/html" not in accept
    )
