"""Links in mails against a running system: people, scanners and forgers; the way out and
preferences (I4, I5, N6, N9).
"""

import asyncio
import base64
import hmac
import re
import shutil
import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from playwright.async_api import Page, async_playwright, expect

from services.shared.contracts.events import keyed_hash
from services.shared.contracts.link_tokens import (
    Claim,
    LinkClaim,
    PixelClaim,
    PreferencesClaim,
    UnsubscribeClaim,
    sign,
)
from services.shared.db import open_engine, rows
from services.shared.settings import ROOT, Settings
from tests.support import present
from tests.support.processes import Process
from tests.support.proxy import Proxy
from tests.support.running_system import PEPPER, System, body_of, wait_until

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FIREFOX = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html",
}
GUIDE = "whitepaper-four-kinds"


def signed(claim: Claim) -> str:
    return sign(PEPPER.encode(), claim)


def address_of(email: str) -> str:
    return keyed_hash(PEPPER.encode(), f"email:{email}")


class Reader:
    """A lead who asked for a demo in a form, and has the mail."""

    def __init__(self, system: System) -> None:
        self.system, self.email = system, system.address()
        fields = {
            "email": self.email,
            "name": "Ann Ames",
            "timezone": present.midday_zone(),
            "consent": "yes",
        }
        answer = system.http.post(
            f"{system.ingest}/v1/forms/demo", params={"key": system.keys["public"]}, data=fields
        )
        assert answer.status_code == 200, answer.text
        self.id = system.wait_for_lead(email=self.email)["id"]
        self.touch = wait_until(lambda: next(iter(system.touches(self.id, status="sent")), None))[
            "id"
        ]
        self.mail: EmailMessage = wait_until(lambda: system.mails(self.email, self.touch))[0]

    def links(self) -> list[str]:
        """Every address in the mail's HTML."""
        return re.findall(r'href="([^"]+)"', body_of(self.mail, "html"))

    def link(self, kind: str) -> str:
        """The one of this kind that a person sees: l, u or p."""
        found = re.findall(rf"{self.system.ingest}/{kind}/[\w-]+", body_of(self.mail))
        assert len(found) == 1
        return str(found[0])

    def events(self, type_: str) -> list[dict[str, Any]]:
        """What the timeline holds of a type."""
        return [item for item in self.system.timeline(self.id) if item.get("type") == type_]

    def clicks(self) -> list[dict[str, Any]]:
        """The ledger's lines on clicks in the mail that count."""
        lines = self.system.query(f"/v1/leads/{self.id}/explain")["lines"]
        return [line for line in lines if line["text"].startswith("clicked in our mail")]

    def lead(self) -> dict[str, Any]:
        return dict(self.system.query(f"/v1/leads/{self.id}"))


# -- people and machines --------------------------------------------------------------------------


def test_of_a_scanner_that_follows_every_link_and_a_person_only_the_person_counts(
    system: System,
) -> None:
    """I5: a scanner under a browser's name is known by what it follows; it leaves nobody, and hides
    no later click.
    """
    reader = Reader(system)
    assert sorted(link.removeprefix(system.ingest)[:3] for link in reader.links()) == [
        "/l/",
        "/l/",
        "/p/",
        "/u/",
    ]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda link: httpx.get(link, headers=FIREFOX), reader.links()))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 302, 302]
    scanned = wait_until(
        lambda: (found := reader.events("email_clicked")) and len(found) >= 2 and found
    )
    assert any(click["machine"] for click in scanned)
    assert reader.clicks() == []
    assert {consent["state"] for consent in reader.lead()["consent"]} == {"given"}
    assert reader.events("unsubscribed") == reader.events("preference_set") == []
    before = reader.lead()["likelihood"]
    time.sleep(10.5)  # clicks beside a scanner's are the scanner's
    followed = system.http.get(reader.link("l"), headers=FIREFOX)
    assert followed.status_code == 302
    (line,) = wait_until(reader.clicks)
    assert line["delta"] > 0
    assert reader.lead()["likelihood"] > before
    last = reader.events("email_clicked")[-1]
    assert (last["id"], last["machine"], last["content_id"]) == (
        line["event_id"],
        False,
        "case-study-bottling",
    )


