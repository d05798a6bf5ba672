"""The arm that gets the same content by the calendar (M7)."""

from datetime import timedelta
from typing import Any

import pytest

from services.nurture.rules.answers import answers_to_stage
from services.nurture.rules.decision import Send, recheck
from services.nurture.rules.enrolment import Enrolment
from services.nurture.rules.grounds import Rules, Withhold
from services.nurture.rules.lead import Had
from services.nurture.rules.steps import newly_entered, step
from services.shared.contracts.events import Change, ChangeEvent
from services.shared.contracts.holdout import arm_of
from services.shared.playbook.sections import CalendarArm, Holdout
from tests.support.nurture import GIVEN, NOW, decided, item, lead, program, trigger, with_parts

DAY = timedelta(days=1)
STAGES = ("status_quo", "awareness", "consideration", "decision")


def by_calendar(rules: Rules, share: float = 0.9, days: float = 7, held_out: float = 0) -> Rules:
    holdout = Holdout(share=held_out, salt="s", calendar=CalendarArm(share=share, days=days))
    return Rules.of(with_parts(rules.playbook, holdout=holdout), sink=True)


def someone(rules: Rules, arm: str = "calendar", **fields: Any) -> Any:
    """A lead whose account is in an arm."""
    return next(
        one
        for n in range(500)
        if rules.library.arm(one := lead(email=f"a@firm{n}.example", **fields)) == arm
    )


def had(content: str, days_ago: float, program: str = "p") -> tuple[Had, ...]:
    return (Had(f"t-{content}", program, content, "email", NOW - days_ago * DAY),)


def chosen(found: Send | Withhold) -> str:
    return found.content.id if isinstance(found, Send) else found.reason


def test_neither_share_moves_the_accounts_of_the_other_arm(make: Any) -> None:
    """M7, M2: permanent, and drawn apart."""
    plain = make(item("a"))
    some = [lead(email=f"a@firm{n}.example") for n in range(4000)]

    def arms(held_out: float, share: float) -> list[str]:
        rules = by_calendar(plain, share, held_out=held_out)
        return [rules.library.arm(one) for one in some]

    before = arms(0.1, 0.2)
    assert [round(before.count(arm) / 4000, 1) for arm in ("holdout", "calendar")] == [0.1, 0.2]
    for after in (arms(0.1, 0.4), arms(0.3, 0.2), arms(0, 0.2), arms(0.1, 0)):
        for one, other in zip(before, after, strict=True):
            assert one == other or "treated" in (one, other)
    assert {arm_of(draw / 100, 0.1, 0) for draw in range(101)} == {"holdout", "treated"}


def test_shares_that_leave_nobody_are_refused() -> None:
    with pytest.raises(ValueError, match="leave nobody to be nurtured"):
        Holdout(share=0.6, calendar=CalendarArm(share=0.4))


@pytest.mark.parametrize("stage", STAGES)
def test_the_item_is_the_authors_next_whatever_the_stage_and_the_answers(
    make: Any, stage: str
) -> None:
    """M7: also what is learned, the topic that was answered, and silence change nothing."""
    known = [
        item("a", topic="x"), item("b", topic="y", stages=["decision"], distance=2),
        item("c", topic="x", prerequisites=["b"]), item("d", topic="x", stages=["customer"]),
        item("e", distance=3),
    ]  # fmt: skip
    of = program("a", "b", "c", "d", "e", choice="learned", stages=["awareness"])
    rules = by_calendar(make(*known, programs=[of]))
    some = [
        {}, {"seen": frozenset("a"), "done": {"a": NOW}}, {"seen": frozenset("ab")},
        {"seen": frozenset("abc")},
    ]  # fmt: skip
    found = [decided(rules, someone(rules, stage=stage, **one), trigger(stage)) for one in some]
    assert [chosen(one) for one in found] == ["a", "b", "c", "nothing_suitable"]
    assert {one.propensity for one in found if isinstance(one, Send)} == {1.0}
    silent = tuple(had(f"t{n}", 60 - 7 * n)[0] for n in range(7))
    assert chosen(decided(rules, someone(rules, had=silent), trigger())) == "a"


def test_a_purchase_is_a_fact_and_no_stage(make: Any) -> None:
    bought = program("w", id="onboarding", stages=["customer"])
    rules = by_calendar(
        make(item("a"), item("w", stages=["customer"]), programs=[program("a"), bought])
    )
    person = someone(rules, stage="customer")
    assert chosen(decided(rules, person, trigger("customer"))) == "w"
    assert [one.id for one in rules.library.programs(someone(rules), trigger())] == ["p"]


