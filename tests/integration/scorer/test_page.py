"""The page on a real database, in process: who may see it, what it shows, and what it keeps out."""

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from sse_starlette.sse import AppStatus

from services.ops.rehearsal.cast import Options
from services.ops.rehearsal.rehearsal import rehearse
from services.scorer.api import create_app
from services.scorer.learning.alike import EDGES
from services.scorer.processing.handler import Handler
from services.scorer.scoring import Scoring
from services.scorer.store import Store
from services.scorer.ui.rehearsal import Asked, Rehearsals, Result
from services.scorer.wording import visitor_name
from services.shared.clock import EPOCH, Clock, rfc3339
from services.shared.contracts.events import (
    INTERACTIONS,
    Consent,
    Interaction,
    Touch,
    TouchEvent,
    envelope,
)
from services.shared.http.keys import ApiKeys, new_key, register
from services.shared.messaging import sending
from services.shared.messaging.kafka import Publisher, Record
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from tests.support import present
from tests.support.learned import with_layer

NOW = present.now()
ODD = "<script>alert(1)</script>"


class Site:
    """A scorer with its page and nobody signed in."""

    def __init__(
        self,
        settings: Settings,
        engine: AsyncEngine,
        playbook: Playbook,
        clock: Clock = present.CLOCK,
    ) -> None:
        scoring = Scoring.of(playbook, clock)
        self.engine, self.handler, self.keys = engine, Handler(scoring), ApiKeys(engine)
        app = create_app(settings, engine, scoring, self.keys, dict, Publisher(settings))
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page")
        self.key, self.secret = new_key(), new_key()

    async def open(self) -> None:
        await register(self.engine, self.key, "people", "query")
        await register(self.engine, self.secret, "machines", "secret")
        await self.keys.load()

    async def sign_in(self) -> None:
        assert (await self.http.get("/sign-in", params={"key": self.key})).status_code == 303

    async def happened(self, *interactions: Interaction, days_ago: float = 1) -> None:
        at = NOW - timedelta(days=days_ago)
        records = [
            Record(
                INTERACTIONS,
                0,
                0,
                b"",
                envelope(interaction, source="test", occurred_at=at, received_at=at, posted_at=0)[
                    1
                ],
            )
            for interaction in interactions
        ]
        async with self.engine.begin() as connection:
            await self.handler.apply(
                connection, [self.handler.decode(record) for record in records]
            )

    async def lead(self, email: str) -> str:
        answer = await self.http.post("/find", data={"email": email})
        return answer.headers["location"]

    async def touched(self, lead: str, **fields: object) -> Touch:
        touch = Touch(id=str(uuid.uuid4()), lead=lead.rpartition("/")[2], **fields)  # type: ignore[arg-type]
        event = TouchEvent(id=str(uuid.uuid4()), type="touch.sent.v1", time=NOW, data=touch)
        async with self.engine.begin() as connection:
            await Store(connection).keep_touches([event])
        return touch


@pytest.fixture
async def site(
    settings: Settings, engine: AsyncEngine, default_playbook: Playbook
) -> AsyncIterator[Site]:
    site = Site(settings, engine, default_playbook)
    await site.open()
    yield site
    await site.http.aclose()
    # what nobody waited for ends before its connections do
    left = [
        task
        for task in asyncio.all_tasks()
        if any(name in repr(task.get_coro()) for name in ("Overview._count", "LiveUpdates._poll"))
    ]
    await asyncio.gather(*left, return_exceptions=True)


def demo(email: str, name: str = "Jo Day", **more: object) -> Interaction:
    return Interaction(
        id=email, type="demo_requested", email=email, traits={"name": name, "title": ODD}, **more
    )  # type: ignore[arg-type]


async def test_nobody_sees_anything_without_a_key(site: Site) -> None:
    some = uuid.uuid4()
    for path in ("/", f"/leads/{some}", "/mail", f"/touches/{some}/mail"):
        answer = await site.http.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in?to=/")
    assert (await site.http.get("/stream")).status_code == 401
    assert (await site.http.post("/find", data={"email": "jo@firm.example"})).status_code == 303
    assert (await site.http.get("/sign-in")).status_code == 200


async def test_only_a_query_key_signs_in_and_only_to_our_own_pages(site: Site) -> None:
    assert (await site.http.get("/sign-in", params={"key": "nonsense"})).status_code == 401
    assert (await site.http.post("/sign-in", data={"key": site.secret})).status_code == 403
    assert not site.http.cookies
    for to, lands in (
        ("/mail", "/mail"),
        ("//evil.example/", "/"),
        ("https://evil.example", "/"),
        ("/mail\r\nX: y", "/"),
    ):
        answer = await site.http.post("/sign-in", data={"key": site.key, "to": to})
        assert (answer.status_code, answer.headers["location"]) == (303, lands)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert site.key not in cookie
    assert (await site.http.get("/")).status_code == 200


