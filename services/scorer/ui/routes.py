"""The page for people: pipeline, live stream, leads, one lead in full, mails; server-rendered,
signed in by a query key.
"""

import re
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Form, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncEngine
from sse_starlette import EventSourceResponse, ServerSentEvent

from services.scorer.queries.leads import ORDERS, Filter, Queries
from services.scorer.queries.sales_status import Outcomes, Said
from services.scorer.scoring import Scoring
from services.scorer.ui.live import Live, Sight
from services.scorer.ui.rendering import HEADERS, Assets, Renderer, mail_document
from services.scorer.ui.sources import sources
from services.scorer.ui.views import PageViews
from services.shared.clock import from_us
from services.shared.contracts.sales import TYPE_OF
from services.shared.db import is_transient
from services.shared.errors import Reject, Retry
from services.shared.http.keys import ApiKey, ApiKeys
from services.shared.http.paging import MAX_CURSOR
from services.shared.http.problems import STATUS
from services.shared.http.signin import COOKIE, PageSessions, SignedOut, is_cross_site
from services.shared.settings import Settings

PER_PAGE = 25
OURS = re.compile(r"/(mail|sources|leads/[0-9a-f-]{36})?")
ORDER_WORDS = {
    "likelihood": "most likely first", "engagement": "most engaged first", "fit": "best fit first",
    "last_event_at": "latest act first",
}  # fmt: skip
Handle = Callable[[Request], Coroutine[Any, Any, Response]]


def mount(
    app: FastAPI,
    settings: Settings,
    engine: AsyncEngine,
    scoring: Scoring,
    queries: Queries,
    keys: ApiKeys,
    outcomes: Outcomes,
) -> None:
    """Adds the page to the scorer's application; starts nothing before somebody watches."""
    app.include_router(Page(settings, engine, scoring, queries, keys, outcomes).router())


