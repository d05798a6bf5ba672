"""The pages of the library, with a real nurture and a real mail server behind them."""

import csv
import io
import re
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from services.shared.db import rows
from services.shared.settings import Settings
from tests.integration.nurture.test_nurture import BOTTLING, NOON, Bench, bench, change, with_parts
from tests.integration.scorer.test_page import ODD, Site, demo
from tests.integration.scorer.test_planned_page import site
from tests.integration.scorer.test_reports import mail, touched

__all__ = ["bench", "site"]
ITEM = f"/content/{BOTTLING}"
ANN = "ann@firm.example"
# a hundred touches of each of two items, of which as many moved leads on
DRAWN = f"""INSERT INTO nurture.touch (id, announcement_id, program, lead_id, product, stage,
    content, status, propensity, decided_at, sent_at, progressed_at) SELECT gen_random_uuid(),
    gen_random_uuid(), :program, gen_random_uuid(), 'default', 'decision',
    CASE WHEN n % 2 = 0 THEN '{BOTTLING}' ELSE 'offer-six-week-pilot' END, 'sent', 0.5, :at, :at,
    CASE WHEN n % 8 < 2 THEN CAST(:at AS timestamptz) END FROM generate_series(1, 200) n"""


@pytest.fixture
def sink(bench: Bench) -> None:
    """The mail server is said to be a sink, so that samples go out; before the site is made."""
    bench.settings = bench.settings.model_copy(update={"smtp_is_sink": True})


@pytest.fixture
def learning(bench: Bench) -> str:
    """A program that learns its choice, before the site is made."""
    first, *others = bench.playbook.programs
    learns = first.model_copy(update={"choice": "learned"})
    bench.use(with_parts(bench.playbook, programs=[learns, *others]))
    return first.id


@pytest.fixture
async def ann(sink: None, bench: Bench, site: Site) -> AsyncIterator[str]:
    """The id of a lead that both services know."""
    await site.happened(demo(ANN))
    lead = (await site.lead(ANN)).rpartition("/")[2]
    await bench.take(change(lead=lead))
    return lead


async def test_the_matrix_shows_gaps_and_overload_and_filters_the_items(site: Site) -> None:
    """N10, N13, U2."""
    page = (await site.http.get("/content")).text
    assert "0 gaps, 1 of too much" in page
    assert re.search(r'class="topic over"[^>]*>.*?planning 5.*?too many', page, re.DOTALL)
    assert "Every reader" not in page
    assert "Nobody: every reader has something left" in page
    whole = page.count('<th scope="row"><a href="/content/')
    page = (await site.http.get("/content?stage=decision&persona=practitioner&topic=proof")).text
    assert 1 <= page.count('<th scope="row"><a href="/content/') < whole
    assert f'href="{ITEM}"' in page
    page = (await site.http.get("/content", params={"stage": ODD, "topic": ODD})).text
    assert ODD not in page


async def test_the_numbers_of_items_are_those_of_the_report(site: Site, ann: str) -> None:
    """M1."""
    records = [
        touched(mail(n, ann, ANN, sent=True, content=BOTTLING, channel=channel), "sent", 20)
        for n, channel in enumerate(("email", "webhook"))
    ]
    async with site.engine.begin() as connection:
        await site.handler.apply(connection, [site.handler.decode(one) for one in records])
    table = (await site.http.get("/content.csv")).text
    row = next(row for row in csv.DictReader(io.StringIO(table)) if row["content"] == BOTTLING)
    assert (row["sent"], row["moved"], row["left"], row["stages"]) == ("2", "0", "0", "decision")
    for place in ("/content", ITEM):
        page = (await site.http.get(place)).text
        (link,) = re.findall(r'href="(/reports/content/leads\?[^"]*figure=sent[^"]*)"', page)
        behind = (await site.http.get(link.replace("&amp;", "&"))).text
        assert behind.count(f'href="/leads/{ann}"') == 2


