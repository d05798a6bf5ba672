"""The frame around every page: its notices, its redirects, and problems as HTML for people."""

import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from services.scorer.scoring import Scoring
from services.scorer.ui.rendering import HEADERS, Renderer
from services.shared.db import is_transient
from services.shared.errors import Reject, Retry
from services.shared.http.problems import STATUS
from services.shared.http.signin import SignedOut

OWN_PATHS = re.compile(r"/(mail|sources|leads/[0-9a-f-]{36})?")
Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class Frame:
    """Renders pages with what all of them show: the clock while time is compressed, and whether the
    playbook is a sample.
    """

    def __init__(self, renderer: Renderer, scoring: Scoring) -> None:
        self._renderer, self._clock = renderer, scoring.clock
        self._sample = any(item.sample for item in scoring.playbook.content)

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """A whole page."""
        return self._renderer.page(template, status, **self._notices(), **values)

    def fragment(self, template: str, **values: Any) -> str:
        """A part of a page."""
        return self._renderer.fragment(template, **self._notices(), **values)

    def problem(self, error: Reject, status: int | None = None) -> Response:
        """The page of a refusal, with the status of its kind unless another is given."""
        return self.page("problem.html", status or STATUS[error.kind], here="", error=error)

    def _notices(self) -> dict[str, Any]:
        compressed = self._clock if self._clock.compressed else None
        return {"now": self._clock.now(), "clock": compressed, "sample": self._sample}


def html_route(frame: Frame) -> type[APIRoute]:
    """A class of routes that answer people in HTML when something is wrong."""

    class HtmlRoute(APIRoute):
        def get_route_handler(self) -> Handle:
            handle = super().get_route_handler()

            async def respond(request: Request) -> Response:
                try:
                    return await handle(request)
                except Exception as error:
                    return _answer_to(error, request, frame)

            return respond

    return HtmlRoute


def _answer_to(error: Exception, request: Request, frame: Frame) -> Response:
    """Raises what people can do nothing about."""
    match error:
        case SignedOut():
            return see_other(f"/sign-in?to={own_path(request.url.path)}")
        case Reject():
            return frame.problem(error)
        case RequestValidationError():
            remedy = "follow the links of the page itself"
            return frame.problem(Reject("there is no such page", remedy=remedy), 404)
    if isinstance(error, Retry) or is_transient(error):
        remedy = "it comes back by itself; load the page again"
        return frame.problem(Reject("the database is away", remedy=remedy), 503)
    raise error


def see_other(address: str) -> Response:
    """Sends the browser on."""
    return Response(status_code=303, headers=HEADERS | {"Location": address})


def own_path(address: str) -> str:
    """The address where it is one of the page's own, else the page's start."""
    return address if OWN_PATHS.fullmatch(address) else "/"
