"""Refusals for clients that read `code` and `message` of an error and fail without them: older
clients of Segment and RudderStack.
"""

from typing import Any

import msgspec
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.shared.contracts.events import encode_bytes
from services.shared.http.problems import MEDIA, TYPES


class ClientErrors:
    """Adds to the problem documents of some paths, as extension members, `code` (the last part of
    `type`) and `message` (what is wrong, and how to mend it).
    """

    def __init__(self, app: ASGIApp, *, paths: frozenset[str]) -> None:
        self._app, self._paths = app, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return
        start: Message | None = None

        async def extended(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and message["status"] >= 400:
                start = message
            elif start and message["type"] == "http.response.body":
                headers, body = MutableHeaders(raw=start["headers"]), message.get("body", b"")
                if headers.get("content-type") == MEDIA and not message.get("more_body"):
                    body = _with_code(body)
                    headers["content-length"] = str(len(body))
                await send(start)
                start = None
                await send({**message, "body": body})
            else:
                await send(message)

        await self._app(scope, receive, extended)


def _with_code(body: bytes) -> bytes:
    problem: dict[str, Any] = msgspec.json.decode(body)
    problem["code"] = problem["type"].removeprefix(TYPES)
    problem["message"] = f"{problem['title']}: {problem['detail']}"
    return encode_bytes(problem)
