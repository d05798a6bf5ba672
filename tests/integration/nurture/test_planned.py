"""What is planned, and what people decide about it: held, released, sent now, skipped (N6, N11)."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from services.nurture.api import create_app
from services.nurture.calls import Calls
from services.nurture.planned import PlannedTouches
from services.nurture.planner import Planner
from services.nurture.store.planned import Filter
from services.ops.commands import overrides
from services.shared.http.keys import ApiKeys, register
from services.shared.http.signin import PageSessions
from services.shared.people.audit import command_line
from tests.integration.nurture.test_calls import by_call
from tests.integration.nurture.test_nurture import (
    LEAD,
    NOON,
    Bench,
    bench,
    change,
    engaged,
    refusal,
    with_parts,
)

__all__ = ["bench"]
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MIDNIGHT = NOON + 12 * HOUR
OTHER = str(uuid.UUID(int=8))
KEY = "rl_page_" + "a" * 43
WHO = {"by": "ada", "reason": "not this one"}


class Desk:
    """Somebody at nurture's address."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def list(self, **asked: Any) -> list[dict[str, Any]]:
        answer = await self.http.get("/v1/planned", params=asked)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["planned"])

    async def one(self, **asked: Any) -> dict[str, Any]:
        (one,) = await self.list(**asked)
        return one

    async def decide(self, id: str, action: str, **who: Any) -> httpx.Response:
        return await self.http.post(f"/v1/planned/{id}/{action}", json=WHO | who)


@pytest.fixture
async def keys(bench: Bench) -> ApiKeys:
    keys = ApiKeys(bench.engine)
    await register(bench.engine, KEY, "people", "query")
    await keys.load()
    return keys


@pytest.fixture
async def desk(bench: Bench, keys: ApiKeys) -> AsyncIterator[Desk]:
    calls = Calls(bench.engine, bench.clock, lambda: None)
    app = create_app(
        bench.settings, bench.engine, keys, dict, calls, bench.planned(), bench.library()
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://nurture",
        headers={"Authorization": f"Bearer {KEY}"},
    ) as http:  # fmt: skip
        yield Desk(http)


async def go_on(bench: Bench, until: datetime, step: timedelta = 12 * HOUR) -> None:
    """Plans and sends, as time goes by, each time as another process."""
    while True:
        planner = Planner(bench.settings, bench.engine, bench.rules, bench.clock, lambda: None)
        await planner.plan()
        while await bench.make_scheduler().send_batch():
            pass
        await planner.plan()
        if bench.clock.at >= until:
            return
        bench.at(min(until, bench.clock.at + step))


async def sent(bench: Bench) -> list[Any]:
    return await bench.ask("SELECT * FROM nurture.touch WHERE status = 'sent' ORDER BY sent_at, id")


async def kept_back(bench: Bench) -> set[str]:
    """The ids of what is held or skipped."""
    found = await bench.ask(
        "SELECT id FROM nurture.touch WHERE (status = 'due' AND held_at IS NOT NULL) "
        "OR (status = 'withheld' AND reason = 'skipped')"
    )
    return {str(row.id) for row in found}


async def test_the_next_days_are_listed_with_the_text_of_each(bench: Bench, desk: Desk) -> None:
    bench.at(MIDNIGHT)
    await bench.take(change())
    one = await desk.one()
    assert (one["lead"], one["state"], one["decided"]) == (LEAD, "planned", True)
    assert (one["reason"], one["due_at"]) == ("quiet_hours", "2026-05-14T06:00:00Z")
    assert "Hello Ann" in one["text"]
    assert one["title"] in one["why"]
    await go_on(bench, MIDNIGHT + DAY)
    step = await desk.one()
    assert (step["decided"], step["status"], step["reason"]) == (False, "due", "pace")
    assert step["content"] != one["content"]
    assert "Hello Ann" in step["html"]
    (first,) = bench.mails()
    assert first["Subject"] == one["subject"]
    assert await desk.list(days=1) == []
    for nothing in ({"program": "none"}, {"lead": OTHER}, {"channel": "call"}, {"state": "held"}):
        assert await desk.list(**nothing) == []
    await go_on(bench, MIDNIGHT + 8 * DAY)
    assert step["id"] in {str(row.id) for row in await sent(bench)}


async def test_pages_hold_everybody_once(bench: Bench, desk: Desk) -> None:
    bench.at(MIDNIGHT)
    leads = [str(uuid.UUID(int=n)) for n in range(1, 10)]
    await bench.take(*(change(lead=lead, email=f"{lead}@firm.example") for lead in leads[:6]))
    await go_on(bench, MIDNIGHT + DAY)
    await bench.take(*(change(lead=lead, email=f"{lead}@firm.example") for lead in leads[6:]))
    found, cursor = [], ""
    while cursor is not None:
        page = (await desk.http.get("/v1/planned?limit=2", params={"cursor": cursor})).json()
        found += page["planned"]
        cursor = page["next"]
    assert sorted(one["lead"] for one in found) == leads
    assert [one["due_at"] for one in found] == sorted(one["due_at"] for one in found)


