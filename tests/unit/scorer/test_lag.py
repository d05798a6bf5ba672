"""A lead that nobody knows yet: asked again while events wait that may make it."""

import asyncio
import json
import uuid

import httpx
import pytest
from fastapi import FastAPI

from services.scorer.api import create_app
from services.scorer.queries import leads
from services.scorer.queries.lag import Lag
from services.scorer.scoring import Scoring
from services.shared.clock import Clock
from services.shared.db import open_engine
from services.shared.errors import Retry
from services.shared.http.keys import ApiKeys
from services.shared.messaging.kafka import Log, Publisher
from services.shared.messaging.progress import Stored
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings

LOG = Log("lead.interactions", uuid.UUID(int=7), 0)


class Ends:
    """A broker whose log ends at `at`; it is asked for a while."""

    def __init__(self, at: int | None) -> None:
        self.at, self.asked = at, 0

    async def of(self, _: object) -> dict[Log, int]:
        self.asked += 1
        await asyncio.sleep(0.01)
        if self.at is None:
            raise Retry("the broker is away")
        return {LOG: self.at}


class Read:
    """Progress up to a place."""

    async def read(self, _: object) -> dict[Log, Stored]:
        return {LOG: Stored(5, 5, 1)}


def lag(at: int | None) -> tuple[Lag, Ends]:
    ends = Ends(at)
    found = Lag(None, ends)  # type: ignore[arg-type]
    found._progress = Read()  # type: ignore[assignment]
    return found, ends


@pytest.mark.parametrize(("end", "behind"), [(5, False), (6, True), (None, False)])
async def test_events_wait_between_what_was_read_and_the_end(end: int | None, behind: bool) -> None:
    assert await lag(end)[0].is_behind() is behind


async def test_who_asks_together_is_answered_together() -> None:
    """However many look for somebody unknown, the broker is asked one question at a time."""
    found, ends = lag(6)
    assert all(await asyncio.gather(*(found.is_behind() for _ in range(100))))
    assert ends.asked <= 2
    await found.is_behind()
    assert ends.asked <= 3


@pytest.fixture
def app(default_playbook: Playbook, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """The scorer's application, where everybody may ask and nobody is known."""
    settings = Settings()
    keys = ApiKeys(open_engine(settings, "scorer"))
    monkeypatch.setattr(keys, "authorize", lambda *_: type("Key", (), {"id": "k", "name": "crm"}))

    async def nobody(*_: object) -> None: ...

    monkeypatch.setattr(leads.LeadQueries, "_look_up", nobody)
    scoring = Scoring.of(default_playbook, Clock(), b"pepper")
    found, _ = lag(6)
    return create_app(settings, keys._engine, scoring, keys, dict, Publisher(settings), found)


async def test_the_answer_says_when_to_ask_again(app: FastAPI) -> None:
    """U3: by an identifier in the body, or another system's id in the address."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://scorer"
    ) as http:
        for answer in (
            await http.post("/v1/leads/lookup", json={"email": "ann@firm.example"}),
            await http.get("/v1/leads/hubspot:7"),
            await http.get("/v1/leads/hubspot:7/timeline"),
            await http.get("/v1/leads/hubspot:7/explain"),
        ):
            body = json.loads(answer.content)
            assert (answer.status_code, answer.headers["retry-after"]) == (404, "1")
            assert body["type"].endswith("#not-found")
            assert body["detail"] == "not yet applied: try again in a second"
        junk = await http.post("/v1/leads/lookup", json={"user_id": "null"})
        assert junk.status_code == 404
        assert "retry-after" not in junk.headers
