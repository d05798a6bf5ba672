"""The page in a real browser against a running system: read, live, by keyboard, on a phone."""

import asyncio
import json
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Route,
    ViewportSize,
    async_playwright,
    expect,
)

from services.scorer.ui.frame import PAGES

CHROMIUM = (
    os.environ.get("RIPELINE_TEST_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
)
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
DESKTOP = ViewportSize(width=1280, height=900)
PHONE = ViewportSize(width=375, height=812)
CONTENT = ("/content", "/content/case-study-bottling")
ODD = "<script>document.title='owned'</script>"


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Headless Chromium."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        await browser.close()


async def visit(browser: Browser, system: Any, **options: Any) -> tuple[Page, list[str]]:
    """A page that is signed in by the link, and a list of what goes wrong in it or leaves
    the site.
    """
    context: BrowserContext = await browser.new_context(**options)
    page = await context.new_page()
    wrong: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error":
            wrong.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(system.scorer) else wrong.append(request.url)
        ),
    )
    await page.goto(f"{system.scorer}/sign-in?key={system.keys['query']}")
    return page, wrong


async def posted(system: Any, **fields: Any) -> str:
    """Posts an event and returns the id of its lead once the scorer knows it."""
    async with httpx.AsyncClient(timeout=10) as http:
        body = {"id": uuid.uuid4().hex, **fields}
        posted = await http.post(
            f"{system.ingest}/v1/events",
            json=body,
            headers={"Authorization": f"Bearer {system.keys['secret']}"},
        )
        assert posted.status_code == 200, posted.text

        async def known() -> str | None:
            found = await http.post(
                f"{system.scorer}/v1/leads/lookup",
                json={"email": fields["email"]},
                headers={"Authorization": f"Bearer {system.keys['query']}"},
            )
            return str(found.json()["id"]) if found.status_code == 200 else None

        return str(await wait_until(known))


async def wait_until(look: Callable[[], Any], seconds: float = 20) -> Any:
    """What `look` returns as soon as it is something."""
    async with asyncio.timeout(seconds):
        while not (found := await look()):
            await asyncio.sleep(0.1)
    return found


def address() -> str:
    return f"jo-{uuid.uuid4().hex[:10]}@page-test.example"


async def test_a_stream_that_is_refused_is_opened_again(system: Any, browser: Browser) -> None:
    page, _ = await visit(browser, system)
    asked: list[str] = []

    async def refuse_the_first(route: Route) -> None:
        asked.append(route.request.url)
        await (route.fulfill(status=503) if len(asked) == 1 else route.continue_())

    await page.clock.install()
    await page.route("**/stream", refuse_the_first)
    await page.reload()
    await expect(page.locator("#state")).to_contain_text("interrupted")
    await page.clock.fast_forward(10_000)
    await expect(page.locator("#state")).to_have_text("")
    assert len(asked) == 2
    await page.context.close()


async def test_a_link_signs_in_and_the_key_stays_out_of_sight(
    system: Any, browser: Browser
) -> None:
    page, wrong = await visit(browser, system)
    assert page.url == f"{system.scorer}/"
    await expect(page.get_by_role("heading", name="Pipeline by buying stage")).to_be_visible()
    (cookie,) = await page.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"
    assert system.keys["query"] not in json.dumps(cookie) + await page.content()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("Key")).to_be_focused()
    await page.goto(f"{system.scorer}/mail")
    await page.get_by_label("Key").fill("rl_nobody_" + "x" * 43)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_contain_text("not valid")
    await page.get_by_label("Key").fill(system.keys["query"])
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert not [text for text in wrong if "401" not in text]


async def test_what_happens_appears_while_one_watches(system: Any, browser: Browser) -> None:
    page, wrong = await visit(browser, system)
    name = f"Ada {uuid.uuid4().hex[:8]}"
    await expect(page.get_by_role("button", name="Pause")).to_be_visible()
    await posted(system, type="demo_requested", email=address(), traits={"name": name})
    item = page.locator("#items .item.announcement", has_text=name)
    await expect(item).to_contain_text("Decision", timeout=15_000)
    await item.get_by_role("link", name=name).click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(name)
    assert not wrong


