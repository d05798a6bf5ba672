"""Hand-offs on a real database, in process: opened once, answered, timed, owned (H0 to H5)."""

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ingest.sources.contract import Item
from services.ops.commands import handoffs as command
from services.scorer.handoffs.answers import Details
from services.shared.clock import Clock
from services.shared.contracts.events import INTERACTIONS
from services.shared.errors import Reject
from services.shared.messaging.kafka import Record
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from tests.support.handoffs import HandoffBench, SetClock, demo, playbook_with, prices

Make = Callable[..., Awaitable[HandoffBench]]
OWNERS = [
    {"email": "ana@ours.example", "name": "Ana"},
    {"email": "ben@ours.example", "name": "Ben"},
]
ANN, BOB = "ann@firm.example", "bob@other.example"


@pytest.fixture
async def make(
    settings: Settings, engine: AsyncEngine, default_playbook: Playbook
) -> AsyncIterator[Make]:
    made: list[HandoffBench] = []

    async def bench(*, webhook: bool = False, **section: Any) -> HandoffBench:
        playbook = playbook_with(default_playbook, **section)
        made.append(HandoffBench(settings, engine, playbook, webhook=webhook))
        await made[-1].open()
        return made[-1]

    yield bench
    for each in made:
        await each.http.aclose()


def refused(answer: httpx.Response, status: int, kind: str, where: str) -> None:
    body = answer.json()
    assert answer.status_code == status, body
    assert answer.headers["content-type"] == "application/problem+json"
    assert (body["type"].rpartition("#")[2], body["where"]) == (kind, where)
    assert body["title"]
    assert body["detail"]


async def test_a_raised_hand_is_open_at_once_with_reasons_and_words(make: Make) -> None:
    """H0."""
    bench = await make(owners=OWNERS[:1], capacity_per_week=0)
    await bench.happened(demo(ANN, properties={"message": "Can you do two plants?"}))
    found = await bench.only(status="open")
    assert found["kind"] == "raised_hand"
    assert found["owner"] == "ana@ours.example"
    assert found["said"] == "Can you do two plants?"
    assert len(found["reasons"]) == 3
    assert found["opened_at"] == "2026-06-09T09:00:00Z"
    assert found["respond_by"] == "2026-06-09T11:00:00Z"
    assert found["expires_at"] == "2026-06-18T09:00:00Z"
    assert await bench.steps(found["id"]) == ["detected", "opened"]
    mails = await bench.rows("SELECT recipient, body FROM scorer.handoff_notice")
    assert [mail.recipient for mail in mails] == ["ana@ours.example"]
    assert "Can you do two plants?" in mails[0].body
    opened = [each.data.handoff for each in bench.published if each.data.handoff]
    assert [(each.what, each.owner) for each in opened] == [("opened", "ana@ours.example")]


async def test_who_is_qualified_and_ready_is_handed_over_once(make: Make) -> None:
    """H1."""
    bench = await make()
    await bench.happened(*prices(ANN))
    found = await bench.only()
    assert (found["kind"], found["status"], found["owner"]) == ("ready", "open", "")
    await bench.happened(*prices(ANN))
    assert (await bench.only())["id"] == found["id"]


async def test_a_raised_hand_takes_the_place_of_a_ready_lead(make: Make) -> None:
    bench = await make(owners=OWNERS)
    await bench.happened(*prices(ANN))
    ready = await bench.only(status="open")
    await bench.happened(demo(ANN))
    raised = await bench.only(status="open")
    assert (raised["kind"], raised["owner"]) == ("raised_hand", ready["owner"])
    assert (await bench.only(status="superseded"))["superseded_by"] == raised["id"]
    accepted = await bench.answered(ready["id"], "accept")
    assert (accepted["id"], accepted["status"]) == (raised["id"], "accepted")


