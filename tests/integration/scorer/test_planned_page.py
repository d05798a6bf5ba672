"""The page Planned, with a real nurture behind it."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import uvicorn

from services.nurture.api import create_app
from services.nurture.calls import Calls
from services.shared.settings import Settings
from tests.integration.nurture.test_nurture import NOON, Bench, bench, change
from tests.integration.scorer.test_page import Site, demo
from tests.support.ports import free_port

__all__ = ["bench"]
MIDNIGHT = NOON + timedelta(hours=12)


@pytest.fixture
async def site(bench: Bench) -> AsyncIterator[Site]:
    """The page of a scorer whose nurture answers, and somebody who is signed in."""
    port = free_port()
    at = {"nurture_url": f"http://127.0.0.1:{port}"}
    site = Site(Settings(**(bench.settings.model_dump() | at)), bench.engine, bench.playbook)
    await site.open()
    app = create_app(
        bench.settings, bench.engine, site.keys, dict,
        Calls(bench.engine, bench.clock, lambda: None), bench.planned(),
        bench.library(),
    )  # fmt: skip
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    await site.sign_in()
    yield site
    await site.http.aclose()
    server.should_exit = True
    await serving


async def test_a_person_reads_holds_and_releases_what_is_planned(bench: Bench, site: Site) -> None:
    bench.at(MIDNIGHT)
    await bench.take(change())
    page = (await site.http.get("/planned")).text
    (touch,) = re.findall(r'name="touch" value="([0-9a-f-]{36})"', page)
    assert "Thursday, 14 May" in page
    assert "it is night, or no working day, where the lead lives" in page
    mail = await site.http.get(f"/planned/{touch}/mail")
    assert "Hello Ann" in mail.text
    assert "sandbox" in mail.headers["content-security-policy"]
    form = {"touch": touch, "action": "hold", "reason": "<b>later</b>", "to": "/planned?state=held"}
    answer = await site.http.post("/planned", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/planned?state=held")
    held = (await site.http.get("/planned?state=held")).text
    assert "Held by the page (key people)" in held
    assert "&lt;b&gt;later&lt;/b&gt;" in held
    refused = await site.http.post("/planned", data=form | {"action": "send-now"})
    assert refused.status_code == 409
    assert "is held" in refused.text
    await site.http.post("/planned", data=form | {"action": "release"})
    await site.http.post("/planned", data=form | {"action": "skip"})
    assert "Skipped by" in (await site.http.get("/planned?state=skipped")).text


async def test_the_page_of_a_lead_shows_its_programs(bench: Bench, site: Site) -> None:
    await site.happened(demo("ann@firm.example"))
    place = await site.lead("ann@firm.example")
    assert "In no program yet" in (await site.http.get(place)).text
    await bench.take(change(lead=place.rpartition("/")[2]))
    page = (await site.http.get(place)).text
    assert "1 touch decided" in page
    assert "in it" in page


async def test_who_is_not_signed_in_or_comes_from_elsewhere_decides_nothing(site: Site) -> None:
    form = {"touch": str(uuid.uuid4()), "action": "skip"}
    crossed = await site.http.post("/planned", data=form, headers={"sec-fetch-site": "cross-site"})
    assert crossed.status_code == 403
    assert (await site.http.post("/planned", data=form)).status_code == 404
    site.http.cookies.clear()
    assert (await site.http.get("/planned")).headers["location"].startswith("/sign-in")
    assert (await site.http.post("/planned", data=form)).headers["location"].startswith("/sign-in")


async def test_the_page_says_that_nurture_is_away(bench: Bench) -> None:
    settings = Settings(**(bench.settings.model_dump() | {"nurture_url": "http://127.0.0.1:1"}))
    site = Site(settings, bench.engine, bench.playbook)
    await site.open()
    await site.sign_in()
    answer = await site.http.get("/planned")
    assert answer.status_code == 503
    await site.happened(demo("ann@firm.example"))
    lead = await site.http.get(await site.lead("ann@firm.example"))
    assert "Nurture does not answer, so nobody can tell" in lead.text
    assert "urture does not answer" in answer.text
    await site.http.aclose()