async def test_a_revoked_key_ends_the_session(site: Site) -> None:
    await site.sign_in()
    async with site.engine.begin() as connection:
        await connection.execute(
            text("UPDATE access.api_key SET revoked_at = now() WHERE name = 'people'")
        )
    await site.keys.load()
    assert (await site.http.get("/")).status_code == 303


async def test_signing_out_forgets_the_session(site: Site) -> None:
    await site.sign_in()
    await site.http.post("/sign-out")
    assert (await site.http.get("/")).status_code == 303


async def test_an_empty_page_says_what_to_do(site: Site) -> None:
    await site.sign_in()
    home = (await site.http.get("/")).text
    assert "No lead yet" in home
    assert "/v1/events" in home
    assert "No mail yet" in (await site.http.get("/mail")).text


async def test_every_answer_lets_nothing_in(site: Site) -> None:
    await site.sign_in()
    for path in (
        "/",
        "/mail",
        "/sign-in",
        "/static/page.css",
        "/leads/nobody",
        f"/leads/{uuid.uuid4()}",
        "/?stage=none",
    ):
        headers = (await site.http.get(path)).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


async def test_a_lead_is_shown_in_full_and_what_it_typed_stays_text(site: Site) -> None:
    await site.sign_in()
    await site.happened(demo("jo@firm.example", ODD, consent=(Consent(state="given", text=ODD),)))
    path = await site.lead("jo@firm.example")
    for page in (await site.http.get("/"), await site.http.get(path)):
        assert page.status_code == 200
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
        assert "<script>" not in page.text
    assert "Decision" in page.text
    assert "Asked for a demo" in page.text
    assert '<svg class="picture"' in page.text


async def test_what_one_sync_gave_and_took_is_shown_side_by_side(site: Site) -> None:
    """N6: a permission without a date stands against no refusal, and both are said."""
    await site.sign_in()
    for state, at in (("withdrawn", None), ("given", EPOCH)):
        consent = Consent(state=state, basis="trait", at=at)  # type: ignore[arg-type]
        await site.happened(
            Interaction(id=state, type="identified", email="jo@firm.example", consent=(consent,))
        )
    page = (await site.http.get(await site.lead("jo@firm.example"))).text
    assert "given without a date as well (trait), which overrules no refusal" in page
    assert "permission withdrawn" in page
    assert "permission given" in page
    answer = await site.http.post(
        "/v1/leads/lookup",
        json={"email": "jo@firm.example"},
        headers={"Authorization": f"Bearer {site.key}"},
    )
    [consent] = answer.json()["consent"]
    assert consent["state"] == "withdrawn"
    assert consent["overruled"] == {"state": "given", "basis": "trait"}


async def test_the_points_shown_add_up_to_the_sum_shown(
    settings: Settings, engine: AsyncEngine, default_playbook: Playbook
) -> None:
    """S5, under a model that is calibrated."""
    site = Site(settings, engine, with_layer(default_playbook))
    await site.open()
    await site.sign_in()
    for n in range(30):
        view = Interaction(
            id=f"v{n}", type=("page_viewed", "pricing_viewed")[n % 2], email="jo@firm.example"
        )
        await site.happened(view, days_ago=31 - n)
    path = await site.lead("jo@firm.example")
    for address, collapsed in ((path, True), (f"{path}?all=1", False)):
        page = (await site.http.get(address)).text
        assert ("earlier steps together" in page) is collapsed
        ledger = page[
            page.index('<table class="ledger">') : page.index(
                "</table>", page.index('<table class="ledger">')
            )
        ]
        found = re.findall(r'<td class="points[^"]*">([^<]+)</td>', ledger)
        points = [float(number.replace("−", "-")) for number in found]
        assert sum(points[:-1]) == pytest.approx(points[-1], abs=0.05 * len(points))
        assert 'class="move"' not in ledger
    await site.http.aclose()


