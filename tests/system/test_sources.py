"""Sources: listed with their set-up, tried by a sample through the running ingest, and green on the
page once they speak (I2, U4).
"""

import asyncio
import json
import tempfile
import time
import uuid
from typing import Any

import pytest
from playwright.async_api import async_playwright, expect
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from typer.testing import CliRunner

from services.ops.__main__ import app as command_line
from services.ops.commands import samples, sources
from services.ops.commands.current import current_settings
from services.shared.contracts.events import keyed_hash
from tests.support.running_system import System
from tests.system.test_clients import BROWSER_FLAGS, CHROMIUM


@pytest.fixture(autouse=True)
def beside_the_system(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find the running system as they do for its user."""
    monkeypatch.setattr(tempfile, "tempdir", str(system.mail.parents[1]))


def run(*arguments: str, code: int = 0) -> Any:
    """What a command says as JSON."""
    done = CliRunner().invoke(command_line, [*arguments, "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout.splitlines()[-1])


def test_every_source_is_listed_with_its_address_and_steps(system: System) -> None:
    found = {source["name"]: source for source in run("sources")}
    assert {"canonical", "cloudevents", "segment", "forms"} <= set(found)
    for source in found.values():
        assert (
            source["address"].startswith((f"{system.ingest}/v1/", f"{system.ingest}/api/s/"))
            or source["name"] == "mailbox"
        ), source
        assert source["title"]
        assert source["steps"], source["name"]
        assert "{" not in source["address"]
        assert not any(
            place in " ".join([*source["steps"], source["snippet"]])
            for place in ("{address}", "{base}", "{key}")
        )
    assert system.keys["public"] in found["forms"]["snippet"]
    assert run("sources", "show", "forms")["steps"] == found["forms"]["steps"]
    table = CliRunner().invoke(command_line, ["sources"])
    assert "cloudevents" in table.stdout


def test_an_unknown_source_is_named_with_those_that_are_known(system: System) -> None:
    done = CliRunner().invoke(command_line, ["sources", "show", "nothing"])
    assert done.exit_code == 1
    assert "no source 'nothing'" in str(done.exception)


async def test_a_signed_sample_of_every_source_goes_through_the_real_door_and_leaves_no_lead(
    system: System,
) -> None:
    """The scorer makes a lead of each, and nothing of it stays: no lead, no event, no touch, no
    consent.
    """
    settings = current_settings()
    every = [sources.named(settings, known.name) for known in await sources.read_all(settings)]
    results = await asyncio.gather(
        *(samples.send(settings, source, "") for source in every if source.sample)
    )
    assert {result.source for result in results} == {source.name for source in every} - {"mailbox"}
    assert [result for result in results if not result.lead] == []
    engine = create_async_engine(system.database.replace("postgresql://", "postgresql+asyncpg://"))
    pepper = settings.pepper.get_secret_value().encode()
    async with engine.connect() as connection:
        for result in results:
            assert result.lead
            assert system.lookup(email=result.address) is None
            assert system.touches(result.lead.lead) == []
            hashed = keyed_hash(pepper, f"email:{result.address}")
            for table, column, name in (
                ("scorer.identifier", "value", result.address),
                ("scorer.event", "lead_id::text", result.lead.lead),
                ("scorer.trial", "address", result.address),
                ("nurture.consent", "identifier", hashed),
            ):
                query = text(f"SELECT count(*) FROM {table} WHERE {column} = :name")
                assert (await connection.execute(query, {"name": name})).scalar() == 0, table
    await engine.dispose()
    assert [held for held in await sources.secrets(settings) if held.name == samples.NAME] == []


def test_the_command_says_where_a_sample_ended(system: System) -> None:
    found = run("sources", "test", "segment")
    assert found["ok"]
    assert found["status"] == 200
    assert (found["stage"], found["events"]) == ("decision", 2)
    assert (found["secret"], found["test"]) == ("key", True)
    assert found["system"] == system.ingest
    gone = system.http.get(f"{system.scorer}/v1/leads/{found['lead']}", headers=system.key("query"))
    assert gone.status_code == 404
    segment = next(source for source in run("sources") if source["name"] == "segment")
    assert segment["state"] == "heard"
    assert segment["accepted"] >= 2


def test_a_secret_is_connected_shown_once_and_taken_back(system: System) -> None:
    signing = next(source["name"] for source in run("sources") if source["signs"])
    before = next(source["secrets"] for source in run("sources") if source["name"] == signing)
    made = run("sources", "connect", signing, "--name", "second")
    assert made["secret"]
    given = run(
        "sources",
        "connect",
        signing,
        "--secret",
        "a secret of the sender",
        "--expires",
        "2099-01-01",
    )
    assert "secret" not in given
    held = {secret["id"]: secret for secret in run("sources", "secrets")}
    assert held[made["id"]]["name"] == "second"
    assert held[given["id"]]["expires_at"].startswith("2099-01-01")
    assert (
        next(source for source in run("sources") if source["name"] == signing)["secrets"]
        == before + 2
    )
    done = CliRunner().invoke(command_line, ["sources", "disconnect", made["id"], given["id"]])
    assert done.stdout == "2 taken back\n"
    assert not {made["id"], given["id"]} & {secret["id"] for secret in run("sources", "secrets")}


@pytest.mark.parametrize("name", ["typeform", "zoom", "postmark"])
def test_a_test_uses_the_secret_that_is_connected(system: System, name: str) -> None:
    made = run("sources", "connect", name, "--name", "mine")
    time.sleep(samples.TAKES_EFFECT_S)
    found = run("sources", "test", name)
    assert (found["ok"], found["secret"]) == (True, "connected")
    assert f"{made['id']} (mine)" in found["note"]
    CliRunner().invoke(command_line, ["sources", "disconnect", made["id"]])
    said = CliRunner().invoke(command_line, ["sources", "test", name]).stdout
    assert f"no secret of {name} is connected" in said
    assert "no lead remains" in said


def test_what_only_the_sender_can_sign_with_is_said_so(system: System) -> None:
    """SendGrid shows the public half of its pair."""
    source = sources.named(current_settings(), "sendgrid")
    assert source.new_secret
    made = run("sources", "connect", "sendgrid", "--secret", source.new_secret()[1])
    found = run("sources", "test", "sendgrid")
    assert (found["ok"], found["secret"]) == (True, "temporary")
    assert "verifies only" in found["note"]
    CliRunner().invoke(command_line, ["sources", "disconnect", made["id"]])


@pytest.mark.parametrize("mark", ["1", "", "9999999999.00"])
def test_nobody_else_marks_a_test(system: System, mark: str) -> None:
    posted = system.post(
        "/v1/events",
        json={"type": "demo_requested", "email": "eve@firm.example"},
        headers={"X-Ripeline-Test": mark},
    )
    assert posted.status_code == 403
    assert posted.json()["where"] == "x-ripeline-test"


def test_a_source_that_brings_a_key_has_no_secret_to_connect(system: System) -> None:
    done = CliRunner().invoke(command_line, ["sources", "connect", "segment"])
    assert done.exit_code == 1
    assert "keys new secret" in str(done.exception)


async def test_waiting_for_the_first_event_turns_green_on_the_page_by_itself(
    system: System,
) -> None:
    engine = create_async_engine(system.database.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE access.source SET first_heard_at = NULL, last_heard_at = NULL, "
                "accepted = 0 WHERE name = 'cloudevents'"
            )
        )
    await engine.dispose()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=BROWSER_FLAGS)
        page = await browser.new_page()
        await page.goto(f"{system.scorer}/sign-in?key={system.keys['query']}&to=/sources")
        state = page.locator("#cloudevents .heard")
        await expect(state).to_contain_text("waiting for your first event")
        event = {
            "specversion": "1.0",
            "id": uuid.uuid4().hex,
            "source": "/shop",
            "type": "com.example.page_viewed",
        }
        changed = event | {"data": {"anonymous_id": uuid.uuid4().hex}}
        posted = system.post(
            "/v1/events", json=changed, headers={"Content-Type": "application/cloudevents+json"}
        )
        assert posted.status_code == 200
        await expect(state).to_contain_text("last heard")
        await expect(state).to_contain_text("1 accepted")
        await page.locator("#forms summary").click()
        await expect(page.locator("#snippet-forms")).to_contain_text(f"key={system.keys['public']}")
        await browser.close()
