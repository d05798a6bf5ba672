"""The page of one item of the library: what it is, what came of it, how a lead would read it, and a
test to oneself.
"""

import uuid
from typing import Annotated, NamedTuple
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Form, Path, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.queries.filters import LeadFilter
from services.scorer.queries.leads import LeadQueries
from services.scorer.queries.search import MAX_QUESTION, LeadSearch
from services.scorer.scoring import Scoring
from services.scorer.ui.content import FIGURES, Came
from services.scorer.ui.frame import Frame, see_other
from services.scorer.ui.lead_names import names_of, names_of_views
from services.scorer.ui.nurture import Nurture
from services.scorer.ui.rendering import mail_document
from services.scorer.ui.reports import address
from services.scorer.ui.sign_in import SignIn
from services.shared.contracts.events import Touch
from services.shared.errors import Reject
from services.shared.http.acting import Acting, only
from services.shared.http.parameters import NO_NUL
from services.shared.http.problems import STATUS
from services.shared.people import store
from services.shared.people.audit import Actor
from services.shared.people.roles import Role
from services.shared.people.store import MAX_MAIL
from services.shared.playbook.sections import Content

SUGGESTED = 6  # leads of the item's stages
TESTERS: tuple[Role, ...] = ("marketing", "admin")
ItemId = Annotated[str, Path(max_length=200)]


class PreviewView(msgspec.Struct, frozen=True):
    """An item as a lead would get it, as nurture renders it."""

    item: str
    lead: str
    subject: str
    text: str
    html: str


class Named(NamedTuple):
    """A lead that may be chosen."""

    id: uuid.UUID
    name: str
    detail: str


class Outcome(NamedTuple):
    """What came of a form: a test that was `sent`, leads that may be `meant`, or a `problem` with
    the address that was written.
    """

    sent: bool = False
    meant: list[Named] | None = None
    problem: Reject | None = None
    to: str | None = None


NOTHING = Outcome()


class LeadChoice:
    """Leads as whom an item can be read."""

    def __init__(self, engine: AsyncEngine, search: LeadSearch, leads: LeadQueries) -> None:
        self._engine, self._search, self._leads = engine, search, leads

    async def for_stages(self, item: Content) -> list[Named]:
        """Some of the item's product and stages, the likeliest first."""
        product = next((one for one in self._leads.products if one in item.products), "")
        product = product or self._leads.products[0]
        found: list[Named] = []
        for stage in item.stages:
            if len(found) < SUGGESTED:
                asked = LeadFilter(product, stage, limit=SUGGESTED - len(found), sales_status="any")
                page = await self._leads.page(asked)
                names = names_of_views(page.leads)
                found += [Named(one, name.name, name.detail) for one, name in names.items()]
        return found

    async def meant(self, words: str) -> list[Named]:
        """Those whom the words may mean. Raises Reject where that is nobody."""
        found = await self._search.find(words)
        listed = await self._leads.chosen(found.leads, self._leads.products[0])
        names = names_of_views(listed.leads)
        if not names:
            remedy = "write a name, a company, a phone number, an e-mail address or an id"
            raise Reject("nobody is known by this", where="lead", remedy=remedy)
        return [Named(one, name.name, name.detail) for one, name in names.items()]

    async def name(self, lead: uuid.UUID) -> str:
        """What it is called; '' where nothing is known of it."""
        return (await names_of(self._engine, [lead])).get(lead, "")

    async def own_address(self, actor: Actor) -> str:
        """The mail address of who is signed in; '' with a key."""
        if actor.kind != "person":
            return ""
        async with self._engine.connect() as connection:
            return (await store.person(connection, actor.id)).mail