async def test_a_lead_opens_with_its_reasons_and_bars_until_points_are_calibrated(
    site: Site,
) -> None:
    """S5, S9: the ledger in full lies behind a fold, and every event opens to its properties."""
    await site.sign_in()
    for n in range(5):
        view = Interaction(id=f"v{n}", type="pricing_viewed", email="jo@firm.example")
        await site.happened(view, days_ago=5 - n)
    asked = {"form": "call", "budget": {"eur": 5000}, "odd": ODD}
    demo = Interaction(
        id="d", type="demo_requested", email="jo@firm.example", traits={"name": "Jo Day"},
        url="https://www.firm.example/demo?x=1", properties=asked,
    )  # fmt: skip
    await site.happened(demo, days_ago=40)
    page = (await site.http.get(await site.lead("jo@firm.example"))).text
    first = page[page.index('class="card in-short"') : page.index('class="facts"')]
    assert "Jo Day looked at prices five times this week and asked for a demo on" in first
    assert "but was silent for 35 days until" in first
    assert "a step usually taken near a decision" in first
    assert "people near a decision act more often" in first
    assert "silence alone takes it below the band “" in first
    assert "Without its strongest event (asked for a demo" in first
    assert "predictions have not been compared with outcomes yet" in first
    ledger = page[page.index('aria-labelledby="ledger-title"') :]
    assert page[: page.index('aria-labelledby="ledger-title"')].endswith('<details class="card" ')
    ledger = ledger[: ledger.index("</table>")]
    assert ledger.count('<svg class="move"') >= 5
    assert not re.findall(r'<td class="points[^"]*">[^<]*\d', ledger)
    assert "then silent for 35 days until" in ledger
    history = page[page.index('id="history-title"') :]
    assert history.count('<details class="properties">') == 6
    for shown in (
        "<dt>Budget</dt><dd>{&#34;eur&#34;:5000}</dd>",
        "<dt>Odd</dt><dd>&lt;script&gt;alert(1)&lt;/script&gt;</dd>",
        "<dt>Url</dt><dd>https://www.firm.example/demo?x=1</dd>",
        "<dt>Trait name</dt><dd>Jo Day</dd>",
        "<dt>Read as</dt><dd>demo</dd>",
    ):
        assert shown in history


async def test_the_api_gives_the_same_reasons_with_log_odds(site: Site) -> None:
    """S5, S9: every line of the ledger says what, when, how much and why, small ones too."""
    happened = (("pricing_viewed", 9.0), ("page_viewed", 2.0), ("demo_requested", 1.0))
    for type_, days in happened:
        await site.happened(
            Interaction(id=type_, type=type_, email="jo@firm.example"), days_ago=days
        )
    await site.sign_in()
    site.http.headers["Authorization"] = f"Bearer {site.key}"
    path = f"/v1{await site.lead('jo@firm.example')}"
    whole = (await site.http.get(path, params={"summary": True})).json()
    plain = (await site.http.get(path)).json()
    assert plain["summary"] is None
    assert plain.keys() == whole.keys()
    summary = whole["summary"]
    assert summary["sentence"].startswith("jo@firm.example asked for a demo on ")
    strongest = summary["grounds_for"][0]
    assert (strongest["acts"], strongest["why"]) == (1, "a step usually taken near a decision")
    deltas = [ground["delta"] for ground in summary["grounds_for"]]
    assert deltas == sorted(deltas, reverse=True)
    assert len(deltas) <= 3
    assert summary["ground_against"]["delta"] < 0
    assert date.fromisoformat(summary["best_before"]) > NOW.date()
    assert summary["best_before_threshold"] in (0.1, 0.25)
    assert summary["fragility"]["event_id"] == "demo_requested"
    assert 0 < summary["fragility"]["likelihood"] < whole["likelihood"]
    assert summary["alike"] is None
    assert "not been compared" in summary["alike_why"]
    lines = (await site.http.get(f"{path}/explain")).json()["lines"]
    assert [line["kind"] for line in lines].count("event") == 3
    assert all(line["text"] and line["why"] and line["at"] for line in lines)
    before = rfc3339(NOW - timedelta(days=5))
    past = (await site.http.get(path, params={"at": before, "summary": True})).json()
    assert past["summary"]["fragility"]["event_id"] == "pricing_viewed"
    listed = (await site.http.get("/v1/leads")).json()["leads"]
    assert "summary" not in listed[0]


async def test_leads_like_one_are_counted_by_the_nightly_check(site: Site) -> None:
    """S7: of the version in use, and not of a few."""
    await site.happened(demo("jo@firm.example"))
    await site.sign_in()
    site.http.headers["Authorization"] = f"Bearer {site.key}"
    path = f"/v1{await site.lead('jo@firm.example')}"
    likelihood = (await site.http.get(path)).json()["likelihood"]

    async def found(version: str, leads: int) -> dict[str, Any]:
        low = max(edge for edge in EDGES if edge <= likelihood)
        bands = [[low, high, leads, 23] for high in EDGES if high > low][:1]
        body = json.dumps({"alike": {"version": version, "bands": [[0, low, 9, 0], *bands]}})
        async with site.engine.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO scorer.model_check (day, version, body) VALUES "
                    "(current_date, 'v', :body) ON CONFLICT (day) DO UPDATE SET body = :body"
                ),
                {"body": body},
            )
        summary: dict[str, Any] = (await site.http.get(f"{path}?summary=1")).json()["summary"]
        return summary

    same = (await found("", 180))["alike"]
    assert same["text"] == "180 leads like this one, 23 became opportunities"
    assert (same["leads"], same["outcomes"]) == (180, 23)
    assert same["low"] <= likelihood < same["high"]
    few = await found("", 29)
    assert (few["alike"], "29 leads" in few["alike_why"]) == (None, True)
    other = await found("of another model", 180)
    assert (other["alike"], "in use" in other["alike_why"]) == (None, True)


