"""The permanent hold-out (N10, M2)."""

from typing import Any

from services.nurture.rules.grounds import Rules, Withhold
from tests.support.nurture import decided, held_out, item, lead, trigger, with_parts


def test_the_hold_out_has_its_share_of_companies_for_good(make: Any) -> None:
    """N10, M2: drawn by account: colleagues share their lot, and private mailboxes have one
    each.
    """
    rules = make(item("a"), share=0.1)
    companies = [held_out(rules, lead(email=f"a@firm{n}.example")) for n in range(4000)]
    assert 0.08 < sum(companies) / 4000 < 0.12
    assert companies == [
        held_out(rules, lead(id=str(n), email=f"zed@firm{n}.example")) for n in range(4000)
    ]
    private = [held_out(rules, lead(email=f"a{n}@gmail.com")) for n in range(4000)]
    assert 0.08 < sum(private) / 4000 < 0.12
    more = make(item("a"), share=0.3)
    assert all(
        held_out(more, lead(email=f"a@firm{n}.example")) for n, held in enumerate(companies) if held
    )
    assert not any(
        held_out(make(item("a"), share=0), lead(email=f"a@firm{n}.example")) for n in range(100)
    )


def test_another_salt_draws_again_and_without_an_address_the_user_counts(make: Any) -> None:
    first = make(item("a"), share=0.5)
    holdout = first.playbook.holdout.model_copy(update={"salt": "oak"})
    other = Rules.of(with_parts(first.playbook, holdout=holdout), sink=True)
    leads = [lead(email=f"a@firm{n}.example") for n in range(200)]
    assert [held_out(first, each) for each in leads] != [held_out(other, each) for each in leads]
    users = [lead(id=str(n), email="", user_id=f"u{n}") for n in range(200)]
    renamed = [lead(id="same", email="", user_id=f"u{n}") for n in range(200)]
    drawn = [held_out(first, user) for user in users]
    assert drawn == [held_out(first, user) for user in renamed]
    assert 0.3 < sum(drawn) / 200 < 0.7


def test_who_has_no_address_is_in_no_arm_and_may_enter_a_program_later(make: Any) -> None:
    """N10: the account is not known yet, so the missing address is the ground."""
    rules = make(item("a"), share=0.9)
    for n in range(20):
        decision = decided(rules, lead(id=str(n), email=""), trigger())
        assert decision == Withhold("no_consent", "no address is known")