class ContentItemRoutes:
    """One item."""

    def __init__(
        self,
        scoring: Scoring,
        came: Came,
        choice: LeadChoice,
        nurture: Nurture,
        sign_in: SignIn,
        frame: Frame,
    ) -> None:
        self._playbook, self._came, self._choice = scoring.playbook, came, choice
        self._nurture, self._sign_in, self._frame = nurture, sign_in, frame

    def add_to(self, router: APIRouter) -> None:
        """Adds the routes."""
        router.add_api_route("/content/{item}", self.item)
        router.add_api_route("/content/{item}/mail", self.mail)
        router.add_api_route("/content/{item}/lead", self.choose, methods=["POST"])
        router.add_api_route(
            "/content/{item}/test", self.test, methods=["POST"], dependencies=[only(*TESTERS)]
        )

    async def item(
        self,
        request: Request,
        actor: Acting,
        item: ItemId,
        lead: uuid.UUID | None = None,
        sent: Annotated[bool, Query()] = False,
    ) -> Response:
        """The item, and how the lead would read it if one is named."""
        return await self._page(request, actor, self._item(item), lead, Outcome(sent=sent))

    async def mail(self, request: Request, item: ItemId, lead: uuid.UUID) -> Response:
        """The mail itself, for the sandboxed frame."""
        shown = await self._preview(request, self._item(item), lead)
        return mail_document(Touch(id=shown.item, lead=shown.lead, status="due", html=shown.html))

    async def choose(
        self,
        request: Request,
        actor: Acting,
        item: ItemId,
        lead: Annotated[str, Form(max_length=MAX_QUESTION)] = "",
    ) -> Response:
        """Goes on as the lead that is meant, or lists those that may be; what is looked for stays
        out of every URL.
        """
        content = self._item(item)
        try:
            meant = await self._choice.meant(lead)
        except Reject as error:
            return await self._page(request, actor, content, None, Outcome(problem=error))
        if len(meant) == 1:
            return see_other(f"{place_of(content)}?lead={meant[0].id}#mail")
        return await self._page(request, actor, content, None, Outcome(meant=meant))

    async def test(
        self,
        request: Request,
        actor: Acting,
        item: ItemId,
        lead: Annotated[uuid.UUID, Form()],
        to: Annotated[str, Form(max_length=MAX_MAIL, pattern=NO_NUL)] = "",
    ) -> Response:
        """Has nurture send it to oneself as the lead would get it."""
        content = self._item(item)
        ticket = self._sign_in.ticket(request)
        try:
            await self._nurture.post(
                f"/v1/content/{quote(item, safe='')}/test", ticket, {"to": to, "lead": str(lead)}
            )
        except Reject as error:
            return await self._page(request, actor, content, lead, Outcome(problem=error, to=to))
        return see_other(f"{place_of(content)}?lead={lead}&sent=1#mail")

    def _item(self, item: str) -> Content:
        found = self._playbook.content_by_id.get(item)
        if found is None:
            raise Reject(
                "no such item",
                where="id",
                remedy="choose it from the page Content",
                kind="not-found",
            )
        return found

    async def _preview(self, request: Request, item: Content, lead: uuid.UUID) -> PreviewView:
        ticket = self._sign_in.ticket(request)
        path = f"/v1/content/{quote(item.id, safe='')}/preview"
        return msgspec.convert(await self._nurture.get(path, ticket, lead=lead), PreviewView)

    async def _page(
        self,
        request: Request,
        actor: Actor,
        item: Content,
        lead: uuid.UUID | None,
        outcome: Outcome = NOTHING,
    ) -> Response:
        shown, problem, meant = None, outcome.problem, outcome.meant
        if lead:
            try:
                shown = await self._preview(request, item, lead)
            except Reject as error:
                problem = problem or error
        return self._frame.page(
            "content_item.html",
            STATUS[problem.kind] if problem else 200,
            here="content",
            item=item,
            place=place_of(item),
            programs=[p for p in self._playbook.programs if item.id in p.items],
            answers=[p for p in self._playbook.programs if item.id in p.answers.values()],
            figures=(await self._came.get()).get(item.id),
            titles=FIGURES,
            address=address,
            lead=lead,
            lead_name=await self._choice.name(lead) if lead else "",
            shown=shown,
            meant=meant if meant is not None else await self._choice.for_stages(item),
            searched=meant is not None,
            sent=outcome.sent and problem is None,
            problem=problem,
            may_test=actor.role in (None, *TESTERS),
            to=await self._choice.own_address(actor) if outcome.to is None else outcome.to,
        )


def place_of(item: Content) -> str:
    """The address of its page."""
    return f"/content/{quote(item.id, safe='')}"