async def test_pipeline_and_list_agree_and_can_be_narrowed_and_paged(site: Site) -> None:
    await site.sign_in()
    await site.happened(*(demo(f"p{n:02}@firm.example", f"Person {n:02}") for n in range(30)))
    await site.happened(
        Interaction(id="b", type="purchased", email="p00@firm.example"), days_ago=0.5
    )
    home = (await site.http.get("/", params={"stage": "decision"})).text
    assert "30 leads, as of" in home
    assert home.count('<th scope="row">') == 25
    following = re.search(r'rel="next" href="([^"]+)"', home)
    assert following
    rest = (await site.http.get(following[1].replace("&amp;", "&"))).text
    assert rest.count('<th scope="row">') == 4
    assert "Person 00" not in home[home.index('id="leads"') : home.index("stream-title")]
    assert (
        "Nobody is in Awareness" in (await site.http.get("/", params={"stage": "awareness"})).text
    )


async def test_what_is_asked_wrongly_is_answered_for_people(site: Site) -> None:
    await site.sign_in()
    asked = [
        ("/?stage=none", 400), ("/?order=none", 400), ("/?cursor=bent", 400), ("/?product=none",
        404), ("/leads/nobody", 404),
        (f"/leads/{uuid.uuid4()}", 404), ("/mail?before=bent", 400),
        (f"/touches/{uuid.uuid4()}/mail", 404),
    ]  # fmt: skip
    for path, status in asked:
        answer = await site.http.get(path)
        assert answer.status_code == status, path
        assert answer.headers["content-type"].startswith("text/html")
        assert "To the pipeline" in answer.text


async def test_errors_and_signing_in_lead_back_to_where_one_was(site: Site) -> None:
    lead = f"/leads/{uuid.uuid4()}"
    for asked, place in (
        ("/mail?before=1-2", "/mail?before=1-2"),
        (f"{lead}?product=default&all=1", f"{lead}?product=default&all=1"),
        ("/?stage=decision", "/?stage=decision"),
        ("/sources", "/sources"),
        ("/model?stage=decision", "/model?stage=decision"),
        ("/import", "/import"),
        (f"/touches/{uuid.uuid4()}/mail", "/"),
    ):
        where = httpx.URL((await site.http.get(asked)).headers["location"])
        assert (where.path, where.params["to"]) == ("/sign-in", place)
        answer = await site.http.post("/sign-in", data={"key": site.key, "to": place})
        assert answer.headers["location"] == place
        site.http.cookies.clear()
    where = httpx.URL((await site.http.post(f"{lead}/status")).headers["location"])
    assert where.params["to"] == lead
    await site.sign_in()
    for path, back in (
        ("/mail?before=bent", "/mail"),
        (f"{lead}?product=none", lead),
        ("/?stage=none", "/"),
    ):
        assert f'href="{back}">Back to where you were' in (await site.http.get(path)).text
    answer = await site.http.post(f"{lead}/status", data={"status": "none"})
    assert answer.status_code == 400
    assert f'href="{lead}">Back to where you were' in answer.text


async def test_what_is_wrong_with_signing_in_tells_strangers_nothing(site: Site) -> None:
    async with site.engine.begin() as connection:
        await sending.stop(connection, "somebody")
    for answer in (
        await site.http.get("/sign-in"),
        await site.http.get("/sign-in", params={"key": "x" * 201}),
    ):
        assert "Sending is stopped" not in answer.text
        assert "Stop sending" not in answer.text


async def found(site: Site, question: str) -> tuple[int, str]:
    """The status of the answer, and the names that it lists, or the path it leads to."""
    answer = await site.http.post("/find", data={"lead": question})
    names = re.findall(r'<th scope="row"><a href="/leads/[^"]+">([^<]+)</a>', answer.text)
    return answer.status_code, answer.headers.get("location") or ", ".join(sorted(names))


async def test_a_lead_is_found_by_name_company_phone_address_and_id(site: Site) -> None:
    await site.sign_in()
    traits = {"company": "Müller Engines", "phone": "+49 (0)151 234-5678"}
    await site.happened(
        Interaction(
            id="1", type="demo_requested", email="ada@engines.example", user_id="u-77",
            traits=traits | {"name": "Ada Lovelace"},
        ),
        Interaction(
            id="2", type="demo_requested", email="bo@engines.example",
            traits={"name": "Bo O'Day", "company": "Müller Engines", "phone": "0151 9999999"},
        ),
    )  # fmt: skip
    ada, bo = await site.lead("ada@engines.example"), await site.lead("bo@engines.example")
    for question in (
        "ada@engines.example", "u-77", ada.rpartition("/")[2], "lovelace", "ADA LOVE",
        "engines ada", "0151/2345678", "0049 151 2345678", "2345678",
    ):  # fmt: skip
        assert await found(site, question) == (303, ada), question
    assert await found(site, "o'day") == (303, bo)
    assert await found(site, "muller") == (200, "Ada Lovelace, Bo O&#39;Day")
    for unknown in ("", "a", "'", "' | 'ada", "ada:*", "ada & !bo", "0151 2345679", "%", "x" * 320):
        status, names = await found(site, unknown)
        assert (status, names) in ((404, ""), (303, ada)), unknown
    listed = await site.http.post("/find", data={"lead": "muller", "to": "//evil.example"})
    assert '<a href="/">Back</a>' in listed.text


