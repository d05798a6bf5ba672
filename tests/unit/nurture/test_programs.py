"""People in programs over months of virtual time: every rule over random people and playbooks
(N2, N3, N4, N5, N8, N9, N11).
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from services.nurture.rules.decision import Send, decide, recheck
from services.nurture.rules.enrolment import Enrolment, merged
from services.nurture.rules.grounds import Rules, Withhold
from services.nurture.rules.lead import Had, Lead, Trigger
from services.nurture.rules.pace import gap, rhythm, tone, unanswered
from services.nurture.rules.steps import entered, newly_entered, step
from services.shared.contracts.events import Touch, derived
from services.shared.playbook.programs import AfterLoss, Pace, Silence
from services.shared.playbook.sections import Playbook
from tests.support.nurture import GIVEN, NOW, chosen, item, lead, make_rules, program, trigger

DAY = timedelta(days=1)
STAGES = ("status_quo", "awareness", "consideration", "decision", "customer")


class Sent(NamedTuple):
    """A touch that went out, with what was known then."""

    at: datetime
    touch: str
    content: str
    program: str
    lead: Lead
    follows: bool


class World:
    """One lead under the rules, in virtual time: what a handler, a planner and a scheduler do."""

    def __init__(self, rules: Rules, person: Lead, now: datetime = NOW) -> None:
        self.rules, self.lead, self.now = rules, person, now
        self.enrolments: dict[str, Enrolment] = {}
        self.due: dict[str, Touch] = {}
        self.sent: list[Sent] = []
        self.withheld: list[tuple[str, str]] = []
        self.announced = 0

    def know(self, **facts: Any) -> None:
        """News of the lead: everything that waits is asked again."""
        known = {name: facts.pop(name) for name in ("consent", "paused_until") if name in facts}
        snapshot = replace(self.lead.snapshot, **facts)
        self.lead = replace(self.lead, snapshot=snapshot, **known)
        self.call()

    def call(self) -> None:
        for name, one in self.enrolments.items():
            if one.state in ("active", "left"):
                self.enrolments[name] = replace(one, next_at=self.now)
        for touch in self.due.values():
            if touch.due_at and touch.due_at > self.now:
                self.due[touch.id] = replace(touch, due_at=self.now)

    def act(self, content: str = "") -> None:
        """The lead does something by itself, and its last touch is answered."""
        if content:
            done = self.lead.done | {content: self.now}
            self.lead = replace(self.lead, done=done, seen=self.lead.seen | {content})
        had = list(self.lead.had)
        if had and had[-1].answered_at is None:
            had[-1] = replace(had[-1], answered_at=self.now)
        self.lead = replace(self.lead, had=tuple(had))
        self.know(last_act_at=self.now)

    def announce(self, stage: str) -> None:
        self.know(stage=stage)
        self.announced += 1
        event, asked = f"announcement {self.announced}", trigger(stage, cause_at=self.now)
        for one in self.rules.library.programs(self.lead, asked):
            touch, known = derived(event, "touch", one.id), self.enrolments.get(one.id)
            found = decide(self.rules, self.lead, asked, one, self.now, known, touch)
            if enters := entered(one, self.lead, touch, found, self.now, known):
                self.enrolments[one.id] = enters
            self._keep(touch, one.id, one.channel, asked, found)

    def _keep(
        self, touch: str, name: str, channel: str, asked: Trigger, found: Send | Withhold
    ) -> None:
        assert touch not in self.due, "a place has one touch"
        assert all(one.touch != touch for one in self.sent), "a place has one touch"
        if isinstance(found, Withhold):
            self.withheld.append((found.reason, found.why))
            return
        self.due[touch] = Touch(
            id=touch, lead=self.lead.id, program=name, stage=asked.stage,
            channel=found.content.channel or channel,
            content=found.content.id, status="due", reason=found.reason, why=found.why,
            decided_at=self.now, cause_at=asked.cause_at, due_at=found.due_at,
            follows="before" if asked.follows else "", requested=False,
        )  # fmt: skip

    def run(self, until: datetime) -> None:
        """Goes from one moment to the next at which anything happens."""
        while True:
            self._plan()
            self._send()
            moments = [one.next_at for one in self.enrolments.values() if one.next_at]
            moments += [one.due_at for one in self.due.values() if one.due_at]
            following = min(moments, default=until)
            if following >= until:
                break
            self.now = max(self.now, following)
        self.now = until

    def _plan(self) -> None:
        busy = {one.program for one in self.due.values()}
        for one in (
            newly_entered(self.rules, self.lead, "default", self.enrolments.keys(), self.now)
            if self.enrolments
            else []
        ):
            self.enrolments[one.program] = one
        for name, one in list(self.enrolments.items()):
            if one.next_at is None or one.next_at > self.now:
                continue
            done = step(self.rules, self.lead, one, self.now, is_pending=name in busy)
            self.enrolments[name] = done.enrolment
            if done.decision:
                asked = Trigger(self.lead.snapshot.stage, "default", self.now, follows=True)
                channel = getattr(self.rules.library.program(name), "channel", "")
                self._keep(done.enrolment.last_touch, name, channel, asked, done.decision)

    def _send(self) -> None:
        for touch in sorted(self.due.values(), key=lambda one: (one.due_at or NOW, one.id)):
            if touch.due_at is None or touch.due_at > self.now:
                continue
            known = self.enrolments.get(touch.program)
            found = recheck(self.rules, self.lead, touch, self.now, known)
            del self.due[touch.id]
            if isinstance(found, Withhold):
                self.withheld.append((found.reason, found.why))
                self._outcome(touch.program)
            elif found.due_at > self.now:
                self.due[touch.id] = replace(
                    touch, content=found.content.id, due_at=found.due_at, reason=found.reason
                )
            else:
                self._goes_out(touch, found.content.id)

    def _goes_out(self, touch: Touch, content: str) -> None:
        self.sent.append(Sent(self.now, touch.id, content, touch.program, self.lead, touch.follows))
        had = Had(touch.id, touch.program, content, touch.channel, self.now)
        self.lead = replace(
            self.lead, had=(*self.lead.had, had), seen=self.lead.seen | {content},
            recent_sends=(*self.lead.recent_sends, self.now),
        )  # fmt: skip
        self._outcome(touch.program)

    def _outcome(self, name: str) -> None:
        if name in self.enrolments:
            self.enrolments[name] = replace(self.enrolments[name], next_at=self.now)

    def days(self) -> list[float]:
        """When touches went out, in days since the beginning."""
        return [round((one.at - NOW) / DAY, 2) for one in self.sent]


def begin(rules: Rules, stage: str = "awareness", **facts: Any) -> World:
    """A lead that was announced in a stage."""
    world = World(rules, lead(stage=stage, **facts))
    world.announce(stage)
    return world


def items(*names: str, **fields: Any) -> list[Any]:
    return [item(name, **fields) for name in names]


# -- examples --------------------------------------------------------------------------------------


def test_within_a_stage_the_next_touch_comes_at_the_usual_pace_until_the_lead_answers(
    make: Any,
) -> None:
    """N5, N9: and then as fast as it answers, within the playbook's bounds."""
    world = begin(make(*items(*"abcdefgh")))
    world.run(NOW + 8 * DAY)
    assert world.days() == [0, 7]
    world.run(NOW + 9 * DAY)
    world.act()
    world.run(NOW + 12.5 * DAY)
    assert world.days() == [0, 7]  # two days to answer make six between touches
    world.run(NOW + 13.5 * DAY)
    assert world.days() == [0, 7, 13]
    world.act()
    world.run(NOW + 17 * DAY)
    # half a day and two days: the median is a day and a quarter
    assert world.days() == [0, 7, 13, 16.75]


