"""The grounds against a touch, in their order, deciding and sending (N6, N8, N12, N14, I3)."""

from datetime import datetime, timedelta
from typing import Any, get_args

import pytest

from services.nurture.rules.choice import RequestedItem
from services.nurture.rules.decision import Send, answer_request, decide, recheck
from services.nurture.rules.grounds import Withhold
from services.nurture.rules.lead import Lead
from services.shared.contracts.events import ConsentState, LeadRequest, Touch
from services.shared.contracts.touch_reasons import (
    REASON_SENTENCES,
    STATUS_SENTENCES,
    TouchStatus,
    WaitReason,
    WithholdReason,
)
from tests.support.nurture import (
    GIVEN,
    NOW,
    asking,
    chosen,
    decided,
    held_out,
    imported,
    item,
    lead,
    program,
    trigger,
)


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
        "stage": moved, "email": unit, "sales_status": "accepted", "consent": None,
        "recent_sends": (NOW - timedelta(hours=1),),
        "seen": frozenset({"a"}),
    }  # fmt: skip
    found = [decided(rules, lead(**bad), trigger("unknown", cause_at=old))]
    found.append(decided(rules, lead(**bad), trigger(cause_at=old)))
    found.append(decided(rules, lead(**bad), trigger()))
    bad["stage"] = "awareness"
    found.append(decided(rules, lead(**bad), trigger()))
    bad["email"] = spared
    found.append(decide(rules, lead(**bad), trigger(), None, NOW))
    found.append(decided(rules, lead(**bad), trigger()))
    bad["sales_status"] = ""
    found.append(decided(rules, lead(**bad), trigger()))
    bad["consent"] = GIVEN
    found.append(decided(rules, lead(**bad), trigger()))
    bad["recent_sends"] = ()
    found.append(decided(rules, lead(**bad), trigger()))
    bad["seen"] = frozenset()
    found.append(decided(rules, lead(**bad), trigger()))
    assert all(isinstance(decision, Withhold) and decision.why for decision in found)
    assert [decision.reason for decision in found] == [
        "unknown_stage", "history", "superseded", "holdout", "nothing_suitable", "superseded",
        "no_consent", "capped",
        "nothing_suitable", "sample",
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
    assert isinstance(decided(make(item("a")), lead(sales_status=sales), trigger()), Send) is sent


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
        "sales_status": "accepted",
        "consent": None,
        "recent_sends": (NOW - timedelta(hours=1),),
        "traits": {"mail_topics": ["else"], "language": "de"},
    }
    reasons = [recheck(rules, None, touch, NOW).reason]
    for mended in bad:
        reasons.append(recheck(rules, lead(**bad), touch, NOW).reason)
        bad[mended] = getattr(lead(), mended, None) or getattr(lead().snapshot, mended, "")
    reasons.append(recheck(rules, lead(traits={"language": "de"}), touch, NOW).reason)
    reasons.append(recheck(rules, lead(), touch, NOW).reason)
    assert reasons == [
        "superseded", "superseded", "superseded", "superseded", "no_consent", "capped",
        "preference", "superseded", "sample",
    ]  # fmt: skip


def test_every_status_and_reason_has_its_sentence() -> None:
    assert set(STATUS_SENTENCES) == set(get_args(TouchStatus))
    assert set(REASON_SENTENCES) == {*get_args(WithholdReason), *get_args(WaitReason)}
