"""People in programs on a real database: kills, merges, replays, migration, the clock set forward
by weeks (N4, N9, N11).
"""

import asyncio
import importlib.util
import shutil
import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner

from services.nurture.api import create_app
from services.nurture.calls import Calls
from services.nurture.planner import Planner
from services.nurture.store.outcomes import OutcomeStore
from services.ops.__main__ import app as command_line
from services.ops.commands import overrides
from services.shared.clock import Clock
from services.shared.contracts.events import ConsentChanged, ConsentEvent, derived
from services.shared.db import rows
from services.shared.http.keys import ApiKeys, new_key, register
from services.shared.playbook.programs import Program
from services.shared.settings import ROOT
from tests.integration.nurture.test_nurture import (
    BOTTLING,
    LEAD,
    NOON,
    Bench,
    by_webhook,
    change,
    engaged,
    with_parts,
)
from tests.integration.nurture.test_nurture import bench as _bench

bench = _bench
DAY = timedelta(days=1)
TRACK = "practitioner-track"


def planner(bench: Bench) -> Planner:
    """Another process's planner."""
    return Planner(bench.settings, bench.engine, bench.rules, bench.clock, lambda: None)


async def live(bench: Bench, until: datetime, step: timedelta = timedelta(hours=12)) -> None:
    """Plans and sends, as time goes by."""
    while True:
        await planner(bench).plan()
        while await bench.scheduler.send_batch():
            pass
        await planner(bench).plan()
        if bench.clock.at >= until:
            return
        bench.at(min(until, bench.clock.at + step))


async def sent(bench: Bench) -> list[Any]:
    return await bench.ask("SELECT * FROM nurture.touch WHERE status = 'sent' ORDER BY sent_at, id")


async def enrolment(bench: Bench, program: str = TRACK) -> Any:
    (row,) = await bench.ask(
        "SELECT * FROM nurture.enrolment WHERE program = :program", program=program
    )
    return row


async def test_within_a_stage_a_lead_is_led_on_and_each_place_has_one_touch(bench: Bench) -> None:
    """N4, N11: the chain of touches, each keyed by the one before it."""
    await bench.take(change())
    await live(bench, NOON + 20 * DAY)
    touches = await sent(bench)
    assert [round((one.sent_at - NOON) / DAY) for one in touches] == [0, 7, 14]
    assert len({one.content for one in touches}) == 3
    assert [one.follows for one in touches] == [False, True, True]
    for before, after in pairwise(touches):
        assert after.announcement_id == before.id
        assert str(after.id) == derived(str(before.id), "touch", TRACK)
    row = await enrolment(bench)
    assert (row.state, row.place, row.reason) == ("active", 3, "silence")
    assert row.next_at == NOON + 28 * DAY


async def test_what_did_not_leave_is_not_chosen_again_at_once(bench: Bench) -> None:
    """N11: an endpoint that refuses a touch is left in peace, and the program goes on."""
    bench.use(by_webhook(bench.playbook))
    bench.hook.status = 400
    await bench.take(change())
    await live(bench, NOON + 6 * DAY)
    assert [row.status for row in await bench.touches()] == ["failed"]
    bench.hook.status = 204
    await live(bench, NOON + 8 * DAY)
    assert sorted(row.status for row in await bench.touches()) == ["failed", "sent"]


async def test_an_answer_sets_the_pace_and_the_topic(bench: Bench) -> None:
    """N9."""
    await bench.take(change())
    await live(bench, NOON + timedelta(hours=12))
    last_act = NOON + timedelta(hours=12)
    await bench.take(engaged(2, content=("offer-six-week-pilot",), last_act_at=last_act))
    await live(bench, NOON + 3 * DAY)
    first, second = await sent(bench)
    assert first.answered_at == last_act
    assert (second.sent_at - NOON) / DAY == 2  # at least two days
    topics = {item.id: item.topic for item in bench.playbook.content}
    assert topics[second.content] == topics["offer-six-week-pilot"]


async def test_two_planners_and_replays_from_the_beginning_bring_no_second_touch(
    bench: Bench,
) -> None:
    """N11."""
    story = [change(), engaged(2), change("consideration", seq=2, version=3)]
    await bench.take(*story)
    for days in range(1, 30):
        bench.at(NOON + days * DAY)
        await asyncio.gather(*(planner(bench).plan() for _ in range(3)))
        await asyncio.gather(bench.scheduler.send_batch(), bench.make_scheduler().send_batch())
        if days % 5 == 0:
            await bench.take(*story, *reversed(story))
    touches = await bench.touches()
    assert len({(one.announcement_id, one.program) for one in touches}) == len(touches)
    out = await sent(bench)
    assert len(out) >= 3
    assert len({one.content for one in out}) == len(out) == len(bench.mails())