def test_a_fast_and_a_slow_reader_stay_within_the_bounds_of_the_playbook() -> None:
    pace = Pace(least=2, usual=7, most=21)

    def had(*hours: float) -> list[Had]:
        return [Had("t", "p", "c", "email", NOW, NOW + timedelta(hours=each)) for each in hours]

    assert gap(pace, []) == 7 * DAY
    assert gap(pace, had(1, 2, 3)) == 2 * DAY
    assert gap(pace, had(24)) == 3 * DAY
    assert gap(pace, had(24 * 30)) == 21 * DAY
    assert rhythm(had(1, 1, 1, 48, 48, 48, 48, 48)) == 2 * DAY  # the newest five


def test_three_unanswered_touches_slow_down_then_change_the_angle_then_pause(make: Any) -> None:
    """N9: silence is an answer."""
    same = items(*"abcdefg", angle="why, by facts")
    other = items("x", "y", angle="how, by feelings")
    world = begin(make(*same, *other))
    world.run(NOW + 200 * DAY)
    assert [one.content for one in world.sent] == ["a", "b", "c", "d", "x", "e"]
    assert world.days() == [0, 7, 14, 28, 42, 132]
    world.act("e")
    world.run(NOW + 210 * DAY)
    assert world.sent[-1].content == "f", "who answers goes on"


