"""What people do with our mails: tracked links, the open pixel, the way out, and their
preferences.
"""

import time
import uuid
from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from services.ingest.delivery import Delivery
from services.ingest.http import openapi as documented
from services.ingest.http import request as intake
from services.ingest.http.request import Gate
from services.ingest.normalise import Normaliser, Receipt, consent_records
from services.ingest.sources import forms
from services.ingest.sources.contract import Item
from services.ingest.tracking import bots as machines
from services.ingest.tracking import preferences
from services.ingest.tracking.pages import Pages
from services.shared.clock import Clock
from services.shared.contracts.consent import DOUBLE_OPT_IN
from services.shared.contracts.events import Consent
from services.shared.contracts.link_tokens import (
    Claim,
    LinkClaim,
    PixelClaim,
    PreferencesClaim,
    UnsubscribeClaim,
    open_token,
    sign,
)
from services.shared.errors import Reject
from services.shared.http.problems import problem_response
from services.shared.playbook.sections import Playbook
from services.shared.telemetry import ACCEPTED, REFUSED

LINKS = "links:ripeline"  # the door of what people do with our mails
NO_STORE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
GIF = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)
C = TypeVar("C", bound=Claim)
LINK, TRAP, WAY_OUT, PREFERENCES = "link", "trap", "way out", "preferences"


class Mailroom:
    """Takes down what is done with mails; `followed` tells scanners by what they do."""

    def __init__(
        self,
        playbook: Playbook,
        pepper: bytes,
        normaliser: Normaliser,
        delivery: Delivery,
        gate: Gate,
        clock: Clock,
    ) -> None:
        self._playbook, self._pepper, self._clock = playbook, pepper, clock
        self._normaliser, self._delivery, self._gate = normaliser, delivery, gate
        self._followed = machines.Followed()
        self.topics = preferences.topics_of(playbook)

    def claim(self, token: str, kind: type[C]) -> C:
        """What a token says. Raises Reject `not-found` for one that is not ours, or of another
        kind.
        """
        claim = open_token(self._pepper, token)
        if not isinstance(claim, kind):
            remedy = "use the link as it stood in the mail"
            raise Reject(
                "this link is for something else", where="token", remedy=remedy, kind="not-found"
            )
        return claim

    def ways(self, claim: UnsubscribeClaim | PreferencesClaim) -> tuple[str, str]:
        """The person's tokens: the way out, and the preferences."""
        out = UnsubscribeClaim(claim.touch_id, claim.address)
        return sign(self._pepper, out), sign(
            self._pepper, PreferencesClaim(claim.touch_id, claim.address)
        )

    async def clicked(self, claim: LinkClaim, request: Request) -> str:
        """Takes down a click, by a person or a machine; returns where it leads, whatever becomes of
        the note.
        """
        leads_to = target(self._playbook, claim)
        beside = self._followed.others(
            claim.touch_id, TRAP if claim.trap else LINK, time.monotonic()
        )
        machine = claim.trap or bool(beside) or machines.follows(request.method, request.headers)
        click = Item(
            type="email_clicked",
            touch_id=claim.touch_id,
            content_id=claim.content_id,
            url=leads_to,
            machine=machine,
        )
        await self._note(click, request)
        return leads_to

    async def looked(self, claim: UnsubscribeClaim | PreferencesClaim, request: Request) -> None:
        """A page was asked for: no act, but where the mail's link was followed a moment ago, a
        scanner is following them all.
        """
        here = WAY_OUT if isinstance(claim, UnsubscribeClaim) else PREFERENCES
        if LINK in self._followed.others(claim.touch_id, here, time.monotonic()):
            await self._note(
                Item(type="email_clicked", touch_id=claim.touch_id, machine=True), request
            )

    async def opened(self, token: str, request: Request) -> None:
        """Takes down an open, where the playbook has the pixel on."""
        if not self._playbook.open_pixel:
            return
        try:
            claim = self.claim(token, PixelClaim)
        except Reject:
            return
        machine = machines.opens(request.method, request.headers)
        await self._note(
            Item(type="email_opened", touch_id=claim.touch_id, machine=machine), request
        )

    async def left(self, claim: UnsubscribeClaim, request: Request) -> None:
        """Withdraws consent. Raises Reject `spool-full`, `spool-share`, `too-many`."""
        consent = Consent(state="withdrawn", basis="unsubscribe link")
        await self._keep(
            [Item(type="unsubscribed", touch_id=claim.touch_id, consent=(consent,))],
            request,
            claim.address,
        )

    async def returned(self, claim: PreferencesClaim, request: Request) -> None:
        """Gives it again; the link came in a mail to that address, which is what a double opt-in
        confirms.
        """
        consent = Consent(state="given", basis=DOUBLE_OPT_IN, text="Write to me again")
        await self._keep(
            [Item(type="consent_given", touch_id=claim.touch_id, consent=(consent,))],
            request,
            claim.address,
        )

    async def preferred(
        self, claim: PreferencesClaim, said: preferences.Said, request: Request
    ) -> None:
        """Takes down preferences. Raises Reject as `left` does."""
        await self._keep(preferences.interactions(claim.touch_id, said), request)

    async def _note(self, item: Item, request: Request) -> None:
        """Keeps what nobody shall wait or fail for."""
        try:
            await self._keep([item], request)
        except Reject as full:
            REFUSED.labels("links", full.kind).inc()

    async def _keep(self, items: Sequence[Item], request: Request, address: str = "") -> None:
        """Items, their consents also for the address of this keyed hash."""
        owner = self._gate.passer_by(request, LINKS)
        receipt = Receipt(LINKS, self._clock.now(), time.time())
        consents = [consent for item in items for consent in item.consent]
        self._normaliser.take(items, receipt)
        records = receipt.records + consent_records(
            consents, uuid.uuid4().hex, address, receipt.received_at
        )
        await self._delivery.keep(records, owner)
        ACCEPTED.labels("links").inc(len(receipt.ids))


