"""The stream of server-sent events that keeps open pages current."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from zoneinfo import ZoneInfo

from fastapi import Request, Response
from sqlalchemy.ext.asyncio import AsyncEngine
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import AppStatus

from services.scorer.handoffs import daily
from services.scorer.ui.frame import Frame
from services.scorer.ui.live import Fragments, LiveUpdates
from services.scorer.ui.overview import Overview
from services.scorer.ui.rendering import HEADERS
from services.scorer.ui.sources import sources
from services.shared.db import is_transient
from services.shared.http.sessions import Sessions, is_person
from services.shared.http.signin import COOKIE, SignedOut, cookie_of

PING_S = 15
ASK_AGAIN_S = 10.0  # between two looks for a person's session, which are transactions


class Stream:
    """Fragments of the page as they change, for who is signed in."""

    def __init__(
        self,
        engine: AsyncEngine,
        public_key: str,
        overview: Overview,
        sessions: Sessions,
        frame: Frame,
        zone: ZoneInfo,
    ) -> None:
        self._engine, self._public_key, self._overview = engine, public_key, overview
        self._sessions, self._frame, self._zone = sessions, frame, zone
        self._live = LiveUpdates(self._fragments)
        # an earlier server of this process set it when it ended, and it ends every stream
        AppStatus.should_exit = False

    async def respond(self, request: Request) -> Response:
        """Server-sent events until the browser leaves or its session ends."""
        cookie = cookie_of(request, COOKIE)
        try:
            await self._sessions.who(cookie)
        except SignedOut:
            return Response("signed out", 401, HEADERS, "text/plain")
        return EventSourceResponse(self._events(cookie), headers=HEADERS, ping=PING_S)

    async def _events(self, cookie: str) -> AsyncIterator[ServerSentEvent]:
        async with aclosing(self._live.watch()) as live:
            asked, every_s = time.monotonic(), ASK_AGAIN_S if is_person(cookie) else 0.0
            async for updates in live:
                if time.monotonic() >= asked + every_s:
                    if not await self._is_signed_in(cookie):
                        yield ServerSentEvent("", event="signed-out")
                        return
                    asked = time.monotonic()
                for update in updates:
                    yield ServerSentEvent(update.html, event=update.event)

    async def _is_signed_in(self, cookie: str) -> bool:
        """Whether a session that was in force still is; yes while the database is away."""
        try:
            await self._sessions.who(cookie)
        except SignedOut:
            return False
        except Exception as error:
            if not is_transient(error):
                raise
        return True

    async def _fragments(self) -> Fragments:
        """What everybody who watches gets, rendered once."""
        await self._frame.refresh()
        render = self._frame.fragment
        pipeline, recent = await self._overview.pipeline(), await self._overview.recent()
        parts = {
            f"pipeline:{product}": render("_pipeline.html", pipeline=counts, product=product)
            for product, counts in pipeline.items()
        }
        for source in await sources(self._engine, self._public_key):
            parts[f"source:{source.name}"] = render("_source.html", source=source)
            parts[f"remarks:{source.name}"] = render("_remarks.html", source=source)
        parts["notices"] = render("_notices.html")
        parts["brake"] = render("_brake.html")
        async with self._engine.connect() as connection:
            parts["today"] = await daily.version(connection, self._frame.now(), self._zone)
        return Fragments(
            parts, {activity.key: render("_item.html", item=activity) for activity in recent}
        )