def test_unanswered_touches_change_the_channel_where_an_item_has_another(make: Any) -> None:
    """N9: the second form of another way; none that the lead has not permitted."""
    rules = make(*items(*"abcdefg"), *items("call", channel="call"))
    unasked = begin(rules)
    unasked.run(NOW + 200 * DAY)
    assert "call" not in [one.content for one in unasked.sent]
    world = begin(rules, phone_consent=GIVEN)
    world.run(NOW + 200 * DAY)
    assert [one.content for one in world.sent] == ["a", "b", "c", "d", "call", "e"]
    assert [one.channel for one in world.lead.had] == [*["email"] * 4, "call", "email"]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "usual"), (2, "usual"), (3, "slower"), (4, "other"), (5, "pause"), (50, "pause")],
)
def test_what_silence_calls_for(count: int, expected: str) -> None:
    assert tone(Silence(), count) == expected


def test_after_an_answer_the_next_item_goes_on_with_its_topic(make: Any) -> None:
    """N9."""
    rules = make(item("a", topic="x"), item("b", topic="y"), item("c", topic="x"))
    assert chosen(rules, lead()) == "a"
    seen = frozenset({"a"})
    assert chosen(rules, lead(seen=seen)) == "b"
    assert chosen(rules, lead(seen=seen, done={"a": NOW})) == "c"


def test_who_is_in_a_program_that_is_for_another_product_by_now_leaves_it(make: Any) -> None:
    """N4."""
    known = items("a", "b")
    world = begin(make(*known))
    world.run(NOW + DAY)
    of_another = program("a", "b", product="other")
    world.rules = make(*known, programs=[of_another], products=["default", "other"])
    world.know()
    world.run(NOW + 100 * DAY)
    assert [one.content for one in world.sent] == ["a"]
    assert world.enrolments["p"].state == "left"


def test_who_returns_after_months_goes_on_where_it_stood(make: Any) -> None:
    """N4."""
    known = items("a", "b", "c", stages=["awareness"])
    later = items("z", stages=["decision"])
    of_awareness = program("a", "b", "c")
    world = begin(make(*known, *later, programs=[of_awareness]))
    world.run(NOW + DAY)
    world.announce("decision")
    world.run(NOW + 100 * DAY)
    assert world.enrolments["p"].state == "left"
    assert [one.content for one in world.sent] == ["a"]
    world.announce("awareness")
    world.run(NOW + 101 * DAY)
    assert world.enrolments["p"].state == "active"
    assert [one.content for one in world.sent] == ["a", "b"]


@pytest.mark.parametrize(
    ("reentry", "state", "after"),
    [({"allowed": False}, "left", 0), ({"after_days": 30}, "active", 1)],
)
def test_who_may_come_back_and_when(
    make: Any, reentry: dict[str, Any], state: str, after: int
) -> None:
    """N4."""
    of_awareness = program("a", "b", "c", reentry=reentry)
    world = begin(make(*items("a", "b", "c"), programs=[of_awareness]))
    world.run(NOW + DAY)
    world.announce("decision")
    world.run(NOW + 2 * DAY)
    world.announce("awareness")
    world.run(NOW + 30 * DAY)
    assert len(world.sent) == 1
    world.run(NOW + 35 * DAY)
    assert (len(world.sent) - 1, world.enrolments["p"].state) == (after, state)


