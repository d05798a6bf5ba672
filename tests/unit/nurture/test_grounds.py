"""The grounds against a touch, in their order, deciding and sending (N6, N8, N12, N14, I3)."""

from datetime import date, datetime, timedelta
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from services.nurture.rules.choice import RequestedItem
from services.nurture.rules.decision import Send, answer_request, decide, recheck
from services.nurture.rules.grounds import Withhold
from services.nurture.rules.lead import Lead
from services.shared.contracts.consent import SOFT_BOUNCES
from services.shared.contracts.events import ConsentState, LeadRequest, Touch
from services.shared.contracts.touch_reasons import (
    REASON_SENTENCES,
    STATUS_SENTENCES,
    TouchStatus,
    WaitReason,
    WithholdReason,
)
from services.shared.playbook.sections import Persona
from tests.support.nurture import (
    GIVEN,
    NOW,
    asking,
    chosen,
    decided,
    goes_out,
    held_out,
    imported,
    item,
    lead,
    program,
    trigger,
)

DUE = Touch(
    id="t", lead="l", program="p", stage="awareness", content="a", channel="email", status="due",
    cause_at=NOW, requested=False,
)  # fmt: skip


def test_with_no_ground_against_it_the_first_item_goes_out_at_once(make: Any) -> None:
    decision = decided(make(item("a"), item("b")), lead(), trigger())
    assert isinstance(decision, Send)
    assert (decision.content.id, decision.due_at, decision.reason, decision.propensity) == (
        "a",
        NOW,
        "",
        1.0,
    )
    assert "a" in decision.why


def test_each_ground_comes_before_the_next_one(make: Any) -> None:
    """All grounds hold at first; they are taken away one by one, in the order in which they are
    named.
    """
    rules = make(item("a", sample=True), sink=False, share=0.9)
    unit = next(
        f"x@{n}.example" for n in range(100) if held_out(rules, lead(email=f"x@{n}.example"))
    )
    spared = next(
        f"x@{n}.example" for n in range(100) if not held_out(rules, lead(email=f"x@{n}.example"))
    )
    old, moved = NOW - timedelta(days=8), "consideration"
    bad: dict[str, Any] = {
        "excluded": "test", "stage": moved, "email": unit, "sales_status": "accepted",
        "consent": None, "recent_sends": (NOW - timedelta(hours=1),),
        "seen": frozenset({"a"}),
    }  # fmt: skip
    found = [decided(rules, lead(**bad), trigger("unknown", cause_at=old))]
    bad["excluded"] = ""
    found.append(decided(rules, lead(**bad), trigger("unknown", cause_at=old)))
    found.append(decided(rules, lead(**bad), trigger(cause_at=old)))
    found.append(decided(rules, lead(**bad), trigger()))
    bad["stage"] = "awareness"
    found.append(decided(rules, lead(**bad), trigger()))
    bad["email"] = spared
    found.append(decide(rules, lead(**bad), trigger(), None, NOW))
    found.append(decided(rules, lead(**bad), trigger()))
    bad["consent"] = GIVEN
    found.append(decided(rules, lead(**bad), trigger()))
    bad["seen"] = frozenset()
    found.append(decided(rules, lead(**bad), trigger()))
    assert all(isinstance(decision, Withhold) and decision.why for decision in found)
    assert [decision.reason for decision in found] == [
        "excluded", "unknown_stage", "history", "superseded", "holdout", "nothing_suitable",
        "no_consent", "nothing_suitable", "sample",
    ]  # fmt: skip


def test_a_change_of_seven_days_ago_is_no_history_yet(make: Any) -> None:
    week = timedelta(days=7)
    assert isinstance(decided(make(item("a")), lead(), trigger(cause_at=NOW - week)), Send)
    later = decided(
        make(item("a")), lead(), trigger(cause_at=NOW - week - timedelta(microseconds=1))
    )
    assert later == Withhold("history", "the change itself is more than seven days old")