@pytest.mark.parametrize("decided", [True, False])
async def test_what_is_held_is_never_sent_and_goes_on_when_released(
    bench: Bench, desk: Desk, decided: bool
) -> None:
    """N6: also over restarts, and when the place in the program is yet to be decided."""
    bench.at(MIDNIGHT)
    await bench.take(change())
    if not decided:
        await go_on(bench, MIDNIGHT + DAY)
    before = len(await sent(bench))
    id = (await desk.one())["id"]
    held = (await desk.decide(id, "hold")).json()
    assert (held["id"], held["state"], held["decided"]) == (id, "held", True)
    assert held["acts"] == [{"action": "hold", "at": held["acts"][0]["at"], **WHO}]
    await bench.take(engaged(2, last_act_at=bench.clock.at))
    await go_on(bench, MIDNIGHT + 20 * DAY, 10 * HOUR)
    assert len(await sent(bench)) == before
    assert (await desk.one(state="held"))["id"] == id
    assert (await desk.decide(id, "release")).json()["state"] == "planned"
    await go_on(bench, MIDNIGHT + 21 * DAY)
    assert id in {str(row.id) for row in await sent(bench)}


async def test_a_held_item_comes_by_no_other_way_and_not_through_a_merge(
    bench: Bench, desk: Desk
) -> None:
    """N6, N11."""
    bench.at(MIDNIGHT)
    await bench.take(change(), change(lead=OTHER, email="ann@firm.example"))
    mine = await desk.one(lead=LEAD)
    await desk.decide(mine["id"], "hold")
    await bench.take(change(lead=OTHER, version=2, seq=2, merged=(LEAD,)))
    await go_on(bench, MIDNIGHT + 30 * DAY, 10 * HOUR)
    touches = await sent(bench)
    assert mine["id"] not in {str(row.id) for row in touches}
    assert mine["content"] not in {row.content for row in touches}
    assert (await desk.one(lead=LEAD, state="held"))["lead"] == OTHER


@pytest.mark.parametrize("decided", [True, False])
async def test_a_skipped_item_is_never_sent_and_the_next_one_takes_its_turn(
    bench: Bench, desk: Desk, decided: bool
) -> None:
    bench.at(MIDNIGHT)
    await bench.take(change())
    if not decided:
        await go_on(bench, MIDNIGHT + DAY)
    one = await desk.one()
    skipped = (await desk.decide(one["id"], "skip")).json()
    assert (skipped["state"], skipped["status"]) == ("skipped", "withheld")
    assert skipped["why"] == "ada has skipped it: not this one"
    event = (await bench.events())[-1].data
    assert (event.status, event.reason, event.why) == ("withheld", "skipped", skipped["why"])
    await go_on(bench, MIDNIGHT + 40 * DAY, 10 * HOUR)
    touches = await sent(bench)
    assert touches
    assert one["content"] not in {row.content for row in touches}
    bench.at(MIDNIGHT + DAY)
    assert (await desk.one(state="skipped"))["acts"][0]["by"] == "ada"


async def test_sent_now_is_sent_once_before_its_pace(bench: Bench, desk: Desk) -> None:
    """N11."""
    await bench.take(change())
    await go_on(bench, NOON + 2 * DAY)
    step = await desk.one()
    answers = await asyncio.gather(*(desk.decide(step["id"], "send-now") for _ in range(4)))
    assert {answer.status_code for answer in answers} == {200}
    await asyncio.gather(*(bench.make_scheduler().send_batch() for _ in range(3)))
    await go_on(bench, NOON + 2 * DAY + HOUR)
    _, second = await sent(bench)
    assert (str(second.id), second.sent_at) == (step["id"], NOON + 2 * DAY)
    again = (await desk.decide(step["id"], "send-now")).json()
    assert (again["status"], len(again["acts"])) == ("sent", 1)
    assert len(bench.mails()) == 2
    for action in ("hold", "skip", "release"):
        late = await desk.decide(step["id"], action)
        assert late.status_code == 409
        assert "has been sent" in late.json()["title"]


CONTRADICTIONS = [
    ("hold", "send-now", "is held"),
    ("skip", "hold", "is skipped"),
    ("skip", "send-now", "is skipped"),
    ("skip", "release", "is skipped"),
    ("send-now", "hold", "is asked to be sent now"),
    ("send-now", "skip", "is asked to be sent now"),
]


@pytest.mark.parametrize(("first", "second", "says"), CONTRADICTIONS)
async def test_what_contradicts_is_refused_and_the_same_again_changes_nothing(
    bench: Bench, desk: Desk, first: str, second: str, says: str
) -> None:
    bench.at(MIDNIGHT)
    await bench.take(change())
    id = (await desk.one())["id"]
    once = await desk.decide(id, first)
    assert (await desk.decide(id, first, by="bob")).json() == once.json()
    refused = await desk.decide(id, second)
    assert refused.status_code == 409
    assert says in refused.json()["title"]