async def test_a_lead_is_found_by_what_is_known_of_it_last_and_under_the_one_it_became(
    site: Site,
) -> None:
    await site.sign_in()
    await site.happened(demo("jo@firm.example", "Jo Day"), demo("jo@home.example", "Jo Home"))
    await site.happened(
        Interaction(
            id="n", type="identified", email="jo@firm.example", traits={"name": "Jo Night"}
        ),
        days_ago=0.9,
    )
    assert await found(site, "night") == (303, await site.lead("jo@firm.example"))
    assert (await found(site, "day"))[0] == 404
    same = [
        Interaction(id=f"i{mail}", type="identified", user_id="u1", email=mail)
        for mail in ("jo@firm.example", "jo@home.example")
    ]
    await site.happened(*same, days_ago=0.5)
    assert await found(site, "jo") == (303, await site.lead("jo@home.example"))


async def test_visitors_are_named_apart_and_found_by_those_names(site: Site) -> None:
    await site.sign_in()
    visitors = [f"visitor-7-{n}-é\\" for n in range(8)]
    await site.happened(
        *(Interaction(id=each, type="page_viewed", anonymous_id=each) for each in visitors)
    )
    paths = set()
    for visitor in visitors:
        name = visitor_name(visitor)
        status, path = await found(site, name)
        paths.add(path)
        assert status == 303
        assert await found(site, f" {name.upper()} ") == (303, path)
        assert await found(site, name.removeprefix("Visitor ")) == (303, path)
        page = (await site.http.get(path)).text
        assert f"<h1>{name}</h1>" in page
        assert f"{visitor} ({name})" in page
    assert len(paths) == len(visitors)
    # who has a name is found by that and by what the page calls the browser
    named = Interaction(
        id="n", type="identified", anonymous_id=visitors[0], traits={"name": "Jo Facade"}
    )
    await site.happened(named, days_ago=0.5)
    assert await found(site, visitor_name(visitors[0])) == await found(site, "facade")


async def test_what_many_answer_to_is_cut_and_said_so(site: Site) -> None:
    await site.sign_in()
    await site.happened(*(demo(f"p{n}@firm.example", f"Person {n}") for n in range(30)))
    answer = await site.http.post("/find", data={"lead": "person"})
    assert answer.text.count('<th scope="row">') == 25
    assert "There are more" in answer.text


async def test_looking_for_an_address_keeps_it_out_of_addresses(site: Site) -> None:
    await site.sign_in()
    await site.happened(demo("jo@firm.example"))
    assert re.fullmatch(r"/leads/[0-9a-f-]{36}", await site.lead(" JO@firm.example "))
    for unknown in ("no@firm.example", "none", "", "a\0@firm.example"):
        answer = await site.http.post("/find", data={"email": unknown})
        assert answer.status_code == 404
        assert 'role="alert"' in answer.text


async def test_a_lead_that_was_merged_away_is_followed(site: Site) -> None:
    await site.sign_in()
    await site.happened(demo("jo@firm.example"), demo("jo@home.example"))
    before = {await site.lead("jo@firm.example"), await site.lead("jo@home.example")}
    same = [
        Interaction(id=f"i{mail}", type="identified", user_id="u1", email=mail)
        for mail in ("jo@firm.example", "jo@home.example")
    ]
    await site.happened(*same, days_ago=0.5)
    after = await site.lead("jo@firm.example")
    assert after == await site.lead("jo@home.example")
    assert before - {after}
    for gone in before - {after}:
        answer = await site.http.get(gone)
        assert (answer.status_code, answer.headers["location"]) == (308, after)
    assert (await site.http.get(after)).status_code == 200


async def test_a_mail_is_read_in_a_sandbox_and_a_decision_in_words(site: Site) -> None:
    await site.sign_in()
    await site.happened(demo("jo@firm.example"))
    path = await site.lead("jo@firm.example")
    sent = await site.touched(
        path,
        status="sent",
        subject=ODD,
        html="<p style='color:red'>Hello</p>",
        text=ODD,
        stage="decision",
    )
    await site.touched(path, status="withheld", reason="holdout", stage="decision")
    for page in (await site.http.get(path), await site.http.get("/mail")):
        frame = re.search(r"<iframe[^>]*>", page.text)
        assert frame
        assert f'src="/touches/{sent.id}/mail" sandbox ' in frame[0]
        assert "<script>" not in page.text
    assert "comparison group" in (await site.http.get(path)).text
    mail = await site.http.get(f"/touches/{sent.id}/mail")
    assert "<p style='color:red'>Hello</p>" in mail.text
    assert mail.headers["content-security-policy"].startswith("sandbox; default-src 'none'")


