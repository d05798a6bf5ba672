"""Files by the page in a real browser: brought, mapped, tried, imported; by keyboard, on a phone,
without script (I3, U2, U4).
"""

import asyncio
import csv
import io
import itertools
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from tests.support import present
from tests.support.running_system import System
from tests.system.test_page import CHROMIUM, DESKTOP, PHONE, QUIET

DATA = Path(__file__).parents[1] / "data"
ODD = "<script>document.title='owned'</script>"


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Headless Chromium."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        await browser.close()


async def visit(browser: Browser, system: System, **options: object) -> tuple[Page, list[str]]:
    """A page signed in by the secret key, and a list of what goes wrong in it or leaves the
    site.
    """
    context = await browser.new_context(**options)  # type: ignore[arg-type]
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
            None if request.url.startswith(system.ingest) else wrong.append(request.url)
        ),
    )
    await page.goto(f"{system.ingest}/import")
    await page.get_by_label("Key").fill(system.keys["secret"])
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Import a file")).to_be_visible()
    return page, wrong


def badges(folder: Path, email: str, count: int = 40) -> Path:
    """A file of badge scans, as a German Excel writes it; two of its rows are broken."""
    file = folder / f"badges-{uuid.uuid4().hex[:6]}.csv"
    lines = ["E-Mail;Vorname;Position;Firma;Scanned at;May we write?;Note"]
    lines += [
        f"{n or ''}{email};Jürgen {n};Plant manager;Müller & Söhne;{present.ago(days=3)};ja;{ODD}"
        for n in range(count)
    ]
    lines += ["nobody;Bo;;;;;", "bo@x.example;Bo;;;03/04/2026;;"]
    file.write_bytes("\r\n".join(lines).encode("cp1252"))
    return file


async def shot(page: Page, name: str) -> None:
    """A picture, where somebody wants to look at it."""
    if folder := os.environ.get("RIPELINE_TEST_PICTURES"):
        await page.screenshot(path=f"{folder}/{name}.png", full_page=True)


async def bring(page: Page, file: Path) -> None:
    await page.get_by_label("CSV file").set_input_files(file)
    await page.get_by_role("button", name="Import…").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(file.name)


async def ended(page: Page, words: str) -> None:
    """Waits for the report; where no script runs the browser is asked to reload: it does not heed
    <noscript> then.
    """
    async with asyncio.timeout(20):
        while words not in await page.locator("#report").inner_text():
            await asyncio.sleep(0.5)
            if await page.locator(".trait[hidden]").count() == 0:
                await page.reload()


@pytest.mark.parametrize("manner", ["desktop", "phone", "no script"])
async def test_a_file_is_mapped_tried_and_imported(
    system: System, browser: Browser, tmp_path: Path, manner: str
) -> None:
    """I3, U4: columns guessed and shown with examples, corrected by hand, a dry run, a report,
    rejected rows with reasons.
    """
    page, wrong = await visit(
        browser,
        system,
        viewport=PHONE if manner == "phone" else DESKTOP,
        java_script_enabled=manner != "no script",
    )
    email = system.address()
    await bring(page, badges(tmp_path, email))
    await expect(page.get_by_text("cp1252")).to_be_visible()
    await expect(page.get_by_label("E-Mail", exact=True)).to_have_value("email")
    await expect(page.get_by_label("Scanned at", exact=True)).to_have_value("time")
    await expect(page.get_by_label("Firma", exact=True)).to_have_value("trait")
    await page.get_by_label("May we write?", exact=True).select_option("consent")
    await page.get_by_label("Firma", exact=True).select_option("company")
    await page.get_by_label("What happened in every row").fill("event_attended")
    await page.get_by_label("How it was given").fill("badge scan")
    await shot(page, f"{manner}-1-columns")
    await page.get_by_role("button", name="Save columns").click()
    await expect(page.get_by_label("Firma", exact=True)).to_have_value("company")
    assert "type: event_attended" in await page.locator("#text").input_value()
    await page.get_by_label("new leads").check()
    await page.get_by_role("button", name="Try it").click()
    report = page.locator("#report")
    await ended(page, "Tried: nothing was sent")
    await expect(report).to_contain_text("a date that can be read in two ways")
    assert system.lookup(email=email) is None
    await shot(page, f"{manner}-2-tried")
    async with page.expect_download() as coming:
        await page.get_by_role("link", name="Rejected rows as CSV").click()
    table = list(
        csv.reader(io.StringIO(Path(await (await coming.value).path()).read_text("utf-8-sig")))
    )
    assert table[0][:4] == ["line", "reason", "remedy", "E-Mail"]
    assert [row[0] for row in table[1:]] == ["42", "43"]
    await page.get_by_label("new leads").check()
    await page.get_by_role("button", name="Import", exact=True).click()
    await ended(page, "Imported")
    await shot(page, f"{manner}-3-imported")
    lead = system.wait_for_lead(email=email)
    assert (lead["traits"]["title"], lead["traits"]["company"]) == (
        "Plant manager",
        "Müller & Söhne",
    )
    assert [(consent["state"], consent["basis"]) for consent in lead["consent"]] == [
        ("given", "badge scan")
    ]
    event = next(item for item in system.timeline(lead["id"]) if item["kind"] == "event")
    assert (event["type"], event["flags"], event["source"]) == (
        "event_attended",
        "new_leads:1",
        "import:default",
    )
    assert await page.title() != "owned"
    assert (
        await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if manner != "no script"
        else True
    )
    await page.get_by_role("button", name="Remove the file").click()
    await expect(page.get_by_role("heading", name="Import a file")).to_be_visible()
    assert [text for text in wrong if "400" not in text] == []