async def test_what_is_not_there_or_not_said_is_refused(bench: Bench, desk: Desk) -> None:
    assert (await desk.decide(str(uuid.uuid4()), "hold")).status_code == 404
    assert (await desk.decide(str(uuid.uuid4()), "hold", by=" ")).status_code == 422
    assert (await desk.http.get("/v1/planned?stat=held")).status_code == 400


async def refused(bench: Bench) -> None:
    await bench.take(refusal(bench, bench.clock.at))


async def stopped(bench: Bench) -> None:
    await overrides.stop_sending(bench.engine)


async def held_out(bench: Bench) -> None:
    share = bench.playbook.holdout.model_copy(update={"share": 0.9, "salt": "x"})
    bench.use(with_parts(bench.playbook, holdout=share))


async def capped(bench: Bench) -> None:
    cadence = bench.playbook.cadence.model_copy(update={"per_week": 1})
    bench.use(with_parts(bench.playbook, cadence=cadence))


async def with_sales(bench: Bench) -> None:
    await bench.take(engaged(9, sales_status="accepted"))


@pytest.mark.parametrize("against", [refused, stopped, held_out, capped, with_sales])
async def test_send_now_overtakes_nothing_but_the_pace(
    bench: Bench, desk: Desk, against: Callable[[Bench], Any]
) -> None:
    """N6, N14."""
    await bench.take(change())
    await go_on(bench, NOON + 2 * DAY)
    step = await desk.one()
    await desk.decide(step["id"], "send-now")
    await against(bench)
    await go_on(bench, NOON + 2 * DAY + 2 * HOUR)
    assert len(await sent(bench)) == 1


async def test_quiet_hours_are_obeyed_but_by_calls(bench: Bench, desk: Desk) -> None:
    """N5."""
    bench.at(MIDNIGHT)
    await bench.take(change())
    one = (await desk.decide((await desk.one())["id"], "send-now")).json()
    await go_on(bench, MIDNIGHT + HOUR)
    assert (one["state"], one["reason"], await sent(bench)) == ("send-now", "quiet_hours", [])
    await go_on(bench, MIDNIGHT + 7 * HOUR)
    assert len(await sent(bench)) == 1
    bench.at(MIDNIGHT + DAY)
    bench.use(by_call(bench.playbook))
    await bench.take(change(lead=OTHER, email="bo@other.example"))
    call = PlannedTouches(bench.engine, bench.rules, bench.clock, bench.pepper, lambda: None)
    (one,) = (await call.page(Filter(lead=uuid.UUID(OTHER)), None, 10)).upcoming
    await call.decide(uuid.UUID(one.touch.id), "send-now", "ada", "", command_line())
    await go_on(bench, MIDNIGHT + DAY)
    assert (await sent(bench))[-1].channel == "call"


async def test_whatever_people_press_and_whoever_dies_nothing_is_sent_twice(
    bench: Bench, desk: Desk
) -> None:
    """N6, N11: what is held or skipped when the process looks is not sent by it."""
    chance = random.Random(7)
    leads = [str(uuid.UUID(int=n)) for n in range(1, 6)]
    await bench.take(*(change(lead=lead, email=f"{lead}@firm.example") for lead in leads))
    for turn in range(24):
        bench.at(NOON + turn * 16 * HOUR)
        planner = Planner(bench.settings, bench.engine, bench.rules, bench.clock, lambda: None)
        await planner.plan()
        pressed = [
            (one["id"], chance.choice(["hold", "release", "send-now", "skip"]))
            for one in await desk.list(limit=1000)
            for _ in range(chance.choice([0, 1, 2]))
        ]
        stays = await kept_back(bench) - {id for id, action in pressed if action == "release"}
        await asyncio.gather(
            *(desk.decide(*each) for each in pressed),
            bench.make_scheduler().send_batch(),
            planner.plan(),
            bench.make_scheduler().send_batch(),
        )
        if turn == 12:
            await bench.take(
                change(
                    lead=str(uuid.UUID(int=6)), email="six@firm.example", cause_at=bench.clock.at
                )
            )
            await bench.die_on_the_wire()
            await bench.make_scheduler().recover()
        assert not stays & {str(row.id) for row in await sent(bench)}
        assert await kept_back(bench) >= stays
    touches = await bench.touches()
    assert len({(row.announcement_id, row.program) for row in touches}) == len(touches)
    got = [(mail["To"], mail["Subject"]) for mail in bench.mails()]
    assert len(got) == len(set(got))
    assert len(got) >= len(await sent(bench)) > len(leads)


async def test_who_is_signed_in_at_the_page_comes_with_a_ticket(
    bench: Bench, desk: Desk, keys: ApiKeys
) -> None:
    sessions = PageSessions(keys, bench.pepper)
    ticket = sessions.ticket(keys.in_force("page"))  # type: ignore[arg-type]
    for given, status in ((ticket, 200), (f"{ticket}x", 401)):
        headers = {"Authorization": f"Bearer {given}"}
        assert (await desk.http.get("/v1/planned", headers=headers)).status_code == status
