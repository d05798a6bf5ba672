"""The kill switch on the page."""

from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Form, Request, Response
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.ui.frame import MAX_PLACE, check_same_site, own_path, see_other
from services.scorer.ui.sign_in import SignIn
from services.shared.messaging import sending

log = structlog.get_logger()


class SendingRoutes:
    """The kill switch."""

    def __init__(self, engine: AsyncEngine, sign_in: SignIn) -> None:
        self._engine, self._sign_in = engine, sign_in

    def add_to(self, router: APIRouter) -> None:
        """Adds the route."""
        router.add_api_route("/sending", self.change, methods=["POST"])

    async def change(
        self,
        request: Request,
        brake: Annotated[Literal["on", "off"], Form()],
        to: Annotated[str, Form(max_length=MAX_PLACE)] = "/",
    ) -> Response:
        """Stops all sending, or lets it go on, and notes whose key it was."""
        check_same_site(request)
        key = await self._sign_in.check(request)
        async with self._engine.begin() as connection:
            if brake == "on":
                await sending.stop(connection, f"the page (key {key.name})")
            else:
                await sending.resume(connection)
        log.info("brake", brake=brake, key_id=key.id)
        return see_other(own_path(to))