@pytest.mark.parametrize(
    ("what", "said", "status", "sales"),
    [
        ("accept", {}, "accepted", "accepted"),
        ("meeting", {"until": "2026-06-12"}, "accepted", "accepted"),
        ("reject", {"reason": "not ready"}, "rejected", "rejected"),
        ("disqualify", {"reason": "no budget"}, "disqualified", "disqualified"),
        ("return", {"reason": "bad_timing", "until": "2026-09-01"}, "returned", "returned"),
    ],
)
async def test_an_answer_is_what_sales_says_of_the_lead(
    make: Make, what: str, said: dict[str, str], status: str, sales: str
) -> None:
    """H2, H3."""
    bench = await make()
    await bench.happened(demo(ANN))
    found = await bench.only(status="open")
    given = await bench.answered(found["id"], what, by="ana", **said)
    assert (given["status"], given["answered_by"]) == (status, "ana")
    again = await bench.answered(found["id"], what, by="ana", **said)
    assert again == given
    assert (await bench.lead(found["lead"]))["sales_status"] == sales
    assert len(await bench.rows("SELECT 1 FROM scorer.event WHERE body LIKE '%\"sales_%'")) == 1
    assert await bench.listed(status="open") == []
    audited = await bench.rows("SELECT action, details->>'what' AS what FROM access.audit")
    assert len(audited) == 1
    other = "reject" if what in ("accept", "meeting") else "accept"
    refused(await bench.answer(found["id"], other), 409, "conflict", "path.handoff_id")
    assert (await bench.only())["status"] == status
    published = [each.data.handoff for each in bench.published if each.data.handoff]
    answers = [each for each in published if each.what == status]
    assert [(each.status, each.by, each.reason) for each in answers] == [
        (status, "ana", given["reason"] or "")
    ]
    back = await bench.answered(found["id"], "undo", by="ana")
    assert (back["status"], back["answer"]) == ("open", "")
    steps = await bench.steps(found["id"])
    await bench.passes(minutes=1)
    again = await bench.answered(found["id"], "undo", by="ana")
    assert (again["status"], await bench.steps(found["id"])) == ("open", steps)
    assert (await bench.lead(found["lead"]))["sales_status"] is None
    assert (await bench.only(status="open"))["id"] == found["id"]
    assert (await bench.answered(found["id"], other))["answer"] == other


@pytest.mark.parametrize("in_order", [True, False])
async def test_a_rejection_that_is_taken_back_changes_no_stage(make: Make, in_order: bool) -> None:
    """H2, G1: in whatever order the two facts come."""
    bench = await make()
    await bench.happened(*prices(ANN), demo(ANN, id="d"))
    found = await bench.only(status="open")
    before = await bench.lead(found["lead"])
    facts: list[Record] = []
    for what in ("reject", "undo"):
        answer = await bench.http.post(
            f"/v1/handoffs/{found['id']}/{what}", json={"by": "ana"}, headers=bench.auth
        )
        assert answer.status_code == 200, answer.text
        outbox = await bench.rows("SELECT topic, value FROM scorer.outbox ORDER BY id")
        await bench.run("DELETE FROM scorer.outbox")
        facts += [Record(one.topic, 0, 0, b"", one.value) for one in outbox
                  if one.topic == INTERACTIONS]  # fmt: skip
    assert len(facts) == 2
    for n, fact in enumerate(facts if in_order else reversed(facts)):
        await bench.apply([fact])
        if n == 0:
            lead = await bench.lead(found["lead"])
            assert (lead["sales_status"] == "rejected") == in_order
    await bench.settle()
    lead = await bench.lead(found["lead"])
    assert (lead["stage"], lead["sales_status"]) == (before["stage"], None)
    # as of the moment of undoing, which is a little later
    assert lead["belief"] == pytest.approx(before["belief"], rel=1e-6)
    assert lead["likelihood"] == pytest.approx(before["likelihood"], rel=1e-6)