def test_scanners_previews_and_prefetches_weigh_nothing_and_are_led_on(system: System) -> None:
    """I5: by name, by what they say, by HEAD; all are recorded."""
    reader = Reader(system)
    link, page = reader.link("l"), system.playbook.content_by_id["case-study-bottling"].url
    for more in (
        {"User-Agent": "Barracuda Sentinel (EE)"},
        {"Sec-Purpose": "prefetch;prerender"},
        {"User-Agent": "curl/8.14"},
    ):
        answer = system.http.get(link, headers=FIREFOX | more)
        assert (answer.status_code, answer.headers["location"]) == (302, page)
        assert answer.headers["cache-control"] == "no-store"
    looked = system.http.head(link, headers=FIREFOX)
    assert (looked.status_code, looked.headers["location"], looked.content) == (302, page, b"")
    found = wait_until(
        lambda: (found := reader.events("email_clicked")) and len(found) == 4 and found
    )
    assert all(click["machine"] for click in found)
    assert reader.clicks() == []


# -- the way out ----------------------------------------------------------------------------------

BODIES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "rfc8058": {"data": {"List-Unsubscribe": "One-Click"}},
    "multipart": {"files": {"List-Unsubscribe": (None, "One-Click")}},
    "json": {"content": b"{", "headers": {"Content-Type": "application/json"}},
    "latin-1": {"content": b"\xe9", "headers": {"Content-Type": "text/plain; charset=latin-1"}},
    "no gzip": {"content": b"x", "headers": {"Content-Encoding": "gzip"}},
    "6 MB": {"content": b"x" * 6_000_000},
}


@pytest.mark.parametrize("body", BODIES)
async def test_a_post_unsubscribes_within_a_second_whatever_its_body(
    system: System, body: str
) -> None:
    """N6, RFC 8058: no cookie, no script, no secret but the address; looking changes nothing."""
    touch, address = str(uuid.uuid4()), address_of(system.address())
    way_out = f"{system.ingest}/u/{signed(UnsubscribeClaim(touch, address))}"
    engine = open_engine(Settings(database_url=system.database))

    async def refused() -> bool:
        async with engine.connect() as connection:
            found = await rows(
                connection,
                "SELECT refused FROM nurture.consent WHERE identifier = :address AND refused",
                address=address,
            )
        return bool(found)

    async with httpx.AsyncClient(timeout=20) as http:
        for _ in range(2):
            assert (await http.get(way_out, headers=FIREFOX)).status_code == 200
            assert (await http.head(way_out)).status_code == 200
        assert not await refused()
        answer = await http.post(way_out, **BODIES[body])
        began = time.monotonic()
    assert answer.status_code == 200
    assert "You are unsubscribed" in answer.text
    while not await refused():
        assert time.monotonic() - began < 1
        await asyncio.sleep(0.02)
    await engine.dispose()


def test_who_leaves_while_a_touch_is_due_does_not_get_it(system: System) -> None:
    """N6: consent is looked at once more at the moment of sending, and who changes their mind is
    written to again.
    """
    email = system.address()
    given = {
        "consent": [{"state": "given", "basis": "form"}],
        "traits": {"timezone": present.midday_zone()},
    }
    system.post_event(type="demo_requested", email=email, **given)
    # and stays on the site for some seconds
    system.post_event(type="page_viewed", email=email, occurred_at=present.ago(seconds=-4))
    lead = system.wait_for_lead(email=email)["id"]
    due = wait_until(lambda: system.touches(lead, status="due"))[0]
    claim = (str(uuid.uuid4()), address_of(email))
    left = system.http.post(f"{system.ingest}/u/{signed(UnsubscribeClaim(*claim))}")
    assert left.status_code == 200
    withheld = wait_until(lambda: system.touches(lead, status="withheld"))
    assert [(touch["id"], touch["reason"]) for touch in withheld] == [(due["id"], "no_consent")]
    assert system.mails(email) == []
    back = re.search(r'action="(/p/[\w-]+)"', left.text)
    assert back
    returned = system.http.post(system.ingest + back[1], data={"save": "return"})
    assert "We write to this address again" in returned.text
    system.post_event(type="purchased", email=email)
    wait_until(lambda: system.mails(email))


# -- preferences ----------------------------------------------------------------------------------


