"""The programs that a lead is in, as nurture lists them, for its page."""

import uuid
from datetime import datetime

import msgspec
import structlog
from fastapi import Request

from services.scorer.ui.nurture import Nurture
from services.scorer.ui.sign_in import SignIn
from services.shared.errors import Reject

log = structlog.get_logger()
WAIT_S = 3.0  # that the page of a lead waits for nurture


class EnrolmentView(msgspec.Struct, frozen=True, kw_only=True):
    """A lead in a program: where it stands there, and what comes when."""

    program: str
    state: str
    place: int
    reason: str | None
    why: str | None
    next_at: datetime | None
    entered_at: datetime | None
    left_at: datetime | None


class EnrolmentList(msgspec.Struct, frozen=True):
    """All of a lead."""

    enrolments: list[EnrolmentView]


class Enrolments:
    """Asks nurture in the name of who is signed in."""

    def __init__(self, nurture: Nurture, sign_in: SignIn) -> None:
        self._nurture, self._sign_in = nurture, sign_in

    async def of(self, request: Request, lead: uuid.UUID) -> list[EnrolmentView] | None:
        """The programs of a lead; None where nurture does not say: the page stands without them."""
        ticket = self._sign_in.ticket(request)
        try:
            answer = await self._nurture.get(
                "/v1/enrolments", ticket, wait_s=WAIT_S, lead=lead, limit=100
            )
        except Reject as error:
            log.warning("enrolments_unknown", reason=error.title)
            return None
        return msgspec.convert(answer, EnrolmentList).enrolments
