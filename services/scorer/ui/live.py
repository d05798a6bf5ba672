"""What is new, for all who watch the page: one poller, running only while somebody does."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

import msgspec
import structlog

log = structlog.get_logger()
AWAY = "The database is away; what you see is the last that was known."


class Sight(msgspec.Struct, frozen=True):
    """What the page shows now: `parts` are replaced as a whole, `items` (newest first, by key) are
    added.
    """

    parts: dict[str, str]
    items: dict[str, str]


def news(sight: Sight, said: dict[str, str], shown: set[str]) -> list[tuple[str, str]]:
    """(event, html) of what a watcher has not got yet; updates what was `said` and `shown`."""
    changed = [(name, html) for name, html in sight.parts.items() if said.get(name) != html]
    said.update(changed)
    fresh = [html for key, html in sight.items.items() if key not in shown]
    shown.clear()
    shown.update(sight.items)
    return [*changed, ("items", "".join(fresh))] if fresh else changed


class Live:
    """Looks once a `pause` (seconds) and tells everybody."""

    def __init__(self, look: Callable[[], Awaitable[Sight]], pause: float = 1.0) -> None:
        self._look, self._pause = look, pause
        self._sight: Sight | None = None
        self._watching = 0
        self._task: asyncio.Task[None] | None = None
        self._turned = asyncio.Condition()

    async def watch(self) -> AsyncGenerator[list[tuple[str, str]], None]:
        """What is new at every turn, first of all everything; empty where nothing is."""
        self._watching += 1
        if self._task is None or self._task.done():
            self._sight = None
            self._task = asyncio.create_task(self._run())
        said: dict[str, str] = {}
        shown: set[str] = set()
        try:
            while True:
                if self._sight:
                    yield news(self._sight, said, shown)
                async with self._turned:
                    await self._turned.wait()
        finally:
            self._watching -= 1
            if not self._watching and self._task:
                self._task.cancel()
                self._task = None

    async def _run(self) -> None:
        while True:
            try:
                sight = await self._look()
                self._sight = Sight({**sight.parts, "state": ""}, sight.items)
            except Exception as error:
                log.warning("page_look_failed", reason=type(error).__name__)
                last = self._sight or Sight({}, {})
                self._sight = Sight({**last.parts, "state": AWAY}, last.items)
            async with self._turned:
                self._turned.notify_all()
            await asyncio.sleep(self._pause)
