"""Clients that are not ours, unchanged: Segment's, CloudEvents' own encoder, and a browser with a
plain HTML form (I2).
"""

import shutil
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from cloudevents.core.bindings.http import HTTPMessage, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.http import CloudEvent as Simple
from cloudevents.v1.http import to_json, to_structured
from playwright.async_api import async_playwright, expect
from segment.analytics.client import Client

from tests.support import present
from tests.support.running_system import System, body_of, wait_until

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]


# -- Segment --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "manner", [{"sync_mode": True}, {"gzip": True, "upload_interval": 0.2}], ids=["sync", "batch"]
)
def test_segments_client_tells_a_whole_story(system: System, manner: dict[str, Any]) -> None:
    """I2, D1: only its host is set; anonymous calls join the user that `identify` names."""
    failed: list[Exception] = []
    client = Client(
        system.keys["secret"],
        host=system.ingest,
        max_retries=0,
        on_error=lambda error, _: failed.append(error),
        **manner,
    )
    user, cookie, email = f"user-{uuid.uuid4().hex}", uuid.uuid4().hex, system.address()
    then = present.now() - timedelta(hours=5)
    client.page(
        anonymous_id=cookie,
        name="Pricing",
        properties={"url": "https://www.millwarden.example/pricing"},
        timestamp=present.by_machine(then),
    )
    client.track(
        anonymous_id=cookie,
        event="Content Downloaded",
        properties={"content_id": "whitepaper-four-kinds"},
        timestamp=present.by_machine(then),
    )
    client.identify(
        user,
        {"email": email, "name": "Bo", "title": "Plant manager", "company": {"name": "Bo & Co"}},
        anonymous_id=cookie,
    )
    client.group(user, "account-7", {"name": "Bo and Company"})
    client.alias(f"old-{cookie}", user)
    client.track(
        user,
        "Demo Requested",
        {"where": "header"},
        context={"campaign": {"name": "spring", "source": "fair"}},
    )
    if "sync_mode" not in manner:
        client.shutdown()
    assert failed == []
    lead = system.wait_for_lead(6, user_id=user)
    named = lead["identifiers"]
    assert (named["user_id"], named["email"]) == ([user], [email])
    assert sorted(named["anonymous_id"]) == sorted([cookie, f"old-{cookie}"])
    assert lead["traits"]["company"] == {"name": "Bo & Co"}
    assert (lead["traits"]["name"], lead["traits"]["title"]) == ("Bo", "Plant manager")
    assert lead["source"] == "fair"
    assert lead["stage"] == "decision"
    events = [item for item in system.timeline(lead["id"]) if item["kind"] == "event"]
    assert [(e["type"], e["read_as"]) for e in events[:2]] in (
        [("page_viewed", "pricing"), ("content_downloaded", "content_consideration")],
        [("content_downloaded", "content_consideration"), ("page_viewed", "pricing")],
    )
    assert {e["type"] for e in events[2:]} == {"identified", "grouped", "aliased", "demo_requested"}
    assert all(
        abs((datetime.fromisoformat(e["at"]) - then).total_seconds()) < 5 for e in events[:2]
    )
    assert all(e["source"] == "segment:default" for e in events)


def test_segments_client_that_sends_again_is_counted_once(system: System) -> None:
    client = Client(system.keys["secret"], host=system.ingest, sync_mode=True, max_retries=0)
    user, message = f"user-{uuid.uuid4().hex}", uuid.uuid4().hex
    for _ in range(3):
        client.track(user, "Demo Requested", message_id=message)
    client.track(user, "Thing Noted")
    assert system.wait_for_lead(2, user_id=user)["events_counted"] == 2


def test_segments_client_hears_of_a_wrong_key(system: System) -> None:
    client = Client(system.keys["query"], host=system.ingest, sync_mode=True, max_retries=0)
    with pytest.raises(Exception, match=r"may not do this|403"):
        client.track("somebody", "Demo Requested")