class Page:
    """The routes of the page."""

    def __init__(
        self,
        settings: Settings,
        engine: AsyncEngine,
        scoring: Scoring,
        queries: Queries,
        keys: ApiKeys,
        outcomes: Outcomes,
    ) -> None:
        self._settings, self._scoring, self._queries, self._outcomes = (
            settings,
            scoring,
            queries,
            outcomes,
        )
        self._engine, self._public_key = engine, settings.public_key.get_secret_value()
        self._views = PageViews(engine, scoring, queries)
        self._sessions = PageSessions(keys, settings.pepper.get_secret_value().encode())
        self._assets = Assets()
        self._render = Renderer(scoring.playbook, self._assets)
        self._live = Live(self._look)
        self._sample = any(item.sample for item in scoring.playbook.content)

    def router(self) -> APIRouter:
        """All routes; those for people answer in HTML also when something is wrong."""
        router = APIRouter(
            route_class=self._route(), include_in_schema=False, default_response_class=Response
        )
        signed: dict[str, Any] = {"dependencies": [Depends(self._holder)], "response_model": None}
        open_: dict[str, Any] = {"response_model": None}
        router.add_api_route("/", self.home, **signed)
        router.add_api_route("/leads/{lead_id}", self.lead, **signed)
        router.add_api_route("/leads/{lead_id}/status", self.report, methods=["POST"], **signed)
        router.add_api_route("/find", self.find, methods=["POST"], **signed)
        router.add_api_route("/mail", self.mail, **signed)
        router.add_api_route("/sources", self.sources, **signed)
        router.add_api_route("/touches/{touch_id}/mail", self.mail_of, **signed)
        router.add_api_route("/stream", self.stream, **open_)
        router.add_api_route("/sign-in", self.sign_in, **open_)
        router.add_api_route("/sign-in", self.signed_in, methods=["POST"], **open_)
        router.add_api_route("/sign-out", self.sign_out, methods=["POST"], **open_)
        router.add_api_route("/static/{name}", self.static, **open_)
        return router

    # -- signing in -------------------------------------------------------------------------------

    def _holder(self, request: Request) -> ApiKey:
        return self._sessions.key_of(request.cookies.get(COOKIE, ""))

    async def sign_in(
        self,
        request: Request,
        key: Annotated[str, Query(max_length=200)] = "",
        to: Annotated[str, Query(max_length=100)] = "/",
    ) -> Response:
        """Signs in by a link, or shows where to paste the key."""
        return (
            self._signed_in(request, key, to)
            if key
            else self._render.page("sign_in.html", to=_ours(to), problem=None)
        )

    async def signed_in(
        self,
        request: Request,
        key: Annotated[str, Form(max_length=200)] = "",
        to: Annotated[str, Form(max_length=100)] = "/",
    ) -> Response:
        """Signs in by the form."""
        return self._signed_in(request, key, to)

    def _signed_in(self, request: Request, key: str, to: str) -> Response:
        try:
            cookie = self._sessions.sign_in(key)
        except Reject as error:
            return self._render.page(
                "sign_in.html", STATUS[error.kind], to=_ours(to), problem=error
            )
        answer = _see(_ours(to))
        answer.set_cookie(
            COOKIE, cookie, httponly=True, samesite="lax", secure=request.url.scheme == "https"
        )
        return answer

    async def sign_out(self) -> Response:
        """Forgets who sits here."""
        answer = _see("/sign-in")
        answer.delete_cookie(COOKIE, httponly=True, samesite="lax")
        return answer

    # -- many leads -------------------------------------------------------------------------------

    async def home(
        self,
        product: Annotated[str, Query(max_length=200)] = "",
        stage: Annotated[str, Query(max_length=100)] = "",
        order: Annotated[str, Query(max_length=30)] = "likelihood",
        cursor: Annotated[str, Query(max_length=MAX_CURSOR)] = "",
    ) -> Response:
        """The pipeline, what is new, and the leads."""
        return await self._home(product, stage, order, cursor)

    async def _home(
        self,
        product: str = "",
        stage: str = "",
        order: str = "likelihood",
        cursor: str = "",
        *,
        problem: Reject | None = None,
    ) -> Response:
        product = self._product(product)
        if order not in ORDERS or stage not in ("", *self._views.stages):
            raise Reject(
                "no such list of leads",
                where="stage, order",
                remedy="choose from the page's own lists",
            )
        listed = await self._queries.leads(
            Filter(product, stage, order=order, limit=PER_PAGE, cursor=cursor)
        )
        pipeline = await self._views.pipeline()
        return self._page(
            "home.html",
            200 if problem is None else 404,
            here="home",
            pipeline=pipeline[product],
            product=product,
            products=self._queries.products,
            stage=stage,
            stages=self._views.stages,
            order=order,
            orders=ORDER_WORDS,
            cursor=cursor,
            listed=listed,
            names=await self._views.names(listed["leads"]),
            items=await self._views.recent(),
            problem=problem,
            ingest=self._settings.public_url,
        )

    async def find(self, email: Annotated[str, Form(max_length=320)] = "") -> Response:
        """Goes to the lead with this address; the address stays out of every URL."""
        try:
            found = await self._views.find(email, self._scoring.cleaner)
        except Reject as error:
            return await self._home(problem=error)
        return _see(f"/leads/{found}")

    async def stream(self, request: Request) -> Response:
        """Server-sent events: fragments of the page as they change."""
        cookie = request.cookies.get(COOKIE, "")
        try:
            self._sessions.key_of(cookie)
        except SignedOut:
            return Response("signed out", 401, HEADERS, "text/plain")
        return EventSourceResponse(self._events(cookie), headers=HEADERS, ping=15)

    async def _events(self, cookie: str) -> AsyncIterator[ServerSentEvent]:
        async with aclosing(self._live.watch()) as turns:
            async for changes in turns:
                try:
                    self._sessions.key_of(cookie)
                except SignedOut:
                    yield ServerSentEvent("", event="signed-out")
                    return
                for event, html in changes:
                    yield ServerSentEvent(html, event=event)

    async def _look(self) -> Sight:
        """What everybody who watches gets, rendered once."""
        pipeline, items = await self._views.pipeline(), await self._views.recent()
        common = self._common()
        parts = {
            f"pipeline:{product}": self._render.fragment(
                "_pipeline.html", pipeline=counts, product=product, **common
            )
            for product, counts in pipeline.items()
        }
        for source in await sources(self._engine, self._public_key):
            parts[f"source:{source.name}"] = self._render.fragment("_source.html", source=source)
        parts["notices"] = self._render.fragment("_notices.html", **common)
        return Sight(
            parts, {item.key: self._render.fragment("_item.html", item=item) for item in items}
        )

    # -- one lead, and mails ----------------------------------------------------------------------

    async def lead(
        self,
        lead_id: uuid.UUID,
        product: Annotated[str, Query(max_length=200)] = "",
        whole: Annotated[bool, Query(alias="all")] = False,
    ) -> Response:
        """One lead: where it stands, why, and what happened; 308 where it was merged into
        another.
        """
        product = self._product(product)
        portrait = await self._views.portrait(lead_id, product, whole=whole)
        return self._page(
            "lead.html",
            here="lead",
            it=portrait,
            lead=portrait.lead,
            product=product,
            products=self._queries.products,
            outcomes=list(TYPE_OF),
            reasons=self._scoring.playbook.sales.disqualify_reasons,
            fact=uuid.uuid4(),
        )

    async def report(
        self,
        request: Request,
        lead_id: uuid.UUID,
        status: Annotated[str, Form(max_length=20)],
        reason: Annotated[str, Form(max_length=500)] = "",
        fact: Annotated[str, Form(max_length=100)] = "",
    ) -> Response:
        """Takes sales' word from the lead's page; the form's own id makes of two clicks one
        fact.
        """
        if is_cross_site(request):
            raise Reject(
                "this form is not ours",
                where="Origin",
                remedy="use the form on the lead's page",
                kind="forbidden",
            )
        if status not in TYPE_OF:
            raise Reject(
                "no such status", where="status", remedy=f"choose one of {', '.join(TYPE_OF)}"
            )
        await self._outcomes.report(lead_id, Said(status=status, reason=reason, id=fact))
        return _see(f"/leads/{lead_id}")

    async def mail(self, before: Annotated[str, Query(max_length=80)] = "") -> Response:
        """Mails that were sent, newest first."""
        mails, following = await self._views.mails(before)
        return self._page("mail.html", here="mail", mails=mails, following=following, before=before)

    async def sources(self) -> Response:
        """Who can post here, how to set it up, and when it last spoke."""
        found = await sources(self._engine, self._public_key)
        return self._page(
            "sources.html", here="sources", sources=found, ingest=self._settings.public_url
        )

    async def mail_of(self, touch_id: uuid.UUID) -> Response:
        """The mail itself, for the sandboxed frame."""
        return mail_document(await self._views.touch(touch_id))

    async def static(self, name: str) -> Response:
        """The page's own files."""
        return self._assets.answer(name)

    # -- what all share ---------------------------------------------------------------------------

    def _product(self, product: str) -> str:
        if product and product not in self._queries.products:
            raise Reject(
                "no such product",
                where="product",
                remedy="choose from the page's own list",
                kind="not-found",
            )
        return product or self._queries.products[0]

    def _common(self) -> dict[str, Any]:
        clock = self._scoring.clock
        now = from_us(self._queries.now())
        return {"now": now, "clock": clock if clock.compressed else None, "sample": self._sample}

    def _page(self, name: str, status: int = 200, **values: Any) -> Response:
        return self._render.page(name, status, **self._common(), **values)

    def _problem(self, status: int, error: Reject) -> Response:
        return self._page("problem.html", status, here="", error=error)

    def _route(self) -> type[APIRoute]:
        page = self

        class PageRoute(APIRoute):
            """Answers people in HTML when something is wrong."""

            def get_route_handler(self) -> Handle:
                handle = super().get_route_handler()

                async def answer(request: Request) -> Response:
                    try:
                        return await handle(request)
                    except SignedOut:
                        return _see(f"/sign-in?to={_ours(request.url.path)}")
                    except Reject as error:
                        return page._problem(STATUS.get(error.kind, 400), error)
                    except RequestValidationError:
                        wrong = Reject(
                            "there is no such page", remedy="follow the links of the page itself"
                        )
                        return page._problem(404, wrong)
                    except Exception as error:
                        if not isinstance(error, Retry) and not is_transient(error):
                            raise
                        away = Reject(
                            "the database is away",
                            remedy="it comes back by itself; load the page again",
                        )
                        return page._problem(503, away)

                return answer

        return PageRoute


def _see(address: str) -> Response:
    return Response(status_code=303, headers=HEADERS | {"Location": address})


def _ours(address: str) -> str:
    """The address where it is one of the page's own, else the page's start."""
    return address if OURS.fullmatch(address) else "/"