async def test_mails_are_paged_newest_first(site: Site) -> None:
    await site.sign_in()
    await site.happened(demo("jo@firm.example"))
    path = await site.lead("jo@firm.example")
    sent = {
        (await site.touched(path, status="sent", subject=f"Mail {n}", text="x")).subject
        for n in range(25)
    }
    first = (await site.http.get("/mail")).text
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older
    second = (await site.http.get(older[1])).text
    assert {
        *re.findall(r"<h2>(Mail \d+)</h2>", first),
        *re.findall(
            r"<h2>(Mail "
            r"\d+)</h2>",
            second,
        ),
    } == sent
    assert 'rel="next"' not in second


async def test_notices_tell_a_compressed_clock_and_a_sample_playbook(
    settings: Settings, engine: AsyncEngine, default_playbook: Playbook
) -> None:
    own = default_playbook.model_copy(
        update={
            "content": [
                item.model_copy(update={"sample": False}) for item in default_playbook.content
            ]
        }
    )
    in_test, draft = (own.model_copy(update={"state": state}) for state in ("test", "draft"))
    for playbook, clock, noticed in (
        (default_playbook, Clock(NOW.timestamp(), 60, 9999), True),
        (own, present.CLOCK, False),
        (in_test, present.CLOCK, False),
        (draft, present.CLOCK, False),
    ):
        site = Site(settings, engine, playbook, clock)
        await site.open()
        await site.sign_in()
        home = (await site.http.get("/")).text
        assert ("60 days pass in 9999 seconds" in home) is noticed
        assert ("Sample playbook" in home) is noticed
        assert ("mails go to the test's addresses alone" in home) is (playbook is in_test)
        assert ("is not live, and nothing goes out" in home) is (playbook is draft)
        await site.http.aclose()


async def test_the_stream_shows_what_is_new_without_being_asked(site: Site) -> None:
    await site.sign_in()
    await site.happened(demo("jo@firm.example", ODD))
    cookie = site.http.cookies["ripeline_session"]
    sent: asyncio.Queue[str] = asyncio.Queue()
    gone = asyncio.Event()

    async def receive() -> dict[str, object]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        await sent.put(bytes(message.get("body", b"")).decode())  # type: ignore[call-overload]

    scope = {
        "type": "http", "method": "GET", "path": "/stream", "raw_path": b"/stream",
        "query_string": b"", "root_path": "",
        "scheme": "http", "http_version": "1.1", "headers": [(b"cookie",
        f"ripeline_session={cookie}".encode())],
        "asgi": {"version": "3.0"}, "client": None, "server": ("page", 80),
    }  # fmt: skip
    app = site.http._transport.app  # type: ignore[attr-defined]
    running = asyncio.create_task(app(scope, receive, send))
    received = ""
    async with asyncio.timeout(30):
        while "event: items" not in received:
            received += await sent.get()
        assert "event: pipeline:default" in received
        assert "&lt;script&gt;" in received
        await site.happened(demo("new@firm.example", "Somebody New"), days_ago=0)
        while "Somebody New" not in received:
            received += await sent.get()
    gone.set()
    await asyncio.wait_for(running, 20)


async def test_a_new_page_streams_though_an_earlier_server_of_the_process_has_ended(
    settings: Settings, engine: AsyncEngine, default_playbook: Playbook
) -> None:
    AppStatus.should_exit = True
    site = Site(settings, engine, default_playbook)
    await site.http.aclose()
    assert not AppStatus.should_exit


async def test_an_enquiry_shows_its_message_and_how_to_answer(site: Site) -> None:
    await site.sign_in()
    await site.happened(
        Interaction(
            id="1",
            type="enquired",
            email="jo@firm.example",
            traits={"phone": "+49 (0)151 234-5678"},
            properties={"message": f"Two lines\n{ODD}"},
        )
    )
    page = (await site.http.get(await site.lead("jo@firm.example"))).text
    history = page[page.index('id="history-title"') :]
    assert "Two lines\n&lt;script&gt;" in history
    for part in (page[: page.index('class="facts"')], history):
        assert '<a href="mailto:jo@firm.example">jo@firm.example</a>' in part
        assert '<a href="tel:+491512345678">+49 (0)151 234-5678</a>' in part
    assert "1 event, newest first" in history
    assert "1 lead, as of" in (await site.http.get("/")).text


async def test_a_reason_is_said_once(site: Site) -> None:
    await site.sign_in()
    await site.happened(demo("jo@firm.example"))
    path = await site.lead("jo@firm.example")
    why = "the account is in the permanent hold-out that shows what nurturing does"
    await site.touched(path, status="withheld", reason="holdout", why=why, stage="decision")
    page = (await site.http.get(path)).text
    assert page.count(why) == 1
    assert "comparison group" not in page