@pytest.mark.parametrize(
    ("sales", "sent"),
    [
        ("accepted", False),
        ("opportunity", False),
        ("rejected", True),
        ("disqualified", True),
        ("lost", True),
    ],
)
def test_sales_work_pauses_nurture_and_its_refusal_does_not(
    make: Any, sales: str, sent: bool
) -> None:
    """N8."""
    decision = decided(make(item("a")), lead(sales_status=sales), trigger())
    assert isinstance(decision, Send)
    assert (decision.reason == "", goes_out(decision)) == (sent, sent)


def test_what_was_imported_as_history_sends_nothing_however_recent_it_is(make: Any) -> None:
    """I3: history moves the score alone."""
    decision = decided(make(item("a")), lead(), imported("history"))
    assert isinstance(decision, Withhold)
    assert decision.reason == "history"


def test_an_imported_request_is_answered_only_where_it_is_of_a_new_lead(make: Any) -> None:
    """N12: nobody gets today what they asked for in an old export."""
    asked = NOW - timedelta(days=30)
    rules, content = make(item("a", service=True)), item("a", service=True)
    requested = RequestedItem(program("a", trigger="request"), content)

    def answer(mode: str, at: datetime = asked) -> Send | Withhold:
        request = LeadRequest("u", "demo_requested", at, "a", mode)
        return answer_request(rules, lead(), request, requested, NOW)

    assert [answer("history", NOW).reason, answer("", asked).reason] == ["history", "history"]
    now, later = answer("new_leads:0"), answer("new_leads:5")
    assert isinstance(now, Send)
    assert isinstance(later, Send)
    assert (now.due_at, later.reason) == (NOW, "ramp")
    assert NOW < later.due_at <= NOW + timedelta(days=5)


def test_a_requested_thing_comes_whatever_was_asked_for_but_not_to_who_left_since(
    make: Any,
) -> None:
    """N12: pace, topics and pauses are about what nobody asked for; a request after the refusal is
    a new consent to this one thing.
    """
    asked = program("a", id="asked", trigger="request", stages=[], answers={"demo_requested": "a"})
    rules = make(item("a"), programs=[asked])
    request = LeadRequest("1", "demo_requested", NOW - timedelta(minutes=5))
    requested = RequestedItem(asked, rules.playbook.content_by_id["a"])

    def answer(lead: Lead) -> Send | Withhold:
        return answer_request(rules, lead, request, requested, NOW)

    slow = asking(1, mail_pace="monthly", mail_topics=["else"], mail_paused_until="2030-01-01")
    assert isinstance(answer(slow), Send)
    before, after = request.at - timedelta(days=1), request.at + timedelta(minutes=1)
    assert isinstance(answer(lead(consent=ConsentState("withdrawn", before))), Send)
    assert answer(lead(consent=ConsentState("withdrawn", after))).reason == "no_consent"  # type: ignore[union-attr]
    assert isinstance(answer(lead(consent=ConsentState("given", after))), Send)


def test_a_sample_reaches_a_local_sink_only(make: Any) -> None:
    """N14; a webhook is no mailbox of anybody."""
    assert chosen(make(item("a", sample=True), sink=True), lead()) == "a"
    assert chosen(make(item("a", sample=True), sink=False), lead()) == "sample"
    by_webhook = make(
        item("a", sample=True), sink=False, programs=[program("a", channel="webhook")]
    )
    assert chosen(by_webhook, lead()) == "a"


