"""One bad row harms its own lead alone: consumer, sweeper, lists, page and CRM go on without it,
and what it missed is folded once it can be read again.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.ops.commands.rebuild import rebuild
from services.ops.commands.verify import _compare
from services.scorer import failing
from services.scorer.api import create_app
from services.scorer.crm import outbox as crm_outbox
from services.scorer.crm.delivery import CrmDelivery
from services.scorer.processing import announcements
from services.scorer.processing import sweeper as sweeping
from services.scorer.queries.leads import LeadQueries
from services.shared.clock import DAY, from_us
from services.shared.contracts.events import Consent, Interaction
from services.shared.http.keys import ApiKeys, new_key, register
from services.shared.logs import configure_logs
from services.shared.messaging.kafka import Publisher
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from services.shared.telemetry import LEADS_FAILED
from tests.integration.scorer.test_processing import HOUR, NOON, Bench

PEPPER = b"a pepper of the tests"
CORRUPT = {
    "the profile is no msgpack": ("lead", "profile = '\\xc1'"),
    "the profile is something else": ("lead", "profile = '\\x93010203'"),
    "the profile is of another shape": ("lead", "profile = '\\x9080'"),
    "the record has another size": ("lead_state", "record = '\\x0102'"),
    "what is pending is no msgpack": ("lead_state", "pending = '\\xc1'"),
}


@pytest.fixture(scope="module", autouse=True)
def _plain_logs() -> None:
    configure_logs("scorer", "error")


class Clinic(Bench):
    """A bench with three leads, ann, bob and cid, whose page and API can be asked."""

    async def open(self, settings: Settings) -> None:
        keys, key = ApiKeys(self.engine), new_key()
        await register(self.engine, key, "people", "query")
        await keys.load()
        scoring = self.handler.scoring
        app = create_app(settings, self.engine, scoring, keys, dict, Publisher(settings))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(
            transport=transport,
            base_url="http://page",
            headers={"Authorization": f"Bearer {key}"},
        )
        assert (await self.http.get("/sign-in", params={"key": key})).status_code == 303
        for name in ("ann", "bob", "cid"):
            await self.said("demo_requested", NOON, id=name, email=f"{name}@f.example")
        self.ids = {name: await self.id_of(name) for name in ("ann", "bob", "cid")}

    async def id_of(self, name: str) -> uuid.UUID:
        value: uuid.UUID = await self.one(
            "SELECT lead_id FROM scorer.identifier WHERE value = :v", v=f"{name}@f.example"
        )
        return value

    async def run(self, statement: str, **values: Any) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text(statement), values)

    async def corrupt(self, what: str, name: str) -> None:
        table, change = CORRUPT[what]
        key = "id" if table == "lead" else "lead_id"
        await self.run(
            f"UPDATE scorer.{table} SET {change} WHERE {key} = :lead", lead=self.ids[name]
        )

    async def corrupt_event(self, name: str) -> str:
        """Returns the event's body as it was."""
        body: str = await self.one(
            "SELECT body FROM scorer.event WHERE lead_id = :lead", lead=self.ids[name]
        )
        await self.run(
            "UPDATE scorer.event SET body = '[]' WHERE lead_id = :lead", lead=self.ids[name]
        )
        return body

    async def restore_event(self, name: str, body: str) -> None:
        await self.run(
            "UPDATE scorer.event SET body = :body WHERE lead_id = :lead AND body = '[]'",
            lead=self.ids[name],
            body=body,
        )

    async def act(self, *names: str, days: int = 0, type_: str = "enquired") -> None:
        """An act of each, all in one batch."""
        at = NOON + days * DAY + HOUR
        self.at(at)
        records = [
            self.record(Interaction(id=f"{name}-{days}", type=type_, email=f"{name}@f.example"), at)
            for name in names
        ]
        await self.take(*records)

    async def failing(self) -> dict[str, Any]:
        found = await self.ask("SELECT * FROM scorer.failing_lead")
        return {self.name_of(row.lead_id): row for row in found}

    def name_of(self, lead: uuid.UUID) -> str:
        return next(name for name, id_ in self.ids.items() if id_ == lead)

    async def requested(self, name: str) -> list[str]:
        """The requests of a lead that others were told of."""
        told = await self.outgoing("lead.engaged.v1")
        events = [event.data for event in told if event.data.lead == str(self.ids[name])]
        return [request.type for event in events for request in event.requests]

    async def due_again(self) -> None:
        await self.run("UPDATE scorer.failing_lead SET next_at = now() - interval '1 s'")

    async def mismatches(self) -> list[Any]:
        async with self.engine.connect() as connection:
            found = await self.ask("SELECT id, profile FROM scorer.lead WHERE merged_into IS NULL")
            profiles = {row.id: row.profile for row in found}
            return await _compare(connection, self.handler.scoring, profiles)

    async def counted(self) -> dict[str, int]:
        """Events counted by lead, as the list says."""
        answer = await self.http.get("/v1/leads")
        assert answer.status_code == 200, answer.text
        return {
            self.name_of(uuid.UUID(lead["id"])): lead["events_counted"]
            for lead in answer.json()["leads"]
        }


