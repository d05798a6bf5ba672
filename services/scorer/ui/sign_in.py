"""Signing in to the page with a query key, by a link or by a form, and out again."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response

from services.scorer.ui.frame import MAX_PLACE, Frame, own_path, see_other
from services.shared.errors import Reject
from services.shared.http.keys import ApiKey
from services.shared.http.problems import STATUS
from services.shared.http.signin import COOKIE, PageSessions, cookie_of


class SignIn:
    """The routes of sessions, which need none."""

    def __init__(self, sessions: PageSessions, frame: Frame) -> None:
        self._sessions, self._frame = sessions, frame

    def add_to(self, router: APIRouter) -> None:
        """Adds the routes."""
        router.add_api_route("/sign-in", self.by_link)
        router.add_api_route("/sign-in", self.by_form, methods=["POST"])
        router.add_api_route("/sign-out", self.sign_out, methods=["POST"])

    async def check(self, request: Request) -> ApiKey:
        """The key of who is signed in. Raises SignedOut."""
        return self._sessions.key_of(cookie_of(request, COOKIE))

    def ticket(self, request: Request) -> str:
        """What takes this session to a page on another host. Raises SignedOut."""
        return self._sessions.ticket(self._sessions.key_of(cookie_of(request, COOKIE)))

    async def by_link(
        self,
        request: Request,
        key: Annotated[str, Query(max_length=200)] = "",
        to: Annotated[str, Query(max_length=MAX_PLACE)] = "/",
    ) -> Response:
        """Signs in, or shows where to paste the key."""
        if key:
            return self._sign_in(request, key, to)
        return self._frame.page("sign_in.html", to=own_path(to), problem=None)

    async def by_form(
        self,
        request: Request,
        key: Annotated[str, Form(max_length=200)] = "",
        to: Annotated[str, Form(max_length=MAX_PLACE)] = "/",
    ) -> Response:
        """Signs in."""
        return self._sign_in(request, key, to)

    def _sign_in(self, request: Request, key: str, to: str) -> Response:
        try:
            cookie = self._sessions.sign_in(key)
        except Reject as error:
            status = STATUS[error.kind]
            return self._frame.page("sign_in.html", status, to=own_path(to), problem=error)
        response = see_other(own_path(to))
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, cookie, httponly=True, samesite="lax", secure=secure)
        return response

    async def sign_out(self) -> Response:
        """Ends the session of this browser."""
        response = see_other("/sign-in")
        response.delete_cookie(COOKIE, httponly=True, samesite="lax")
        return response
