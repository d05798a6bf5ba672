"""The page of what goes out in the next days, and of what people decide about it."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from fastapi import APIRouter, Form, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.ui.frame import Frame, own_path, see_other
from services.scorer.ui.lead_names import names_of
from services.scorer.ui.nurture import Nurture
from services.scorer.ui.rendering import mail_document
from services.scorer.ui.sign_in import SignIn
from services.shared.contracts.events import Touch
from services.shared.http.acting import Acting, only
from services.shared.http.paging import MAX_CURSOR
from services.shared.http.parameters import NO_NUL

PER_PAGE = 25
PLACE = 700  # characters of this page's address
State = Literal["", "held", "skipped"]
STATES: dict[State, str] = {"": "Planned", "held": "Held", "skipped": "Skipped"}
ACTS = {
    "hold": "held by", "release": "released by", "send-now": "to be sent now, says",
    "skip": "skipped by",
}  # fmt: skip


class ActView(msgspec.Struct, frozen=True):
    """What somebody decided."""

    action: str
    by: str
    reason: str
    at: datetime


class PlannedView(msgspec.Struct, frozen=True, kw_only=True):
    """One planned touch, as nurture lists it."""

    id: uuid.UUID
    lead: uuid.UUID
    email: str | None
    program: str
    stage: str
    content: str
    title: str
    channel: str
    state: str
    status: str
    decided: bool
    due_at: datetime | None
    reason: str | None
    why: str | None
    against: str | None
    subject: str
    text: str
    html: str
    acts: list[ActView]


class PlannedList(msgspec.Struct, frozen=True):
    """A page of them."""

    planned: list[PlannedView]
    next: str | None


class DayView(NamedTuple):
    """What goes out on a day of the company's zone."""

    day: str
    planned: list[PlannedView]


class PlannedRoutes:
    """The page Planned; `timezone` is the company's."""

    def __init__(
        self, engine: AsyncEngine, nurture: Nurture, sign_in: SignIn, frame: Frame, timezone: str
    ) -> None:
        self._engine, self._nurture = engine, nurture
        self._sign_in, self._frame, self._zone = sign_in, frame, ZoneInfo(timezone)

    def add_to(self, router: APIRouter) -> None:
        """Adds the routes."""
        router.add_api_route("/planned", self.planned)
        router.add_api_route(
            "/planned", self.decide, methods=["POST"], dependencies=[only("marketing", "admin")]
        )
        router.add_api_route("/planned/{touch}/mail", self.mail)

    async def planned(
        self,
        request: Request,
        state: State = "",
        cursor: Annotated[str, Query(max_length=MAX_CURSOR)] = "",
    ) -> Response:
        """The next seven days, or what is held, or was skipped."""
        ticket = self._sign_in.ticket(request)
        answer = await self._nurture.get(
            "/v1/planned", ticket, state=state, cursor=cursor, limit=PER_PAGE
        )
        page = msgspec.convert(answer, PlannedList)
        names = await names_of(self._engine, {one.lead for one in page.planned})
        return self._frame.page(
            "planned.html", here="planned", days=self._by_day(page.planned), names=names,
            following=page.next, cursor=cursor, which=state, states=STATES, acts=ACTS,
        )  # fmt: skip

    async def mail(self, request: Request, touch: uuid.UUID) -> Response:
        """The mail itself, for the sandboxed frame."""
        ticket = self._sign_in.ticket(request)
        one = msgspec.convert(await self._nurture.get(f"/v1/planned/{touch}", ticket), PlannedView)
        return mail_document(Touch(id=str(one.id), lead=str(one.lead), status="due", html=one.html))

    async def decide(
        self,
        request: Request,
        actor: Acting,
        touch: Annotated[uuid.UUID, Form()],
        action: Annotated[Literal["hold", "release", "send-now", "skip"], Form()],
        reason: Annotated[str, Form(max_length=500, pattern=NO_NUL)] = "",
        to: Annotated[str, Form(max_length=PLACE)] = "/planned",
    ) -> Response:
        """Has nurture write it down, with who it was."""
        body = {"by": f"the page ({actor})"[:200], "reason": reason}
        ticket = self._sign_in.ticket(request)
        await self._nurture.post(f"/v1/planned/{touch}/{action}", ticket, body)
        return see_other(own_path(to))

    def _by_day(self, planned: Sequence[PlannedView]) -> list[DayView]:
        days: dict[str, list[PlannedView]] = {}
        for one in planned:
            local = one.due_at.astimezone(self._zone) if one.due_at else None
            name = f"{local:%A}, {local.day} {local:%B}" if local else "At once"
            days.setdefault(name, []).append(one)
        return [DayView(day, shown) for day, shown in days.items()]