class Killed(BaseException):
    """The end of a process, which nothing of it survives."""


STEPS = {
    "before_plan_commit": "services.nurture.planner",
    "before_claim_commit": "services.nurture.scheduler",
    "between_sending_and_wire": "services.nurture.scheduler",
    "between_wire_and_outcome": "services.nurture.delivery",
}


@pytest.mark.parametrize("point", STEPS)
async def test_whichever_step_a_process_dies_at_each_place_has_one_touch_and_one_mail(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """N11: and another process goes on."""
    await bench.take(change())
    deaths = 0

    def die(name: str) -> None:
        nonlocal deaths
        if name == point and deaths < 6:
            deaths += 1
            raise Killed

    monkeypatch.setattr(f"{STEPS[point]}.fault_point", die)
    for days in range(60):
        bench.at(NOON + days * DAY)
        for _ in range(3):
            with suppress(Killed):
                await planner(bench).plan()
                await bench.make_scheduler().send_batch()
        await bench.do(
            "UPDATE nurture.touch SET sending_since = now() - interval '1 day' "
            "WHERE status = 'sending'"
        )
        await bench.make_scheduler().recover()
    touches = await bench.touches()
    mailed = [mail["X-Ripeline-Touch"] for mail in bench.mails()]
    assert deaths >= 2
    assert len({*mailed}) == len(mailed)
    assert len({(one.announcement_id, one.program) for one in touches}) == len(touches)
    offered = [one.content for one in touches if one.status in ("sent", "unknown")]
    assert len({*offered}) == len(offered) >= 4
    lost = {str(one.id) for one in touches if one.status == "unknown"} - {*mailed}
    assert bool(lost) == (point == "between_sending_and_wire"), "that window cannot be closed"


async def test_a_mail_whose_sender_died_leads_on_and_is_not_repeated(bench: Bench) -> None:
    """N11: the touch is unknown, the chain goes on from it."""
    await bench.take(change())
    await bench.die_on_the_wire()
    await bench.scheduler.recover()
    await live(bench, NOON + 8 * DAY)
    first, second = await bench.touches()
    assert (first.status, second.status) == ("unknown", "sent")
    assert first.content != second.content


@pytest.mark.parametrize("turned", [False, True])
async def test_two_people_who_become_one_in_mid_program_go_on_as_one(
    bench: Bench, turned: bool
) -> None:
    """N11: of two touches that wait in one program one goes out."""
    other = str(uuid.UUID(int=8))
    old, new = (LEAD, other) if turned else (other, LEAD)
    away = {"email": "bob@firm.example"}
    await bench.take(change(lead=LEAD), change(lead=other, **away))
    await live(bench, NOON + DAY)
    bench.at(NOON + 7 * DAY)
    await planner(bench).plan()  # a touch of each waits
    merge = change(kind="lead.merged.v1", lead=new, merged=(old,), seq=0, version=5)
    await bench.take(merge)
    await bench.take(merge)
    await live(bench, NOON + 7.5 * DAY)
    row = await enrolment(bench)
    assert (str(row.lead_id), row.state) == (new, "active")
    out = [one for one in await sent(bench) if one.sent_at >= NOON + 7 * DAY]
    assert len(out) == 1
    assert sorted(status for status, _ in await bench.outcome()) == ["sent"] * 3 + ["withheld"]
    await live(bench, NOON + 40 * DAY)
    every = await sent(bench)
    assert len({one.content for one in every[1:]}) == len(every) - 1  # each had the first before


async def test_a_removed_program_ends_with_a_word_in_the_timeline(bench: Bench) -> None:
    """N4."""
    await bench.take(change())
    await live(bench, NOON + DAY)
    rest = [one for one in bench.playbook.programs if one.id != TRACK]
    bench.use(with_parts(bench.playbook, programs=rest))
    for _ in range(2):
        await planner(bench).call_edited()
        await planner(bench).plan()
    row = await enrolment(bench)
    assert row.state == "ended"
    last = (await bench.events())[-1].data
    assert (last.status, last.reason, last.program) == ("withheld", "program_ended", TRACK)
    assert "no more in the playbook" in last.why
    assert len(await bench.touches()) == 2


async def test_an_edited_program_goes_on_from_what_each_has_had(bench: Bench) -> None:
    """N4: nothing of the state is by position."""
    await bench.take(change())
    await live(bench, NOON + DAY)
    own: Program = bench.playbook.programs[0]
    turned = own.model_copy(update={"items": [*reversed(own.items)]})
    bench.use(with_parts(bench.playbook, programs=[turned, *bench.playbook.programs[1:]]))
    await planner(bench).call_edited()
    await live(bench, NOON + 8 * DAY)
    first, second = await sent(bench)
    assert first.content != second.content
    assert second.content == next(
        name
        for name in turned.items
        if name != first.content
        and (item := bench.playbook.content_by_id[name]).distance < 3
        and "decision" in item.stages
        and not item.prerequisites
    )


@pytest.mark.parametrize("state", ["draft", "test"])
async def test_who_came_before_a_program_was_live_enters_it_then(bench: Bench, state: str) -> None:
    """N4, N14: once, and what is history begins nothing then either."""
    finished, old = bench.playbook, str(uuid.UUID(int=8))
    bench.use(with_parts(bench.playbook, state=state))
    past = change(lead=old, email="bob@firm.example", cause_at=NOON - 8 * DAY)
    await bench.take(change(), past)
    await live(bench, NOON + DAY)
    assert await bench.ask("SELECT 1 FROM nurture.enrolment") == []
    bench.use(finished)
    await asyncio.gather(*(planner(bench).take_in() for _ in range(2)))
    await planner(bench).take_in()
    await live(bench, NOON + 2 * DAY)
    assert [str(one.lead_id) for one in await sent(bench)] == [LEAD]
    assert (await enrolment(bench)).place == 1


async def test_who_no_program_was_for_enters_one_once_more_is_known(bench: Bench) -> None:
    """N4: of its persona, or of what a program asks of who enters."""
    track, buyers, *_ = bench.playbook.programs
    asks = track.entry.model_copy(update={"done": ["checklist-twelve-questions"]})
    asking = track.model_copy(update={"entry": asks})
    bench.use(with_parts(bench.playbook, programs=[asking, buyers]))
    other = {"lead": str(uuid.UUID(int=8)), "email": "bob@firm.example"}
    await bench.take(change(), change(**other))
    one = planner(bench)
    assert await one.take_in() == 2
    assert await bench.ask("SELECT 1 FROM nurture.enrolment") == []
    await bench.take(
        engaged(2, content=("checklist-twelve-questions",)),
        engaged(2, traits={"timezone": "UTC", "title": "Plant director"}, **other),
    )
    assert await one.take_in() == 2
    await live(bench, NOON + DAY)
    assert {touch.program for touch in await sent(bench)} == {track.id, buyers.id}


async def test_who_has_reached_a_goal_enters_a_program_that_comes_later(bench: Bench) -> None:
    """N4."""
    first, *others = bench.playbook.programs
    exit_ = first.exit.model_copy(update={"done": ["checklist-twelve-questions"]})
    reached = first.model_copy(update={"exit": exit_})
    bench.use(with_parts(bench.playbook, programs=[reached, *others]))
    await bench.take(change())
    await live(bench, NOON + DAY)
    await bench.take(engaged(2, content=("checklist-twelve-questions",)))
    await live(bench, NOON + 2 * DAY)
    assert (await enrolment(bench)).state == "completed"
    later = first.model_copy(update={"id": "later"})
    bench.use(with_parts(bench.playbook, programs=[reached, *others, later]))
    await planner(bench).take_in()
    await live(bench, NOON + 9 * DAY)
    assert {one.program for one in await sent(bench)} == {TRACK, "later"}


async def test_who_is_handed_over_waits_and_goes_on_when_sales_sends_it_back(bench: Bench) -> None:
    """N8."""
    await bench.take(change())
    await live(bench, NOON + DAY)
    await bench.take(engaged(2, sales_status="accepted"))
    await live(bench, NOON + 30 * DAY)
    assert len(await sent(bench)) == 1
    assert (await enrolment(bench)).reason == "with_sales"
    await bench.take(engaged(3, sales_status="rejected"))
    await live(bench, NOON + 31 * DAY)
    assert len(await sent(bench)) == 2


async def test_history_begins_no_program_and_a_permission_that_comes_later_does(
    bench: Bench,
) -> None:
    """I3, N6."""
    old = change(cause_at=NOON - 8 * DAY)
    await bench.take(old)
    await live(bench, NOON + 10 * DAY, DAY)
    assert await bench.ask("SELECT 1 FROM nurture.enrolment") == []
    assert await bench.outcome() == [("withheld", "history")]
    other = str(uuid.UUID(int=8))
    asked = {"lead": other, "email": "bob@firm.example", "cause_at": bench.clock.at}
    await bench.take(change(**asked, consents={}))
    assert (await enrolment(bench)).reason == "no_consent"
    await bench.take(engaged(2, lead=other, email="bob@firm.example"))
    await live(bench, NOON + 11 * DAY)
    assert len(await sent(bench)) == 1


async def test_what_came_of_touches_is_noted_once(bench: Bench) -> None:
    """N10: steps forward by own acts within two weeks, and refusals that answer the touch."""
    await bench.take(change("awareness"))
    await live(bench, NOON + DAY)
    (touch,) = await sent(bench)
    forward = change("consideration", seq=2, version=2, cause_at=NOON + 3 * DAY)
    known = forward.data
    silent = type(known)(**{**as_dict(known), "cause": "silence", "from_stage": "awareness"})
    moved = type(known)(**{**as_dict(known), "from_stage": "awareness"})
    await bench.take(with_data(forward, silent))
    assert (await sent(bench))[0].progressed_at is None
    await bench.take(with_data(forward, moved), with_data(forward, moved))
    refused = ConsentChanged(
        address="x", touch=str(touch.id), channel="email", purpose="marketing",
        state="withdrawn", at=NOON + 4 * DAY,
    )  # fmt: skip
    await bench.take(ConsentEvent(id="r", time=NOON + 4 * DAY, data=refused))
    (row,) = [one for one in await sent(bench) if one.id == touch.id]
    assert (row.progressed_at, row.refused_at) == (NOON + 3 * DAY, NOON + 4 * DAY)
    async with bench.engine.connect() as connection:
        early = await OutcomeStore(connection).evidence(NOON + 10 * DAY)
        known_by_then = await OutcomeStore(connection).evidence(NOON + 15 * DAY)
    assert early.by_item == {}
    assert known_by_then.pooled(touch.content) == (1, 0.0)  # the refusal costs the step


def as_dict(data: Any) -> dict[str, Any]:
    return {name: getattr(data, name) for name in data.__struct_fields__}


def with_data(event: Any, data: Any) -> Any:
    return type(event)(**{**as_dict(event), "data": data})


async def test_data_that_exist_go_along(engine: AsyncEngine) -> None:
    """What is due stays due, who has had something is in the program, and history is not."""
    path = ROOT / "deploy" / "migrations" / "versions" / "0017_programs.py"
    spec = importlib.util.spec_from_file_location("programs", path)
    assert spec
    assert spec.loader
    migration = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(migration)
    insert = text(
        "INSERT INTO nurture.touch (id, announcement_id, program, lead_id, product, stage, content,"
        " status, reason, decided_at, due_at, sent_at) VALUES (:id, :id, :program, :lead,"
        " 'default', 'decision', :content, :status, :reason, :at, :at, :sent)"
    )
    one, other = uuid.UUID(int=1), uuid.UUID(int=2)
    touches = [
        (one, "p", "a", "sent", ""), (one, "p", "b", "due", ""), (one, "q", "", "withheld",
        "capped"), (other, "p", "", "withheld", "history"), (other, "", "", "withheld", "holdout"),
    ]  # fmt: skip
    async with engine.begin() as connection:
        for statement in migration.DOWN.split(";\n"):
            await connection.execute(text(statement))
        for place, (lead, program, content, status, reason) in enumerate(touches):
            await connection.execute(insert, {
                "id": uuid.UUID(int=100 + place), "program": program, "lead": lead,
                "content": content, "status": status, "reason": reason,
                "at": NOON + place * DAY, "sent": NOON if status == "sent" else None,
            })  # fmt: skip
        await connection.execute(
            text("INSERT INTO nurture.seen VALUES (:one, 'a'), (:one, 'found')"), {"one": one}
        )
        for statement in migration.UP.split(";\n"):
            await connection.execute(text(statement))
        known = await rows(connection, "SELECT * FROM nurture.enrolment ORDER BY program")
        assert [(row.lead_id, row.program, row.place, row.last_touch.int) for row in known] == [
            (one, "p", 2, 101), (one, "q", 1, 102),
        ]  # fmt: skip
        assert all(row.next_at and row.state == "active" for row in known)
        done = await rows(connection, "SELECT content FROM nurture.seen WHERE done_at IS NOT NULL")
        assert [row.content for row in done] == ["found"]
        due = await rows(connection, "SELECT content FROM nurture.touch WHERE status = 'due'")
        assert [row.content for row in due] == ["b"]


async def test_touches_that_waited_before_programs_came_go_out(bench: Bench) -> None:
    """A migrated enrolment: its last touch is the one that is due."""
    await bench.take(change())
    (touch,) = await bench.touches()
    await bench.do("DELETE FROM nurture.enrolment")
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("sent", "")]
    assert touch.content == BOTTLING


