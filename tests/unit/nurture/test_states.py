"""Drafts, tests and live programs, and pauses of whole companies (N8, N14)."""

from itertools import product
from typing import Any

import pytest

from services.nurture.rules.decision import Send, answer_request
from services.nurture.rules.grounds import Withhold
from services.shared.contracts.events import LeadRequest, Snapshot
from services.shared.playbook.programs import STATES, State
from services.shared.playbook.reachability import never_holding
from tests.support.nurture import (
    NOW,
    against,
    chosen,
    decided,
    goes_out,
    item,
    lead,
    program,
    trigger,
)

TESTER, OTHER = lead(email="Ann@Us.example"), lead(email="bob@firm.example")


@pytest.mark.parametrize(("book", "own"), list(product(STATES, STATES)))
def test_a_program_is_no_further_than_its_playbook_and_a_test_reaches_its_addresses_alone(
    make: Any, book: State, own: State
) -> None:
    """N14."""
    programs = [program("a", state=own)]
    rules = make(item("a"), programs=programs, state=book, test_addresses=[" ann@us.example"])
    state = min(book, own, key=STATES.index)
    assert rules.playbook.state_of(programs[0]) == state
    assert isinstance(decided(rules, TESTER, trigger()), Send) == (state != "draft")
    assert isinstance(decided(rules, OTHER, trigger()), Send) == (state == "live")


@pytest.mark.parametrize("state", STATES)
def test_what_is_asked_for_in_a_test_reaches_the_tests_addresses_alone(
    make: Any, state: State
) -> None:
    """N12, N14."""
    handover = program("a", trigger="request", stages=[], answers={"demo_requested": "a"})
    rules = make(item("a"), programs=[handover], state=state, test_addresses=["ann@us.example"])
    asked = LeadRequest("u", "demo_requested", NOW)
    items = rules.library.requested(asked, "default")
    assert bool(items) == (state != "draft")
    for one, may in ((TESTER, True), (OTHER, state == "live")):
        for of in items:
            assert goes_out(answer_request(rules, one, asked, of, NOW)) == may


def test_a_test_without_addresses_and_addresses_that_are_none_are_told(make: Any) -> None:
    def told(**parts: Any) -> list[str]:
        playbook = make(item("a"), **parts).playbook
        return [found.what for found in never_holding(playbook) if "test_addresses" in found.path]

    assert told() == []
    assert told(state="test") == ["empty, so that what is in test reaches nobody"]
    assert told(state="test", test_addresses=["ann"]) == ["no address 'ann'"]
    assert told(state="draft") == []


def test_a_company_with_which_sales_works_waits_and_gets_what_it_asks_for(make: Any) -> None:
    """N8, N12."""
    rules = make(item("a"))
    colleague = lead(account_with_sales=True)
    assert chosen(rules, colleague) == "with_sales"
    waited = against(rules, colleague, NOW)
    assert waited is not None
    assert waited.why == "sales is working with somebody of the same company"
    handover = program("a", trigger="request", stages=[], answers={"demo_requested": "a"})
    rules = make(item("a"), programs=[handover])
    asked = LeadRequest("u", "demo_requested", NOW)
    (of,) = rules.library.requested(asked, "default")
    assert not isinstance(answer_request(rules, colleague, asked, of, NOW), Withhold)


@pytest.mark.parametrize(
    ("pauses", "email", "expected"),
    [
        (True, "ann@firm.example", "firm.example"),
        (True, "ann@Firm.example", "firm.example"),
        (True, "ann@gmail.com", ""),
        (True, "", ""),
        (False, "ann@firm.example", ""),
    ],
)
def test_a_company_is_the_domain_of_an_address_where_the_playbook_pauses_companies(
    make: Any, pauses: bool, email: str, expected: str
) -> None:
    """N8."""
    sales = make(item("a")).playbook.sales.model_copy(update={"pauses_account": pauses})
    rules = make(item("a"), sales=sales)
    assert rules.account_of(Snapshot(stage="awareness", email=email)) == expected