def test_what_a_person_prefers_is_evidence_and_rule_at_once(system: System) -> None:
    """I4, N9: topics, pace and a pause become traits, and the next touch obeys."""
    reader = Reader(system)
    page = reader.link("p")
    assert system.http.get(page).status_code == 200
    for form in (
        {"topics": ["cost", "proof"], "save": "topics"},
        {"pace": "monthly"},
        {"pause": "until", "until": "2035-02-01"},
    ):
        answer = system.http.post(page, data=form, headers=FIREFOX)
        assert answer.status_code == 200
        assert "Saved" in answer.text
    wanted = {
        "mail_topics": ["proof", "cost"],
        "mail_pace": "monthly",
        "mail_paused_until": "2035-02-01",
    }
    topics = [
        topic
        for topic in dict.fromkeys(item.topic for item in system.playbook.content)
        if topic in ("cost", "proof")
    ]

    def traits() -> dict[str, Any]:
        return {
            name: value
            for name, value in reader.lead()["traits"].items()
            if name.startswith("mail_")
        }

    wait_until(lambda: traits() == wanted | {"mail_topics": topics})
    assert len(reader.events("preference_set")) == 2
    assert len(reader.events("not_now")) == 1
    system.post_event(type="purchased", email=reader.email)
    touch = wait_until(
        lambda: next(
            (touch for touch in system.touches(reader.id) if touch["stage"] == "customer"), None
        )
    )
    assert (touch["status"], touch["reason"]) == ("withheld", "preference")
    assert "does not want to read about" in touch["why"]
    for form in ({"pause": "none"}, {"pace": "usual"}, {"save": "all"}):
        assert system.http.post(page, data=form).status_code == 200
    wait_until(lambda: traits() == {})


def test_the_first_mail_is_about_a_topic_that_was_asked_for(system: System) -> None:
    """N9: whoever says it: the page, a form, a CRM."""
    email = system.address()
    traits = {"timezone": present.midday_zone(), "mail_topics": ["security"]}
    system.post_event(
        type="demo_requested",
        email=email,
        consent=[{"state": "given", "basis": "form"}],
        traits=traits,
    )
    lead = system.wait_for_lead(email=email)["id"]
    touch = wait_until(lambda: system.touches(lead, status="sent"))[0]
    assert system.playbook.content_by_id[touch["content"]].topic == "security"


def test_a_preference_that_makes_no_sense_is_refused_on_the_page_and_in_json(
    system: System,
) -> None:
    claim = PreferencesClaim(str(uuid.uuid4()), address_of(system.address()))
    page = f"{system.ingest}/p/{signed(claim)}"
    for form in (
        {},
        {"save": "topics"},
        {"pace": "hourly"},
        {"pause": "until", "until": "1999-01-01"},
    ):
        shown = system.http.post(page, data=form, headers=FIREFOX)
        assert shown.status_code == 400
        assert "Nothing was saved" in shown.text
        answer = system.http.post(page, data=form)
        assert answer.json()["type"].endswith("#invalid")
    large = system.http.post(page, content=b"x" * 6_000_000)
    assert large.status_code == 413


# -- those who forge ------------------------------------------------------------------------------


def old(pepper: bytes, *claim: str) -> str:
    """A token as the first release made them: with the address in it."""
    body = msgspec.msgpack.encode(claim)
    seal = hmac.digest(pepper, b"link\0" + body, "sha256")[:16]
    return base64.urlsafe_b64encode(seal + body).decode().rstrip("=")


def test_no_token_leads_anywhere_but_to_the_companys_own_pages(system: System) -> None:
    touch, company = str(uuid.uuid4()), system.playbook.company
    own = system.playbook.content_by_id[GUIDE].url
    pepper = PEPPER.encode()
    leads_to = {
        signed(LinkClaim(touch, GUIDE)): own,
        signed(LinkClaim(touch, GUIDE, trap=True)): own,
        signed(LinkClaim(touch, "gone")): company.website,
        old(pepper, "l", touch, GUIDE, own): own,
        old(pepper, "l", touch, GUIDE, "https://evil.example/"): own,
        old(pepper, "l", touch, GUIDE, "javascript:alert(1)"): own,
        old(pepper, "l", touch, "gone", "https://evil.example/"): company.website,
    }
    for token, page in leads_to.items():
        for more in ("", "?url=https://evil.example/", "?next=//evil.example"):
            answer = system.http.get(f"{system.ingest}/l/{token}{more}", headers=FIREFOX)
            assert (answer.status_code, answer.headers["location"]) == (302, page)