@pytest.fixture
async def clinic(
    engine: AsyncEngine, settings: Settings, default_playbook: Playbook
) -> AsyncIterator[Clinic]:
    clinic = Clinic(engine, default_playbook)
    clinic.at(NOON)
    await clinic.open(settings)
    yield clinic
    await clinic.http.aclose()


# -- what is derived is derived again -------------------------------------------------------------


@pytest.mark.parametrize("what", CORRUPT)
async def test_a_row_that_cannot_be_read_is_made_again_at_the_leads_next_event(
    clinic: Clinic, what: str
) -> None:
    await clinic.corrupt(what, "bob")
    await clinic.act("ann", "bob", "cid")
    assert await clinic.failing() == {}
    assert await clinic.one("SELECT count(*) FROM scorer.dead_letter") == 0
    assert await clinic.counted() == {"ann": 2, "bob": 2, "cid": 2}
    assert await clinic.mismatches() == []


@pytest.mark.parametrize("what", CORRUPT)
async def test_a_row_that_cannot_be_read_is_made_again_at_its_review(
    clinic: Clinic, what: str
) -> None:
    await clinic.corrupt(what, "bob")
    clinic.at(NOON + 90 * DAY)
    assert await clinic.sweeper().sweep() == 3
    assert await clinic.failing() == {}
    assert await clinic.mismatches() == []
    said = await clinic.announced()
    assert {row.cause for row in said} == {"event", "silence"}
    assert {row.lead_id for row in said if row.cause == "silence"} == set(clinic.ids.values())


@pytest.mark.parametrize("what", CORRUPT)
async def test_lists_and_page_show_a_lead_that_cannot_be_read_as_such(
    clinic: Clinic, what: str
) -> None:
    await clinic.corrupt(what, "bob")
    bob = str(clinic.ids["bob"])
    for order in ("likelihood", "engagement", "fit", "last_event_at"):
        answer = await clinic.http.get("/v1/leads", params={"order": order})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert [lead["id"] for lead in page["failed"]] == [bob]
        assert page["failed"][0]["failed"]
        assert len(page["leads"]) == 2
    home = await clinic.http.get("/")
    assert home.status_code == 200
    assert f'<tr class="failed">\n      <th scope="row"><a href="/leads/{bob}"' in home.text
    single = await clinic.http.get(f"/v1/leads/{bob}")
    problem = single.json()
    assert (single.status_code, problem["type"].partition("#")[2]) == (500, "lead-unreadable")
    assert f"ripeline lead rebuild {bob}" in problem["detail"]
    explained = await clinic.http.get(f"/v1/leads/{bob}/explain")
    assert explained.status_code == 200, "it is made from events"
    shown = await clinic.http.get(f"/leads/{bob}")
    assert shown.status_code == 500
    assert "cannot be read" in shown.text
    assert (await clinic.http.get(f"/v1/leads/{clinic.ids['ann']}")).status_code == 200
    assert set(await clinic.failing()) == {"bob"}, "marked by who could not read it"
    assert await clinic.sweeper().mend() == 1
    assert await clinic.counted() == {"ann": 1, "bob": 1, "cid": 1}
    assert bob not in (await clinic.http.get("/")).text.partition('class="failed"')[2]