SAFE = [
    ({"consent": None}, "no_consent"), ({"excluded": "competitor"}, "excluded"),
    ({"traits": {"mail_topics": "other"}}, "preference"),
    ({"recent_sends": (NOW - timedelta(hours=1),)}, "capped"),
    ({"sales_status": "accepted"}, "with_sales"),
    ({"seen": frozenset("a")}, "nothing_suitable"), ({"done": {"goal": NOW}}, "superseded"),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "reason"), SAFE)
def test_what_protects_people_holds_in_every_arm(
    make: Any, facts: dict[str, Any], reason: str
) -> None:
    """M7, N3, N5, N6, N8."""
    of = program("a", exit={"done": ["goal"]})
    rules = by_calendar(make(item("a"), item("goal"), programs=[of]), 0.5)
    for arm in ("calendar", "treated"):
        found = decided(rules, someone(rules, arm, **facts), trigger())
        why = found.reason if isinstance(found, Withhold) or found.due_at > NOW else ""
        assert why == reason, arm


def test_within_a_stage_and_at_a_change_of_it_the_next_comes_on_its_day(make: Any) -> None:
    """M7: a stage change brings nothing forward; an answer neither."""
    rules = by_calendar(make(*(item(name, topic=name) for name in "abc")), days=5)
    facts = {"seen": frozenset("a"), "done": {"a": NOW}, "stage": "decision"}
    person = someone(rules, had=had("a", 2), last_act_at=NOW - DAY, **facts)
    enrolment = Enrolment(person.id, "p", "default", NOW - 2 * DAY, place=1, last_touch="t-a")
    waits = step(rules, person, enrolment, NOW)
    assert waits.decision is None
    assert (waits.enrolment.next_at, waits.enrolment.reason) == (NOW + 3 * DAY, "calendar")
    change = Change(
        lead=person.id, version=2, from_stage="awareness", stage="decision", cause="event",
        cause_at=NOW, snapshot=person.snapshot,
    )  # fmt: skip
    event = ChangeEvent(id="e", type="lead.stage_changed.v1", time=NOW, data=change)
    [(touch, after)] = answers_to_stage(rules, event, person, NOW, {"p": enrolment})
    assert (touch.status, touch.content, touch.arm) == ("due", "b", "calendar")
    assert (touch.due_at, touch.reason) == (NOW + 3 * DAY, "calendar")
    assert after
    assert after.last_touch == touch.id
    moved = someone(rules, had=had("a", 5), seen=frozenset("a"), stage="status_quo")
    sent = recheck(rules, moved, touch, NOW + 3 * DAY, after)
    assert isinstance(sent, Send)
    assert (sent.content.id, sent.due_at) == ("b", NOW + 3 * DAY)
    at_once = step(rules, person, enrolment, NOW, paced=False)  # a person asks for it
    assert chosen(at_once.decision or Withhold("capped", "")) == "b"


def test_programs_come_one_after_the_other(make: Any) -> None:
    """M7: the lead's stage would have begun with the second."""
    first, second = program("a", id="first"), program("b", id="second", stages=["decision"])
    rules = by_calendar(
        make(item("a"), item("b", stages=["decision"]), programs=[first, second]), days=4
    )
    person = someone(rules, stage="decision", consent=GIVEN)
    assert [one.id for one in rules.library.programs(person, trigger("decision"))] == ["first"]
    later = someone(rules, stage="decision", seen=frozenset("a"), had=had("a", 1, "first"))
    [begun] = newly_entered(rules, later, "default", ["first"], NOW)
    assert begun.program == "second"
    after = step(rules, later, begun, NOW).enrolment
    assert (after.next_at, after.reason) == (NOW + 3 * DAY, "calendar")
    waiting = step(rules, person, begun, NOW)
    assert (waiting.decision, waiting.enrolment.state) == (None, "active")
    assert waiting.enrolment.next_at == NOW + 4 * DAY


def test_an_unknown_stage_begins_nothing_and_ends_nothing(make: Any) -> None:
    """M7, M2: a lead enters at the same moment in every arm."""
    rules = by_calendar(make(item("a"), item("b")))
    person = someone(rules, stage="unknown")
    assert chosen(decided(rules, person, trigger("unknown"))) == "unknown_stage"
    enrolment = Enrolment(person.id, "p", "default", NOW)
    assert chosen(step(rules, person, enrolment, NOW).decision or Withhold("capped", "")) == "a"


def test_without_an_address_the_account_is_not_known_yet(make: Any) -> None:
    rules = by_calendar(make(item("a")))
    for n in range(20):
        person = lead(id=str(n), email="", stage="decision")
        assert not rules.library.by_calendar(person)