def test_what_is_due_is_checked_on_the_same_grounds_in_the_same_order(make: Any) -> None:
    """N6."""
    rules = make(item("a", sample=True), sink=False)
    touch = Touch(
        id="t", lead="l", program="p", stage="awareness", content="a", channel="email", status="due"
    )
    bad: dict[str, Any] = {
        "stage": "consideration",
        "seen": frozenset({"a"}),
        "consent": None,
        "traits": {"mail_topics": ["else"], "language": "de"},
    }
    reasons = [recheck(rules, None, touch, NOW).reason]
    for mended in bad:
        reasons.append(recheck(rules, lead(**bad), touch, NOW).reason)
        bad[mended] = getattr(lead(), mended, None) or getattr(lead().snapshot, mended, "")
    reasons.append(recheck(rules, lead(traits={"language": "de"}), touch, NOW).reason)
    reasons.append(recheck(rules, lead(), touch, NOW).reason)
    assert reasons == [
        "superseded", "superseded", "no_consent", "no_consent", "preference", "superseded",
        "sample",
    ]  # fmt: skip


LATE = {
    "excluded": {"excluded": "competitor"},
    "moved on": {"stage": "consideration"},
    "seen": {"seen": frozenset({"a"})},
    "with sales": {"sales_status": "accepted"},
    "no address": {"email": ""},
    "no consent": {"consent": None},
    "refused": {"consent": ConsentState("withdrawn", NOW)},
    "capped": {"recent_sends": (NOW - timedelta(hours=1),)},
    "paused": {"traits": {"mail_paused_until": "2026-06-01"}},
    "slower": {"traits": {"mail_pace": "monthly"}, "recent_sends": (NOW - timedelta(days=20),)},
    "no topics": {"traits": {"mail_topics": []}},
    "other topics": {"traits": {"mail_topics": ["else"]}},
    "other language": {"traits": {"language": "de"}},
    "other country": {"traits": {"country": "US"}},
    "other persona": {"traits": {"title": "Student"}},
}


@pytest.mark.parametrize("late", LATE)
def test_what_speaks_against_deciding_speaks_against_sending(make: Any, late: str) -> None:
    """N6: the newest facts of the lead, whatever they were at the decision."""
    personas = [
        Persona(id="student", name="Student", trait="title", matches="student"),
        Persona(id="rest", name="Rest"),
    ]
    rules = make(
        item("a", countries=["DE"]),
        personas=personas,
        programs=[program("a", personas=["rest"])],
    )
    plain: dict[str, Any] = {"traits": {"country": "de "}}
    first = decided(rules, lead(**plain), trigger())
    assert isinstance(first, Send)
    changed = LATE[late]
    traits = {"country": "DE"} | changed.get("traits", {})
    then = lead(**(plain | changed | {"traits": traits}))
    assert not goes_out(decided(rules, then, trigger()))
    assert not goes_out(recheck(rules, then, DUE, NOW))
    assert goes_out(recheck(rules, lead(**plain), DUE, NOW))


EDITED = {
    "a draft": {"state": "draft"},
    "gone": {"id": "other"},
    "another stage": {"stages": ["consideration"]},
    "another product": {"product": "second"},
    "another persona": {"personas": ["nobody"]},
    "by webhook": {"channel": "webhook"},
    "for requests": {"trigger": "request"},
}


@pytest.mark.parametrize("edit", EDITED)
def test_an_edited_program_sends_nothing_that_it_would_not_decide(make: Any, edit: str) -> None:
    """N6: the running playbook, whatever it was at the decision."""
    before, after = program("a"), program(**({"items": ["a"]} | EDITED[edit]))
    items = item("a"), item("b")
    assert goes_out(recheck(make(*items, programs=[before]), lead(), DUE, NOW))
    assert isinstance(recheck(make(*items, programs=[after]), lead(), DUE, NOW), Withhold)


def test_in_place_of_an_overtaken_item_comes_a_better_one(make: Any) -> None:
    """N6: the item was taken out of the program, or the lead has found it by itself."""
    items = item("a"), item("b")
    edited = recheck(make(*items, programs=[program("b")]), lead(), DUE, NOW)
    found = recheck(make(*items), lead(seen=frozenset({"a"})), DUE, NOW)
    for better in (edited, found):
        assert isinstance(better, Send)
        assert (better.content.id, better.due_at) == ("b", NOW)