def test_the_goal_ends_a_program_also_where_the_lead_reached_it_unasked(make: Any) -> None:
    """N3, N4."""
    world = begin(
        make(
            *items("a", "b", "goal"), programs=[program("a", "b", "goal", exit={"done": ["goal"]})]
        )
    )
    world.run(NOW + DAY)
    world.act("goal")
    world.run(NOW + 60 * DAY)
    assert (world.enrolments["p"].state, len(world.sent)) == ("completed", 1)
    world.announce("awareness")
    world.run(NOW + 90 * DAY)
    assert len(world.sent) == 1


def test_only_who_has_done_what_the_entry_asks_for_enters(make: Any) -> None:
    """N4: later too, without a change of stage."""
    first = program("a", id="first")
    second = program("b", "c", id="second", entry={"done": ["a"]})
    world = begin(make(*items("a", "b", "c"), programs=[first, second]))
    world.run(NOW + 5 * DAY)
    assert {*world.enrolments} == {"first"}
    world.act("a")
    world.run(NOW + 6 * DAY)
    assert [one.content for one in world.sent] == ["a", "b"]
    assert world.enrolments["second"].state == "active"


def test_an_edited_program_goes_on_from_what_each_person_has_had(make: Any) -> None:
    """N4."""
    world = begin(make(*items("a", "b", "c")))
    world.run(NOW + 8 * DAY)
    world.rules = make(*items("a", "b", "c", "new"), programs=[program("b", "new", "a", "c")])
    world.call()
    world.run(NOW + 30 * DAY)
    assert [one.content for one in world.sent] == ["a", "b", "new", "c"]


def test_a_removed_program_ends_with_a_word_and_a_draft_waits(make: Any) -> None:
    """N4."""
    every = items("a", "b", "c")
    world = begin(make(*every))
    world.run(NOW + DAY)
    world.rules = make(*every, programs=[program("a", "b", state="draft")])
    world.call()
    world.run(NOW + 20 * DAY)
    assert (len(world.sent), world.enrolments["p"].state) == (1, "active")
    world.rules = make(*every, programs=[program("a", "b", "c")])
    world.call()
    world.run(NOW + 21 * DAY)
    assert len(world.sent) == 2
    world.rules = make(*every, programs=[program("a", id="other")])
    for _ in range(3):
        world.call()
        world.run(world.now + 20 * DAY)
    assert world.enrolments["p"].state == "ended"
    assert [one for one in world.withheld if one[0] == "program_ended"] == [
        ("program_ended", "the program p is no more in the playbook")
    ]


def test_after_a_purchase_another_program_goes_on(make: Any) -> None:
    bought = program("w", "x", id="onboarding", stages=["customer"])
    world = begin(
        make(
            *items("a", "b"),
            *items("w", "x", stages=["customer"]),
            programs=[program("a", "b"), bought],
        )
    )
    world.run(NOW + DAY)
    world.announce("customer")
    world.run(NOW + 30 * DAY)
    assert [one.content for one in world.sent] == ["a", "w", "x"]
    assert world.enrolments["p"].state == "left"


LOSSES = [
    ("disqualified", "bad_timing", [100.0]), ("lost", "Bad timing", [100.0]),
    ("disqualified", "competitor", []), ("disqualified", "student", []),
    ("disqualified", "bad_data", []), ("churned", "", [190.0]), ("refunded", "", [190.0]),
    ("lost", "price", [10.0]),
]  # fmt: skip


@pytest.mark.parametrize(("status", "reason", "then"), LOSSES)
def test_after_a_loss_the_playbook_decides_by_its_reason(
    make: Any, status: str, reason: str, then: list[float]
) -> None:
    rules = make(*items(*"abcd"))
    world = begin(rules, consent=None)
    world.now = NOW + 10 * DAY
    world.know(sales_status=status, sales_reason=reason, sales_at=world.now, consent=GIVEN)
    world.run(NOW + 250 * DAY)
    assert world.days()[: len(then) or None][:1] == then


