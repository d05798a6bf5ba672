"""The frame around every page: its notices, its redirects, and problems as HTML for people."""

import re
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from datetime import datetime
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.scoring import Scoring
from services.scorer.ui.rendering import HEADERS, Renderer
from services.shared.db import is_transient
from services.shared.errors import Reject, Retry
from services.shared.http.problems import STATUS
from services.shared.http.signin import SignedOut, is_cross_site
from services.shared.messaging import sending
from services.shared.messaging.progress import lost_records

# the pages of the navigation in its order: name, address, title
PAGES = (
    ("home", "/", "Pipeline"),
    ("today", "/today", "Call today"),
    ("planned", "/planned", "Planned"),
    ("content", "/content", "Content"),
    ("mail", "/mail", "Mail"),
    ("sources", "/sources", "Sources"),
    ("reports", "/reports", "Reports"),
    ("model", "/model", "Model"),
    ("people", "/people", "People"),
    ("audit", "/audit", "Audit"),
    ("rehearsal", "/rehearsal", "Rehearsal"),
)
OWN_PATHS = re.compile(
    rf"(/(?:{'|'.join(name for name, path, _ in PAGES if path == f'/{name}')}"
    r"|import|leads/[0-9a-f-]{36}|content/[A-Za-z0-9%._~-]{1,600}"
    r"|reports/made-or-born|reports/sources|reports/[a-z-]{1,40}/leads)?)"
    r"(?:/status|/password|/lead|/test|(?:/sessions)?/[0-9a-f-]{36}/(?:role|disable|end))?"
    r"(\?[A-Za-z0-9=&%@._~+-]{1,1000})?(#[A-Za-z0-9-]{1,100})?"
)
MAX_PLACE = 1_200  # characters of a page's address
Handle = Callable[[Request], Coroutine[Any, Any, Response]]
# where the person is whose request is answered: a page of ours
_here: ContextVar[str] = ContextVar("here", default="/")
_back: ContextVar[str] = ContextVar("back", default="")  # where a problem leads back to, or ''


class Frame:
    """Renders pages with what all of them show: why nothing is sent, the clock while time is
    compressed, and whether the playbook is a sample.
    """

    def __init__(self, renderer: Renderer, scoring: Scoring, engine: AsyncEngine) -> None:
        self._renderer, self._clock, self._engine = renderer, scoring.clock, engine
        self._sample = any(item.sample for item in scoring.playbook.content)
        self._state = scoring.playbook.state
        self._sending, self._lost = sending.Sending(), dict[str, int]()

    def now(self) -> datetime:
        """The present of the system's clock."""
        return self._clock.now()

    async def refresh(self) -> None:
        """Reads what holds up sending; while the database is away what was known stays."""
        try:
            async with self._engine.connect() as connection:
                self._sending = await sending.read(connection)
                self._lost = await lost_records(connection, "scorer")
        except Exception as error:
            if not is_transient(error):
                raise

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """A whole page."""
        return self._renderer.page(template, status, **self._notices(), **values)

    def fragment(self, template: str, **values: Any) -> str:
        """A part of a page."""
        return self._renderer.fragment(template, **self._notices(), **values)

    def problem(
        self, error: Reject, status: int | None = None, *, signed_in: bool = True
    ) -> Response:
        """The page of a refusal, with the status of its kind unless another is given; it leads back
        to where the person was.
        """
        status = status or STATUS[error.kind]
        back = "" if error.where == "id" else _back.get()
        return self.page(
            "problem.html", status, here="", error=error, signed_in=signed_in, back=back
        )

    def _notices(self) -> dict[str, Any]:
        compressed = self._clock if self._clock.compressed else None
        return {
            "pages": PAGES,
            "now": self._clock.now(),
            "clock": compressed,
            "sample": self._sample,
            "state": self._state,
            "sending": self._sending,
            "lost": self._lost,
            "was_at": _here.get(),
        }


def html_route(frame: Frame, *, signed_in: bool) -> type[APIRoute]:
    """A class of routes that take forms of this site alone, and answer people in HTML when
    something is wrong.
    """

    class HtmlRoute(APIRoute):
        def get_route_handler(self) -> Handle:
            handle = super().get_route_handler()

            async def respond(request: Request) -> Response:
                place = place_of(request)
                _here.set(place)
                _back.set(_way_back(request, place))
                try:
                    if request.method == "POST":
                        _check_same_site(request)
                    return await handle(request)
                except Exception as error:
                    return _answer_to(error, request, frame, signed_in=signed_in)

            return respond

    return HtmlRoute


def _answer_to(error: Exception, request: Request, frame: Frame, *, signed_in: bool) -> Response:
    """Raises what people can do nothing about."""
    match error:
        case SignedOut():
            return see_other(sign_in_at(place_of(request)))
        case Reject():
            return frame.problem(error, signed_in=signed_in)
        case RequestValidationError():
            remedy = "follow the links of the page itself"
            no_page = Reject("there is no such page", remedy=remedy)
            return frame.problem(no_page, 404, signed_in=signed_in)
    if isinstance(error, Retry) or is_transient(error):
        remedy = "it comes back by itself; load the page again"
        away = Reject("the database is away", remedy=remedy)
        return frame.problem(away, 503, signed_in=signed_in)
    raise error


def see_other(address: str) -> Response:
    """Sends the browser on."""
    return Response(status_code=303, headers=HEADERS | {"Location": address})


def sign_in_at(place: str) -> str:
    """Where one signs in and then goes on at this place."""
    return f"/sign-in?to={quote(place, safe='/')}"


def own_path(address: str) -> str:
    """The address where it is one of the page's own, of a form its page; else the page's start."""
    match = OWN_PATHS.fullmatch(address)
    return "".join(part or "" for part in match.groups()) if match else "/"


def _way_back(request: Request, place: str) -> str:
    """From a form to its page, from a page's part or list to the page; '' where that is all."""
    if request.method != "GET":
        return place
    page, asked, _ = place.partition("?")
    return page if asked else ""


def place_of(request: Request) -> str:
    """Where the person is who sent this: the page itself, or that of its form."""
    query = f"?{request.url.query}" if request.url.query and request.method == "GET" else ""
    return own_path(request.url.path + query)


def _check_same_site(request: Request) -> None:
    """Checks that a form of ours sent the request. Raises Reject `forbidden`."""
    if is_cross_site(request):
        raise Reject(
            "this form is not ours",
            where="Origin",
            remedy="use the form on the page itself",
            kind="forbidden",
        )