async def test_what_the_file_leaves_open_is_asked_with_rows_of_each_reading_and_answered(
    system: System, browser: Browser, tmp_path: Path
) -> None:
    """I3: a file whose letters and whose dates can be read in two ways."""
    page, wrong = await visit(browser, system, viewport=PHONE)
    email, file = system.address(), tmp_path / "open.csv"
    rows = [f"{n or ''}{email};Mu\u00f1oz;0{n + 1}/02/2026" for n in range(3)]
    file.write_bytes("\r\n".join(["E-Mail;Nachname;Date", *rows, ""]).encode("cp1252"))
    await bring(page, file)
    asked = page.locator("#question")
    await expect(asked).to_contain_text("Mu\u00f1oz")
    await expect(asked).to_contain_text("Mu\u0144oz")
    await shot(page, "asked-encoding")
    await page.get_by_label("history").check()
    await page.get_by_role("button", name="Try it").click()
    await expect(page.locator("#problems")).to_contain_text("encoding of the file is uncertain")
    await page.get_by_label("cp1252", exact=True).check()
    await page.get_by_role("button", name="Use this reading").click()
    await expect(asked).to_have_count(0)
    assert "encoding: cp1252" in await page.locator("#text").input_value()
    await page.get_by_label("history").check()
    await page.get_by_role("button", name="Try it").click()
    await ended(page, "can be read in several ways")
    await expect(asked).to_contain_text("01/02/2026 is 1 February 2026")
    await shot(page, "asked-order")
    await page.get_by_label("the day first", exact=True).check()
    await page.get_by_role("button", name="Use this reading").click()
    await page.get_by_label("history").check()
    await page.get_by_role("button", name="Import", exact=True).click()
    await ended(page, "Imported")
    lead = system.wait_for_lead(email=email)
    assert lead["traits"]["last_name"] == "Mu\u00f1oz"
    event = next(item for item in system.timeline(lead["id"]) if item["kind"] == "event")
    assert event["at"][:10] in ("2026-01-31", "2026-02-01")
    assert [text for text in wrong if "400" not in text] == []


async def test_a_sheet_is_brought_and_the_lines_before_its_header_are_left_out(
    system: System, browser: Browser
) -> None:
    page, _ = await visit(browser, system)
    await bring(page, DATA / "imports" / "sheets" / "badges.xlsx")
    await expect(page.get_by_text("2 lines before the header left out")).to_be_visible()
    await expect(page.get_by_label("E-mail", exact=True)).to_have_value("email")
    await page.get_by_label("history").check()
    await page.get_by_role("button", name="Try it").click()
    await ended(page, "Tried: nothing was sent")
    await expect(page.locator("#report")).to_contain_text("3")


