"""An address that mails have not reached for two weeks gets no more (N6)."""

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ops.commands.verify import canonical
from services.scorer.model.profile import join, profile_of
from services.scorer.model.soft_bounces import MOST_ADDRESSES, MOST_DAYS
from services.scorer.model.state import Event
from services.shared.clock import DAY
from services.shared.contracts.consent import SOFT_BOUNCES, ConsentKey
from services.shared.contracts.events import Consent, Interaction

ANN, BEN = "ann@acme.example", "ben@acme.example"
START = 20_000 * DAY


def event(type_: str, day: float, email: str = ANN, **more: Any) -> Event:
    at = START + int(day * DAY)
    data = Interaction(id="1", type=type_, user_id="u", email=email, **more)
    return Event(at, f"{at:x}{type_}{email}", data)


def soft(day: float, email: str = ANN) -> Event:
    return event("email_bounced", day, email, properties={"type": "soft"})


def permission(day: float) -> Event:
    return event("form_submitted", day, consent=(Consent(state="given", basis="form"),))


def counts(events: list[Event], email: str = ANN) -> tuple[str, str] | None:
    consent = profile_of(events).consent_for(ConsentKey(email))
    return (consent.state, consent.basis) if consent else None


SUPPRESSED = ("withdrawn", SOFT_BOUNCES)
ROW = [soft(0), soft(7), soft(14)]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (ROW, SUPPRESSED),
        ([*ROW[:2], soft(13)], SUPPRESSED),
        ([soft(0), soft(1), soft(2)], None),
        ([soft(0), soft(0.1), soft(14)], None),
        ([soft(0), soft(14)], None),
        ([soft(0), soft(7), soft(60)], None),
        ([*ROW, event("email_delivered", 8)], None),
        ([*ROW, event("email_opened", 8, machine=True)], None),
        ([*ROW, event("email_replied", 15)], None),
        ([*ROW, event("email_delivered", -1)], SUPPRESSED),
        ([*ROW, event("page_viewed", 8)], SUPPRESSED),
        ([*ROW, event("email_delivered", 8, BEN)], SUPPRESSED),
        ([soft(0, ""), soft(7, ""), soft(14)], SUPPRESSED),
    ],
)
def test_three_soft_bounces_in_a_row_over_two_weeks_suppress(
    events: list[Event], expected: tuple[str, str] | None
) -> None:
    """N6: whatever the order in which they come; a mail that arrives ends the row."""
    allowed = [permission(-30), *events]
    wanted = expected or ("given", "form")
    assert {counts(list(order)) for order in permutations(allowed)} == {wanted}


def test_the_address_alone_is_suppressed_and_a_later_permission_lifts_it() -> None:
    """N6: until the next one comes back."""
    assert counts([*ROW, soft(14, BEN)], BEN) is None
    assert counts([*ROW, permission(15)]) == ("given", "form")
    assert counts([*ROW, permission(15), soft(16)]) == SUPPRESSED


def test_it_is_shown_beside_the_permissions() -> None:
    shown = profile_of([permission(-1), *ROW]).latest_consents()[ConsentKey(ANN)]
    assert (shown.refused, shown.basis, shown.at) == (True, SOFT_BOUNCES, START + 14 * DAY)


EVENTS = st.lists(
    st.builds(
        lambda type_, day, number: (
            soft(day, f"{number:02}@x.example")
            if type_ == "soft"
            else event(type_, day, f"{number:02}@x.example")
        ),
        st.sampled_from(["soft", "soft", "email_delivered"]),
        st.integers(0, 60) | st.floats(0, 60),
        st.integers(0, MOST_ADDRESSES + 3) | st.just(0),
    ),
    max_size=3 * MOST_DAYS,
    unique_by=lambda found: found.uid,
)


@given(EVENTS, st.randoms())
def test_it_is_a_function_of_the_set(events: list[Event], random: Any) -> None:
    """D1: any order, and any two parts joined."""
    shuffled = random.sample(events, len(events))
    cut = random.randint(0, len(events))
    whole = canonical(profile_of(events))
    assert canonical(profile_of(shuffled)) == whole
    assert canonical(join(profile_of(shuffled[:cut]), profile_of(shuffled[cut:]))) == whole
    assert len(profile_of(events).deliveries) <= MOST_ADDRESSES
