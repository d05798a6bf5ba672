"""People in a real browser against a running system: by link, by password, out at once."""

import asyncio
import json
import tempfile
import uuid
from collections.abc import Iterator
from email import message_from_bytes, policy
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, expect
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from typer.testing import CliRunner

from services.ops.__main__ import app as command_line
from tests.support.running_system import System
from tests.system.test_page import DESKTOP, PHONE, browser, visit, wait_until

WORDS = "garden winter bicycle seven"
__all__ = ["browser"]


@pytest.fixture(scope="module", autouse=True)
def nobody_afterwards(system: System) -> Iterator[None]:
    """Other tests of this system sign in with a key, as where there is nobody."""
    yield

    async def disable_all() -> None:
        address = system.database.replace("postgresql://", "postgresql+asyncpg://")
        engine = create_async_engine(address)
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE access.person SET disabled_at = now()"))
        await engine.dispose()

    asyncio.run(disable_all())


@pytest.fixture(autouse=True)
def beside_the_system(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find the running system as they do for its user."""
    monkeypatch.setattr(tempfile, "tempdir", str(system.mail.parents[1]))


async def invoke(*arguments: str, given: str = "") -> Any:
    """A command, which has an event loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, command_line, arguments, input=given)


async def run(*arguments: str, given: str = "") -> Any:
    """What a command says as JSON."""
    done = await invoke(*arguments, "--json", given=given)
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout.splitlines()[-1])


async def added(role: str, name: str) -> dict[str, Any]:
    mail = f"{uuid.uuid4().hex[:8]}@firm.example"
    person: dict[str, Any] = await run("people", "add", mail, "--name", name, "--role", role)
    return person


async def mailed_link(system: System, address: str) -> str:
    """The link in the mail to this address."""

    async def look() -> str:
        for file in system.mail.glob("*.eml"):
            mail = message_from_bytes(file.read_bytes(), policy=policy.default)
            if mail["To"] == address and "/sign-in/link" in (body := mail.get_content()):
                return next(line for line in body.splitlines() if "/sign-in/link" in line)
        return ""

    return str(await wait_until(look))


async def test_people_sign_in_by_name_and_are_out_at_once(system: System, browser: Browser) -> None:
    """U2: the admin of the command line opens the mailed link, adds a person, who sets a password,
    signs in with it on a phone, and is disabled; the log says who did it all.
    """
    ida = await added("admin", "Ida Boss")
    assert ida["mailed"]
    assert ida["link"].startswith(f"{system.scorer}/sign-in/link?token="), "the server is a sink"
    place = await mailed_link(system, ida["mail"])
    async with httpx.AsyncClient() as scanner:
        assert (await scanner.get(place)).status_code == 200
    context = await browser.new_context(viewport=DESKTOP)
    page = await context.new_page()
    await page.goto(place)
    await page.keyboard.press("Enter")  # the button has the focus
    await expect(page.get_by_role("heading", name="Pipeline by buying stage")).to_be_visible()
    await page.get_by_role("link", name="People").click()
    sam = f"{uuid.uuid4().hex[:8]}@firm.example"
    await page.get_by_label("Name", exact=True).fill("Sam Sales")
    await page.get_by_label("Mail", exact=True).fill(sam)
    await page.get_by_role("button", name="Add and send a link").click()
    await expect(page.get_by_role("row", name="Sam Sales")).to_contain_text("not yet")

    other = await browser.new_context(viewport=PHONE)
    phone = await other.new_page()
    await phone.goto(await mailed_link(system, sam))
    await phone.get_by_role("button", name="Sign in").click()
    await phone.get_by_role("link", name="People").click()
    await expect(phone.get_by_role("button", name="Disable Ida Boss")).to_have_count(0)
    await phone.get_by_label("New password").fill(WORDS)
    await phone.get_by_role("button", name="Set the password").click()
    await expect(phone.get_by_text("You have one.")).to_be_visible()
    assert await phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await phone.get_by_role("button", name="Sign out").click()
    await expect(phone.get_by_label("Your mail address")).to_be_focused()
    assert await phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await phone.get_by_label("Your mail address").fill(sam)
    await phone.get_by_label("Password").fill("not this one at all")
    await phone.keyboard.press("Enter")
    await expect(phone.get_by_role("alert")).to_contain_text("do not belong together")
    await phone.get_by_label("Your mail address").fill(sam)
    await phone.get_by_label("Password").fill(WORDS)
    await phone.keyboard.press("Enter")
    await expect(phone.get_by_role("heading", name="Call today")).to_be_visible()

    await page.get_by_role("link", name="People").click()
    await page.get_by_role("button", name="Disable Sam Sales").click()
    await expect(page.get_by_role("row", name="Sam Sales")).to_contain_text("disabled")
    await phone.wait_for_url(f"{system.scorer}/sign-in**")  # the stream says so by itself

    await page.get_by_role("link", name="Audit").click()
    await page.get_by_role("combobox", name="What", exact=True).select_option("person")
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_role("listitem").first).to_contain_text("change: disabled")
    await expect(page.get_by_role("listitem").first).to_contain_text("Ida Boss")
    lines = await run("audit", "--actor", "Ida Boss")
    assert {"person", "sign-in"} <= {line["action"] for line in lines}
    assert (await run("people", "disable", sam))["disabled_at"]
    for each in (context, other):
        await each.close()


async def test_commands_know_people_and_the_log(system: System, browser: Browser) -> None:
    """A password by command, a link by command, a role; the same log over HTTP."""
    ida = await added("admin", "Second Admin")
    eve = await added("marketing", "Eve Market")
    named = await run("people", "password", eve["mail"], given=f"{WORDS}\n")
    assert named["name"] == "Eve Market"
    assert (await run("people", "role", eve["mail"], "sales"))["role"] == "sales"
    listed = {person["mail"]: person for person in await run("people", "list")}
    assert listed[eve["mail"]]["has_password"]
    assert listed[eve["mail"]]["role"] == "sales"
    shown = (await run("people", "link", ida["mail"]))["link"]
    context = await browser.new_context(viewport=DESKTOP)
    page = await context.new_page()
    await page.goto(shown)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("link", name="Audit")).to_be_visible()
    await context.close()
    lines = system.query("/v1/audit", subject=f"person {eve['id']}")["audit"]
    assert [line["details"]["change"] for line in lines] == ["role", "password", "added"]
    assert {line["actor_kind"] for line in lines} == {"command line"}
    same = await run("audit", "--subject", f"person {eve['id']}")
    assert same == lines
    table = (await invoke("audit", "--csv", "--action", "person")).stdout
    assert table.startswith("id,at,actor_kind,actor_id,actor,action,subject,details")
    refused = await invoke("people", "disable", "nobody@firm.example")
    assert refused.exit_code
    assert "no person 'nobody@firm.example'" in str(refused.exception)


async def test_a_key_is_named_as_such(system: System, browser: Browser) -> None:
    page, wrong = await visit(browser, system, viewport=PHONE, color_scheme="dark")
    for path in ("/people", "/audit"):
        await page.goto(f"{system.scorer}{path}")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    await page.goto(f"{system.scorer}/people")
    await expect(page.get_by_text("You are signed in with the key")).to_be_visible()
    assert wrong == []
    await page.context.close()
