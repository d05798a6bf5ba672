"""Calls that a person is asked to make: listed, answered and expired at nurture's address, and what
came of them as an act of the lead (N7).
"""

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from services.nurture.api import create_app
from services.nurture.calls import Calls
from services.scorer.processing.decoding import from_touch
from services.shared.contracts.events import ConsentState, TouchEvent
from services.shared.playbook.sections import Playbook
from tests.integration.nurture.test_nurture import (
    BOTTLING,
    LEAD,
    NOON,
    Bench,
    bench,
    change,
    refusal,
    with_parts,
)

__all__ = ["bench"]


def by_call(playbook: Playbook) -> Playbook:
    programs = [each.model_copy(update={"channel": "call"}) for each in playbook.programs]
    calls = playbook.calls.model_copy(update={"assignee": "sdr@millwarden.example"})
    return with_parts(playbook, programs=programs, calls=calls)


class AnyKey:
    """Keys among which every one is in force."""

    def authorize(self, given: str, *scopes: str) -> Any:
        return SimpleNamespace(id="k", name="crm", scope="query")

    def in_force(self, key_id: str) -> None:
        """No ticket is of a key."""


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    bench.use(by_call(bench.playbook))
    bench.calls = Calls(bench.engine, bench.clock, lambda: None)  # type: ignore[attr-defined]
    app = create_app(
        bench.settings,
        bench.engine,
        AnyKey(),  # type: ignore[arg-type]
        dict,
        bench.calls,  # type: ignore[attr-defined]
        bench.planned(),
        bench.library(),
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://nurture") as client:
        yield client


async def one_task(bench: Bench, client: httpx.AsyncClient, **snapshot: Any) -> dict[str, Any]:
    await bench.take(change(**snapshot))
    assert await bench.scheduler.send_batch() == 1
    (task,) = (await client.get("/v1/tasks?state=open")).json()["tasks"]
    return dict(task)


async def last_act(bench: Bench) -> tuple[TouchEvent, str, Any]:
    """The newest event, and how the scorer reads it."""
    event = (await bench.events())[-1]
    read = from_touch(event, bench.rules.cleaner)
    assert read
    return event, read.data.type, read


async def test_a_call_has_an_owner_a_day_reasons_and_an_opening(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    task = await one_task(
        bench, client, belief={"decision": 0.83}, likelihood=0.31,
        last_act_at=NOON - timedelta(hours=2),
        traits={"timezone": "UTC", "name": "Ann Ames", "phone": "+44 1632 960001"},
    )  # fmt: skip
    assert (task["lead"], task["content"], task["email"]) == (LEAD, BOTTLING, "ann@firm.example")
    assert (task["assignee"], task["phone"]) == ("sdr@millwarden.example", "+44 1632 960001")
    assert task["reasons"] == [
        "in decision, believed with 83%", "buys with a likelihood of 31%", "acted last today",
    ]  # fmt: skip
    assert len(task["opening"]) > 20
    assert "http" not in task["opening"]
    assert task["due_at"] < task["expires_at"]
    assert task["outcome"] is None
    assert bench.mails() == []
    assert await bench.outcome() == [("sent", "")]
    assert (await bench.events())[-1].data.channel == "call"


async def test_an_outcome_is_published_once_and_is_an_act_of_the_lead(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    task = await one_task(bench, client)
    path = f"/v1/tasks/{task['id']}/outcome"
    said = {"outcome": "reached", "note": "Wants a quote"}
    answer = await client.post(path, json=said)
    assert (answer.status_code, answer.json()["outcome"]) == (200, "reached")
    count = len(await bench.events())
    assert (await client.post(path, json=said)).status_code == 200
    assert len(await bench.events()) == count
    event, type_, read = await last_act(bench)
    assert (event.type, event.data.outcome, type_) == ("touch.answered.v1", "reached", "call_held")
    assert read.uid == uuid.UUID(event.id).hex
    other = await client.post(path, json={"outcome": "not_now"})
    assert (other.status_code, other.json()["where"]) == (400, "outcome")
    assert (await client.get("/v1/tasks?state=open")).json()["tasks"] == []
    (done,) = (await client.get(f"/v1/tasks?state=done&lead={LEAD}")).json()["tasks"]
    assert done["note"] == "Wants a quote"


@pytest.mark.parametrize(
    ("outcome", "type_"),
    [("not_reached", "call_attempted"), ("not_now", "not_now"), ("do_not_call", "call_held")],
)
async def test_each_outcome_is_read_as_what_it_says(
    bench: Bench, client: httpx.AsyncClient, outcome: str, type_: str
) -> None:
    task = await one_task(bench, client)
    await client.post(f"/v1/tasks/{task['id']}/outcome", json={"outcome": outcome})
    _, read_as, read = await last_act(bench)
    assert read_as == type_
    refusals = [(each.channel, each.state) for each in read.data.consent]
    assert refusals == ([("phone", "withdrawn")] if outcome == "do_not_call" else [])


async def test_a_call_that_nobody_makes_expires_once(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    task = await one_task(bench, client)
    calls: Calls = bench.calls  # type: ignore[attr-defined]
    await calls.expire()
    count = len(await bench.events())
    bench.at(NOON + timedelta(days=7, seconds=1))
    await calls.expire()
    await calls.expire()
    assert len(await bench.events()) == count + 1
    event, type_, _ = await last_act(bench)
    assert (event.data.outcome, type_) == ("expired", "call_expired")
    late = await client.post(f"/v1/tasks/{task['id']}/outcome", json={"outcome": "reached"})
    assert late.status_code == 400


async def test_who_refuses_calls_gets_none(bench: Bench, client: httpx.AsyncClient) -> None:
    consents = {
        "email:marketing": ConsentState("given", NOON - timedelta(days=1), "form"),
        "phone:marketing": ConsentState("withdrawn", NOON - timedelta(days=1), "said"),
    }
    await bench.take(change(consents=consents))
    del consents["phone:marketing"]  # a permission for mails is none for calls
    await bench.take(change(consents=consents, lead=str(uuid.UUID(int=8)), email="bo@b.example"))
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("withheld", "no_consent")] * 2
    assert (await client.get("/v1/tasks")).json() == {"tasks": [], "next": None}


async def test_a_call_may_be_given_and_refused_on_the_topic_alone(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    await bench.take(change())
    word = refusal(bench, bench.clock.at)
    await bench.take(replace(word, data=replace(word.data, channel="phone")))
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("withheld", "no_consent")]


@pytest.mark.parametrize("purpose", ["promotion", "sales"])
async def test_calls_that_press_to_buy_wait_for_the_hand_off(
    bench: Bench, client: httpx.AsyncClient, purpose: str
) -> None:
    """N8."""
    programs = [each.model_copy(update={"purpose": purpose}) for each in bench.playbook.programs]
    bench.use(with_parts(bench.playbook, programs=programs))
    await bench.take(change())
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("withheld", "before_hand_off")]
    await bench.take(change(seq=2, version=2, sales_status="lost"))
    await bench.scheduler.send_batch()
    assert (await bench.outcome())[-1] == ("sent", "")


async def test_a_call_whose_process_died_is_made_a_task_once(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    await bench.take(change())
    await bench.die_on_the_wire()
    await bench.scheduler.recover()
    assert await bench.scheduler.send_batch() == 1
    assert len((await client.get("/v1/tasks")).json()["tasks"]) == 1
    path = f"/v1/tasks/{(await bench.touches())[0].id}/outcome"
    for wrong in ({"outcome": "won"}, {"outcome": "reached", "note": "a\0b"}, {}):
        assert (await client.post(path, json=wrong)).status_code == 422
    assert (await client.get("/v1/tasks?assignee=%00")).status_code == 422
    assert (await client.get("/v1/tasks?stat=open")).status_code == 400
    missing = await client.post(f"/v1/tasks/{uuid.uuid4()}/outcome", json={"outcome": "reached"})
    assert missing.status_code == 404


async def test_pages_go_on_where_they_ended(bench: Bench, client: httpx.AsyncClient) -> None:
    for number in range(3):
        name = f"p{number}@firm.example"
        await bench.take(change(lead=str(uuid.UUID(int=100 + number)), email=name))
    await bench.scheduler.send_batch()
    found, path = [], "/v1/tasks?limit=2"
    while path:
        page = (await client.get(path)).json()
        found += [task["email"] for task in page["tasks"]]
        path = f"/v1/tasks?limit=2&cursor={page['next']}" if page["next"] else ""
    assert sorted(found) == [f"p{number}@firm.example" for number in range(3)]
