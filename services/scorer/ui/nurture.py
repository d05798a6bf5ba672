"""Asks nurture, at its address, in the name of who is signed in."""

from collections.abc import Mapping
from typing import Any, get_args

import aiohttp
import msgspec

from services.shared.errors import Kind, Reject
from services.shared.settings import Settings

TIMEOUT_S = 15.0
SETTING = "RIPELINE_NURTURE_URL"


class Problem(msgspec.Struct, frozen=True):
    """What nurture says of a request that it refuses."""

    title: str
    type: str = ""
    where: str = ""
    detail: str = ""


class Nurture:
    """Nurture's HTTP; each request bears a ticket of the page's session."""

    def __init__(self, settings: Settings) -> None:
        self._base = settings.nurture_url.rstrip("/")

    async def get(self, path: str, ticket: str, *, wait_s: float = TIMEOUT_S, **asked: Any) -> Any:
        """The JSON of an answer. Raises Reject as nurture does, or `away` where it does not
        answer.
        """
        params = {name: str(value) for name, value in asked.items() if value != ""}
        return await self._ask("GET", path, ticket, wait_s, params=params)

    async def post(self, path: str, ticket: str, body: Mapping[str, Any]) -> Any:
        """The same of what is posted."""
        return await self._ask("POST", path, ticket, TIMEOUT_S, json=body)

    async def _ask(self, method: str, path: str, ticket: str, wait_s: float, **more: Any) -> Any:
        if not self._base:
            raise Reject("nurture has no address", where=SETTING, remedy="set it", kind="away")
        headers = {"Authorization": f"Bearer {ticket}"}
        timeout = aiohttp.ClientTimeout(wait_s)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.request(method, self._base + path, headers=headers, **more) as answer,
            ):
                body = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            remedy = f"start it, or look at {SETTING}"
            raise Reject("nurture does not answer", remedy=remedy, kind="away") from error
        try:
            if answer.status < 300:
                return msgspec.json.decode(body)
            problem = msgspec.json.decode(body, type=Problem)
        except msgspec.DecodeError as error:
            raise Reject(
                f"{answer.status} from nurture is none of its answers", remedy=f"look at {SETTING}",
                kind="away",
            ) from error  # fmt: skip
        raise Reject(
            problem.title, where=problem.where, remedy=problem.detail, kind=_kind(problem.type)
        )


def _kind(type_: str) -> Kind:
    name = type_.rpartition("#")[2]
    return next((kind for kind in get_args(Kind) if kind == name), "away")
