"""What a CRM is told, and when (D6, U3, S9)."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
import yaml

from services.scorer.crm.payload import (
    SCHEDULE,
    Numbers,
    Told,
    document,
    message,
    outcome,
    reasons,
    told_of,
    worth_telling,
)
from services.scorer.model.explanation import Line
from services.shared.clock import DAY
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


def lead(**changed: Any) -> dict[str, Any]:
    """A lead as the API shows it."""
    shown = {
        "id": "6c1c1f3e-0000-4000-8000-000000000001", "version": 7, "product": "default",
        "stage": "decision",
        "stage_since": "2026-11-01T00:00:00Z", "confidence": 0.81234, "likelihood": 0.23456,
        "calibrated": False,
        "fit": {"score": 62.54, "grade": "B"}, "engagement": 31.27, "qualified": True,
        "traits": {"name": "Ann"},
        "identifiers": {
            "user_id": [], "email": ["ann@firm.example"], "anonymous_id": [],
            "external_id": [{"system": "salesforce", "id": "00Q"}, {"system": "hubspot",
            "id": "7"}],
        },
        "sales_status": "disqualified", "sales_reason": "no_budget", "source": "fair",
        "campaign": None,
        "last_event_at": "2026-11-01T00:00:00Z", "as_of": "2026-11-02T00:00:00Z",
    }  # fmt: skip
    return shown | changed


def said(leads: Mapping[str, Any] | None = None, rules: Crm = RULES) -> dict[str, Any]:
    leads = leads or {"default": lead()}
    return message(
        rules, leads, {product: ["Replied (+3.0)", "Enquired (+1.0)"] for product in leads}
    )


def test_a_message_holds_the_fields_of_the_playbook_and_how_to_find_the_record() -> None:
    assert said() == {
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
    """One odd lead does not keep the others from being told."""
    rules = Crm(system="hubspot", fields={"tags": "join(', ', lead.traits.tags)", "stage": "stage"})
    assert said(rules=rules)["data"]["fields"] == {"tags": None, "stage": "decision"}


def test_a_lead_unknown_to_the_crm_is_named_by_its_address_alone() -> None:
    stranger = lead(
        identifiers={"user_id": [], "email": ["a@b.example"], "anonymous_id": [], "external_id": []}
    )
    data = said({"default": stranger})["data"]
    assert (data["external_id"], data["email"]) == (None, "a@b.example")


def test_the_likelihood_is_a_band_until_it_is_calibrated() -> None:
    """S9."""
    known = document(RULES, {"default": lead()}, {"default": []})
    assert (known["likelihood"], known["band"]) == (None, "some")
    known = document(RULES, {"default": lead(calibrated=True)}, {"default": []})
    assert (known["likelihood"], known["band"]) == (0.2346, "some")
    known = document(RULES, {"default": lead(calibrated=True, likelihood=None)}, {"default": []})
    assert (known["likelihood"], known["band"]) == (None, "settled")


def test_every_product_can_be_asked_for_and_the_first_leads() -> None:
    """D5."""
    leads = {"pump": lead(product="pump"), "valve": lead(product="valve", stage="awareness")}
    rules = Crm(system="hubspot", fields={"first": "stage", "valve": "products.valve.stage"})
    assert said(leads, rules)["data"]["fields"] == {"first": "decision", "valve": "awareness"}


NOW = Told("accepted", {"default": Numbers("decision", True, 0.2, 60, 30)})


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
    numbers = Numbers("decision", True, 0.24 if change.get("likelihood") == 0.26 else 0.2, 60, 30)
    before = Told("accepted", {"default": numbers})
    now = Told(
        "accepted",
        {
            "default": Numbers(
                **{name: getattr(numbers, name) for name in Numbers.__struct_fields__} | change
            )
        },
    )
    others = [one for one in Crm().when if one != kind]
    assert worth_telling(Crm(system="x", when=[kind]), before, now)  # type: ignore[list-item]
    assert not worth_telling(Crm(system="x", when=others), before, now)
    assert not worth_telling(RULES, now, now)


def test_little_moves_are_not_worth_a_message() -> None:
    before = Told("accepted", {"default": Numbers("decision", True, 0.24, 56, 34)})
    assert not worth_telling(RULES, before, NOW)


def test_sales_own_word_is_told_with_its_reason() -> None:
    only = Crm(system="x", when=["sales_changed"])
    assert worth_telling(only, NOW, Told("lost: price", NOW.products))
    assert not worth_telling(
        Crm(system="x", when=["stage_changed"]), NOW, Told("lost: price", NOW.products)
    )
    assert [outcome("lost", "price"), outcome("won", None), outcome(None, None)] == [
        "lost: price",
        "won",
        "",
    ]


def test_a_lead_of_which_nothing_was_told_is_told_once_there_is_something() -> None:
    assert worth_telling(RULES, None, NOW)
    assert not worth_telling(
        Crm(system="x", when=["stage_changed"]), None, Told("", {"default": Numbers()})
    )


def test_what_the_api_shows_and_what_the_store_holds_compare_alike() -> None:
    assert told_of({"default": lead()}) == Told(
        "disqualified: no_budget", {"default": Numbers("decision", True, 0.23456, 62.54, 31.27)}
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
    assert reasons(lines, default_playbook.content_by_id) == [
        f"Took in content for deciding: “{title}” (+4.0)",
        "Visited the site, 2 times (+2.5)",
        "30.0 days without a sign (\N{MINUS SIGN}2.0)",
    ]
    assert reasons([], {}) == []


def test_the_schedule_of_repetitions_takes_about_three_days() -> None:
    """U3."""
    assert list(SCHEDULE) == sorted(SCHEDULE)
    assert timedelta(days=3) < timedelta(seconds=sum(SCHEDULE)) < timedelta(days=3.5)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.stem)
def test_the_examples_fit_into_the_playbook(example: Any, default_playbook: Playbook) -> None:
    rules = Crm(**yaml.safe_load(example.read_text())["crm"])
    assert rules.system == example.stem
    data = said(rules=rules)["data"]
    assert data["fields"]
    assert all(value is not None for value in data["fields"].values())


def test_there_are_examples() -> None:
    assert [one.stem for one in EXAMPLES] == ["hubspot", "salesforce"]