async def test_a_failing_lead_at_the_end_of_a_page_takes_no_other_with_it(clinic: Clinic) -> None:
    await clinic.corrupt("the profile is no msgpack", "bob")
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        params = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        page = (await clinic.http.get("/v1/leads", params=params)).json()
        seen += [lead["id"] for lead in page["leads"] + page["failed"]]
        cursor = page["next"]
    assert sorted(seen) == sorted(map(str, clinic.ids.values()))


# -- what cannot be derived is set aside ----------------------------------------------------------


async def test_events_of_a_failing_lead_are_kept_and_folded_once_it_is_mended(
    clinic: Clinic,
) -> None:
    body = await clinic.corrupt_event("bob")
    await clinic.corrupt("the profile is no msgpack", "bob")
    await clinic.act("ann", "bob", "cid")
    await clinic.act("ann", "bob", "cid", days=1, type_="content_downloaded")
    assert await clinic.one("SELECT count(*) FROM scorer.dead_letter") == 0
    assert await clinic.one("SELECT count(*) FROM scorer.event") == 9
    assert await clinic.counted() == {"ann": 3, "cid": 3}
    for path in ("", "/explain", "/timeline"):
        answer = await clinic.http.get(f"/v1/leads/{clinic.ids['bob']}{path}")
        assert answer.json()["type"].endswith("#lead-unreadable"), path
    marked = (await clinic.failing())["bob"]
    assert (marked.place, marked.attempts) == ("consumer", 1)
    assert marked.waiting_since == from_us(NOON + HOUR)

    await clinic.restore_event("bob", body)
    assert await clinic.sweeper().mend() == 0, "its time has not come"
    await clinic.due_again()
    assert await clinic.sweeper().mend() == 1
    assert await clinic.failing() == {}
    assert await clinic.counted() == {"ann": 3, "bob": 3, "cid": 3}
    assert await clinic.mismatches() == []
    told = {event.data.lead for event in await clinic.outgoing("lead.engaged.v1")}
    assert str(clinic.ids["bob"]) in told, "what it did meanwhile is told of"