async def test_a_mapping_as_text_says_what_is_wrong_with_it_line_by_line(
    system: System, browser: Browser, tmp_path: Path
) -> None:
    page, wrong = await visit(browser, system)
    await bring(page, badges(tmp_path, system.address(), 1))
    await page.get_by_text("The mapping as text").click()
    await page.locator("#text").fill("kind: leads\nemail: E-Post\nsauce: fair\n")
    await page.get_by_role("button", name="Save text").click()
    await expect(page.get_by_role("alert")).to_contain_text(
        "Line 3: sauce: no such key. Did you mean `source`?"
    )
    await expect(page.locator("#text")).to_have_value("kind: leads\nemail: E-Post\nsauce: fair\n")
    await page.locator("#text").fill("kind: leads\nemail: E-Post\n")
    await page.get_by_role("button", name="Save text").click()
    await expect(page.get_by_role("alert")).to_contain_text(
        "Line 2: email: no column 'E-Post' in the file"
    )
    await shot(page, "wrong-mapping")
    await page.get_by_role("button", name="Import", exact=True).click()
    await expect(page.get_by_role("alert")).to_contain_text("does not say what it is")
    await page.get_by_label("or a mapping for exports of").select_option("mailchimp")
    await page.get_by_role("button", name="Save text").click()
    await page.get_by_label("history").check()
    await page.get_by_role("button", name="Try it").click()
    await expect(page.get_by_role("alert")).to_contain_text(
        "no column of the file says who it is", ignore_case=True
    )
    assert [text for text in wrong if "400" not in text] == []


async def test_events_are_translated_value_by_value(
    system: System, browser: Browser, tmp_path: Path
) -> None:
    page, _ = await visit(browser, system)
    email, file = system.address(), tmp_path / "activities.csv"
    file.write_text(
        f"Email,Activity,Date\n{email},Came by,2026-03-04\n{email},Rang us,2026-03-05\n"
    )
    await bring(page, file)
    await expect(page.get_by_label("one row an event")).to_be_checked()
    await page.get_by_label("Came by").fill("event_attended")
    await page.get_by_label("Rang us").fill("call_held")
    await page.get_by_role("button", name="Save columns").click()
    await page.get_by_label("history").check()
    await page.get_by_role("button", name="Import", exact=True).click()
    await ended(page, "Imported")
    lead = system.wait_for_lead(2, email=email)
    assert {item["type"] for item in system.timeline(lead["id"]) if item["kind"] == "event"} == {
        "event_attended",
        "call_held",
    }


async def test_a_file_that_is_no_table_or_none_at_all_says_so(
    system: System, browser: Browser, tmp_path: Path
) -> None:
    page, _ = await visit(browser, system)
    empty = tmp_path / "empty.csv"
    empty.write_text("\n")
    await page.get_by_label("CSV file").set_input_files(empty)
    await page.get_by_role("button", name="Import…").click()
    await expect(page.get_by_role("alert")).to_contain_text("The file is empty")
    await page.goto(f"{system.ingest}/import/{'0' * 32}")
    await expect(page.get_by_role("alert")).to_contain_text("This file is not here")


