"""What a CRM gets to know, and when (D6, U3, S9)."""

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
import yaml

from services.scorer.crm.payload import (
    SCHEDULE,
    ProductNumbers,
    Summary,
    document,
    is_worth_a_message,
    message,
    sales_text,
    summary_of,
    top_reasons,
)
from services.scorer.model.explanation import Line
from services.scorer.queries.lead_view import FitView, LeadView
from services.shared.clock import DAY, to_us
from services.shared.contracts.identity import Identifier, Kind
from services.shared.playbook.sections import Crm, Playbook
from services.shared.settings import ROOT

FIELDS = {
    "stage": "stage",
    "why": "join('; ', reasons)",
    "chance": "band",
    "owner": "lead.traits.owner",
}
RULES = Crm(system="HubSpot", fields=FIELDS, min_change=5)
EXAMPLES = sorted((ROOT / "deploy" / "playbook" / "crm").glob("*.yaml"))


def at(text: str) -> int:
    return to_us(datetime.fromisoformat(text))


LEAD = LeadView(
    id=uuid.UUID("6c1c1f3e-0000-4000-8000-000000000001"),
    version=7,
    identifiers=[
        Identifier(Kind.EMAIL, "ann@firm.example"),
        Identifier(Kind.EXTERNAL, "00Q", "salesforce"),
        Identifier(Kind.EXTERNAL, "7", "hubspot"),
    ],
    traits={"name": "Ann"},
    product="default",
    stage="decision",
    stage_since=at("2026-11-01T00:00:00Z"),
    belief={},
    confidence=0.81234,
    likelihood=0.23456,
    fit=FitView(62.54, "B"),
    engagement=31.27,
    qualified=True,
    sales_status="disqualified",
    sales_reason="no_budget",
    consent=[],
    source="fair",
    campaign="",
    left_out=[],
    events_counted=1,
    last_event_at=at("2026-11-01T00:00:00Z"),
    next_review_at=None,
    as_of=at("2026-11-02T00:00:00Z"),
)


def lead(**changed: Any) -> LeadView:
    """A lead as the queries give it."""
    return msgspec.structs.replace(LEAD, **changed)


def message_of(leads: Mapping[str, LeadView] | None = None, rules: Crm = RULES) -> dict[str, Any]:
    """The message as JSON has it."""
    leads = leads or {"default": lead()}
    reasons = {product: ["Replied (+3.0)", "Enquired (+1.0)"] for product in leads}
    return dict(msgspec.to_builtins(message(rules, leads, reasons)))


def test_a_message_holds_the_fields_of_the_playbook_and_how_to_find_the_record() -> None:
    assert message_of() == {
        "type": "lead.scored",
        "timestamp": "2026-11-02T00:00:00Z",
        "data": {
            "lead": "6c1c1f3e-0000-4000-8000-000000000001",
            "version": 7,
            "system": "HubSpot",
            "external_id": "7",
            "email": "ann@firm.example",
            "fields": {
                "stage": "decision",
                "why": "Replied (+3.0); Enquired (+1.0)",
                "chance": "some",
                "owner": None,
            },
        },
    }


def test_an_expression_that_fails_on_what_a_lead_lacks_gives_null() -> None:
    """One odd lead does not keep the others from being delivered."""
    rules = Crm(system="hubspot", fields={"tags": "join(', ', lead.traits.tags)", "stage": "stage"})
    assert message_of(rules=rules)["data"]["fields"] == {"tags": None, "stage": "decision"}


def test_a_lead_unknown_to_the_crm_is_named_by_its_address_alone() -> None:
    stranger = lead(identifiers=[Identifier(Kind.EMAIL, "a@b.example")])
    data = message_of({"default": stranger})["data"]
    assert (data["external_id"], data["email"]) == (None, "a@b.example")


def test_the_likelihood_is_a_band_until_it_is_calibrated() -> None:
    """S9."""
    known = document(RULES, {"default": lead()}, {"default": []})
    assert (known.likelihood, known.band) == (None, "some")
    known = document(RULES, {"default": lead(calibrated=True)}, {"default": []})
    assert (known.likelihood, known.band) == (0.2346, "some")
    known = document(RULES, {"default": lead(calibrated=True, likelihood=None)}, {"default": []})
    assert (known.likelihood, known.band) == (None, "settled")


def test_every_product_can_be_asked_for_and_the_first_leads() -> None:
    """D5."""
    leads = {"pump": lead(product="pump"), "valve": lead(product="valve", stage="awareness")}
    rules = Crm(system="hubspot", fields={"first": "stage", "valve": "products.valve.stage"})
    assert message_of(leads, rules)["data"]["fields"] == {"first": "decision", "valve": "awareness"}