async def test_attempts_at_a_failing_lead_are_ever_rarer_and_each_is_counted(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[tuple[str, str]] = []

    def error(event: str, *, lead_id: str, **_: str) -> None:
        logged.append((event, lead_id))

    monkeypatch.setattr(failing, "log", SimpleNamespace(error=error))
    await clinic.corrupt_event("bob")
    await clinic.corrupt("the record has another size", "bob")
    clinic.at(NOON + 90 * DAY)
    before = LEADS_FAILED.labels("sweeper")._value.get()
    sweeper = clinic.sweeper()
    assert await sweeper.sweep() == 3
    assert await sweeper.sweep() == 0, "a failing lead is not due again and again"
    silent = {row.lead_id for row in await clinic.announced() if row.cause == "silence"}
    assert silent == {clinic.ids["ann"], clinic.ids["cid"]}
    waits = []
    for _ in range(6):
        waits.append(
            await clinic.one(
                "SELECT extract(epoch FROM next_at - clock_timestamp())::float8 "
                "FROM scorer.failing_lead"
            )
        )
        assert await sweeper.mend() == 0
        await clinic.due_again()
        assert await sweeper.mend() == 1
    assert waits == pytest.approx([60, 300, 1800, 7200, 21600, 21600], abs=5)
    assert LEADS_FAILED.labels("sweeper")._value.get() - before == 7
    assert logged == [("lead_failed", str(clinic.ids["bob"]))] * 7


async def test_a_lead_is_rebuilt_on_request(clinic: Clinic, engine: AsyncEngine) -> None:
    await clinic.corrupt("the profile is something else", "bob")
    assert await rebuild(engine, [clinic.ids["bob"]]) == 1
    assert await clinic.sweeper().mend() == 1
    assert await clinic.counted() == {"ann": 1, "bob": 1, "cid": 1}
    assert await clinic.mismatches() == []
    body = await clinic.corrupt_event("cid")
    await rebuild(engine, [clinic.ids["cid"]])
    await clinic.sweeper().mend()
    assert set(await clinic.failing()) == {"cid"}
    await clinic.restore_event("cid", body)
    assert await rebuild(engine, []) == 1, "all that fail"
    await clinic.sweeper().mend()
    assert await clinic.counted() == {"ann": 1, "bob": 1, "cid": 1}


async def test_a_failing_lead_that_is_merged_away_is_no_longer_failing(clinic: Clinic) -> None:
    await clinic.run("DELETE FROM scorer.failing_lead")
    await rebuild(clinic.engine, [clinic.ids["bob"]])
    await clinic.run(
        "UPDATE scorer.event SET lead_id = :ann WHERE lead_id = :bob",
        ann=clinic.ids["ann"],
        bob=clinic.ids["bob"],
    )
    assert await clinic.sweeper().mend() == 1
    assert await clinic.failing() == {}


@pytest.mark.parametrize("is_known", [True, False])
async def test_what_was_announced_of_a_lead_that_a_failing_one_takes_in_is_not_again(
    clinic: Clinic, is_known: bool
) -> None:
    """Whether the mark was there already, or this very record finds that the lead fails."""
    await clinic.said("page_viewed", NOON, id="dan", email="dan@f.example")
    await clinic.said("demo_requested", NOON + HOUR, id="visit", anonymous_id="browser-7")
    clinic.ids["dan"] = await clinic.id_of("dan")
    before = [(row.lead_id, row.stage) for row in await clinic.announced()]
    body = await clinic.corrupt_event("dan")
    if is_known:
        await rebuild(clinic.engine, [clinic.ids["dan"]])
        await clinic.sweeper().mend()
    both = Interaction(
        id="both", type="page_viewed", email="dan@f.example", anonymous_id="browser-7"
    )
    clinic.at(NOON + 2 * HOUR)
    await clinic.take(clinic.record(both, NOON + 2 * HOUR))
    assert set(await clinic.failing()) == {"dan"}
    assert await clinic.one("SELECT count(*) FROM scorer.lead WHERE merged_into IS NOT NULL") == 1
    await clinic.restore_event("dan", body)
    await rebuild(clinic.engine, [])
    await clinic.sweeper().mend()
    assert await clinic.failing() == {}
    after = [(row.lead_id, row.stage) for row in await clinic.announced()]
    assert after == before
    assert await clinic.counted() == {"ann": 1, "bob": 1, "cid": 1, "dan": 3}
    assert await clinic.mismatches() == []


async def test_events_that_wait_with_a_lead_count_for_the_one_that_takes_it_in(
    clinic: Clinic,
) -> None:
    """A profile that lacks them must not stand for them."""
    await clinic.said("page_viewed", NOON, id="dan", email="dan@f.example")
    await clinic.said("demo_requested", NOON + HOUR, id="visit", anonymous_id="browser-7")
    clinic.ids["dan"] = await clinic.id_of("dan")
    visitor = await clinic.one("SELECT lead_id FROM scorer.identifier WHERE value = 'browser-7'")
    await rebuild(clinic.engine, [visitor])
    await clinic.said("enquired", NOON + 2 * HOUR, id="waits", anonymous_id="browser-7")
    await clinic.said(
        "page_viewed", NOON + 3 * HOUR, id="both", email="dan@f.example", anonymous_id="browser-7"
    )
    await clinic.sweeper().mend()
    assert await clinic.counted() == {"ann": 1, "bob": 1, "cid": 1, "dan": 4}
    assert await clinic.mismatches() == []


async def test_a_request_that_comes_while_a_lead_is_being_mended_is_told_of(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after the sweeper chose the lead, and before it locked it."""
    await rebuild(clinic.engine, [clinic.ids["bob"]])
    sweeper = clinic.sweeper()
    original = sweeper._mend_alone

    async def overtaken(*given: Any) -> None:
        await clinic.act("bob", type_="demo_requested")
        await original(*given)

    monkeypatch.setattr(sweeper, "_mend_alone", overtaken)
    assert await sweeper.mend() == 1
    assert await clinic.requested("bob") == ["demo_requested"] * 2
    assert await clinic.mismatches() == []


async def test_requests_that_wait_with_a_lead_are_told_of_by_the_one_that_takes_it_in(
    clinic: Clinic,
) -> None:
    await clinic.said("page_viewed", NOON, id="dan", email="dan@f.example")
    await clinic.said("page_viewed", NOON, id="visit", anonymous_id="browser-7")
    clinic.ids["dan"] = await clinic.id_of("dan")
    visitor = await clinic.one("SELECT lead_id FROM scorer.identifier WHERE value = 'browser-7'")
    await rebuild(clinic.engine, [visitor])
    await clinic.said("demo_requested", NOON + HOUR, id="waits", anonymous_id="browser-7")
    await clinic.said(
        "page_viewed", NOON + 2 * HOUR, id="both", email="dan@f.example", anonymous_id="browser-7"
    )
    await clinic.sweeper().mend()
    assert await clinic.requested("dan") == ["demo_requested"]
    assert await clinic.failing() == {}
    assert await clinic.mismatches() == []


async def test_a_merge_into_a_failing_lead_is_told_once_it_is_mended(clinic: Clinic) -> None:
    await clinic.said("demo_requested", NOON, id="visit", anonymous_id="browser-7")
    visitor = await clinic.one("SELECT lead_id FROM scorer.identifier WHERE value = 'browser-7'")
    await rebuild(clinic.engine, [clinic.ids["bob"]])
    await clinic.said(
        "page_viewed", NOON + HOUR, id="both", email="bob@f.example", anonymous_id="browser-7"
    )
    assert await clinic.outgoing("lead.merged.v1") == []
    await clinic.sweeper().mend()
    told = [(event.data.lead, event.data.merged) for event in
            await clinic.outgoing("lead.merged.v1")]  # fmt: skip
    assert told == [(str(clinic.ids["bob"]), (str(visitor),))]


async def test_a_lead_whose_mending_hits_a_fault_that_passes_makes_way_for_others(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rebuild(clinic.engine, list(clinic.ids.values()))
    sweeper = clinic.sweeper()
    tried: list[uuid.UUID] = []

    async def busy(lead: uuid.UUID, *_: Any) -> None:
        tried.append(lead)
        raise TimeoutError

    monkeypatch.setattr(sweeper, "_mend_alone", busy)
    for _ in clinic.ids:
        with pytest.raises(TimeoutError):
            await sweeper.mend()
    assert sorted(tried) == sorted(clinic.ids.values())
    assert await sweeper.mend() == 0, "each has its next attempt later"


async def test_refolding_that_hits_a_fault_that_passes_holds_up_neither_reviews_nor_mending(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rebuild(clinic.engine, [clinic.ids["bob"]])
    clinic.at(NOON + 90 * DAY)
    sweeper = clinic.sweeper()
    monkeypatch.setattr(sweeper, "refold", AsyncMock(side_effect=TimeoutError))
    beats = 0

    def heartbeat() -> None:
        nonlocal beats
        beats += 1

    turn = asyncio.create_task(sweeper.run(heartbeat))
    async with asyncio.timeout(20):
        while await clinic.failing():
            await asyncio.sleep(0.02)
    turn.cancel()
    assert "silence" in {row.cause for row in await clinic.announced()}
    assert beats > 3, "one for each kind of work and each lead"


async def test_a_lead_whose_review_takes_too_long_holds_up_no_other(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeper = clinic.sweeper()
    original = sweeper._reviewed

    async def slow(connection: AsyncConnection, chosen: list[uuid.UUID]) -> Any:
        if clinic.ids["bob"] in chosen:
            await connection.execute(text("SET LOCAL statement_timeout = 20"))
            await connection.execute(text("SELECT pg_sleep(5)"))
        return await original(connection, chosen)

    monkeypatch.setattr(sweeper, "_reviewed", slow)
    clinic.at(NOON + 90 * DAY)
    assert await sweeper.sweep() == 3
    silent = {row.lead_id for row in await clinic.announced() if row.cause == "silence"}
    assert silent == {clinic.ids["ann"], clinic.ids["cid"]}
    assert await clinic.failing() == {}, "the surroundings may be at fault"


async def test_requests_are_not_crowded_out_of_what_waits_with_a_failing_lead(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "MOST_WAITING", 2)
    await rebuild(clinic.engine, [clinic.ids["bob"]])
    await clinic.act("bob", type_="demo_requested")
    for day in range(1, 5):
        await clinic.act("bob", days=day, type_="page_viewed")
    await clinic.sweeper().mend()
    assert await clinic.requested("bob") == ["demo_requested"] * 2
    assert await clinic.counted() == {"ann": 1, "bob": 6, "cid": 1}


# -- whose fault it is ----------------------------------------------------------------------------


async def test_only_an_event_that_is_at_fault_itself_is_buried(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both what can be folded of no lead, and what others cannot be told of."""
    original = announcements.snapshot_of

    def choking(lead: Any, *rest: Any) -> Any:
        if "choke" in lead.profile.traits:
            raise OverflowError("too large")
        return original(lead, *rest)

    monkeypatch.setattr(announcements, "snapshot_of", choking)
    at = NOON + HOUR
    choke = Interaction(
        id="choke", type="enquired", email="bob@f.example", traits={"choke": 1},
        consent=[Consent(channel="e\tmail", purpose="x", state="withdrawn")],
    )  # fmt: skip
    sound = Interaction(id="sound", type="enquired", email="ann@f.example")
    clinic.at(at)
    await clinic.take(clinic.record(choke, at), clinic.record(sound, at))
    letters = await clinic.ask("SELECT reason FROM scorer.dead_letter")
    assert [row.reason for row in letters] == ["OverflowError: too large"]
    assert await clinic.failing() == {}
    assert await clinic.counted() == {"ann": 2, "bob": 1, "cid": 1}


async def test_a_lead_whose_snapshot_cannot_be_packed_fails_alone(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stored facts are at fault, so its new events are none of them."""
    original, bob = announcements.snapshot_of, clinic.ids["bob"]

    def choking(lead: Any, *rest: Any) -> Any:
        if "bob@f.example" in {name.value for name in lead.identifiers}:
            raise OverflowError("too large")
        return original(lead, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(announcements, "snapshot_of", choking)
        await clinic.act("ann", "bob", "cid")
        assert await clinic.one("SELECT count(*) FROM scorer.dead_letter") == 0
        assert set(await clinic.failing()) == {"bob"}
        clinic.at(NOON + 90 * DAY)
        await clinic.sweeper().sweep()
        answer = (await clinic.http.get("/v1/leads")).json()
        assert [lead["id"] for lead in answer["failed"]] == [str(bob)]
    await clinic.due_again()
    await clinic.sweeper().mend()
    assert await clinic.failing() == {}
    assert await clinic.mismatches() == []
    assert await clinic.counted() == {"ann": 2, "bob": 2, "cid": 2}


async def test_a_channel_that_holds_a_tab_harms_nobody(clinic: Clinic) -> None:
    consent = [Consent(channel="e\tmail\t", purpose="\t", state="given")]
    await clinic.said("enquired", NOON + HOUR, id="tab", email="bob@f.example", consent=consent)
    await clinic.said("unsubscribed", NOON + 2 * HOUR, id="out", email="bob@f.example")
    clinic.at(NOON + 90 * DAY)
    await clinic.sweeper().sweep()
    assert await clinic.failing() == {}
    lead = (await clinic.http.get(f"/v1/leads/{clinic.ids['bob']}")).json()
    assert {one["channel"]: one["state"] for one in lead["consent"]} == {
        "e\tmail\t": "given",
        "email": "withdrawn",
    }
    assert (await clinic.http.get("/")).status_code == 200


# -- what a CRM is told ---------------------------------------------------------------------------


async def test_the_crm_hears_of_the_others(
    clinic: Clinic, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    scoring = clinic.handler.scoring
    crm = settings.model_copy(
        update={
            "crm_url": type(settings.crm_url)("http://127.0.0.1:9/"),
            "crm_secret": type(settings.crm_secret)("whsec_" + "MDEy" * 10 + "MDE="),
        }
    )
    delivery = CrmDelivery(crm, clinic.engine, scoring, LeadQueries(clinic.engine, scoring, PEPPER))
    posted: list[bytes] = []

    async def post(_: str, body: bytes) -> int:
        posted.append(body)
        return 200

    monkeypatch.setattr(delivery._webhook, "post", post)
    for lead in clinic.ids.values():
        await clinic.run(
            "INSERT INTO scorer.writeback (lead_id, due_at, told) VALUES (:lead, now(), '\\xc1')",
            lead=lead,
        )
    await clinic.corrupt("the profile is no msgpack", "bob")
    assert await delivery.deliver_due() == 3
    assert len(posted) == 2
    bob = (
        await clinic.ask(
            "SELECT * FROM scorer.writeback WHERE lead_id = :lead", lead=clinic.ids["bob"]
        )
    )[0]
    assert bob.attempts == 1
    assert "cannot be read" in bob.problem
    async with clinic.engine.begin() as connection:
        assert await crm_outbox.claim(connection, 20, 1.0) == [], "it waits by the schedule"