async def test_a_lead_shows_its_reasons_its_curve_and_what_was_decided(
    system: Any, browser: Browser
) -> None:
    email = address()
    lead = await posted(
        system,
        type="demo_requested",
        email=email,
        traits={"name": "Grace", "title": "Plant manager"},
        properties={"budget": "5000 EUR"},
    )
    page, wrong = await visit(browser, system)

    async def decided() -> bool:
        await page.goto(f"{system.scorer}/leads/{lead}")
        return await page.locator(".touches li").count() > 0

    await wait_until(decided)
    picture = page.get_by_role("img", name="Belief over buying stages")
    await expect(picture).to_be_visible()
    assert await picture.locator("path.area").count() == 4
    await page.get_by_text("The same as a table").click()
    await expect(page.locator("table.numbers")).to_contain_text("%")
    await expect(page.locator(".sentence")).to_contain_text("Grace asked for a demo on")
    ledger = page.locator("table.ledger")
    await expect(ledger).to_be_hidden()
    await page.get_by_role("heading", name="Why this chance").click()
    await expect(ledger).to_contain_text("Asked for a demo")
    bar = ledger.get_by_role("img", name="raises it").first
    await expect(bar).to_be_visible()
    act = page.locator(".history details.properties", has_text="Asked for a demo")
    await expect(act.get_by_text("5000 EUR")).to_be_hidden()
    await act.locator("summary").focus()
    await page.keyboard.press("Enter")
    await expect(act.get_by_text("5000 EUR")).to_be_visible()
    await expect(page.locator(".history")).to_contain_text("Asked for a demo")
    assert not wrong


async def test_what_a_stranger_typed_is_text(system: Any, browser: Browser) -> None:
    lead = await posted(
        system,
        type="demo_requested",
        email=address(),
        traits={"name": ODD, "company": f'"><img src=x>{ODD}'},
    )
    page, wrong = await visit(browser, system)
    await expect(page.locator("#items")).to_contain_text(ODD, timeout=15_000)
    await page.goto(f"{system.scorer}/leads/{lead}")
    await expect(page.get_by_role("heading", level=1)).to_have_text(ODD)
    assert await page.locator("main img").count() == 0
    assert "owned" not in (await page.title()).replace(ODD, "")
    assert not wrong


async def test_a_lead_is_found_by_keyboard_and_its_address_stays_out_of_the_urls(
    system: Any, browser: Browser
) -> None:
    email = address()
    await posted(system, type="demo_requested", email=email)
    page, wrong = await visit(browser, system)
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    for _ in range(len(PAGES) + 2):
        await page.keyboard.press("Tab")
    await expect(page.get_by_label("Find a lead by e-mail address")).to_be_focused()
    outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    await page.keyboard.type(email)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text(email)
    assert urls
    assert not [url for url in urls if "page-test.example" in url]
    assert not wrong


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_fits_a_phone(system: Any, browser: Browser, scheme: str) -> None:
    lead = await posted(
        system,
        type="demo_requested",
        email=address(),
        traits={"name": "W" * 90, "company": "unbroken" * 12},
    )
    page, wrong = await visit(browser, system, viewport=PHONE, color_scheme=scheme)
    for path in ("/", f"/leads/{lead}", "/mail", "/sources", "/model", "/rehearsal", *CONTENT):
        await page.goto(f"{system.scorer}{path}")
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
    dark = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(19, 25, 22)") is (scheme == "dark")
    assert not wrong


async def test_an_item_is_read_as_a_lead_and_sent_as_a_test_by_keyboard(
    system: Any, browser: Browser
) -> None:
    """U2, N15."""
    email, own = address(), address()
    await posted(system, type="demo_requested", email=email, traits={"name": "Grace Hop"})
    page, wrong = await visit(browser, system, viewport=PHONE)
    await page.goto(f"{system.scorer}/content")
    await page.get_by_role("link", name="proof").last.press("Enter")
    await page.locator("#library").get_by_role("link", name="bottling").press("Enter")
    await page.get_by_label("Lead, by name").fill(email)
    await page.keyboard.press("Enter")
    mail = page.frame_locator("#mail iframe").locator("body")
    await expect(mail).to_contain_text("Hello Grace", timeout=15_000)
    assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    await page.get_by_label("Send it as a test to").fill(own)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status").filter(has_text="has taken the test")).to_be_visible()
    assert [file for file in system.mail.glob("*.eml") if own.encode() in file.read_bytes()]
    assert not wrong


async def test_the_page_works_without_its_script(system: Any, browser: Browser) -> None:
    name = f"Eve {uuid.uuid4().hex[:8]}"
    await posted(system, type="demo_requested", email=address(), traits={"name": name})
    page, _ = await visit(browser, system, java_script_enabled=False, viewport=DESKTOP)
    await page.locator("select[name=order]").select_option("last_event_at")
    await page.get_by_role("button", name="Show").click()
    await page.locator("table.leads").get_by_role("link", name=name).click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(name)


async def test_sales_sets_its_status_on_the_leads_page(system: Any, browser: Browser) -> None:
    """U2, I6."""
    page, wrong = await visit(browser, system)
    await page.goto(
        f"{system.scorer}/leads/{await posted(system, type='demo_requested', email=address())}"
    )
    await page.locator("select[name=status]").select_option("disqualified")
    await page.get_by_label("Reason, to disqualify").select_option("bad_timing")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("disqualified: Bad timing")).to_be_visible()
    beside = await page.evaluate(
        "(() => { const box = (s) => document.querySelector(s).getBoundingClientRect();"
        "return box('.sales').top < box('h1').bottom && box('.sales').left > box('h1').left })()"
    )
    assert beside
    assert wrong == []


