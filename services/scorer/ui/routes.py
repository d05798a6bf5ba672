"""The page for people, server-rendered: mounts what has a module of its own, and the routes of the
pipeline, leads, mails and sources.
"""

import uuid
from functools import partial
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, FastAPI, Form, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.handoffs.answers import HandoffAnswers
from services.scorer.queries.filters import ORDERS, SALES_FILTERS, LeadFilter, Order, SalesFilter
from services.scorer.queries.leads import LeadQueries
from services.scorer.queries.model import ModelQueries
from services.scorer.queries.reports import ReportQueries
from services.scorer.queries.sales_status import SalesReport, SalesReports
from services.scorer.queries.search import LeadSearch
from services.scorer.scoring import Scoring
from services.scorer.ui.audit import AuditRoutes
from services.scorer.ui.content import ContentRoutes, figures
from services.scorer.ui.content_item import ContentItemRoutes, LeadChoice
from services.scorer.ui.enrolments import Enrolments
from services.scorer.ui.find import FindRoutes
from services.scorer.ui.frame import Frame, html_route, see_other
from services.scorer.ui.lead_names import names_of_views
from services.scorer.ui.lead_page import LeadPages
from services.scorer.ui.mails import Mails
from services.scorer.ui.model import ModelRoutes
from services.scorer.ui.nurture import Nurture
from services.scorer.ui.overview import Overview
from services.scorer.ui.people import PeopleRoutes
from services.scorer.ui.planned import PlannedRoutes
from services.scorer.ui.rehearsal import RehearsalRoutes, Rehearsals
from services.scorer.ui.rendering import Assets, Renderer, mail_document
from services.scorer.ui.reports import ReportRoutes
from services.scorer.ui.sending import SendingRoutes
from services.scorer.ui.sign_in import SignIn
from services.scorer.ui.sources import sources
from services.scorer.ui.stream import Stream
from services.scorer.ui.today import TodayRoutes, zone_of
from services.shared.contracts.sales import TYPE_OF
from services.shared.errors import Reject
from services.shared.http.acting import Acting, only
from services.shared.http.keys import ApiKeys
from services.shared.http.paging import MAX_CURSOR
from services.shared.http.sessions import Sessions
from services.shared.http.signin import PageSessions
from services.shared.kept import Kept
from services.shared.settings import Settings

PER_PAGE = 25
ORDER_WORDS: dict[Order, str] = {
    "likelihood": "most likely first",
    "engagement": "most engaged first",
    "fit": "best fit first",
    "last_event_at": "latest act first",
}
SALES_WORDS: dict[SalesFilter, str] = {name: name for name in SALES_FILTERS} | {
    "": "not won or disqualified",
    "none": "nothing reported",
}


