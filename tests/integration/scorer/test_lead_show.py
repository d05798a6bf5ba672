"""`ripeline lead show`: a lead named as people name it, in words and as JSON."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner, Result

from services.ops.__main__ import app
from services.scorer.processing.handler import Handler
from services.scorer.scoring import Scoring
from services.shared.clock import to_us
from services.shared.contracts.events import ExternalId, Interaction
from services.shared.errors import Reject
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from tests.support import present
from tests.support.long_leads import record

MAIL = "jo@firm.example"
ODD = "https://x.example/[/red]"  # which would be markup


@pytest.fixture
async def lead(engine: AsyncEngine, default_playbook: Playbook) -> None:
    """Jo Day, who asked for a demo ten days ago and looked at prices yesterday."""
    handler = Handler(Scoring.of(default_playbook, present.CLOCK))
    crm = ExternalId("hubspot", "701")
    for type_, days in (("demo_requested", 10), ("pricing_viewed", 1)):
        data = Interaction(
            id=type_, type=type_, email=MAIL, external_id=crm, traits={"name": "Jo Day"}, url=ODD
        )
        at = to_us(present.now() - timedelta(days=days))
        async with engine.begin() as connection:
            await handler.apply(connection, [handler.decode(record(data, at))])


async def shown(settings: Settings, *arguments: str) -> Result:
    named = {"RIPELINE_DATABASE_URL": settings.database_url.get_secret_value()}
    words = ["lead", "show", *arguments]
    return await asyncio.to_thread(CliRunner().invoke, app, words, env=named)


@pytest.mark.usefixtures("lead")
async def test_a_lead_is_shown_in_words_and_as_the_api_has_it(settings: Settings) -> None:
    """S5, S9."""
    whole = await shown(settings, MAIL, "--json")
    assert whole.exit_code == 0, whole.output
    found: dict[str, Any] = json.loads(whole.stdout.splitlines()[-1])
    sentence = found["summary"]["sentence"]
    assert sentence.startswith("Jo Day asked for a demo on ")
    assert found["summary"]["fragility"]["event_id"] == "demo_requested"
    assert [line["kind"] for line in found["ledger"]["lines"]].count("event") == 2
    for named in (found["id"], "hubspot:701"):
        words = await shown(settings, named, "--ledger")
        assert words.exit_code == 0, words.output
        assert sentence in words.stdout
        assert "a step usually taken near a decision" in words.stdout
        assert "Best before" in words.stdout
        assert "log-odds" in words.stdout
        assert "[/red]" in words.stdout


@pytest.mark.usefixtures("lead")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nobody@firm.example"], "no lead has this identifier"),
        (["jo"], "names no lead"),
        ([MAIL, "--product", "pumps"], "no product 'pumps'"),
        ([MAIL, "--at", "2001-01-01"], "nothing was known of the lead then"),
    ],
)
async def test_what_names_no_lead_is_a_sentence(
    settings: Settings, arguments: list[str], said: str
) -> None:
    result = await shown(settings, *arguments)
    assert isinstance(result.exception, Reject)
    assert said in str(result.exception)
