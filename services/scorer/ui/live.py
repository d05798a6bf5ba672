"""Live updates for all who watch the page: one poller, which runs only while somebody does."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import NamedTuple

import msgspec
import structlog

log = structlog.get_logger()
AWAY = "The database is away; what you see is the last that was known."


class Fragments(msgspec.Struct, frozen=True):
    """HTML of what the page shows now: `parts` are replaced as a whole, `items` (newest first, by
    key) are added.
    """

    parts: dict[str, str]
    items: dict[str, str]


class Update(NamedTuple):
    """A server-sent event: a part's name and its HTML, or `items` and those to add."""

    event: str
    html: str


class Watcher:
    """Knows what one watcher has got."""

    def __init__(self) -> None:
        self._parts: dict[str, str] = {}
        self._items: set[str] = set()

    def updates(self, now: Fragments) -> list[Update]:
        """What the watcher has not got yet; taken as sent."""
        changed = [
            Update(name, html) for name, html in now.parts.items() if self._parts.get(name) != html
        ]
        self._parts.update(changed)
        added = [html for key, html in now.items.items() if key not in self._items]
        self._items = set(now.items)
        return [*changed, Update("items", "".join(added))] if added else changed


class LiveUpdates:
    """Renders once in `interval_s` seconds, for all watchers together."""

    def __init__(self, render: Callable[[], Awaitable[Fragments]], interval_s: float = 1.0) -> None:
        self._render, self._interval_s = render, interval_s
        self._latest: Fragments | None = None
        self._watching = 0
        self._poller: asyncio.Task[None] | None = None
        self._rendered = asyncio.Condition()

    async def watch(self) -> AsyncGenerator[list[Update], None]:
        """What is new after every rendering, at first everything; empty where nothing is."""
        self._watching += 1
        if self._poller is None or self._poller.done():
            self._latest = None
            self._poller = asyncio.create_task(self._poll())
        watcher = Watcher()
        try:
            while True:
                if self._latest:
                    yield watcher.updates(self._latest)
                async with self._rendered:
                    await self._rendered.wait()
        finally:
            self._watching -= 1
            if not self._watching and self._poller:
                poller, self._poller = self._poller, None
                poller.cancel()
                await asyncio.wait([poller])  # it gives its connection back

    async def _poll(self) -> None:
        while True:
            try:
                now = await self._render()
                self._latest = Fragments({**now.parts, "state": ""}, now.items)
            except Exception as error:
                log.warning("page_render_failed", reason=type(error).__name__)
                last = self._latest or Fragments({}, {})
                self._latest = Fragments({**last.parts, "state": AWAY}, last.items)
            async with self._rendered:
                self._rendered.notify_all()
            await asyncio.sleep(self._interval_s)
