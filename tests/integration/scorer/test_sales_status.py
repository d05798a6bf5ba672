"""Sales' status call on a real database, in process: who may, what it refuses, and that a fact
counts once (I6, D6).
"""

import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ingest.normalise import Normaliser, Receipt
from services.ingest.sources.contract import Item
from services.scorer.api import create_app
from services.scorer.processing.handler import Handler
from services.scorer.queries import sales_status
from services.scorer.scoring import Scoring
from services.shared.contracts.events import ExternalId
from services.shared.contracts.identity import Cleaner
from services.shared.db import rows
from services.shared.errors import Retry
from services.shared.http.keys import ApiKeys, new_key, register
from services.shared.messaging.kafka import Outgoing, Record
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from tests.support import present

NOW = present.now()
CONTACT = ExternalId("hubspot", "701")
BOUGHT = "2026-03-02T09:00:00+01:00"


class Broker:
    """Stands for broker and consumer: what is published is applied at once, or waits, or cannot be
    had.
    """

    def __init__(self, engine: AsyncEngine, handler: Handler) -> None:
        self._engine, self._handler = engine, handler
        self.state = "here"
        self.waiting: list[Outgoing] = []

    async def publish(self, records: Sequence[Outgoing], timeout: float = 5) -> None:
        if self.state == "away":
            raise Retry("the broker did not acknowledge")
        self.waiting += records
        if self.state == "here":
            await self.deliver()

    async def deliver(self) -> None:
        waiting, self.waiting = self.waiting, []
        decoded = [
            self._handler.decode(Record(outgoing.topic, 0, n, b"", outgoing.value))
            for n, outgoing in enumerate(waiting)
        ]
        async with self._engine.begin() as connection:
            await self._handler.apply(connection, decoded)


class Bench:
    """A scorer's HTTP, and ingest's normaliser beside it."""

    def __init__(self, settings: Settings, engine: AsyncEngine, playbook: Playbook) -> None:
        self.engine, self.keys = engine, ApiKeys(engine)
        self.handler = Handler(Scoring.of(playbook, present.CLOCK))
        self.broker = Broker(engine, self.handler)
        self.normaliser = Normaliser(
            Cleaner(playbook.identity), settings.pepper.get_secret_value().encode(), playbook.sales
        )
        app = create_app(settings, engine, self.handler.scoring, self.keys, dict, self.broker)  # type: ignore[arg-type]
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://scorer")
        self.given = {scope: new_key() for scope in ("secret", "public", "query")}

    async def open(self) -> None:
        for scope, key in self.given.items():
            await register(self.engine, key, scope, scope)  # type: ignore[arg-type]
        await self.keys.load()

    def key(self, scope: str = "query") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.given[scope]}"}

    async def happened(self, *items: Item, source: str = "canonical:crm") -> None:
        """Interactions come in at ingest."""
        receipt = self.normaliser.take(items, Receipt(source, present.now(), 0.0))
        assert not receipt.refused, receipt.refused
        await self.broker.publish(receipt.records)

    async def ask(self, path: str) -> httpx.Response:
        return await self.http.get(f"/v1/leads/{path}", headers=self.key())

    async def lead(self, email: str) -> dict[str, Any]:
        answer = await self.http.post("/v1/leads/lookup", json={"email": email}, headers=self.key())
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def listed(self, **asked: Any) -> list[str]:
        """The ids of a list of leads."""
        answer = await self.http.get("/v1/leads", params=asked, headers=self.key())
        assert answer.status_code == 200, answer.text
        return [lead["id"] for lead in answer.json()["leads"]]

    async def report(self, lead: str, scope: str = "query", **report: Any) -> httpx.Response:
        return await self.http.post(
            f"/v1/leads/{lead}/status", json=report, headers=self.key(scope)
        )

    async def reported(self, lead: str, **report: Any) -> dict[str, Any]:
        answer = await self.report(lead, **report)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def reports(self) -> list[Any]:
        """Reports of sales in the store."""
        return await self.rows(
            "SELECT uid, source, conflict, flags, body FROM scorer.event WHERE body LIKE "
            "'%sales_%' OR "
            "body LIKE '%\"won\"%' OR body LIKE '%opportunity_opened%' OR body LIKE '%\"lost\"%'"
            " OR body LIKE '%\"refunded\"%'"
        )

    async def rows(self, statement: str, **values: Any) -> list[Any]:
        async with self.engine.connect() as connection:
            return await rows(connection, statement, **values)


