"""The routes of our mails' links: tracked links, the open pixel, unsubscribing, preferences."""

from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from services.ingest.http import openapi
from services.ingest.http.openapi import Kwargs
from services.ingest.http.request import read
from services.ingest.sources import forms
from services.ingest.tracking import preferences
from services.ingest.tracking.pages import Pages
from services.ingest.tracking.tracker import EngagementTracker
from services.shared.contracts.link_tokens import LinkClaim, PreferencesClaim, UnsubscribeClaim
from services.shared.errors import Reject
from services.shared.http.problems import problem_response, refusals

NO_STORE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
GIF = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)


class MailLinks:
    """What the links of mails answer."""

    def __init__(self, tracker: EngagementTracker, pages: Pages) -> None:
        self._tracker, self._pages = tracker, pages

    async def follow(self, token: str, request: Request) -> Response:
        """A tracked link: records the click and redirects."""
        claim = self._tracker.claim(token, LinkClaim)
        url = await self._tracker.record_click(claim, request)
        return RedirectResponse(url, 302, NO_STORE)

    async def pixel(self, token: str, request: Request) -> Response:
        """The open pixel: an invisible picture, whatever the token."""
        await self._tracker.record_open(token, request)
        return Response(GIF, media_type="image/gif", headers=NO_STORE)

    async def ask_unsubscribe(self, token: str, request: Request) -> Response:
        """The page of unsubscribing: asks, and changes nothing."""
        claim = self._tracker.claim(token, UnsubscribeClaim)
        await self._tracker.record_page_view(claim, request)
        return self._pages.unsubscribe(self._tracker.tokens(claim))

    async def unsubscribe(self, token: str, request: Request) -> Response:
        """Unsubscribes, by the page's button or by a mail program's one click (RFC 8058); the body
        is not read.
        """
        claim = self._tracker.claim(token, UnsubscribeClaim)
        await self._tracker.unsubscribe(claim, request)
        return self._pages.unsubscribed(self._tracker.tokens(claim))

    async def ask_preferences(self, token: str, request: Request) -> Response:
        """The page of preferences; changes nothing."""
        claim = self._tracker.claim(token, PreferencesClaim)
        await self._tracker.record_page_view(claim, request)
        return self._pages.preferences(self._tracker.tokens(claim))

    async def save_preferences(self, token: str, request: Request) -> Response:
        """Stores what was chosen, and shows what holds from now on."""
        claim = self._tracker.claim(token, PreferencesClaim)
        tokens = self._tracker.tokens(claim)
        fields = forms.fields(await read(request, self._tracker.clock))
        if forms.text(fields, "save") == "return":
            await self._tracker.resubscribe(claim, request)
            return self._pages.preferences(tokens, resubscribed=True)
        try:
            if measuring := preferences.measuring(fields):
                await self._tracker.save_measuring(claim, measuring, request)
                return self._pages.preferences(tokens, measuring=measuring.state)
            today = self._tracker.clock.now().date()
            chosen = preferences.chosen(fields, self._tracker.topics, today)
        except Reject as reject:
            if not wants_page(request):
                raise
            return self._pages.preferences_refused(tokens, reject)
        await self._tracker.save_preferences(claim, chosen, request)
        return self._pages.preferences(tokens, chosen=chosen)


def create_router(tracker: EngagementTracker, pages: Pages) -> APIRouter:
    """The routes of mails; what is read by GET answers HEAD as well."""
    links, router = MailLinks(tracker, pages), APIRouter(tags=["mail"])
    page: Kwargs = {"response_class": HTMLResponse, "responses": refusals(404)}
    redirect = page | {"response_class": RedirectResponse, "status_code": 302}
    picture: Kwargs = {"response_class": Response, "responses": openapi.PICTURE}
    done = page | {"responses": refusals(404, 429, 503)}
    for path, endpoint, described in (
        ("/l/{token}", links.follow, redirect),
        ("/o/{token}.gif", links.pixel, picture),
        ("/u/{token}", links.ask_unsubscribe, page),
        ("/p/{token}", links.ask_preferences, page),
    ):
        router.add_api_route(path, endpoint, methods=["GET"], response_model=None, **described)
        router.add_api_route(
            path, endpoint, methods=["HEAD"], include_in_schema=False, response_model=None
        )
    for path, endpoint, described in (
        ("/u/{token}", links.unsubscribe, done),
        ("/p/{token}", links.save_preferences, page | openapi.preferences()),
    ):
        router.add_api_route(path, endpoint, methods=["POST"], response_model=None, **described)
    return router


def refusal(request: Request, reject: Reject, pages: Pages) -> Response:
    """A problem document; but a page for a person whose link of a mail does not work."""
    of_mail = request.url.path.startswith(("/l/", "/u/", "/p/"))
    return (
        pages.broken_link(reject) if of_mail and wants_page(request) else problem_response(reject)
    )


def wants_page(request: Request) -> bool:
    """Whether a browser asks."""
    return "text/html" in request.headers.get("accept", "")