def test_bad_timing_waits_for_the_day_that_the_lead_has_named(make: Any) -> None:
    world = begin(make(*items(*"abcd")), consent=None)
    world.know(
        sales_status="lost", sales_reason="bad_timing", sales_at=NOW, sales_until="2026-09-01",
        consent=GIVEN,
    )  # fmt: skip
    world.run(NOW + 250 * DAY)
    assert world.sent[0].at.date() == date(2026, 9, 1)


def test_who_has_no_budget_gets_education_alone(make: Any) -> None:
    fields: dict[str, Any] = {"stages": ["decision"]}
    rules = make(
        item("sells", distance=2, **fields), item("teaches", distance=1, **fields),
        programs=[program("sells", "teaches", stages=["decision"])],
    )  # fmt: skip
    person = lead(stage="decision", sales_status="disqualified", sales_reason="no budget")
    assert chosen(rules, person, "decision") == "teaches"
    assert chosen(rules, lead(stage="decision"), "decision") == "sells"


@pytest.mark.parametrize(
    ("status", "expected"), [("", "b"), ("rejected", "b"), ("disqualified", "b"), ("lost", "a")]
)
def test_before_the_hand_off_nothing_presses_to_buy(make: Any, status: str, expected: str) -> None:
    """N8."""
    fields: dict[str, Any] = {"stages": ["decision"]}
    rules = make(
        item("a", distance=3, **fields), item("b", distance=2, **fields),
        programs=[program("a", "b", stages=["decision"])],
    )  # fmt: skip
    assert chosen(rules, lead(stage="decision", sales_status=status), "decision") == expected


def test_two_who_become_one_go_on_as_one_in_any_order() -> None:
    """N11."""
    one = Enrolment("l1", "p", "default", NOW, "left", 3, derived("x"), None, "", "", NOW)
    other = Enrolment("l2", "p", "default", NOW - DAY, "active", 2, derived("y"), NOW + DAY)
    both = merged([one, other], "l2")
    assert both == merged([other, one], "l2")
    assert (both.lead, both.state, both.place, both.last_touch, both.next_at, both.entered_at) == (
        "l2", "active", 3, one.last_touch, NOW + DAY, NOW - DAY,
    )  # fmt: skip


# -- properties ------------------------------------------------------------------------------------


@st.composite
def playbooks(draw: Any) -> dict[str, Any]:
    """Parts of a playbook: items, programs, cadence, policy after a loss."""
    names = [f"i{n}" for n in range(draw(st.integers(3, 12)))]
    content = []
    for place, name in enumerate(names):
        needs = draw(st.lists(st.sampled_from(names[:place]), max_size=2)) if place else []
        content.append(
            item(
                name,
                stages=draw(st.lists(st.sampled_from(STAGES), min_size=2, unique=True)),
                distance=draw(st.integers(0, 3)),
                topic=draw(st.sampled_from("xyz")),
                angle=draw(st.sampled_from(["", "why", "how"])),
                prerequisites=needs,
            )
        )
    programs = [
        program(
            *draw(st.permutations(names)),
            id=name,
            stages=draw(st.lists(st.sampled_from(STAGES), min_size=3, unique=True)),
            choice=draw(st.sampled_from(["author", "learned"])),
            exit={"done": draw(st.lists(st.sampled_from(names), max_size=1))},
            reentry={"allowed": draw(st.booleans()), "after_days": draw(st.sampled_from([0, 20]))},
            pace={"least": 1, "usual": draw(st.sampled_from([1, 4, 9])), "most": 20},
        )
        for name in draw(st.sampled_from([["p"], ["p", "q"]]))
    ]
    return {
        "content": content,
        "programs": programs,
        "cadence": {
            "per_week": draw(st.integers(1, 4)),
            "min_hours_between": draw(st.sampled_from([1.0, 20.0, 60.0])),
            "working_days": draw(st.sampled_from([[0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6], [2]])),
        },
        "after_loss": [
            AfterLoss(sales=["lost"], then=draw(st.sampled_from(["nothing", "wait"])), days=20)
        ],
    }