@pytest.mark.parametrize(
    ("status", "more", "becomes"),
    [
        ("accepted", {}, "accepted"),
        ("opportunity", {}, "accepted"),
        ("won", {}, "accepted"),
        ("rejected", {}, "rejected"),
        ("rejected", {"until": "2026-09-01"}, "returned"),
        ("returned", {}, "returned"),
        ("disqualified", {"reason": "student"}, "disqualified"),
    ],
)
async def test_the_status_of_a_lead_answers_its_hand_off(
    make: Make, status: str, more: dict[str, str], becomes: str
) -> None:
    bench = await make()
    await bench.happened(demo(ANN))
    found = await bench.only()
    await bench.passes(minutes=5)
    await bench.status(found["lead"], status=status, **more)
    after = await bench.only()
    assert (after["status"], after["answered_at"]) == (becomes, "2026-06-09T09:05:00Z")
    assert bool(after["converted_to"]) == (status in ("opportunity", "won"))


@pytest.mark.parametrize(
    ("what", "said", "kind", "where", "status"),
    [
        ("disqualify", {"reason": "whim"}, "invalid", "body.reason", 400),
        ("disqualify", {}, "invalid", "body.reason", 400),
        ("reject", {"reason": "whim"}, "invalid", "body.reason", 400),
        ("return", {"until": "2020-01-01"}, "invalid", "body.until", 400),
        ("return", {"until": "some day"}, "invalid", "body.until", 400),
        ("note", {}, "invalid", "body.note", 400),
        ("undo", {}, "conflict", "path.handoff_id", 409),
        ("accept", {"mood": "good"}, "invalid", "body.mood", 422),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    make: Make, what: str, said: dict[str, str], kind: str, where: str, status: int
) -> None:
    bench = await make()
    await bench.happened(demo(ANN))
    before = await bench.only()
    refused(await bench.answer(before["id"], what, **said), status, kind, where)
    assert await bench.only() == before
    unknown = "00000000-0000-4000-8000-000000000000"
    refused(await bench.answer(unknown, "accept"), 404, "not-found", "path.handoff_id")


async def test_half_time_reminds_and_the_end_gives_the_lead_back(make: Make) -> None:
    """H2."""
    bench = await make(owners=OWNERS[:1])
    await bench.happened(*prices(ANN))
    found = await bench.only()
    assert found["expires_at"] == "2026-06-18T09:00:00Z"
    await bench.until(SetClock.at.replace(day=12, hour=13))
    assert "reminded" in await bench.steps(found["id"])
    await bench.until(SetClock.at.replace(day=18, hour=8, minute=59))
    assert (await bench.only())["status"] == "open"
    await bench.until(SetClock.at.replace(day=19))
    after = await bench.only()
    assert (after["status"], after["answered_at"]) == ("expired", "2026-06-18T09:00:00Z")
    assert (await bench.lead(found["lead"]))["sales_status"] is None
    refused(await bench.answer(found["id"], "accept"), 409, "conflict", "path.handoff_id")
    breach = [each.data.handoff for each in bench.published if each.data.handoff][-1]
    assert (breach.what, breach.status, breach.owner) == ("expired", "expired", "ana@ours.example")


async def test_an_answer_after_the_end_is_refused_before_anybody_looks(make: Make) -> None:
    bench = await make()
    await bench.happened(demo(ANN))
    found = await bench.only()
    SetClock.at += timedelta(days=30)
    answer = await bench.http.post(
        f"/v1/handoffs/{found['id']}/accept", json={}, headers=bench.auth
    )
    refused(answer, 409, "conflict", "path.handoff_id")
    assert (await bench.only())["status"] == "open"


async def test_silence_gives_it_to_another_whose_clock_starts_and_ends_the_same(make: Make) -> None:
    bench = await make(owners=OWNERS)
    await bench.happened(demo(ANN))
    first = await bench.only()
    await bench.passes(hours=2, minutes=1)
    second = await bench.only()
    assert {first["owner"], second["owner"]} == {owner["email"] for owner in OWNERS}
    assert second["expires_at"] == first["expires_at"]
    assert second["respond_by"] == "2026-06-09T13:01:00Z"
    assert "has not answered" in second["why_owner"]
    await bench.passes(hours=2, minutes=1)
    assert (await bench.only())["owner"] == second["owner"]


async def test_who_is_given_back_comes_again_on_the_day_it_named(make: Make) -> None:
    """H3."""
    bench = await make(owners=OWNERS)
    await bench.happened(*prices(ANN))
    found = await bench.only()
    await bench.answered(found["id"], "return", reason="bad_timing", until="2026-07-01")
    await bench.passes(days=5)
    await bench.happened(*prices(ANN))
    assert await bench.listed(status="open") == []
    await bench.until(SetClock.at.replace(month=7, day=1))
    again = await bench.only(status="open")
    assert (again["kind"], again["owner"]) == ("ready", found["owner"])
    assert again["id"] != found["id"]


@pytest.mark.parametrize("day", ["2026-13-45", "some day"])
async def test_a_day_that_is_none_holds_up_no_hand_over(make: Make, day: str) -> None:
    """H3: what other tools report is not checked by us."""
    bench = await make()
    await bench.happened(demo(ANN))
    found = await bench.only()
    await bench.passes(hours=1)
    word = Item(
        id="w", type="sales_rejected", email=ANN, occurred_at=SetClock.at,
        properties={"until": day},
    )  # fmt: skip
    await bench.happened(word)
    assert (await bench.only())["status"] == "rejected"
    await bench.passes(hours=1)
    await bench.happened(demo(ANN, id="again"))
    assert (await bench.only(status="open"))["id"] != found["id"]


async def test_a_lead_whose_state_cannot_be_viewed_holds_up_nobody(make: Make) -> None:
    """O3."""
    bench = await make(capacity_per_week=0)
    for who in (ANN, BOB):
        await bench.happened(*prices(who))
    first, second = await bench.listed(status="next")
    async with bench.engine.begin() as connection:
        await connection.execute(
            text("UPDATE scorer.lead_state SET record = '' WHERE lead_id = :id"),
            {"id": first["lead"]},
        )
    roomy = await make(capacity_per_week=5)
    await roomy.examiner.allocate()
    opened = {each["id"] for each in await roomy.listed(status="open")}
    assert opened == {first["id"], second["id"]}


async def test_an_answer_for_a_lead_without_identifiers_is_refused(make: Make) -> None:
    bench = await make()
    await bench.happened(demo(ANN))
    found = await bench.only()
    async with bench.engine.begin() as connection:
        await connection.execute(text("DELETE FROM scorer.identifier"))
    refused(await bench.answer(found["id"], "accept"), 404, "not-found", "path.handoff_id")
    assert (await bench.only())["status"] == "open"


async def test_who_is_rejected_comes_again_after_acts_of_its_own_and_so_many_days(
    make: Make,
) -> None:
    bench = await make(again_days=10)
    await bench.happened(*prices(ANN))
    found = await bench.only()
    await bench.answered(found["id"], "reject")
    await bench.passes(days=11)
    assert await bench.listed(status="open") == []
    await bench.happened(*prices(ANN))
    assert (await bench.only(status="open"))["id"] != found["id"]


async def test_acts_come_first_and_the_days_pass_then(make: Make) -> None:
    bench = await make(again_days=5)
    await bench.happened(*prices(ANN))
    found = await bench.only()
    await bench.answered(found["id"], "reject")
    await bench.passes(days=1)
    await bench.happened(*prices(ANN, 12))
    assert await bench.listed(status="open") == []
    await bench.passes(days=4, hours=1)
    assert await bench.listed(status="open")


async def test_who_asks_again_is_open_again_at_once(make: Make) -> None:
    bench = await make()
    await bench.happened(demo(ANN))
    found = await bench.only()
    await bench.answered(found["id"], "return", reason="bad_timing", until="2026-12-01")
    await bench.passes(hours=1)
    await bench.happened(demo(ANN))
    assert (await bench.only(status="open"))["kind"] == "raised_hand"


async def test_long_silence_that_ends_alerts_the_last_owner(make: Make) -> None:
    """H4."""
    bench = await make(owners=OWNERS, ready_stages=["decision"], min_likelihood=1)
    await bench.happened(demo(ANN))
    found = await bench.only()
    await bench.answered(found["id"], "reject")
    await bench.passes(days=90)
    await bench.happened(Item(id="v", type="page_viewed", email=ANN, occurred_at=SetClock.at))
    alert = await bench.only(status="open")
    assert (alert["kind"], alert["owner"]) == ("reawakened", found["owner"])


async def test_the_best_that_sales_can_take_are_open_and_the_rest_is_next(make: Make) -> None:
    bench = await make(capacity_per_week=2)
    people = [f"p{n}@firm{n}.example" for n in range(5)]
    items = [item for n, who in enumerate(people) for item in prices(who, 4 + 3 * n)]
    await bench.happened(*items)
    opened, waiting = await bench.listed(status="open"), await bench.listed(status="next")
    assert (len(opened), len(waiting)) == (2, 3)
    assert min(each["likelihood"] for each in opened) >= max(each["likelihood"] for each in waiting)
    assert {each["opened_at"] for each in waiting} == {None}
    await bench.happened(demo("raises@hand.example"))
    assert len(await bench.listed(status="open")) == 3
    refused(await bench.answer(waiting[0]["id"], "accept"), 409, "conflict", "path.handoff_id")
    await bench.passes(days=6)
    assert len(await bench.listed(status="open")) == 5


async def test_people_who_turn_out_to_be_one_have_one_clock(make: Make) -> None:
    bench = await make(owners=OWNERS)
    await bench.happened(demo(ANN, user_id="u1"))
    await bench.passes(hours=1)
    await bench.happened(demo(BOB))
    first, second = await bench.listed(status="open")
    await bench.happened(
        Item(id="l", type="identified", email=BOB, user_id="u1", occurred_at=SetClock.at)
    )
    one = await bench.only(status="open")
    assert {name: one[name] for name in ("id", "owner", "respond_by", "expires_at")} == {
        name: first[name] for name in ("id", "owner", "respond_by", "expires_at")
    }
    assert (await bench.only(status="superseded"))["id"] == second["id"]
    mails = await bench.rows("SELECT 1 FROM scorer.handoff_notice WHERE what = 'opened'")
    assert len(mails) == 2


async def test_called_in_vain_is_noted_and_taken_back(make: Make) -> None:
    bench = await make()
    await bench.happened(demo(ANN))
    found = await bench.only()
    called = await bench.answered(found["id"], "not-reached", until="2026-06-11", by="ana")
    assert (called["status"], called["again_on"]) == ("open", "2026-06-11")
    assert called["responded_at"]
    assert (await bench.answered(found["id"], "not-reached", until="2026-06-11")) == called
    noted = await bench.answered(found["id"], "note", note="on holiday")
    assert noted["note"] == "on holiday"
    undone = await bench.answered(found["id"], "undo")
    assert (undone["again_on"], undone["responded_at"]) == (None, None)
    assert (await bench.answered(found["id"], "not-reached"))["again_on"] == "2026-06-10"
    await bench.passes(minutes=11)
    refused(await bench.answer(found["id"], "undo"), 409, "conflict", "path.handoff_id")


async def test_lists_are_paged_and_filtered(make: Make) -> None:
    bench = await make(owners=OWNERS)
    for n in range(5):
        await bench.happened(demo(f"p{n}@firm{n}.example"))
    page = (await bench.ask(status="open", limit=2)).json()
    ids = [each["id"] for each in page["handoffs"]]
    while page["next"]:
        page = (await bench.ask(status="open", limit=2, cursor=page["next"])).json()
        ids += [each["id"] for each in page["handoffs"]]
    assert len(ids) == len(set(ids)) == 5
    by_owner = [len(await bench.listed(owner=owner["email"])) for owner in OWNERS]
    assert sorted(by_owner) == [2, 3]
    assert (await bench.ask(status="sometime")).status_code == 422
    refused(await bench.ask(cursor="abc"), 400, "invalid", "cursor")


async def test_the_command_line_lists_and_answers(
    make: Make, settings: Settings, engine: AsyncEngine
) -> None:
    bench = await make()
    await bench.happened(demo(ANN))
    (shown,) = await command.found(engine, settings, "open", "")
    moved = settings.model_copy(update={"clock": str(Clock(ahead=seconds_ahead()))})
    given = await command.answer(engine, moved, uuid.UUID(shown.id), "accept", Details(by="ana"))
    assert (given.status, given.answered_by) == ("accepted", "ana")
    with pytest.raises(Reject, match="no answer 'perhaps'"):
        await command.answer(engine, moved, uuid.UUID(shown.id), "perhaps", Details())
    assert await command.found(engine, settings, "open", "") == []


def seconds_ahead() -> float:
    return SetClock.at.timestamp() - time.time()


def published(bench: HandoffBench, handoff: str) -> list[tuple[str, str, str]]:
    """The steps of a hand-off on `lead.changes`: what, the status, who."""
    steps = [each.data.handoff for each in bench.published if each.data.handoff]
    return [(each.what, each.status, each.by) for each in steps if each.id == handoff]


@pytest.mark.parametrize("is_at_once", [False, True])
@pytest.mark.parametrize(
    ("what", "step", "status"),
    [
        ("accept", "accepted", "accepted"),
        ("return", "returned", "returned"),
        ("not-reached", "not_reached", "open"),
    ],
)
async def test_an_undone_answer_is_published_too(
    make: Make, what: str, step: str, status: str, is_at_once: bool
) -> None:
    """H1: also where both come before the lead is examined."""
    bench = await make()
    await bench.happened(demo(ANN))
    found = await bench.only()
    for each in (what, "undo"):
        path = f"/v1/handoffs/{found['id']}/{each}"
        answer = await bench.http.post(path, json={"by": "ana"}, headers=bench.auth)
        assert answer.status_code == 200, answer.text
        if not is_at_once:
            await bench.settle()
            await bench.settle()
    await bench.settle()
    assert published(bench, found["id"])[1:] == [(step, status, "ana"), ("undone", "open", "ana")]
    assert len({each.id for each in bench.published}) == len(bench.published)


async def test_an_answer_is_published_beside_other_steps(make: Make) -> None:
    """H1: what sales wins, and a new request, come before the lead is examined."""
    bench = await make()
    await bench.happened(demo(ANN))
    found = await bench.only()
    path, said = f"/v1/handoffs/{found['id']}/accept", {"by": "ana"}
    assert (await bench.http.post(path, json=said, headers=bench.auth)).status_code == 200
    SetClock.at += timedelta(minutes=1)
    await bench.apply(bench.records(demo(ANN)))
    await bench.status(found["lead"], status="opportunity")
    steps = [(what, status) for what, status, _ in published(bench, found["id"])]
    assert steps == [("opened", "open"), ("accepted", "accepted"), ("converted", "accepted")]


async def test_until_when_an_answer_can_be_undone_is_shown(make: Make) -> None:
    bench = await make()
    await bench.happened(demo(ANN))
    found = await bench.only()
    assert found["undo_until"] is None
    for what in ("not-reached", "accept"):
        answered = await bench.answered(found["id"], what)
        assert answered["undo_until"] == "2026-06-09T09:10:00Z"
        assert (await bench.answered(found["id"], "undo"))["undo_until"] is None
    await bench.answered(found["id"], "not-reached")
    await bench.passes(minutes=1)
    await bench.status(found["lead"], status="accepted")
    after = await bench.only()
    assert (after["status"], after["answer"], after["undo_until"]) == ("accepted", "", None)
    refused(await bench.answer(found["id"], "undo"), 409, "conflict", "path.handoff_id")