@pytest.fixture
async def bench(
    settings: Settings, engine: AsyncEngine, default_playbook: Playbook
) -> AsyncIterator[Bench]:
    bench = Bench(settings, engine, default_playbook)
    await bench.open()
    yield bench
    await bench.http.aclose()


@pytest.fixture
async def ann(bench: Bench) -> str:
    """A lead known by address and the CRM's id."""
    await bench.happened(
        Item(
            id="d",
            type="demo_requested",
            email="ann@firm.example",
            external_id=CONTACT,
            occurred_at=NOW - timedelta(days=1),
        )
    )
    return str((await bench.lead("ann@firm.example"))["id"])


def refused(answer: httpx.Response, status: int, kind: str, where: str) -> str:
    body = answer.json()
    assert answer.status_code == status, body
    assert answer.headers["content-type"] == "application/problem+json"
    assert (body["type"].rpartition("#")[2], body["where"]) == (kind, where)
    assert body["title"]
    return str(body["detail"])


@pytest.mark.parametrize(
    "status", ["accepted", "rejected", "disqualified", "opportunity", "won", "lost", "refunded"]
)
async def test_the_answer_is_the_lead_with_what_was_reported(
    bench: Bench, ann: str, status: str
) -> None:
    """I6."""
    lead = await bench.reported(
        ann, status=status, reason="no budget" if status == "disqualified" else ""
    )
    assert (lead["id"], lead["sales_status"]) == (ann, status)
    assert lead["sales_reason"] == ("no_budget" if status == "disqualified" else None)
    assert len(await bench.reports()) == 1


async def test_an_outcome_reaches_likelihood_and_stage(bench: Bench, ann: str) -> None:
    """S2, G3: an opportunity ends the chance, a sale makes a customer."""
    assert (await bench.lead("ann@firm.example"))["likelihood"] > 0
    assert (await bench.reported(ann, status="opportunity"))["likelihood"] is None
    assert (await bench.reported(ann, status="won", value=1200))["stage"] == "customer"


@pytest.mark.parametrize("word", ["lost", "refunded"])
async def test_who_gets_the_money_back_is_a_lead_again(bench: Bench, ann: str, word: str) -> None:
    """G3: with a chance, and in lists."""
    assert (await bench.reported(ann, status="won"))["stage"] == "customer"
    assert await bench.listed() == []
    lead = await bench.reported(ann, status=word)
    assert lead["stage"] not in ("customer", "decision")
    assert (lead["likelihood"] > 0, lead["sales_status"]) == (True, word)
    assert await bench.listed() == [ann]


async def test_lists_leave_out_who_is_won_or_disqualified_unless_asked(
    bench: Bench, ann: str
) -> None:
    """U3: by sales status, company and change."""
    bo, cy = "bo@other.example", "cy@firm.example"
    before = present.now()
    await bench.happened(
        Item(id="b", type="demo_requested", email=bo, traits={"company": "Bo & Sons"}),
        Item(id="c", type="demo_requested", email=cy),
    )
    ids = {name: (await bench.lead(name))["id"] for name in (bo, cy)}
    assert set(await bench.listed()) == {ann, *ids.values()}
    assert set(await bench.listed(company="Firm.example ")) == {ann, ids[cy]}
    assert await bench.listed(company="bo  & SONS") == [ids[bo]]
    assert await bench.listed(company="other.example") == [], "it names another"
    assert set(await bench.listed(sales_status="none")) == {ann, *ids.values()}
    await bench.reported(ids[bo], status="disqualified", reason="no budget")
    await bench.reported(ids[cy], status="won")
    assert await bench.listed() == [ann]
    assert set(await bench.listed(sales_status="any")) == {ann, *ids.values()}
    assert await bench.listed(sales_status="disqualified") == [ids[bo]]
    assert await bench.listed(sales_status="won", company="FIRM.example") == [ids[cy]]
    assert await bench.listed(stage="customer") == [ids[cy]], "asked for by the stage"
    assert await bench.listed(stage="customer", sales_status="lost") == []
    assert set(await bench.listed(updated_since=before.isoformat(), sales_status="any")) >= {
        *ids.values()
    }
    ahead = present.now() + timedelta(minutes=1)
    assert await bench.listed(updated_since=ahead.isoformat(), sales_status="any") == []
    for where, name in (("sales_status", "sold"), ("updated_since", "yesterday")):
        answer = await bench.http.get("/v1/leads", params={where: name}, headers=bench.key())
        assert answer.status_code in (400, 422)
        assert where in answer.json()["where"]