def test_what_we_did_not_sign_does_nothing_anywhere(system: System) -> None:
    """N6: forged, bent, cut, of another pepper, or a token of another page; a person gets a page, a
    program a problem.
    """
    touch, address = str(uuid.uuid4()), address_of(system.address())
    claims: dict[str, Claim] = {
        "l": LinkClaim(touch, GUIDE), "u": UnsubscribeClaim(touch, address),
        "p": PreferencesClaim(touch, address),
    }  # fmt: skip
    for place, claim in claims.items():
        good = signed(claim)
        others = [
            signed(other) for other in [*claims.values(), PixelClaim(touch)] if other is not claim
        ]
        forged = sign(b"another pepper", claim)
        for token in (
            forged,
            good[:-4],
            good[4:],
            good.swapcase(),
            "x",
            "A" * 6000,
            "%00",
            "..%2f" + good,
            *others,
        ):
            for method in ("GET", "POST") if place in "up" else ("GET",):
                answer = system.http.request(method, f"{system.ingest}/{place}/{token}")
                assert (answer.status_code, answer.headers["content-type"]) == (
                    404,
                    "application/problem+json",
                )
                shown = system.http.request(
                    method, f"{system.ingest}/{place}/{token}", headers=FIREFOX
                )
                assert shown.status_code == 404
    shown = system.http.get(f"{system.ingest}/l/{forged}", headers=FIREFOX)
    assert "This link does not work" in shown.text
    assert system.playbook.company.website in shown.text


# -- the open pixel, and an ingest of its own -----------------------------------------------------


class Ingest:
    """One more ingest of the running system, with other settings; it reaches the broker through a
    proxy.
    """

    def __init__(self, system: System, folder: Path, **settings: str) -> None:
        self.broker = Proxy(system.kafka)
        variables = {
            "RIPELINE_DATABASE_URL": system.database,
            "RIPELINE_KAFKA_BOOTSTRAP": self.broker.address,
            "RIPELINE_PEPPER": PEPPER, "RIPELINE_SPOOL_DIR": str(folder / "spool"),
        }  # fmt: skip
        variables |= {f"RIPELINE_{name.upper()}": value for name, value in settings.items()}
        self.process = Process("services.ingest", variables, folder / "ingest.log")

    @property
    def url(self) -> str:
        return self.process.url


@pytest.fixture
async def ingest(
    system: System, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Ingest]:
    settings = dict(request.param)
    if settings.pop("pixel", ""):
        shutil.copytree(ROOT / "deploy" / "playbook", tmp_path / "playbook")
        rules = tmp_path / "playbook" / "playbook.yaml"
        rules.write_text(rules.read_text().replace("open_pixel: false", "open_pixel: true"))
        settings["playbook"] = str(tmp_path / "playbook")
    ingest = Ingest(system, tmp_path, **settings)
    await ingest.process.start()
    await ingest.process.ready()
    yield ingest
    assert await ingest.process.stop() == 0, ingest.process.tail()
    ingest.broker.close()


@pytest.mark.parametrize("ingest", [{"pixel": "on"}], indirect=True)
async def test_the_pixel_tells_of_opens_where_it_is_on_and_always_shows_a_picture(
    system: System, ingest: Ingest
) -> None:
    """I5: Gmail's proxy opens for a person, Apple's for nobody; off, it records nothing."""
    reader = await asyncio.to_thread(Reader, system)
    ingest.broker.open()
    token = signed(PixelClaim(reader.touch))
    gmail = {
        "User-Agent": "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via "
        "ggpht.com GoogleImageProxy)"
    }
    async with httpx.AsyncClient(timeout=20) as http:
        for base, agent in (
            (system.ingest, FIREFOX),
            (ingest.url, gmail),
            (ingest.url, {"User-Agent": "Mozilla/5.0"}),
        ):
            shown = await http.get(f"{base}/o/{token}.gif", headers=agent)
            assert (shown.status_code, shown.headers["content-type"], shown.content[:6]) == (
                200,
                "image/gif",
                b"GIF89a",
            )
            assert shown.headers["cache-control"] == "no-store"
        for wrong in (signed(LinkClaim(reader.touch, GUIDE)), token[:-1], "x"):
            assert (await http.get(f"{ingest.url}/o/{wrong}.gif")).content == shown.content
    opens = await asyncio.to_thread(
        wait_until, lambda: (found := reader.events("email_opened")) and len(found) == 2 and found
    )
    assert [event["machine"] for event in opens] == [False, True]