def mount(
    app: FastAPI,
    settings: Settings,
    engine: AsyncEngine,
    scoring: Scoring,
    leads: LeadQueries,
    keys: ApiKeys,
    sales: SalesReports,
    reports: ReportQueries,
) -> None:
    """Adds the page to the scorer's application; starts nothing before somebody watches."""
    assets, overview = Assets(), Overview(engine, scoring)
    frame = Frame(Renderer(scoring.playbook, assets, scoring.clock), scoring, engine)
    pepper = settings.pepper.get_secret_value().encode()
    sessions = Sessions(PageSessions(keys, pepper), pepper, engine)
    sign_in = SignIn(settings, engine, sessions, frame)
    public_key = settings.public_key.get_secret_value()
    anybody = APIRouter(route_class=html_route(frame, signed_in=False), include_in_schema=False)
    sign_in.add_to(anybody)
    stream = Stream(engine, public_key, overview, sessions, frame, zone_of(scoring))
    anybody.add_api_route("/stream", stream.respond)
    anybody.add_api_route("/static/{name}", assets.respond)
    signed_in = APIRouter(
        route_class=html_route(frame, signed_in=True),
        include_in_schema=False,
        dependencies=[Depends(sign_in.check), Depends(frame.refresh)],
    )
    HomeRoutes(settings.public_url, leads, overview, sign_in, frame).add_to(signed_in)
    handoffs = HandoffAnswers(engine, scoring, pepper)
    TodayRoutes(engine, scoring, leads, handoffs, frame).add_to(signed_in)
    search = LeadSearch(engine, scoring.cleaner)
    FindRoutes(search, leads, frame).add_to(signed_in)
    SendingRoutes(engine).add_to(signed_in)
    nurture, zone = Nurture(settings), scoring.playbook.company.timezone
    enrolments = Enrolments(nurture, sign_in)
    lead_pages = LeadPages(engine, scoring, leads)
    LeadRoutes(lead_pages, scoring, leads, sales, frame, enrolments).add_to(signed_in)
    PlannedRoutes(engine, nurture, sign_in, frame, zone).add_to(signed_in)
    came = Kept(partial(figures, reports))
    ContentRoutes(scoring, came, nurture, sign_in, frame).add_to(signed_in)
    choice = LeadChoice(engine, search, leads)
    ContentItemRoutes(scoring, came, choice, nurture, sign_in, frame).add_to(signed_in)
    MailRoutes(Mails(engine), frame).add_to(signed_in)
    SourceRoutes(engine, settings, frame).add_to(signed_in)
    ReportRoutes(engine, reports, frame).add_to(signed_in)
    ModelRoutes(ModelQueries(engine, scoring), leads, frame).add_to(signed_in, overview.stages)
    PeopleRoutes(engine, sign_in, frame).add_to(signed_in)
    AuditRoutes(engine, frame).add_to(signed_in)
    RehearsalRoutes(Rehearsals(settings.playbook, scoring.clock), frame).add_to(signed_in)
    app.include_router(anybody)
    app.include_router(signed_in)


class HomeRoutes:
    """The pipeline, what is new, and the leads; `ingest` is the address of ingest."""

    def __init__(
        self,
        ingest: str,
        leads: LeadQueries,
        overview: Overview,
        sign_in: SignIn,
        frame: Frame,
    ) -> None:
        self._ingest, self._leads = ingest, leads
        self._overview, self._sign_in, self._frame = overview, sign_in, frame

    def add_to(self, router: APIRouter) -> None:
        """Adds the routes."""
        router.add_api_route("/", self.home)
        router.add_api_route("/import", self.imports, dependencies=[only("marketing", "admin")])

    async def home(
        self,
        product: Annotated[str, Query(max_length=200)] = "",
        stage: Annotated[str, Query(max_length=100)] = "",
        order: Annotated[str, Query(max_length=30)] = "likelihood",
        cursor: Annotated[str, Query(max_length=MAX_CURSOR)] = "",
        sales: Annotated[str, Query(max_length=30)] = "",
    ) -> Response:
        """The start page."""
        stages = ["", *self._overview.stages]
        known = next((name for name in ORDERS if name == order), None)
        product = product_of(self._leads, product)
        status = next((name for name in SALES_FILTERS if name == sales), None)
        if known is None or status is None or stage not in stages:
            raise Reject(
                "no such list of leads",
                where="stage, order, sales",
                remedy="choose from the page's own lists",
            )
        return await self._page(
            LeadFilter(
                product, stage, order=known, limit=PER_PAGE, cursor=cursor, sales_status=status
            )
        )

    async def imports(self, request: Request) -> Response:
        """Goes to ingest's page for files, which knows this session by its cookie where the host is
        the same, else by a ticket.
        """
        ingest = urlsplit(self._ingest)
        if (ingest.scheme, ingest.hostname) == (request.url.scheme, request.url.hostname):
            return see_other(f"{self._ingest}/import")
        ticket = self._sign_in.ticket(request)
        return see_other(f"{self._ingest}/import/sign-in?ticket={ticket}")

    async def _page(self, asked: LeadFilter) -> Response:
        listed = await self._leads.page(asked)
        pipeline = await self._overview.pipeline()
        return self._frame.page(
            "home.html",
            here="home",
            asked=asked,
            pipeline=pipeline[asked.product],
            product=asked.product,
            products=self._leads.products,
            stages=self._overview.stages,
            orders=ORDER_WORDS,
            sales_filters=SALES_WORDS,
            listed=listed,
            names=names_of_views(listed.leads),
            items=await self._overview.recent(),
            ingest=self._ingest,
        )