async def test_a_command_says_whether_learning_is_worth_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """N10."""
    folder = tmp_path / "playbook"
    shutil.copytree(ROOT / "deploy" / "playbook", folder)
    programs = folder / "programs.yaml"
    programs.write_text(
        programs.read_text().replace(f"- id: {TRACK}\n", f"- id: {TRACK}\n    choice: learned\n")
    )
    insert = (
        "INSERT INTO nurture.touch (id, announcement_id, program, lead_id, product, stage, content,"
        " status, propensity, decided_at, sent_at, progressed_at) SELECT gen_random_uuid(),"
        " gen_random_uuid(), :program, gen_random_uuid(), 'default', 'decision',"
        " CASE WHEN n % 2 = 0 THEN 'a' ELSE 'b' END, 'sent', 0.5, :at, :at,"
        " CASE WHEN n % 8 = 0 THEN CAST(:at AS timestamptz) END FROM generate_series(1, 200) n"
    )
    await bench.do(insert, program=TRACK, at=NOON)
    named = {
        "RIPELINE_DATABASE_URL": bench.settings.database_url.get_secret_value(),
        "RIPELINE_PLAYBOOK": str(folder),
    }
    for arguments, expected in ((["--json"], '"beats_best_single_item": false'), ([], "does not")):
        result = await asyncio.to_thread(
            CliRunner().invoke, command_line, ["choice", *arguments], env=named
        )
        assert result.exit_code == 0, result.output
        assert expected in result.output


