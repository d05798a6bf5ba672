"""The kill switch on the page."""

from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Form, Response
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.ui.frame import MAX_PLACE, own_path, see_other
from services.shared.http.acting import Acting, only
from services.shared.messaging import sending
from services.shared.people.audit import record

log = structlog.get_logger()


class SendingRoutes:
    """The kill switch."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    def add_to(self, router: APIRouter) -> None:
        """Adds the route."""
        router.add_api_route(
            "/sending",
            self.change,
            methods=["POST"],
            dependencies=[only("marketing", "admin")],
        )

    async def change(
        self,
        actor: Acting,
        brake: Annotated[Literal["on", "off"], Form()],
        to: Annotated[str, Form(max_length=MAX_PLACE)] = "/",
    ) -> Response:
        """Stops all sending, or lets it go on, and records who did it."""
        async with self._engine.begin() as connection:
            if brake == "on":
                await sending.stop(connection, f"the page ({actor})")
            else:
                await sending.resume(connection)
            await record(connection, actor, "brake", "sending", {"to": brake})
        log.info("brake", brake=brake, actor_id=actor.id)
        return see_other(own_path(to))