NEWS = st.one_of(
    st.tuples(st.just("announce"), st.sampled_from(STAGES)),
    st.tuples(st.just("act"), st.sampled_from(["", "i0", "i1", "i2", "i3"])),
    st.tuples(st.just("sales"), st.sampled_from(["", "accepted", "lost", "rejected", "won"])),
    st.tuples(st.just("consent"), st.booleans()),
    st.tuples(st.just("zone"), st.sampled_from(["UTC", "Asia/Tokyo", "America/Lima"])),
    st.tuples(st.just("pause"), st.integers(1, 20)),
)


def live(world: World, news: tuple[str, Any]) -> None:
    kind, value = news
    if kind == "announce":
        world.announce(value)
    elif kind == "act":
        world.act(value)
    elif kind == "sales":
        world.know(sales_status=value, sales_at=world.now)
    elif kind == "consent":
        world.know(consent=GIVEN if value else None)
    elif kind == "zone":
        world.know(traits={"timezone": value})
    else:
        world.know(paused_until=world.now + value * DAY)


@given(
    playbooks(),
    st.lists(st.tuples(st.floats(0.01, 12), NEWS), min_size=4, max_size=14),
)
@settings(max_examples=120, deadline=None)
def test_no_rule_is_broken_whatever_people_do(
    default_playbook: Playbook, parts: dict[str, Any], story: list[tuple[float, tuple[str, Any]]]
) -> None:
    """N2-N6, N8, N9, N11."""
    content = parts.pop("content")
    rules = make_rules(default_playbook, *content, **parts)
    world = begin(rules)
    for days, news in story:
        world.run(world.now + days * DAY)
        live(world, news)
    world.run(world.now + 60 * DAY)
    assert [*violations(rules, world)] == []


def violations(rules: Rules, world: World) -> Iterator[str]:
    """What went out against a rule."""
    cadence, times = rules.playbook.cadence, [one.at for one in world.sent]
    assert len({one.touch for one in world.sent}) == len(world.sent)
    contents = [one.content for one in world.sent]
    if len({*contents}) < len(contents):
        yield "an item went out twice"
    for place, one in enumerate(world.sent):
        content, person = rules.playbook.content_by_id[one.content], one.lead
        stage = person.snapshot.stage
        if person.consent is None:
            yield "without consent"
        if person.snapshot.sales_status == "accepted":
            yield "while sales works"
        if person.paused_until and person.paused_until > one.at:
            yield "in a pause"
        if not person.done.keys() >= {*content.prerequisites}:
            yield "before its prerequisites"
        if stage not in content.stages:
            yield "for another stage"
        if content.distance > rules.library.max_distance(person, stage):
            yield "too commercial"
        is_handed_over = stage == "customer" or person.snapshot.sales_status not in ("", "rejected")
        if content.distance == 3 and not is_handed_over:
            yield "an offer before the hand-off"
        local = one.at.astimezone(zone(person))
        if local.hour >= cadence.quiet_from or local.hour < cadence.quiet_until:
            yield "in quiet hours"
        if local.weekday() not in cadence.working_days:
            yield "on a day off"
        week = [at for at in times[: place + 1] if one.at - at < timedelta(days=7)]
        if len(week) > cadence.per_week:
            yield "above the cap"
        if place and one.at - times[place - 1] < timedelta(hours=cadence.min_hours_between):
            yield "too soon after another"
    if {reason for reason, _ in world.withheld} & {"capped", "quiet_hours", "on_site"}:
        yield "withheld for what passes"


def zone(person: Lead) -> Any:
    from zoneinfo import ZoneInfo

    return ZoneInfo(person.snapshot.traits.get("timezone", "UTC"))


def test_unanswered_are_the_touches_since_the_last_act() -> None:
    had = tuple(Had(str(n), "p", "c", "email", NOW + n * DAY) for n in range(5))
    assert unanswered(lead(had=had)) == 5
    assert unanswered(lead(had=had, last_act_at=NOW + 2 * DAY)) == 2
    replied = msgspec.structs.replace(lead().snapshot, answered_at=NOW + 3 * DAY)
    assert unanswered(replace(lead(had=had), snapshot=replied)) == 1