@pytest.mark.parametrize("lead", ["{ann}", "HubSpot:701", "hubspot%3A701"])
async def test_a_lead_is_named_by_its_own_id_or_another_systems(
    bench: Bench, ann: str, lead: str
) -> None:
    """D6, U3: for the status and for every question."""
    name = lead.format(ann=ann)
    assert (await bench.reported(name, status="accepted"))["id"] == ann
    for path in ("", "/explain", "/timeline"):
        assert (await bench.ask(f"{name}{path}")).status_code == 200
    assert (await bench.ask(name)).json()["id"] == ann


async def test_the_same_fact_by_both_ways_counts_once(bench: Bench, ann: str) -> None:
    """I6: by the same id, with the same content no conflict; a repetition changes nothing."""
    event = Item(
        id="deal-7",
        type="won",
        external_id=CONTACT,
        occurred_at=datetime.fromisoformat(BOUGHT),
        properties={"value": 5, "note": "x"},
    )
    await bench.happened(event)
    for _ in range(2):
        lead = await bench.reported(
            "hubspot:701", status="won", id="deal-7", at=BOUGHT, note="x", value=5
        )
    (stored,) = await bench.reports()
    assert (stored.conflict, lead["events_counted"]) == (False, 2)


async def test_reported_first_by_the_call_and_then_as_an_event_it_is_one_fact_too(
    bench: Bench, ann: str
) -> None:
    at = NOW - timedelta(hours=1)
    await bench.reported(ann, status="opportunity", id="deal-7", at=at.isoformat())
    event = Item(id="deal-7", type="opportunity_opened", email="ann@firm.example", occurred_at=at)
    await bench.happened(event, source="segment:other")
    (stored,) = await bench.reports()
    assert (stored.source, stored.conflict) == ("sales:status", False)


async def test_without_an_id_time_status_and_lead_make_the_fact(bench: Bench, ann: str) -> None:
    for _ in range(2):
        await bench.reported("hubspot:701", status="won", at=BOUGHT)
    await bench.happened(
        Item(type="won", external_id=CONTACT, occurred_at=datetime.fromisoformat(BOUGHT))
    )
    assert len(await bench.reports()) == 1
    await bench.reported("hubspot:701", status="won", at=BOUGHT, product="default")
    await bench.reported("hubspot:701", status="lost", at=BOUGHT)
    assert len(await bench.reports()) == 3


async def test_an_unknown_external_id_waits_and_the_link_brings_its_report_along(
    bench: Bench,
) -> None:
    """D6: it is answered under a provisional lead at once, and belongs to the person once the two
    are linked.
    """
    waiting = await bench.reported("hubspot:9", status="opportunity")
    assert waiting["identifiers"]["external_id"] == [{"system": "hubspot", "id": "9"}]
    await bench.happened(Item(id="a", type="demo_requested", email="bo@firm.example"))
    assert (await bench.lead("bo@firm.example"))["sales_status"] is None
    await bench.happened(
        Item(
            id="b",
            type="identified",
            email="bo@firm.example",
            external_id=ExternalId("hubspot", "9"),
        )
    )
    lead = await bench.lead("bo@firm.example")
    assert (lead["sales_status"], lead["likelihood"]) == ("opportunity", None)
    assert (await bench.ask("hubspot:9")).json()["id"] == lead["id"]
    assert (await bench.reported(waiting["id"], status="won"))["id"] == lead["id"]
    assert (await bench.ask("hubspot:9")).json()["stage"] == "customer"