@pytest.mark.parametrize("ingest", [{}], indirect=True)
async def test_who_leaves_while_the_broker_is_away_has_left_when_it_is_back(
    system: System, ingest: Ingest
) -> None:
    """N6, O4: the page says it at once, the note is on disk."""
    email = system.address()
    given = {
        "consent": [{"state": "given", "basis": "form"}],
        "occurred_at": present.ago(minutes=1),
    }
    await asyncio.to_thread(system.post_event, type="identified", email=email, **given)
    token = signed(UnsubscribeClaim(str(uuid.uuid4()), address_of(email)))
    async with httpx.AsyncClient(timeout=20) as http:
        left = await http.post(f"{ingest.url}/u/{token}", headers=FIREFOX)
        assert (left.status_code, "You are unsubscribed" in left.text) == (200, True)
        followed = await http.get(
            f"{ingest.url}/l/{signed(LinkClaim(str(uuid.uuid4()), GUIDE))}", headers=FIREFOX
        )
        assert followed.status_code == 302
    ingest.broker.open()
    engine = open_engine(Settings(database_url=system.database))
    async with asyncio.timeout(20):
        while True:
            async with engine.connect() as connection:
                statement = "SELECT refused FROM nurture.consent WHERE identifier = :address"
                found = await rows(connection, statement, address=address_of(email))
            if any(row.refused for row in found):
                break
            await asyncio.sleep(0.1)
    await engine.dispose()


@pytest.mark.parametrize("ingest", [{"spool_max_bytes": "1"}], indirect=True)
async def test_with_no_room_left_a_click_leads_on_and_a_page_says_that_nothing_was_kept(
    system: System, ingest: Ingest
) -> None:
    """Nobody is kept from a page, and no page confirms an unsubscribe that did not happen."""
    touch, address = str(uuid.uuid4()), address_of(system.address())
    async with httpx.AsyncClient(timeout=20) as http:
        followed = await http.get(
            f"{ingest.url}/l/{signed(LinkClaim(touch, GUIDE))}", headers=FIREFOX
        )
        assert followed.headers["location"] == system.playbook.content_by_id[GUIDE].url
        for path, form in (
            (f"/u/{signed(UnsubscribeClaim(touch, address))}", {}),
            (f"/p/{signed(PreferencesClaim(touch, address))}", {"pace": "weekly"}),
        ):
            shown = await http.post(ingest.url + path, data=form, headers=FIREFOX)
            assert (shown.status_code, shown.headers["retry-after"]) == (503, "5")
            assert "nothing has changed yet" in shown.text
            answer = await http.post(ingest.url + path, data=form)
            assert answer.json()["type"].endswith("#spool-full")


# -- in a browser ---------------------------------------------------------------------------------


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """A telephone without JavaScript."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        context = await browser.new_context(
            java_script_enabled=False, viewport={"width": 360, "height": 740}
        )
        yield await context.new_page()
        await browser.close()


async def test_preferences_can_be_chosen_on_a_phone_by_keyboard_alone(
    system: System, page: Page
) -> None:
    """N9: without a login, a script or a mouse; each confirmation says what holds and how to change
    it.
    """
    claim = (str(uuid.uuid4()), address_of(system.address()))
    await page.goto(f"{system.ingest}/u/{signed(UnsubscribeClaim(*claim))}")
    await page.get_by_role("link", name="topics, a slower pace, or a pause").press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Your mails from us")
    inputs = page.locator("input")
    for n in range(await inputs.count()):
        assert await inputs.nth(n).evaluate("input => input.labels.length") == 1
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.get_by_label("At most one mail a week").press("Space")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status")).to_contain_text(
        "From now on: at most one mail a week."
    )
    assert await page.get_by_label("At most one mail a week").is_checked()
    await page.get_by_label("Cost").press("Space")
    await page.get_by_role("button", name="Save topics").press("Enter")
    await expect(page.get_by_role("status")).to_contain_text("about Cost.")
    await page.get_by_label("No mail before the day given here").press("Space")
    await page.get_by_label("Day", exact=True).fill("2035-02-01")
    await page.get_by_role("button", name="Save the pause").press("Enter")
    await expect(page.get_by_role("status")).to_contain_text("from 1 February 2035 on")
    await page.get_by_role("button", name="No pause after all").press("Enter")
    await expect(page.get_by_role("status")).to_contain_text("The pause is over")
    await page.get_by_role("button", name="Unsubscribe").press("Enter")
    await expect(page.get_by_role("status")).to_contain_text("You are unsubscribed")
    await page.get_by_role("button", name="Write to me again").press("Enter")
    await expect(page.get_by_role("status")).to_contain_text("Welcome back")