class LeadRoutes:
    """One lead in full, and what sales reports of it."""

    def __init__(
        self,
        pages: LeadPages,
        scoring: Scoring,
        leads: LeadQueries,
        sales: SalesReports,
        frame: Frame,
        enrolments: Enrolments,
    ) -> None:
        self._enrolments = enrolments
        self._pages, self._leads, self._sales, self._frame = pages, leads, sales, frame
        self._reasons = scoring.playbook.sales.disqualify_reasons

    def add_to(self, router: APIRouter) -> None:
        """Adds the routes."""
        router.add_api_route("/leads/{lead_id}", self.lead)
        router.add_api_route(
            "/leads/{lead_id}/status",
            self.report,
            methods=["POST"],
            dependencies=[only("sales", "admin")],
        )

    async def lead(
        self,
        request: Request,
        lead_id: uuid.UUID,
        product: Annotated[str, Query(max_length=200)] = "",
        whole: Annotated[bool, Query(alias="all")] = False,
    ) -> Response:
        """One lead: where it stands, why, and what happened; 308 where it was merged into
        another.
        """
        product = product_of(self._leads, product)
        try:
            page = await self._pages.read(lead_id, product, whole=whole)
        except Reject as error:
            if error.kind != "not-found":
                raise
            remedy = "find it by its name, company, phone or address, above"
            raise Reject("no such lead", where="id", remedy=remedy, kind="not-found") from None
        return self._frame.page(
            "lead.html",
            here="lead",
            page=page,
            lead=page.lead,
            product=product,
            products=self._leads.products,
            sales_statuses=list(TYPE_OF),
            disqualify_reasons=self._reasons,
            report_id=uuid.uuid4(),
            enrolments=await self._enrolments.of(request, lead_id),
        )

    async def report(
        self,
        actor: Acting,
        lead_id: uuid.UUID,
        status: Annotated[str, Form(max_length=20)],
        reason: Annotated[str, Form(max_length=500)] = "",
        fact: Annotated[str, Form(max_length=100)] = "",
    ) -> Response:
        """Takes a report of sales; the form's own id makes of two clicks one fact."""
        if status not in TYPE_OF:
            raise Reject(
                "no such status", where="status", remedy=f"choose one of {', '.join(TYPE_OF)}"
            )
        report = SalesReport(status=status, reason=reason, id=fact)
        await self._sales.submit(lead_id, report, actor)
        return see_other(f"/leads/{lead_id}")


class MailRoutes:
    """Mails that were sent, and one of them as it looks."""

    def __init__(self, mails: Mails, frame: Frame) -> None:
        self._mails, self._frame = mails, frame

    def add_to(self, router: APIRouter) -> None:
        """Adds the routes."""
        router.add_api_route("/mail", self.mails)
        router.add_api_route("/touches/{touch_id}/mail", self.mail)

    async def mails(self, before: Annotated[str, Query(max_length=80)] = "") -> Response:
        """Mails that were sent, newest first."""
        page = await self._mails.page(before)
        return self._frame.page(
            "mail.html", here="mail", mails=page.mails, following=page.next, before=before
        )

    async def mail(self, touch_id: uuid.UUID) -> Response:
        """The mail itself, for the sandboxed frame."""
        return mail_document(await self._mails.touch(touch_id))


class SourceRoutes:
    """Who can post to ingest, how to set it up, and when it last posted."""

    def __init__(self, engine: AsyncEngine, settings: Settings, frame: Frame) -> None:
        self._engine, self._ingest, self._frame = engine, settings.public_url, frame
        self._public_key = settings.public_key.get_secret_value()

    def add_to(self, router: APIRouter) -> None:
        """Adds the route."""
        router.add_api_route("/sources", self.sources)

    async def sources(self) -> Response:
        """All sources."""
        found = await sources(self._engine, self._public_key)
        return self._frame.page("sources.html", here="sources", sources=found, ingest=self._ingest)


def product_of(leads: LeadQueries, product: str) -> str:
    """The product, the first one where none is named. Raises Reject `not-found`."""
    if product and product not in leads.products:
        raise Reject(
            "no such product",
            where="product",
            remedy="choose from the page's own list",
            kind="not-found",
        )
    return product or leads.products[0]