@pytest.mark.parametrize(
    "fields",
    [{"stages": ["consideration"]}, {"personas": ["nobody"]}, {"products": ["second"]},
     {"language": "de"}, {"countries": ["FR"]}, {"valid_until": date(2026, 5, 12)},
     {"distance": 3}, {"prerequisites": ["b"]}, {"service": True}],
)  # fmt: skip
def test_an_edited_item_is_not_sent_where_it_would_not_be_chosen(
    make: Any, fields: dict[str, Any]
) -> None:
    rules = make(item("a", **fields), item("b"), programs=[program("a")])
    assert recheck(rules, lead(), DUE, NOW).reason == "superseded"


def test_a_requested_item_is_checked_again_from_the_time_of_its_request(make: Any) -> None:
    """A refusal that was said before the decision and known after it holds; so do an edit of the
    program and an exclusion.
    """
    asked = program("a", id="p", trigger="request", stages=[], answers={"demo_requested": "b"})
    items = item("a"), item("b")
    rules = make(*items, programs=[asked])
    touch = replace(DUE, requested=True, cause_at=NOW - timedelta(hours=2))
    assert goes_out(recheck(rules, lead(), touch, NOW))
    assert goes_out(recheck(rules, lead(), replace(touch, content="b"), NOW))
    between = ConsentState("withdrawn", NOW - timedelta(hours=1))
    for then in (lead(consent=between), lead(excluded="employee"), lead(email="")):
        assert isinstance(recheck(rules, then, touch, NOW), Withhold)
    for edit in ({"items": ["b"]}, {"product": "second"}, {"trigger": "stage"}, {"state": "test"}):
        edited = asked.model_copy(update={"stages": ["awareness"]} | edit)
        assert isinstance(recheck(make(*items, programs=[edited]), lead(), touch, NOW), Withhold), (
            edit
        )


def test_what_waited_for_a_week_still_comes_and_a_request_does_not(make: Any) -> None:
    """The cap was reached for so long, or the kill switch was on."""
    long_ago = NOW - timedelta(days=8)
    touch = replace(DUE, cause_at=long_ago, decided_at=long_ago)
    assert goes_out(recheck(make(item("a")), lead(), touch, NOW))
    old = replace(touch, cause_at=long_ago - timedelta(days=8))
    assert recheck(make(item("a")), lead(), old, NOW).reason == "history"
    assert goes_out(recheck(make(item("a")), lead(), replace(old, imported="new_leads:10"), NOW))
    asked = program("a", trigger="request", stages=[])
    request = replace(touch, requested=True)
    assert recheck(make(item("a"), programs=[asked]), lead(), request, NOW).reason == "history"


def test_who_wants_no_topics_has_a_preference(make: Any) -> None:
    """N9."""
    for topics in ([], "", "none", " ; "):
        decision = decided(make(item("a")), lead(traits={"mail_topics": topics}), trigger())
        assert decision == Withhold("preference", "the lead wants no topics")
    other = decided(
        make(item("a"), item("b", topic="u")), lead(traits={"mail_topics": ["x"]}), trigger()
    )
    assert other == Withhold("preference", "the lead does not want to read about t, u")


def test_every_status_and_reason_has_its_sentence() -> None:
    assert set(STATUS_SENTENCES) == set(get_args(TouchStatus))
    assert set(REASON_SENTENCES) == {*get_args(WithholdReason), *get_args(WaitReason)}


def test_an_address_whose_mails_come_back_says_so(make: Any) -> None:
    """N6: the reason is in the decision's words."""
    returned = lead(consent=ConsentState("withdrawn", NOW, SOFT_BOUNCES))
    found = decided(make(item("a")), returned, trigger())
    assert isinstance(found, Withhold)
    assert found.reason == "no_consent"
    assert "in a row came back over two weeks" in found.why
