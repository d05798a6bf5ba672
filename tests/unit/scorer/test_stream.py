"""An open stream of the page ends with its session, and outlives an absence of the database."""

from typing import Any

import pytest

from services.scorer.ui import stream
from services.scorer.ui.live import Fragments, LiveUpdates
from services.shared.http.signin import SignedOut


class Asked:
    """Sessions that answer as told, in this order."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)

    async def who(self, cookie: str) -> None:
        answer = self.answers.pop(0)
        if answer:
            raise answer


def watched(sessions: Any) -> stream.Stream:
    nothing: Any = None
    out = stream.Stream(nothing, "", nothing, sessions, nothing, nothing)
    rendered = iter(range(1_000))

    async def render() -> Fragments:
        return Fragments({"clock": str(next(rendered))}, {})

    out._live = LiveUpdates(render, 0.001)
    return out


async def events(sessions: Any, most: int, cookie: str = "p-1") -> list[str]:
    """The names of the first events of a stream."""
    found = []
    live = watched(sessions)._events(cookie)
    async for event in live:
        found.append(event.event or "")
        if len(found) == most:
            break
    await live.aclose()  # type: ignore[attr-defined]
    return found


async def test_the_database_away_ends_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "ASK_AGAIN_S", 0.0)
    sessions = Asked(OSError(), None, TimeoutError(), SignedOut())
    assert (await events(sessions, 1_000))[-1] == "signed-out"
    assert sessions.answers == []


async def test_a_failure_that_does_not_pass_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "ASK_AGAIN_S", 0.0)
    with pytest.raises(KeyError):
        await events(Asked(None, KeyError()), 1_000)


async def test_a_revoked_key_ends_it_at_once() -> None:
    sessions = Asked(None, SignedOut())
    assert (await events(sessions, 1_000, "key"))[-1] == "signed-out"


async def test_it_asks_after_its_interval_alone() -> None:
    assert "signed-out" not in await events(Asked(), 20), "asking would raise IndexError"