async def test_an_item_is_read_as_a_lead_that_is_found_by_its_name(site: Site, ann: str) -> None:
    """N15, U2: what is looked for stands in no address; the mail runs nothing."""
    answer = await site.http.post(f"{ITEM}/lead", data={"lead": "jo day"})
    assert answer.headers["location"] == f"{ITEM}?lead={ann}#mail"
    page = (await site.http.get(f"{ITEM}?lead={ann}")).text
    assert "Jo Day</a> would read it" in page
    assert "Hello Ann" in page
    assert f'src="{ITEM}/mail?lead={ann}" sandbox' in page
    document = await site.http.get(f"{ITEM}/mail?lead={ann}")
    assert "Hello Ann" in document.text
    assert document.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    nobody = await site.http.post(f"{ITEM}/lead", data={"lead": "nobody at all"})
    assert (nobody.status_code, "obody is known by this" in nobody.text) == (400, True)
    unknown = await site.http.get(f"{ITEM}?lead={uuid.uuid4()}")
    assert (unknown.status_code, "knows no such lead" in unknown.text) == (404, True)
    assert (await site.http.get("/content/none")).status_code == 404


async def test_a_test_goes_to_who_asks_and_is_in_the_audit_log(
    bench: Bench, site: Site, ann: str
) -> None:
    form = {"lead": ann, "to": "me@b.example"}
    answer = await site.http.post(f"{ITEM}/test", data=form)
    assert answer.headers["location"] == f"{ITEM}?lead={ann}&sent=1#mail"
    assert "has taken the test" in (await site.http.get(f"{ITEM}?lead={ann}&sent=1")).text
    (got,) = bench.mails()
    assert (got["To"], got["Subject"].startswith("[Test] ")) == ("me@b.example", True)
    async with site.engine.connect() as connection:
        (line,) = await rows(
            connection, "SELECT * FROM access.audit WHERE action = 'send-test'"
        )  # fmt: skip
    assert (line.actor, line.subject) == ("key people", f"content {BOTTLING}")
    for wrong in ({"to": ANN}, {"to": "me"}, {"lead": str(uuid.uuid4())}):
        answer = await site.http.post(f"{ITEM}/test", data=form | wrong)
        assert answer.status_code in (400, 404)
        assert 'role="alert"' in answer.text
    crossed = {"sec-fetch-site": "cross-site"}
    assert (await site.http.post(f"{ITEM}/test", data=form, headers=crossed)).status_code == 403
    assert len(bench.mails()) == 1


async def test_readers_who_run_out_stand_on_the_page(bench: Bench, site: Site) -> None:
    """N10: who has had all that the program holds for the stage."""
    await bench.take(change(stage="customer"))
    (lead,) = {row.lead_id for row in await bench.ask("SELECT lead_id FROM nurture.lead")}
    for item in bench.playbook.content:
        await bench.do(
            "INSERT INTO nurture.seen (lead_id, content) VALUES (:lead, :item) "
            "ON CONFLICT DO NOTHING",
            lead=lead, item=item.id,
        )  # fmt: skip
    page = (await site.http.get("/content")).text
    assert "Have had everything" in page
    bench.at(NOON + timedelta(days=1))


async def test_the_page_says_whether_learning_pays(bench: Bench, learning: str, site: Site) -> None:
    """N10."""
    values = {"program": learning, "at": NOON - timedelta(days=20)}
    await bench.do(DRAWN, **values)
    page = (await site.http.get("/content")).text
    assert "does learning pay?" in page
    assert "The learned choice does not beat the best single item" in page


async def test_without_nurture_the_page_says_what_it_does_not_know(bench: Bench) -> None:
    settings = Settings(**(bench.settings.model_dump() | {"nurture_url": "http://127.0.0.1:1"}))
    site = Site(settings, bench.engine, bench.playbook)
    await site.open()
    assert (await site.http.get("/content")).headers["location"].startswith("/sign-in?to=/content")
    await site.sign_in()
    page = await site.http.get("/content")
    assert (page.status_code, "Nurture does not answer" in page.text) == (200, True)
    item = await site.http.get(f"{ITEM}?lead={uuid.uuid4()}")
    assert (item.status_code, "urture does not answer" in item.text) == (503, True)
    await site.http.aclose()