async def test_the_link_may_come_first_and_the_score_is_the_same(bench: Bench) -> None:
    """D6: in either order."""
    at = NOW - timedelta(hours=3)
    link = Item(
        id="b",
        type="identified",
        email="cy@firm.example",
        external_id=ExternalId("hubspot", "5"),
        occurred_at=at,
    )
    await bench.happened(link)
    after = await bench.reported(
        "hubspot:5", status="won", at=(at + timedelta(hours=1)).isoformat()
    )
    waiting = await bench.reported(
        "hubspot:6", status="won", at=(at + timedelta(hours=1)).isoformat()
    )
    assert waiting["id"] != after["id"]
    await bench.happened(
        Item(
            id="c",
            type="identified",
            email="di@firm.example",
            external_id=ExternalId("hubspot", "6"),
            occurred_at=at,
        )
    )
    before = await bench.lead("di@firm.example")
    same = ("stage", "stage_since", "belief", "sales_status", "fit", "events_counted")
    assert {name: before[name] for name in same} == {name: after[name] for name in same}


async def test_a_lead_that_was_merged_is_followed(bench: Bench, ann: str) -> None:
    """Nobody posts twice for a redirect."""
    await bench.happened(Item(id="v", type="pricing_viewed", anonymous_id="cookie"))
    found = await bench.http.post(
        "/v1/leads/lookup", json={"anonymous_id": "cookie"}, headers=bench.key()
    )
    stranger = found.json()["id"]
    await bench.happened(
        Item(id="l", type="identified", anonymous_id="cookie", email="ann@firm.example")
    )
    assert (await bench.ask(stranger)).status_code == 308
    lead = await bench.reported(stranger, status="accepted")
    assert (lead["id"], lead["sales_status"]) == (ann, "accepted")


@pytest.mark.parametrize(
    "named",
    [
        {"user_id": "u"},
        {"email": "info@firm.example"},
        {"anonymous_id": "a"},
        {"touch_id": str(uuid.UUID(int=3))},
    ],
)
async def test_a_lead_of_any_kind_of_identifier_can_be_reported_on(
    bench: Bench, named: dict[str, str]
) -> None:
    await bench.happened(Item(id="1", type="page_viewed", **named))
    (row,) = await bench.rows("SELECT id FROM scorer.lead")
    assert (await bench.reported(str(row.id), status="rejected", reason="our own words"))[
        "sales_reason"
    ] == "our own words"
    assert len(await bench.rows("SELECT id FROM scorer.lead")) == 1


async def test_what_is_safe_but_not_applied_yet_is_answered_202(
    bench: Bench, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sales_status, "WAIT_S", 0.1)
    bench.broker.state = "slow"
    answer = await bench.report(ann, status="won", id="deal-1")
    assert (answer.status_code, answer.json()) == (202, {"id": "deal-1", "applied": False})
    await bench.broker.deliver()
    assert (await bench.lead("ann@firm.example"))["sales_status"] == "won"


async def test_without_a_broker_nothing_is_accepted(bench: Bench, ann: str) -> None:
    """O4."""
    bench.broker.state = "away"
    answer = await bench.report(ann, status="won")
    refused(answer, 503, "away", "")
    assert answer.headers["retry-after"]
    assert await bench.reports() == []


async def test_only_sales_and_machines_of_ours_may_report(bench: Bench, ann: str) -> None:
    assert (await bench.report(ann, "secret", status="accepted")).status_code == 200
    refused(await bench.report(ann, "public", status="accepted"), 403, "forbidden", "Authorization")
    refused(
        await bench.http.post(f"/v1/leads/{ann}/status", json={"status": "won"}),
        401,
        "unauthorized",
        "Authorization",
    )


@pytest.mark.parametrize("reason", ["", "bored"])
async def test_disqualifying_names_a_reason_of_the_playbook(
    bench: Bench, ann: str, reason: str
) -> None:
    """I6, H2."""
    remedy = refused(
        await bench.report(ann, status="disqualified", reason=reason), 400, "invalid", "body.reason"
    )
    assert "no_budget" in remedy
    assert await bench.reports() == []


