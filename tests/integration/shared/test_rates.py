"""The services that answer questions count those who ask, and those who try keys."""

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture.api import create_app as nurture
from services.nurture.calls import Calls
from services.nurture.library import ContentLibrary
from services.nurture.planned import PlannedTouches
from services.nurture.rules.decision import Rules
from services.scorer.api import create_app as scorer
from services.scorer.scoring import Scoring
from services.shared.clock import Clock
from services.shared.db import rows
from services.shared.http.keys import ApiKeys, new_key, register
from services.shared.messaging.kafka import Publisher
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from tests.support import present

LIMITS = {"rate_per_key": "3/minute", "rate_per_address": "2/minute"}


@pytest.fixture(params=["scorer", "nurture"])
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_questions_are_counted_by_key_and_guesses_by_address(
    service: str, settings: Settings, engine: AsyncEngine, default_playbook: Playbook
) -> None:
    """With 429 and the header fields; and a key's last use is written down, now and then."""
    keys, limited = ApiKeys(engine), settings.model_copy(update=LIMITS)
    calls = Calls(engine, Clock(), lambda: None)
    rules = Rules.of(default_playbook, sink=True)
    planned = PlannedTouches(engine, rules, Clock(), b"pepper", lambda: None)
    library = ContentLibrary(limited, engine, default_playbook, Clock())
    app: FastAPI = (
        nurture(limited, engine, keys, dict, calls, planned, library)
        if service == "nurture"
        else scorer(
            limited,
            engine,
            Scoring.of(default_playbook, present.CLOCK),
            keys,
            dict,
            Publisher(limited),
        )
    )
    key, path = new_key(), "/v1/touches" if service == "nurture" else "/v1/leads"
    number = await register(engine, key, "sales", "query")
    await keys.load()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://service"
    ) as http:

        async def ask(given: str) -> httpx.Response:
            return await http.get(path, headers={"Authorization": f"Bearer {given}"})

        assert [(await ask(key)).status_code for _ in range(4)] == [200] * 3 + [429]
        assert [(await ask(new_key())).status_code for _ in range(3)] == [401] * 2 + [429]
        refused = await ask(key)
        assert refused.json()["type"].endswith("#too-many")
        assert refused.headers["ratelimit-policy"] == '"key";q=3;w=60'
        assert 0 < int(refused.headers["retry-after"]) <= 60
    await keys.load()
    async with engine.connect() as connection:
        [row] = await rows(
            connection, "SELECT last_used_at FROM access.api_key WHERE id = :id", id=number
        )
    assert row.last_used_at is not None