async def test_what_a_person_takes_back_is_asked_again_at_once(bench: Bench) -> None:
    """N14: a touch that waits for the end of a pause goes out when the pause is taken back."""
    await overrides.pause_lead(bench.engine, uuid.UUID(LEAD), NOON + 30 * DAY)
    await bench.take(change())
    assert await bench.outcome() == [("due", "paused")]
    await overrides.release_lead(bench.engine, uuid.UUID(LEAD))
    bench.at(datetime.now(UTC) + timedelta(seconds=1))
    await bench.scheduler.send_batch()
    (touch,) = await bench.touches()
    assert touch.reason != "paused"


async def test_who_is_found_to_be_another_goes_on_there_with_what_its_address_has_had(
    bench: Bench,
) -> None:
    """N4, N11: a split; the former lead has no address any more and gets nothing."""
    await bench.take(change())
    await live(bench, NOON + 8 * DAY)
    other = str(uuid.UUID(int=8))
    await bench.take(engaged(2, email=""), change(lead=other, cause_at=bench.clock.at))
    await live(bench, NOON + 40 * DAY)
    every = await sent(bench)
    assert len({one.content for one in every}) == len(every) >= 4
    assert {str(one.lead_id) for one in every if one.sent_at > NOON + 8 * DAY} == {other}
    gaps = [after.sent_at - before.sent_at for before, after in pairwise(every)]
    assert max(gaps) >= 14 * DAY, "its silence counts on"
    former = await bench.ask("SELECT * FROM nurture.enrolment WHERE lead_id = :id", id=LEAD)
    assert [(one.reason, one.next_at) for one in former] == [("no_consent", None)]