NOW = Summary("accepted", {"default": ProductNumbers("decision", True, 0.2, 60, 30)})


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("stage_changed", {"stage": "consideration"}),
        ("qualified", {"qualified": False}),
        ("score_moved", {"fit": 55}),
        ("score_moved", {"engagement": 36}),
        ("score_moved", {"likelihood": 0.14}),
        ("score_moved", {"likelihood": 0.26}),
        ("score_moved", {"likelihood": None}),
    ],
)
def test_the_playbook_says_what_is_worth_a_message(kind: str, change: dict[str, Any]) -> None:
    """A band that changes counts as moved, however little the number did."""
    likelihood = 0.24 if change.get("likelihood") == 0.26 else 0.2
    numbers = ProductNumbers("decision", True, likelihood, 60, 30)
    before = Summary("accepted", {"default": numbers})
    now = Summary("accepted", {"default": msgspec.structs.replace(numbers, **change)})
    others = [when for when in Crm().when if when != kind]
    assert is_worth_a_message(Crm(system="x", when=[kind]), before, now)  # type: ignore[list-item]
    assert not is_worth_a_message(Crm(system="x", when=others), before, now)
    assert not is_worth_a_message(RULES, now, now)


def test_little_moves_are_not_worth_a_message() -> None:
    before = Summary("accepted", {"default": ProductNumbers("decision", True, 0.24, 56, 34)})
    assert not is_worth_a_message(RULES, before, NOW)


def test_a_changed_sales_status_is_worth_a_message_with_its_reason() -> None:
    only = Crm(system="x", when=["sales_changed"])
    assert is_worth_a_message(only, NOW, Summary("lost: price", NOW.products))
    assert not is_worth_a_message(
        Crm(system="x", when=["stage_changed"]), NOW, Summary("lost: price", NOW.products)
    )
    assert [sales_text("lost", "price"), sales_text("won", ""), sales_text("", "")] == [
        "lost: price",
        "won",
        "",
    ]


def test_a_lead_of_which_nothing_was_delivered_is_worth_a_message_once_there_is_something() -> None:
    assert is_worth_a_message(RULES, None, NOW)
    assert not is_worth_a_message(
        Crm(system="x", when=["stage_changed"]), None, Summary("", {"default": ProductNumbers()})
    )


def test_views_and_the_store_give_the_same_summary() -> None:
    assert summary_of({"default": lead()}) == Summary(
        "disqualified: no_budget",
        {
            "default": ProductNumbers(
                "decision", True, 0.23456, 62.54, 31.27, "disqualified: no_budget"
            )
        },
    )


def test_the_reasons_are_the_three_largest_with_what_repeats_counted_together(
    default_playbook: Playbook,
) -> None:
    """G4, S5: in the page's words."""
    lines = [
        Line(at=1, kind="event", signal="visit", delta=0.4, points=1.0),
        Line(at=2, kind="event", signal="visit", delta=0.5, points=1.5),
        Line(at=3, kind="event", signal="reply", delta=0.2, points=0.5),
        Line(at=4, kind="silence", silence=30 * DAY, delta=-0.7, points=-2.0),
        Line(
            at=5, kind="event", signal="content_decision", content="case-study-bottling",
            delta=1.2, points=4.0,
        ),
    ]  # fmt: skip
    title = default_playbook.content_by_id["case-study-bottling"].title
    assert top_reasons(lines, default_playbook.content_by_id) == [
        f"Took in content for deciding: “{title}” (+4.0)",
        "Visited the site, 2 times (+2.5)",
        "30.0 days without a sign (\N{MINUS SIGN}2.0)",
    ]
    assert top_reasons([], {}) == []


def test_the_schedule_of_repetitions_takes_about_three_days() -> None:
    """U3."""
    assert list(SCHEDULE) == sorted(SCHEDULE)
    assert timedelta(days=3) < timedelta(seconds=sum(SCHEDULE)) < timedelta(days=3.5)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.stem)
def test_the_examples_fit_into_the_playbook(example: Any, default_playbook: Playbook) -> None:
    rules = Crm(**yaml.safe_load(example.read_text())["crm"])
    assert rules.system == example.stem
    data = message_of(rules=rules)["data"]
    assert data["fields"]
    assert all(value is not None for value in data["fields"].values())


def test_there_are_examples() -> None:
    assert [example.stem for example in EXAMPLES] == ["hubspot", "salesforce"]
