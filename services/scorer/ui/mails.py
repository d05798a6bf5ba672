"""What the page shows of mails: those that were sent, and one of them."""

import re
import uuid
from datetime import datetime

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.ui.lead_names import names_of
from services.scorer.ui.repository import PageRepository, SentPlace, StoredTouch
from services.shared.clock import from_us, to_us
from services.shared.contracts.events import Touch
from services.shared.errors import Reject

PER_PAGE = 20
PLACE = re.compile(r"(-?\d{1,17})-([0-9a-f-]{36})")


class Mail(msgspec.Struct, frozen=True):
    """A mail with the lead to whom it went."""

    at: datetime
    touch: Touch
    lead: uuid.UUID
    lead_name: str


class MailPage(msgspec.Struct, frozen=True):
    """Mails, newest first; `next` is where the following page begins, '' on the last one."""

    mails: list[Mail]
    next: str


class Mails:
    """Read access to mails."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def page(self, before: str = "") -> MailPage:
        """Mails sent before a place. Raises Reject for a place that is none."""
        place = _place(before) if before else None
        async with self._engine.connect() as connection:
            found = await PageRepository(connection).sent(PER_PAGE + 1, place)
        shown = found[:PER_PAGE]
        names = await names_of(self._engine, {row.lead for row in shown})
        mails = [Mail(row.at, row.touch, row.lead, names.get(row.lead, "")) for row in shown]
        return MailPage(mails, _next(shown[-1]) if len(found) > PER_PAGE else "")

    async def touch(self, touch_id: uuid.UUID) -> Touch:
        """One touch with its mail. Raises Reject `not-found`."""
        async with self._engine.connect() as connection:
            touch = await PageRepository(connection).touch(touch_id)
        if touch is None:
            raise Reject(
                "no such touch", where="id", remedy="open it from the lead's page", kind="not-found"
            )
        return touch


def _next(last: StoredTouch) -> str:
    return f"{to_us(last.at)}-{last.touch.id}"


def _place(before: str) -> SentPlace:
    match = PLACE.fullmatch(before)
    try:
        if not match:
            raise ValueError
        return SentPlace(from_us(int(match[1])), uuid.UUID(match[2]))
    except (ValueError, OverflowError):
        raise Reject(
            "no such place in the list", where="before", remedy="begin again at the newest mail"
        ) from None
