"""Of a person's permissions and refusals, which counts for an address (N6)."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared.contracts.consent import CLOCK_TOLERANCE_US, counts_from, prevailing
from services.shared.contracts.events import ConsentState

EARLY = datetime(2026, 5, 1, tzinfo=UTC)
LATE, LATER = EARLY + timedelta(days=1), EARLY + timedelta(days=2)


def permission(at: datetime, *, general: bool = False) -> ConsentState:
    return ConsentState("given", at, general=general)


def refusal(at: datetime, *, general: bool = False) -> ConsentState:
    return ConsentState("withdrawn", at, general=general)


STATES = st.builds(
    ConsentState,
    st.sampled_from(["given", "withdrawn"]),
    st.sampled_from([EARLY, LATE, LATER]),
    st.sampled_from(["", "form", "double_opt_in"]),
    st.booleans(),
)


@pytest.mark.parametrize(
    ("known", "counts"),
    [
        ([], None),
        ([permission(EARLY), permission(LATE)], permission(LATE)),
        ([permission(LATE), refusal(EARLY)], permission(LATE)),
        ([permission(LATE), refusal(LATE)], refusal(LATE)),
        ([permission(LATE, general=True)], permission(LATE, general=True)),
        ([permission(LATE, general=True), refusal(EARLY, general=True)],
         permission(LATE, general=True)),
        ([permission(LATE), refusal(EARLY, general=True)], permission(LATE)),
        ([permission(LATE, general=True), refusal(EARLY)], refusal(EARLY)),
        ([permission(LATE), refusal(LATER, general=True)], refusal(LATER, general=True)),
        ([permission(LATE), permission(LATER, general=True), refusal(EARLY)], permission(LATE)),
        ([permission(LATE), refusal(EARLY), refusal(LATER, general=True)],
         refusal(LATER, general=True)),
        ([refusal(EARLY), refusal(LATER, general=True)], refusal(LATER)),
    ],
)  # fmt: skip
def test_a_refusal_binds_until_a_later_permission_that_can_lift_it(
    known: list[ConsentState], counts: ConsentState | None
) -> None:
    """N6: one that named an address, until a permission names the address in question."""
    assert {prevailing(order) for order in permutations(known)} == {counts}


@given(st.lists(STATES, max_size=6))
def test_what_counts_depends_on_the_set_alone_and_no_refusal_is_forgotten(
    known: list[ConsentState],
) -> None:
    counts = prevailing(known)
    assert counts == prevailing(reversed(known)) == prevailing(known + known)
    refusals = [consent for consent in known if consent.state == "withdrawn"]
    if counts and counts.state == "given":
        assert all(refused.at < LATER for refused in refusals)
        last = max(consent.at for consent in known if consent.state == "given")
        assert all(refused.at < last for refused in refusals)
        named = [c.at for c in known if c.state == "given" and not c.general]
        assert all(refused.at < max(named) for refused in refusals if not refused.general)
    later = refusal(LATER + timedelta(1))
    assert prevailing([*known, later]) == later


HOURS = st.integers(-3 * CLOCK_TOLERANCE_US, 3 * CLOCK_TOLERANCE_US)


@given(HOURS, HOURS, HOURS, st.integers(1, CLOCK_TOLERANCE_US))
def test_no_clock_lets_a_permission_outlast_a_refusal_that_was_received_later(
    permitted_at: int, ahead: int, delay: int, until_refused: int
) -> None:
    """N6: whatever a sender's clock says of the permission; a refusal's may be five minutes
    behind.
    """
    received = permitted_at + abs(delay)
    since = counts_from(permitted_at + ahead, received, refused=False)
    assert since <= received
    refused_at = received + until_refused
    for behind in (0, CLOCK_TOLERANCE_US):
        assert counts_from(refused_at - behind, refused_at, refused=True) > since