def test_the_page_is_for_secret_keys_and_its_own_forms(system: System) -> None:
    """Another key, another origin and a cookie of one's own making open nothing."""
    with httpx.Client(base_url=system.ingest) as http:
        assert http.get("/import").headers["location"] == "/import/sign-in"
        own = {"Sec-Fetch-Site": "same-origin"}
        for scope, status in (("query", 403), ("public", 403), ("secret", 303)):
            answer = http.post("/import/sign-in", data={"key": system.keys[scope]}, headers=own)
            assert answer.status_code == status
        cookie = answer.headers["set-cookie"]
        assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/import"))
        assert system.keys["secret"].split("_", 2)[2] not in cookie
        page = http.get("/import")
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert (page.headers["x-content-type-options"], page.headers["cache-control"]) == (
            "nosniff",
            "no-store",
        )
        files = {"file": ("f.csv", b"E\na@x.example\n")}
        for foreign in (
            {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"}, {},
        ):  # fmt: skip
            assert http.post("/import", files=files, headers=foreign).status_code == 403
        brought = http.post("/import", files=files, headers={"Origin": system.ingest})
        assert brought.status_code == 303
        where = brought.headers["location"]
        assert http.get(where).status_code == 200
        http.cookies.clear()
        assert (
            http.get(where, headers={"Cookie": "ripeline_import=forged.0"}).headers["location"]
            == f"/import/sign-in?to={where}"
        )


def test_who_is_signed_in_at_the_page_of_leads_imports_and_one_sign_out_ends_both(
    system: System,
) -> None:
    own = {"Sec-Fetch-Site": "same-origin"}
    files = {"file": ("f.csv", b"E-mail\na@x.example\n")}
    with httpx.Client() as http:
        signed = http.get(f"{system.scorer}/sign-in", params={"key": system.keys["query"]})
        cookie = signed.headers["set-cookie"].partition(";")[0]
        http.cookies.clear()
        by_page = {"Cookie": cookie}
        assert http.get(f"{system.ingest}/import", headers=by_page).status_code == 200
        foreign = by_page | {"Sec-Fetch-Site": "same-site"}
        refused = http.post(f"{system.ingest}/import", files=files, headers=foreign)
        assert refused.status_code == 403
        brought = http.post(f"{system.ingest}/import", files=files, headers=by_page | own)
        assert brought.status_code == 303
        file = system.ingest + brought.headers["location"]
        assert http.get(file, headers=by_page).status_code == 200
        gone = http.post(f"{file}/try", headers=own)
        assert gone.headers["location"].endswith(f"/sign-in?to={brought.headers['location']}")
        signed_out = http.post(f"{system.ingest}/import/sign-out", headers=by_page | own)
        ended = signed_out.headers.get_list("set-cookie")
        assert {each.partition("=")[0] for each in ended} == {"ripeline_import", "ripeline_session"}
        for forged in (cookie + "0", cookie.replace("ripeline_session=", "ripeline_session=x")):
            answer = http.get(f"{system.ingest}/import", headers={"Cookie": forged})
            assert answer.headers["location"] == "/import/sign-in"


def test_signing_in_leads_back_to_the_file_and_to_no_other_site(system: System) -> None:
    own = {"Sec-Fetch-Site": "same-origin"}
    file = f"/import/{'a' * 32}"
    with httpx.Client(base_url=system.ingest) as http:
        for to, lands in (
            (file, file), ("/import", "/import"), ("//evil.example", "/import"),
            ("/import/../x", "/import"), (file + "\r\nX: y", "/import"),
        ):  # fmt: skip
            data = {"key": system.keys["secret"], "to": to}
            answer = http.post("/import/sign-in", data=data, headers=own)
            assert answer.headers["location"] == lands
        for ticket in ("", "x", "x.1.y", f"{'9' * 400}.{'9' * 400}.0"):
            http.cookies.clear()
            answer = http.get("/import/sign-in", params={"ticket": ticket})
            assert answer.status_code == 200
            assert not answer.cookies


def test_an_upload_is_cut_off_where_it_is_too_large_or_not_whole(system: System) -> None:
    with httpx.Client(
        base_url=system.ingest, headers={"Sec-Fetch-Site": "same-origin"}, timeout=60
    ) as http:
        http.post("/import/sign-in", data={"key": system.keys["secret"]})
        head = (
            b'--b\r\nContent-Disposition: form-data; name="file"; '
            b'filename="f.csv"\r\n\r\nE\na@x.example\n'
        )
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        assert http.post("/import", content=head, headers=kind).status_code == 400
        assert (
            http.post("/import", content=head + b"\r\n--b--\r\n", headers=kind).status_code == 303
        )
        assert (
            http.post("/import", content=b"x", headers={"Content-Type": "text/plain"}).status_code
            == 400
        )
        assert http.post("/import", files={"file": ("", b"")}).status_code == 400

        monster = itertools.chain([head], itertools.repeat(b"y" * (1 << 20), 300))
        # the answer may be lost where the connection is cut while we still send
        with suppress(httpx.TransportError):
            assert http.post("/import", content=monster, headers=kind).status_code == 413
        assert http.get("/import").status_code == 200