@pytest.mark.parametrize(
    ("report", "status", "where"),
    [
        ({"status": "loved"}, 422, "body.status"),
        ({}, 422, "body.status"),
        ({"status": "won", "at": "yesterday"}, 422, "body.at"),
        ({"status": "won", "at": "2026-01-01T00:00:00"}, 422, "body.at"),
        ({"status": "won", "at": "0001-01-01T00:00:00+14:00"}, 422, "body.at"),
        ({"status": "won", "at": (NOW + timedelta(days=1)).isoformat()}, 400, "body.at"),
        ({"status": "won", "product": "none"}, 400, "body.product"),
        ({"status": "won", "when": "now"}, 422, "body.when"),
        ({"status": "won", "note": "a\0b"}, 400, "body"),
        ({"status": "won", "id": "a\\u0000b"}, 400, "body"),
        ({"status": "won", "id": "x" * 501}, 422, "body.id"),
        ({"status": "won", "value": "much"}, 422, "body.value"),
        ({"status": "won", "value": True}, 422, "body.value"),
        ({"status": "won", "value": 1 << 64}, 422, "body.value"),
    ],
)
async def test_what_cannot_be_reported_is_refused_with_its_place(
    bench: Bench, ann: str, report: dict[str, Any], status: int, where: str
) -> None:
    refused(await bench.report(ann, **report), status, "invalid", where)
    assert await bench.reports() == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"won"',
        b'{"status": "won", "note": "\\ud800"}',
        b'{"status": "won", "value": 1e400}',
    ],
)
async def test_what_is_no_sound_json_is_refused(bench: Bench, ann: str, body: bytes) -> None:
    headers = bench.key() | {"Content-Type": "application/json"}
    answer = await bench.http.post(f"/v1/leads/{ann}/status", content=body, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["type"].endswith("#invalid")


async def test_a_lead_that_is_none_is_refused(bench: Bench) -> None:
    refused(await bench.report(str(uuid.uuid4()), status="won"), 404, "not-found", "id")
    refused(await bench.report("nobody", status="won"), 422, "invalid", "path.lead_id")
    refused(await bench.report("crm:", status="won"), 422, "invalid", "path.lead_id")
    refused(await bench.report("crm:null", status="won"), 404, "not-found", "path.lead_id")
    refused(await bench.report("ripeline.touch:1", status="won"), 404, "not-found", "path.lead_id")
    refused(await bench.report("crm:%00", status="won"), 404, "not-found", "path.lead_id")
    refused(await bench.ask("crm:77"), 404, "not-found", "path.lead_id")
    refused(await bench.ask("crm:77/timeline"), 404, "not-found", "path.lead_id")


async def test_a_report_of_long_ago_is_marked_so_and_a_number_of_any_size_is_kept(
    bench: Bench, ann: str
) -> None:
    await bench.reported(ann, status="won", at="2021-01-01T00:00:00Z", value=1e300)
    (stored,) = await bench.reports()
    assert stored.flags == "old"
    assert "1e300" in stored.body


# -- on the page ----------------------------------------------------------------------------------


async def sign_in(bench: Bench) -> None:
    assert (
        await bench.http.get("/sign-in", params={"key": bench.given["query"]})
    ).status_code == 303


async def test_the_page_takes_a_report_and_shows_it_with_its_reason(bench: Bench, ann: str) -> None:
    """U2."""
    await sign_in(bench)
    form = {"status": "disqualified", "reason": "bad_timing", "fact": str(uuid.uuid4())}
    for _ in range(2):
        answer = await bench.http.post(
            f"/leads/{ann}/status",
            data=form,
            headers={"Sec-Fetch-Site": "same-origin", "Origin": "null"},
        )
        assert (answer.status_code, answer.headers["location"]) == (303, f"/leads/{ann}")
    assert len(await bench.reports()) == 1
    page = (await bench.http.get(f"/leads/{ann}")).text
    assert '<span class="said-status">disqualified: Bad timing</span>' in page
    assert '<option value="no_budget">No budget</option>' in page


async def test_the_page_says_what_is_missing(bench: Bench, ann: str) -> None:
    await sign_in(bench)
    for form, text in (
        ({"status": "disqualified"}, "not our market"),
        ({"status": "loved"}, "accepted, rejected"),
    ):
        answer = await bench.http.post(f"/leads/{ann}/status", data=form)
        assert answer.status_code == 400
        assert text in answer.text
    assert await bench.reports() == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
    ],
)
async def test_a_form_on_another_site_cannot_report(
    bench: Bench, ann: str, headers: dict[str, str]
) -> None:
    await sign_in(bench)
    answer = await bench.http.post(f"/leads/{ann}/status", data={"status": "won"}, headers=headers)
    assert answer.status_code == 403
    bench.http.cookies.clear()
    assert (
        await bench.http.post(f"/leads/{ann}/status", data={"status": "won"})
    ).status_code == 303
    assert await bench.reports() == []