async def test_times_are_said_by_how_long_ago_they_are(site: Site) -> None:
    await site.sign_in()
    await site.happened(demo("jo@firm.example"), days_ago=0.1)
    for page in ("/", await site.lead("jo@firm.example")):
        text = (await site.http.get(page)).text
        said = re.findall(r'<time datetime="[^"]+Z" title="\d+ \w+ \d{4}, [^"]+">([^<]+)', text)
        assert "2 h ago" in said


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
async def test_a_time_at_the_end_of_the_calendar_is_shown(
    settings: Settings, engine: AsyncEngine, default_playbook: Playbook, zone: str
) -> None:
    """A sender that leaves a time out writes the year 1, which lies before it in most zones."""
    company = default_playbook.company.model_copy(update={"timezone": zone})
    site = Site(settings, engine, default_playbook.model_copy(update={"company": company}))
    await site.open()
    await site.sign_in()
    since = datetime(1, 1, 1, tzinfo=UTC)
    await site.happened(demo("jo@firm.example"), days_ago=(NOW - since).days)
    await site.happened(Interaction(id="2", type="page_viewed", email="jo@firm.example"))
    path = await site.lead("jo@firm.example")
    assert (await site.http.get(path)).status_code == 200
    site.http.headers["Authorization"] = f"Bearer {site.key}"
    for further in ("?summary=true", "/explain", "/timeline"):
        answer = await site.http.get(f"/v1{path}{further}")
        assert answer.status_code == 200, answer.text
    await site.http.aclose()


async def test_one_stops_sending_and_resumes_it_from_any_page(site: Site) -> None:
    """N14, U2."""
    await site.sign_in()
    await site.happened(demo("jo@firm.example"))
    lead = await site.lead("jo@firm.example")
    own, foreign = {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "same-site"}
    for headers in (foreign, {"Origin": "https://evil.example"}):
        answer = await site.http.post("/sending", data={"brake": "on"}, headers=headers)
        assert answer.status_code == 403
    stop = await site.http.post("/sending", data={"brake": "on", "to": lead}, headers=own)
    assert (stop.status_code, stop.headers["location"]) == (303, lead)
    async with site.engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO access.held VALUES ('email', 'a-track', 36), ('webhook', 'b', 1)")
        )
    for path in ("/", lead, "/mail", "/sources", "/model", f"/leads/{uuid.uuid4()}"):
        page = (await site.http.get(path)).text
        assert "Sending is stopped" in page
        assert "37 touches held: 36 by email of a-track, 1 by webhook of b." in page
        assert "by the page (key people)" in page
        assert '<button name="brake" value="off">' in page
        assert 'value="on"' not in page
    answer = await site.http.post("/sending", data={"brake": "off", "to": "//x"}, headers=own)
    assert answer.headers["location"] == "/"
    assert "Sending is stopped" not in (await site.http.get("/mail")).text
    assert (await site.http.post("/sending", data={"brake": "x"}, headers=own)).status_code == 404
    await site.http.post("/sign-out")
    answer = await site.http.post("/sending", data={"brake": "on"}, headers=own)
    assert answer.headers["location"].startswith("/sign-in")
    async with site.engine.connect() as connection:
        assert not await sending.is_stopped(connection)


async def test_every_page_says_what_else_holds_up_sending(site: Site) -> None:
    await site.sign_in()
    assert "has not been started yet" in (await site.http.get("/mail")).text
    async with site.engine.begin() as connection:
        await sending.report(connection, f"a gate {ODD}")
    page = (await site.http.get("/mail")).text
    assert "has not been started yet" not in page
    assert "a gate" not in page  # it may pass in a moment
    for statement, said in (
        ("UPDATE access.sending SET waits_since = now() - interval '6 s'", "a gate &lt;script&gt;"),
        ("UPDATE access.sending SET seen_at = now() - interval '1 h'", "has not been seen since"),
        (
            "INSERT INTO access.ingest_lease (instance, spooled, revision, renewed_at) "
            "VALUES ('i-1', true, 1, now())",
            "sending waits for the spool of ingest i-1",
        ),
        (
            "INSERT INTO scorer.gap (topic, topic_id, partition, first, log_end, why) "
            "VALUES ('lead.interactions', :id, 0, 0, 7, 'deleted')",
            "at least 7 records of lead.interactions",
        ),
    ):
        values = {"id": str(uuid.uuid4())} if ":id" in statement else {}
        async with site.engine.begin() as connection:
            await connection.execute(text(statement), values)
        assert said in (await site.http.get("/mail")).text
    async with site.engine.begin() as connection:
        await sending.report(connection, "")
    assert "a gate" not in (await site.http.get("/mail")).text


