"""Call today in a browser: on a phone, by keyboard, without its script, while others answer."""

import uuid
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.running_system import System
from tests.system.test_page import DESKTOP, ODD, PHONE, address, browser, posted, visit, wait_until
from tests.system.test_people import added, beside_the_system, mailed_link

__all__ = ["beside_the_system", "browser"]


async def asked(system: System, **traits: str) -> tuple[str, str]:
    """Somebody asks for a demo: name, and the id of the hand-off."""
    name = f"Ann {uuid.uuid4().hex[:8]}"
    lead = await posted(
        system, type="demo_requested", email=address(), traits={"name": name, **traits},
        properties={"message": f"Can it do two plants? {ODD}"},
    )  # fmt: skip

    async def opened() -> str:
        found = await handoffs(system, status="open")
        return next((each["id"] for each in found if each["lead"] == lead), "")

    return name, str(await wait_until(opened))


async def handoffs(system: System, **params: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(headers=system.key("query")) as http:
        answer = await http.get(f"{system.scorer}/v1/handoffs", params={"limit": 500, **params})
    return list(answer.json()["handoffs"])


@pytest.fixture(autouse=True)
async def nobody_else_waits(system: System) -> None:
    """Other tests leave more people who wait than the page shows at once."""
    async with httpx.AsyncClient(headers=system.key("query")) as http:
        for each in await handoffs(system, status="open"):
            await http.post(f"{system.scorer}/v1/handoffs/{each['id']}/accept", json={})


async def one(system: System, handoff: str) -> dict[str, Any]:
    async with httpx.AsyncClient(headers=system.key("query")) as http:
        found: dict[str, Any] = (await http.get(f"{system.scorer}/v1/handoffs/{handoff}")).json()
    return found


async def said(system: System, handoff: str, answer: str, **body: str) -> None:
    async with httpx.AsyncClient(headers=system.key("query")) as http:
        done = await http.post(f"{system.scorer}/v1/handoffs/{handoff}/{answer}", json=body)
    assert done.status_code == 200, done.text


async def fits(page: Page) -> bool:
    return bool(await page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


async def test_sales_lands_there_and_answers_with_one_thumb(
    system: System, browser: Browser
) -> None:
    """U2, H0."""
    name, handoff = await asked(system, phone="+49 151 2345678")
    sam = await added("sales", "Sam Thumb")
    context = await browser.new_context(viewport=PHONE, has_touch=True)
    page = await context.new_page()
    await page.goto(await mailed_link(system, sam["mail"]))
    await page.get_by_role("button", name="Sign in").click()
    await expect(page).to_have_url(f"{system.scorer}/today")
    card = page.locator(f"#call-{handoff}")
    await expect(card).to_contain_text("They asked to hear from a person.")
    await expect(card).to_contain_text("not enough to say")
    await expect(card.get_by_label("What they said")).to_contain_text(ODD)
    phone = card.get_by_role("link", name="+49 151 2345678")
    assert await phone.get_attribute("href") == "tel:+491512345678"
    assert await card.locator("a[href^='mailto:']").count() == 1
    small = await card.evaluate(
        "(card) => [...card.querySelectorAll('button, .button, summary, h3 a')]"
        ".filter((each) => each.checkVisibility() && each.getBoundingClientRect().height < 44)"
        ".map((each) => each.textContent)"
    )
    assert small == []
    assert await fits(page)
    await card.get_by_text("Disqualify", exact=True).tap()
    assert await fits(page)
    await card.get_by_role("button", name="No budget").tap()
    await expect(card).to_have_count(0)
    await expect(page.locator(f"#handled-{handoff}")).to_contain_text("disqualified, No budget")
    found = await one(system, handoff)
    assert (found["status"], found["answered_by"]) == ("disqualified", "Sam Thumb")
    await page.get_by_role("button", name=f"Undo: {name}").tap()
    await expect(card).to_be_visible()
    await card.get_by_role("button", name="Not reached", exact=True).tap()
    await expect(page.locator(f"#handled-{handoff}")).to_contain_text("not reached, again")
    await page.locator("#told").get_by_role("button", name="Undo").tap()
    await expect(card).to_be_visible()
    audited = system.query("/v1/audit", subject=f"handoff {handoff}")["audit"]
    assert {line["actor"] for line in audited} == {"Sam Thumb"}
    await context.close()


async def test_it_works_by_keyboard(system: System, browser: Browser) -> None:
    """U2."""
    others = [(await asked(system))[1] for _ in range(2)]
    _, handoff = await asked(system)
    page, wrong = await visit(browser, system, viewport=DESKTOP, color_scheme="dark")
    await page.goto(f"{system.scorer}/today?owner=all")
    card = page.locator(f"#call-{handoff}")
    await page.keyboard.press("a")  # no card is chosen
    await page.keyboard.press("j")
    await expect(page.locator(".call").first).to_be_focused()
    await page.keyboard.press("j")
    await expect(page.locator(".call").nth(1)).to_be_focused()
    await page.keyboard.press("k")
    await expect(page.locator(".call").first).to_be_focused()
    await page.keyboard.press("?")
    await expect(page.get_by_text("the one before")).to_be_visible()
    await card.focus()
    await page.keyboard.press("Control+m")
    await page.keyboard.press("w")
    await expect(card.get_by_label("Note", exact=True).last).to_be_focused()
    await page.keyboard.type("anmdju")  # a field takes letters
    await card.get_by_role("button", name="Keep the note").click()
    await expect(card).to_contain_text("Note: anmdju")
    assert (await one(system, handoff))["status"] == "open"
    for key, text in (("a", "accepted"), ("m", "meeting"), ("n", "not reached")):
        await card.focus()
        await page.keyboard.press(key)
        await expect(page.locator(f"#handled-{handoff}")).to_contain_text(text)
        await expect(page.locator("#told")).to_contain_text(text)
        await page.keyboard.press("u")
        await expect(card).to_be_focused()
    await page.keyboard.press("d")
    await page.keyboard.press("Enter")
    await expect(page.locator(f"#handled-{handoff}")).to_contain_text("disqualified")
    for each in others:  # the second goes out once the first is kept
        await page.locator(f"#call-{each}").focus()
        await page.keyboard.press("a")
    for each in others:
        await expect(page.locator(f"#handled-{each}")).to_contain_text("accepted")
    assert wrong == []
    await page.context.close()


async def test_the_list_follows_and_a_half_typed_card_keeps_its_state(
    system: System, browser: Browser
) -> None:
    _, kept = await asked(system)
    _, other = await asked(system)
    page, wrong = await visit(browser, system, viewport=DESKTOP)
    await page.goto(f"{system.scorer}/today")
    card = page.locator(f"#call-{kept}")
    await card.get_by_text("Note", exact=True).first.click()
    field = card.locator("textarea")
    await field.fill("half a sen")
    await said(system, other, "accept", by="ben")
    await expect(page.locator(f"#call-{other}")).to_have_count(0, timeout=15_000)
    await expect(page.locator(f"#handled-{other}")).to_contain_text("accepted, by ben")
    _, new = await asked(system)
    await expect(page.locator(f"#call-{new}")).to_be_visible(timeout=15_000)
    await expect(field).to_be_focused()
    await page.keyboard.type("tence")
    await expect(field).to_have_value("half a sentence")
    await said(system, kept, "accept", by="ben")
    await expect(page.locator("#told")).to_contain_text("meanwhile", timeout=15_000)
    await expect(field).to_have_value("half a sentence")
    await card.get_by_role("button", name="Meeting", exact=True).click()
    assert (await one(system, kept))["status"] == "accepted"
    assert not [text for text in wrong if "409" not in text]
    await page.context.close()


async def test_it_works_without_its_script_and_says_that_nothing_is_to_do(
    system: System, browser: Browser
) -> None:
    """U2."""
    _, handoff = await asked(system)
    page, _ = await visit(browser, system, java_script_enabled=False, viewport=PHONE)
    await page.goto(f"{system.scorer}/today?owner=all")
    card = page.locator(f"#call-{handoff}")
    await card.get_by_text("On a day").click()
    await card.get_by_label("Day", exact=True).fill("2099-03-01")
    await card.get_by_role("button", name="Meeting then").click()
    await expect(page).to_have_url(f"{system.scorer}/today?owner=all")
    await expect(page.locator(f"#handled-{handoff}")).to_contain_text(
        "meeting on Sunday, 1 March 2099"
    )
    await page.locator(f"#handled-{handoff}").get_by_role("button").click()
    await expect(card).to_be_visible()
    await page.goto(f"{system.scorer}/today?owner=nobody%40ours.example")
    await expect(page.get_by_role("heading", name="Nobody to call right now")).to_be_visible()
    assert await fits(page)
    await page.context.close()
