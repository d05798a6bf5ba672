"""Sales' words have one identity and one shape by every door (I6); what a CRM echoes of our own
says nothing (D6).
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.ingest.normalise import Normaliser, Receipt
from services.ingest.sources.contract import ForeignItem, Item
from services.shared.contracts.events import (
    Consent,
    ExternalId,
    InteractionEvent,
    decode_envelope,
    decode_interaction,
)
from services.shared.contracts.identity import Cleaner
from services.shared.contracts.sales import TYPE_OF, checked_properties
from services.shared.errors import Reject
from services.shared.playbook.sections import Identity, Sales

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
REASONS = ["no_budget", "Wrong country"]
OURS = frozenset({"ripeline_stage", "ripeline_fit"})
NORMALISER = Normaliser(
    Cleaner(Identity(junk=["null"])), b"pepper", Sales(disqualify_reasons=REASONS), OURS
)
CONTACT = ExternalId("hubspot", "7")


def take(item: Item, door: str = "canonical:crm") -> Receipt:
    return NORMALISER.take([item], Receipt(door, NOW, 1.0, many=False))


def wired(item: Item, door: str = "canonical:crm") -> InteractionEvent:
    receipt = take(item, door)
    assert not receipt.refused, receipt.refused[0][2]
    return decode_envelope(receipt.records[0].value)


def refusal(item: Item) -> Reject:
    receipt = take(item)
    assert not receipt.records
    return receipt.refused[0][2]


def won(**fields: Any) -> Item:
    return Item(
        **{"id": "deal-1", "type": "won", "external_id": CONTACT, "occurred_at": NOW} | fields
    )


def test_the_same_fact_by_another_door_and_key_is_the_same_event() -> None:
    """I6."""
    one = wired(won(properties={"value": 5, "note": "x"}))
    other = wired(won(properties={"note": "x", "value": 5}), door="segment:other")
    assert (one.id, one.digest) == (other.id, other.digest)
    assert (one.source, other.source) == ("canonical:crm", "segment:other")


def test_a_deals_id_serves_for_each_of_its_words() -> None:
    """The opening and the end of one deal are two facts."""
    assert len(
        {
            wired(won(type=type_, properties={"reason": "no_budget"})).id
            for type_ in TYPE_OF.values()
        }
    ) == len(TYPE_OF)


def test_what_is_no_word_of_sales_keeps_the_identity_of_its_door() -> None:
    assert (
        wired(won(type="page_viewed")).id
        != wired(won(type="page_viewed"), door="canonical:other").id
    )


def test_ids_that_are_unique_within_an_origin_only_stay_apart() -> None:
    one, other = (
        ForeignItem(id="1", type="won", user_id="u", origin=origin) for origin in ("/shop", "/crm")
    )
    assert wired(one).id != wired(other).id


def test_without_an_id_the_same_word_of_the_same_moment_on_the_same_lead_is_one_fact() -> None:
    first, again = wired(won(id="")), wired(won(id=""), door="cloudevents:other")
    assert (first.id, first.digest) == (again.id, again.digest)
    others = [
        won(id="", occurred_at=NOW - timedelta(seconds=1)), won(id="",
        external_id=ExternalId("hubspot", "8")),
        won(id="", product="other"), won(id="", type="lost"),
    ]  # fmt: skip
    assert len({first.id, *(wired(other).id for other in others)}) == 5


def test_without_id_and_time_every_word_is_a_new_one() -> None:
    item = {"id": "", "occurred_at": None}
    assert wired(won(**item)).id != wired(won(**item)).id


@pytest.mark.parametrize("given", ["no_budget", "No budget", " NO-BUDGET "])
def test_a_reason_to_disqualify_is_read_as_people_write_it(given: str) -> None:
    event = wired(won(type="sales_disqualified", properties={"reason": given, "note": "x"}))
    assert decode_interaction(event.data).properties == {"note": "x", "reason": "no_budget"}


@pytest.mark.parametrize(
    "properties",
    [{}, {"reason": ""}, {"reason": None}, {"reason": "bored"}, {"reason": ["no_budget"]}],
)
def test_disqualifying_asks_for_a_reason_of_the_playbooks_list(properties: dict[str, Any]) -> None:
    """I6, H2: the refusal names them all."""
    reject = refusal(won(type="sales_disqualified", properties=properties))
    assert (reject.kind, reject.where) == ("invalid", "/properties/reason")
    assert reject.remedy == "use one of no_budget, Wrong country"


def test_only_disqualifying_asks_for_a_reason_of_the_list() -> None:
    for type_ in set(TYPE_OF.values()) - {"sales_disqualified"}:
        assert checked_properties(type_, {"reason": "their own words"}, REASONS) == {
            "reason": "their own words"
        }
        assert checked_properties(type_, {}, REASONS) == {}


def test_our_own_fields_are_no_traits_of_the_lead() -> None:
    """D6: the CRM repeats what we wrote; beside it, it may say something."""
    event = wired(won(type="identified", traits={"ripeline_stage": "decision", "title": "CTO"}))
    assert decode_interaction(event.data).traits == {"title": "CTO"}


def test_an_echo_and_nothing_else_is_accepted_and_left_out() -> None:
    """D6: the answer stays a success, and nothing goes on."""
    receipt = take(
        won(type="identified", traits={"ripeline_stage": "decision", "ripeline_fit": 80})
    )
    assert (receipt.ids, receipt.records, receipt.refused) == (["deal-1"], [], [])


@pytest.mark.parametrize(
    "more",
    [
        {"email": "ann@firm.example"}, {"company": "Firm"}, {"source": "fair"},
        {"consent": (Consent(state="given"),)},
        {"type": "meeting_held"},
    ],
)  # fmt: skip
def test_an_echo_that_links_or_tells_more_goes_on(more: dict[str, Any]) -> None:
    event = wired(won(**{"type": "identified", "traits": {"ripeline_fit": 80}} | more))
    assert decode_interaction(event.data).traits == {}


def test_a_change_that_names_no_field_of_ours_goes_on_even_when_it_says_little() -> None:
    assert wired(won(type="identified")).type == "interaction.v1"