async def test_on_a_phone_sections_fold_and_what_is_asked_for_is_open(
    system: Any, browser: Browser
) -> None:
    """U2."""
    lead = await posted(system, type="enquired", email=address(), traits={"phone": "0151 2345678"})
    page, wrong = await visit(browser, system, viewport=PHONE)
    await page.goto(f"{system.scorer}/leads/{lead}")
    folded = page.locator("details.fold")
    assert await folded.count() == 5
    assert not await folded.evaluate_all("all => all.some((each) => each.open)")
    await expect(page.get_by_role("link", name="0151 2345678").first).to_be_visible()
    await expect(page.locator(".history")).to_be_hidden()
    await page.get_by_role("heading", name="Timeline").click()
    await expect(page.locator(".history")).to_contain_text("Enquired")
    assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    await page.goto(f"{system.scorer}/leads/{lead}?all=1#ledger-title")
    await expect(page.locator("table.ledger")).to_be_visible()
    await expect(page.locator(".history")).to_be_hidden()
    wide, _ = await visit(browser, system, viewport=DESKTOP)
    await wide.goto(f"{system.scorer}/leads/{lead}")
    assert await wide.locator("details.fold").evaluate_all("all => all.every((each) => each.open)")
    labels = await wide.evaluate(
        "(() => { const box = (e) => e.getBoundingClientRect();"
        "const line = box(document.querySelector('.picture .line')).right;"
        "return [...document.querySelectorAll('.beside .label')].every((e) => box(e).left >= line)"
        "})()"
    )
    assert labels
    assert not wrong


async def test_a_lead_is_found_by_name_and_phone_from_any_page(
    system: Any, browser: Browser
) -> None:
    """U2."""
    name = f"Ødegård {uuid.uuid4().hex[:8]}"
    digits = str(uuid.uuid4().int)[:9]
    phone = f"+47 (0){digits[:3]} {digits[3:6]}-{digits[6:]}"
    lead = await posted(
        system, type="enquired", email=address(), traits={"name": name, "phone": phone}
    )
    page, wrong = await visit(browser, system)
    for question in (name.upper(), f"0{digits}", f"0047 {digits}"):
        await page.goto(f"{system.scorer}/mail")
        await page.get_by_label("Find a lead").fill(question)
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(f"{system.scorer}/leads/{lead}")
    assert not wrong
    await page.get_by_label("Find a lead").fill("nobody-of-this-name")
    await page.get_by_role("button", name="Find").click()
    await expect(page.get_by_role("alert")).to_contain_text("nobody-of-this-name")
    await page.get_by_role("link", name="Back").click()
    await expect(page).to_have_url(f"{system.scorer}/leads/{lead}")


async def test_sending_is_stopped_and_resumed_on_the_page_and_others_see_it(
    system: Any, browser: Browser
) -> None:
    """N14: who watches sees it within seconds."""
    page, wrong = await visit(browser, system)
    other, _ = await visit(browser, system)
    await page.goto(f"{system.scorer}/mail")
    await expect(page.get_by_text("Sending has stopped")).to_have_count(0)
    try:
        await page.get_by_role("button", name="Stop sending").click()
        await expect(page).to_have_url(f"{system.scorer}/mail")
        await expect(page.get_by_text("Sending is stopped")).to_be_visible()
        await expect(other.get_by_text("Sending is stopped")).to_be_visible(timeout=10_000)
        await expect(other.get_by_role("button", name="Stop sending")).to_have_count(0)
    finally:
        await page.get_by_role("button", name="Resume sending").click()
    await expect(page.get_by_role("button", name="Stop sending")).to_be_visible()
    await expect(other.get_by_text("Sending is stopped")).to_have_count(0, timeout=10_000)
    assert not wrong


async def test_one_sign_in_serves_imports_too(system: Any, browser: Browser) -> None:
    """U2, U4."""
    page, _ = await visit(browser, system)
    await page.get_by_role("link", name="Sources").click()
    await page.get_by_role("link", name="Import a file").click()
    await expect(page.get_by_role("heading", name="Import a file")).to_be_visible()
    assert page.url == f"{system.ingest}/import"
    await page.get_by_role("button", name="Sign out").click()
    await page.goto(f"{system.scorer}/sources?x=1")
    await page.get_by_label("Key").fill(system.keys["query"])
    await page.get_by_role("button", name="Sign in").click()
    await expect(page).to_have_url(f"{system.scorer}/sources?x=1")