async def test_enrolments_are_listed_page_by_page(bench: Bench) -> None:
    leads = [str(uuid.UUID(int=n)) for n in range(1, 6)]
    await bench.take(
        *(change(lead=lead, email=f"p{lead}@firm.example", consents={}) for lead in leads)
    )
    keys, key = ApiKeys(bench.engine), new_key()
    await register(bench.engine, key, "sales", "query")
    await keys.load()
    app = create_app(
        bench.settings,
        bench.engine,
        keys,
        dict,
        Calls(bench.engine, Clock(), lambda: None),
        bench.planned(),
        bench.library(),
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://nurture",
        headers={"Authorization": f"Bearer {key}"},
    ) as http:  # fmt: skip
        found: list[str] = []
        cursor = ""
        while cursor is not None:
            asked = {"limit": 2, "cursor": cursor, "state": "active", "program": TRACK}
            page = (await http.get("/v1/enrolments", params=asked)).json()
            found += [one["lead"] for one in page["enrolments"]]
            cursor = page["next"]
        assert found == leads
        (one,) = (await http.get("/v1/enrolments", params={"lead": LEAD[:-1] + "1"})).json()[
            "enrolments"
        ]
        assert (one["place"], one["reason"], one["next_at"]) == (1, "no_consent", None)
        assert (await http.get("/v1/enrolments?state=ended")).json()["enrolments"] == []
        assert (await http.get("/v1/enrolments?cursor=x")).status_code == 400
