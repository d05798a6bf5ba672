"""The page on a real database, in process: who may see it, what it shows, and what it keeps out."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.api import create_app
from services.scorer.processing.handler import Handler
from services.scorer.scoring import Scoring
from services.scorer.store import Store
from services.shared.clock import EPOCH, Clock
from services.shared.contracts.events import (
    INTERACTIONS,
    Consent,
    Interaction,
    Touch,
    TouchEvent,
    envelope,
)
from services.shared.http.keys import ApiKeys, new_key, register
from services.shared.messaging.kafka import Publisher, Record
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from tests.support import present

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
    # a count that nobody waited for ends before its connections do
    counting = [t for t in asyncio.all_tasks() if "Overview._count" in repr(t.get_coro())]
    await asyncio.gather(*counting)


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


async def test_the_points_shown_add_up_to_the_sum_shown(site: Site) -> None:
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
    for playbook, clock, noticed in (
        (default_playbook, Clock(NOW.timestamp(), 60, 9999), True),
        (own, present.CLOCK, False),
    ):
        site = Site(settings, engine, playbook, clock)
        await site.open()
        await site.sign_in()
        home = (await site.http.get("/")).text
        assert ("60 days pass in 9999 seconds" in home) is noticed
        assert ("Sample playbook" in home) is noticed
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


async def test_the_page_says_why_nothing_goes_out(site: Site) -> None:
    await site.sign_in()
    assert "Nothing goes out" not in (await site.http.get("/")).text
    async with site.engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO access.channel_stop VALUES ('email', :why, now(), now(), 1)"),
            {"why": f"the mail server answered 535 {ODD}"},
        )
    page = (await site.http.get("/")).text
    assert "Nothing goes out by email" in page
    assert "the mail server answered 535 &lt;script&gt;" in page
    assert ODD not in page