async def test_the_page_of_sources_shows_what_was_taken_otherwise_than_written(site: Site) -> None:
    await site.sign_in()
    async with site.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO access.source (name, about, served) VALUES ('forms', CAST(:about AS "
                "jsonb), true), ('canonical', CAST(:about AS jsonb), true)"
            ),
            {"about": '{"title": "T", "address": "a", "signs": false, "steps": [], "snippet": ""}'},
        )
        await connection.execute(
            text(
                "INSERT INTO access.source_remark (source, kind, field, text, nearest, seen) "
                "VALUES ('forms', 'consent-word', 'consent', 'Vielleicht', '', 12), "
                "('canonical', 'unknown-field', :odd, '', 'occurred_at', 1), "
                "('canonical', 'not-known-yet', '', '', '', 2)"
            ),
            {"odd": ODD},
        )
    page = (await site.http.get("/sources")).text
    assert "12 forms sent a word for consent that is not understood" in page
    assert "»Vielleicht«" in page
    assert "1 event sent a field that has no meaning here" in page
    assert "did you mean <code>occurred_at</code>?" in page
    assert "2 events sent something that was taken otherwise than as it was written" in page
    assert ODD not in page


async def test_importing_asks_for_no_other_sign_in(
    settings: Settings, engine: AsyncEngine, default_playbook: Playbook
) -> None:
    for address, leads in (
        ("http://page:8080", r"http://page:8080/import"),
        ("https://page", r"https://page/import/sign-in\?ticket=.+"),
        ("http://in.firm.example", r"http://in\.firm\.example/import/sign-in\?ticket=.+"),
    ):
        elsewhere = settings.model_copy(update={"public_url": address})
        site = Site(elsewhere, engine, default_playbook)
        await site.open()
        assert (await site.http.get("/import")).headers["location"] == "/sign-in?to=/import"
        await site.sign_in()
        where = (await site.http.get("/import")).headers["location"]
        assert re.fullmatch(leads, where)
        await site.http.aclose()


async def test_the_page_says_why_nothing_goes_out(site: Site) -> None:
    await site.sign_in()
    assert "Nothing goes out" not in (await site.http.get("/")).text
    async with site.engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO access.channel_stop VALUES ('email', :why, now(), now(), 1)"),
            {"why": f"the mail server answered 535 {ODD}"},
        )
        await connection.execute(
            text(
                "INSERT INTO access.receiver VALUES ('google', 'stopped', :why, 9, 2, 0, now()), "
                "('gmx', 'warning', 'a few', 9, 1, 0, now()), ('yahoo', 'ok', '', 9, 0, 1, now())"
            ),
            {"why": f"mails are not authenticated {ODD}"},
        )
    page = (await site.http.get("/")).text
    assert "Nothing goes to google" in page
    assert "mails are not authenticated &lt;script&gt;" in page
    assert "gmx complains" in page
    assert "yahoo" not in page
    assert "Sending by email has stopped" in page
    assert "the mail server answered 535 &lt;script&gt;" in page
    assert ODD not in page


async def test_a_rehearsal_is_run_from_its_page_and_its_figures_and_plot_are_shown(
    site: Site, default_playbook: Playbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(8, 30, 1, datetime(2026, 3, 1, tzinfo=UTC))
    found = rehearse(default_playbook, options, lambda step, share: None)
    released = asyncio.Event()

    async def rehearsed(self: Rehearsals, asked: Asked, at: datetime, folder: Path) -> Result:
        self.share = 0.42
        await released.wait()
        return Result(asked, at, found.summary, found.plot)

    monkeypatch.setattr(Rehearsals, "_rehearsed", rehearsed)
    assert (await site.http.get("/rehearsal")).status_code == 303, "nobody is signed in"
    await site.sign_in()
    assert (await site.http.get("/rehearsal/plot")).status_code == 404
    assert 'action="/rehearsal"' in (await site.http.get("/rehearsal")).text
    evil = {"Origin": "https://evil.example"}
    assert (await site.http.post("/rehearsal", headers=evil)).status_code == 403
    for wrong in ({"leads": "9999"}, {"days": "x"}):
        assert (await site.http.post("/rehearsal", data=wrong)).status_code == 404
    begun = await site.http.post("/rehearsal", data={"leads": "100", "days": "60"})
    assert (begun.status_code, begun.headers["location"]) == (303, "/rehearsal")
    await asyncio.sleep(0)
    running = await site.http.get("/rehearsal")
    assert "42 %" in running.text
    assert running.headers["refresh"] == "2; url=/rehearsal"
    assert "<button>Rehearse" not in running.text
    released.set()
    await asyncio.sleep(0.01)
    shown = await site.http.get("/rehearsal")
    assert "8 simulated people over 30 days" in shown.text
    assert "Simulated people, never a forecast" in shown.text
    assert "refresh" not in shown.headers
    plot = await site.http.get("/rehearsal/plot")
    assert (plot.headers["content-type"], plot.text) == ("image/svg+xml", found.plot)
    assert '<a href="/rehearsal" aria-current="page">Rehearsal</a>' in shown.text