def target(playbook: Playbook, claim: LinkClaim) -> str:
    """Where a link leads: to an address of its content's own; content that is gone leads to the
    company's website.

    The address in tokens of earlier releases counts only where the playbook names it.
    """
    content = playbook.content_by_id.get(claim.content_id)
    if content is None:
        return playbook.company.website
    # a pattern such as */guide is nowhere to go
    plain = urlsplit(claim.url).scheme in ("http", "https")
    return claim.url if plain and claim.url in content.urls else content.url


def create_router(room: Mailroom, pages: Pages, clock: Clock) -> APIRouter:
    """The routes of mails."""
    router = APIRouter(tags=["mail"])

    async def follow(token: str, request: Request) -> Response:
        """A tracked link: notes the click and leads on."""
        leads_to = await room.clicked(room.claim(token, LinkClaim), request)
        return RedirectResponse(leads_to, 302, NO_STORE)

    async def pixel(token: str, request: Request) -> Response:
        """The open pixel: a picture of nothing, whatever the token."""
        await room.opened(token, request)
        return Response(GIF, media_type="image/gif", headers=NO_STORE)

    async def ask(token: str, request: Request) -> Response:
        """The way out: asks, and changes nothing."""
        claim = room.claim(token, UnsubscribeClaim)
        await room.looked(claim, request)
        return pages.leave(room.ways(claim))

    async def choose(token: str, request: Request) -> Response:
        """The page of preferences; changes nothing."""
        claim = room.claim(token, PreferencesClaim)
        await room.looked(claim, request)
        return pages.preferences(room.ways(claim))

    for path, look in (
        ("/l/{token}", follow),
        ("/o/{token}.gif", pixel),
        ("/u/{token}", ask),
        ("/p/{token}", choose),
    ):
        router.add_api_route(path, look, methods=["GET"], response_model=None)
        router.add_api_route(
            path, look, methods=["HEAD"], include_in_schema=False, response_model=None
        )

    @router.post("/u/{token}", response_model=None)
    async def leave(token: str, request: Request) -> Response:
        """Unsubscribes, by the page's button or by a mail program's one click (RFC 8058); whatever
        the body, it is not read.
        """
        claim = room.claim(token, UnsubscribeClaim)
        await room.left(claim, request)
        return pages.left(room.ways(claim))

    @router.post("/p/{token}", response_model=None, openapi_extra=documented.PREFERENCES)
    async def chosen(token: str, request: Request) -> Response:
        """Takes down what was chosen, and says what holds from now on."""
        claim = room.claim(token, PreferencesClaim)
        ways = room.ways(claim)
        found = forms.fields(await intake.read(request, clock))
        if forms.text(found, "save") == "return":
            await room.returned(claim, request)
            return pages.preferences(ways, back=True)
        try:
            said = preferences.said(found, room.topics, clock.now().date())
        except Reject as reject:
            if not wants_page(request):
                raise
            return pages.mistaken(ways, reject)
        await room.preferred(claim, said, request)
        return pages.preferences(ways, said=said)

    return router


def refusal(request: Request, reject: Reject, pages: Pages) -> Response:
    """A problem document; but a page for a person whose link of a mail does not work."""
    of_mail = request.url.path.startswith(("/l/", "/u/", "/p/"))
    return pages.broken(reject) if of_mail and wants_page(request) else problem_response(reject)


def wants_page(request: Request) -> bool:
    """Whether a browser asks."""
    return "text/html" in request.headers.get("accept", "")