# -- CloudEvents ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode", [to_structured_event, to_binary_event], ids=["structured", "binary"]
)
def test_a_cloudevent_as_its_sdk_encodes_it_is_taken(
    system: System, mode: Callable[[CloudEvent], HTTPMessage]
) -> None:
    """The type loses its domain and version, the time is the event's own."""
    email = system.address()
    then = present.now() - timedelta(hours=3)
    attributes = {
        "id": uuid.uuid4().hex,
        "source": "/shop/7",
        "type": "com.shop.demo_requested.v2",
        "time": then,
        "specversion": "1.0",
    }
    message = mode(CloudEvent(attributes, {"email": email, "traits": {"name": "Cy"}}))
    answer = system.post("/v1/events", headers=dict(message.headers), content=message.body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["ids"] == [attributes["id"]]
    lead = system.wait_for_lead(email=email)
    event = next(item for item in system.timeline(lead["id"]) if item["kind"] == "event")
    assert (event["id"], event["type"]) == (attributes["id"], "demo_requested")
    assert datetime.fromisoformat(event["at"]) == then
    assert event["source"] == "cloudevents:default:/shop/7"


def test_the_sdks_older_encoder_is_understood_too_and_its_batches(system: System) -> None:
    cookie = uuid.uuid4().hex

    def event(source: str, **data: Any) -> Simple:
        return Simple(
            {"type": "page_viewed", "source": source, "id": "1", "time": present.ago(hours=1)},
            {"anonymous_id": cookie} | data,
        )

    headers, body = to_structured(event("/one"))
    assert system.post("/v1/events", headers=dict(headers), content=body).status_code == 200
    broken = to_json(event("/three")).replace(b'"1.0"', b'"0.1"')
    batch = b"[" + b",".join([to_json(event("/two")), broken, to_json(event("/one"))]) + b"]"
    answer = system.post(
        "/v1/events", headers={"Content-Type": "application/cloudevents-batch+json"}, content=batch
    )
    assert answer.status_code == 200
    assert answer.json()["accepted"] == 2
    assert [item["problem"]["where"] for item in answer.json()["rejected"]] == ["/1/specversion"]
    lead = system.wait_for_lead(2, anonymous_id=cookie)
    events = [item for item in system.timeline(lead["id"]) if item["kind"] == "event"]
    assert sorted(item["source"] for item in events) == [
        "cloudevents:default:/one",
        "cloudevents:default:/two",
    ]


# -- a browser without JavaScript -----------------------------------------------------------------

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Ask us</title>
<form method="post" action="{ingest}/v1/forms/demo?key={key}" enctype="{enctype}">
<label>E-mail <input name="email" type="email"></label>
<label>Name <input name="name"></label>
<label>Machines <input name="machines" type="number"></label>
<label><input type="checkbox" name="consent" value="yes"> Send me useful things</label>
<input type="hidden" name="consent_text" value="Send me useful things">
<input type="hidden" name="timezone" value="{zone}">
<input type="hidden" name="_anonymous_id" value="{cookie}">
<input type="hidden" name="_next" value="{next}">
<p style="display:none"><input name="_hp"></p>
<button>Ask</button></form></html>"""


@pytest.mark.parametrize("enctype", ["application/x-www-form-urlencoded", "multipart/form-data"])
async def test_a_plain_form_in_a_browser_ends_at_its_next_page_and_brings_the_mail(
    system: System, enctype: str
) -> None:
    """I1, I2, N7: no script runs; the consent ticked there is all the permission that there is."""
    email, cookie, thanks = system.address("zoe"), uuid.uuid4().hex, f"{system.site.url}/thanks"
    system.site.pages["/thanks"] = "<!doctype html><title>Thanks</title><h1>Thank you!</h1>"
    system.site.pages["/ask"] = PAGE.format(
        ingest=system.ingest,
        key=system.keys["public"],
        enctype=enctype,
        zone=present.midday_zone(),
        cookie=cookie,
        next=thanks,
    )
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=BROWSER_FLAGS)
        context = await browser.new_context(java_script_enabled=False)
        page = await context.new_page()
        await page.goto(f"{system.site.url}/ask")
        await page.get_by_label("E-mail").fill(email)
        await page.get_by_label("Name").fill("Zoë Ångström")
        await page.get_by_label("Machines").fill("55")
        await page.get_by_label("Send me useful things").check()
        await page.get_by_role("button", name="Ask").click()
        await expect(page.get_by_role("heading")).to_have_text("Thank you!")
        assert page.url == thanks
        await browser.close()
    lead = system.wait_for_lead(email=email)
    assert lead["traits"]["name"] == "Zoë Ångström"
    assert lead["traits"]["machines"] == "55"
    assert not [name for name in lead["traits"] if name.startswith(("_", "consent"))]
    assert lead["identifiers"]["anonymous_id"] == [cookie]
    assert [
        (consent["state"], consent["basis"], consent["text"]) for consent in lead["consent"]
    ] == [("given", "form", "Send me useful things")]
    assert lead["stage"] == "decision"
    touch = wait_until(lambda: system.touches(lead["id"], status="sent"))[0]
    mail = wait_until(lambda: system.mails(email, touch["id"]))[0]
    assert "Zoë" in body_of(mail)


def test_a_form_without_a_tick_gives_no_permission(system: System) -> None:
    """N6: unknown consent means no mail."""
    email = system.address()
    posted = httpx.post(
        f"{system.ingest}/v1/forms/demo?key={system.keys['public']}",
        data={"email": email, "timezone": present.midday_zone()},
    )
    assert posted.status_code == 200
    lead = system.wait_for_lead(email=email)
    assert lead["consent"] == []
    touch = wait_until(lambda: system.touches(lead["id"]))[0]
    assert (touch["status"], touch["reason"]) == ("withheld", "no_consent")
    assert system.mails(email, touch["id"]) == []


def test_a_script_may_post_a_form_as_json_from_another_origin(system: System) -> None:
    origin = {"Origin": "https://www.millwarden.example", "Access-Control-Request-Method": "POST"}
    preflight = httpx.options(
        f"{system.ingest}/v1/forms/contact",
        headers=origin | {"Access-Control-Request-Headers": "content-type"},
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "*"
    email = system.address()
    url = f"{system.ingest}/v1/forms/contact?key={system.keys['public']}"
    posted = httpx.post(
        url, json={"email": email, "_id": "f-" + email}, headers={"Origin": origin["Origin"]}
    )
    assert posted.json() == {"accepted": 1, "ids": ["f-" + email], "rejected": []}
    assert posted.headers["access-control-allow-origin"] == "*"
    assert system.wait_for_lead(email=email)["events_counted"] == 1
