"""Permissions and refusals in a profile: a join of its events, with nurture's own rule (N6, D1)."""

from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ops.commands.verify import canonical
from services.scorer.model.profile import Profile, profile_of
from services.scorer.model.state import Event
from services.shared.clock import DAY, from_us
from services.shared.contracts.consent import CLOCK_TOLERANCE_US, ConsentKey
from services.shared.contracts.events import Consent, ExternalId, Interaction
from services.shared.contracts.identity import Identifier, Kind

OLD, NEW = "ann@old.example", "ann@new.example"
MINUTE = CLOCK_TOLERANCE_US // 5


def said(
    state: Any, at: int, email: str = "", *, received: int | None = None, stated: int | None = None
) -> Event:
    """A permission or refusal of an event at `at`, µs, with a time of its own where it has one."""
    consent = Consent(state=state, at=None if stated is None else from_us(stated))
    data = Interaction(id="1", type="x", user_id="u", email=email, consent=(consent,))
    return Event(at, f"{at:x}{state}{email}", data, received)


def state_for(events: list[Event], email: str) -> str | None:
    """What counts for an address."""
    consent = profile_of(events).consent_for(ConsentKey(email))
    return consent and consent.state


@pytest.mark.parametrize(
    ("events", "email", "state"),
    [
        ([said("given", 1, OLD), said("given", 2, NEW), said("withdrawn", 3, OLD)], NEW,
         "withdrawn"),
        ([said("withdrawn", 3, OLD), said("given", 4, OLD)], OLD, "given"),
        ([said("given", 1, NEW), said("withdrawn", 3, OLD), said("given", 4, OLD)], NEW,
         "withdrawn"),
        ([said("withdrawn", 3, OLD), said("given", 4, NEW)], NEW, "given"),
        ([said("withdrawn", 3, OLD), said("given", 4)], OLD, "withdrawn"),
        ([said("withdrawn", 3), said("given", 4)], NEW, "given"),
        ([said("given", 4)], NEW, "given"),
        ([said("given", 4, OLD)], NEW, None),
    ],
)  # fmt: skip
def test_a_refusal_binds_every_address_until_a_permission_names_it(
    events: list[Event], email: str, state: str | None
) -> None:
    """N6."""
    assert {state_for(list(order), email) for order in permutations(events)} == {state}


def test_a_permission_dated_ahead_does_not_outlast_a_refusal() -> None:
    """N6: neither by its event's time nor by its own."""
    late = DAY + 30 * MINUTE
    for ahead in (
        said("given", DAY + 4 * MINUTE, NEW, received=DAY),
        said("given", DAY, NEW, received=DAY, stated=DAY + 4 * MINUTE),
    ):
        refused = said("withdrawn", DAY - MINUTE, NEW, received=DAY + MINUTE)
        assert state_for([ahead, refused], NEW) == "withdrawn"
        assert state_for([ahead, refused, said("given", late, NEW, received=late)], NEW) == "given"


def test_a_refusal_of_long_ago_that_is_received_today_is_overruled_by_what_came_since() -> None:
    today = 400 * DAY
    events = [
        said("withdrawn", DAY, NEW, received=today),
        said("given", 2 * DAY, NEW, received=2 * DAY),
    ]
    assert state_for(events, NEW) == "given"


LINKS = [
    Interaction(id="1", type="identified", user_id="u", email="z@old.example"),
    Interaction(
        id="2", type="identified", user_id="u", email="a@new.example",
        external_id=ExternalId("HubSpot", "9"),
    ),
    Interaction(id="3", type="identified", email="a@new.example",
                external_id=ExternalId("hubspot", "10")),
    Interaction(id="4", type="email_opened", email="z@old.example"),  # links nothing
    Interaction(id="5", type="email_clicked", user_id="u", email="z@old.example", machine=True),
    Interaction(id="6", type="identified", email="z@old.example", user_id="another"),
]  # fmt: skip
OWN = [
    Identifier(Kind.USER, "u"),
    Identifier(Kind.EMAIL, "a@new.example"),
    Identifier(Kind.EMAIL, "b@never.example"),
    Identifier(Kind.EMAIL, "z@old.example"),
    Identifier(Kind.EXTERNAL, "10", "hubspot"),
    Identifier(Kind.EXTERNAL, "9", "hubspot"),
]


@pytest.mark.parametrize(
    ("links", "address", "record"),
    [
        ([], "a@new.example", "10"),
        ([0], "z@old.example", "10"),
        ([0, 1], "a@new.example", "9"),
        ([1, 0], "z@old.example", "9"),
        ([0, 1, 2], "a@new.example", "10"),
        ([2, 1, 3, 4], "a@new.example", "9"),
        ([2, 1, 5], "z@old.example", "9"),
    ],
)
def test_a_person_is_named_by_the_address_and_record_linked_last(
    links: list[int], address: str, record: str
) -> None:
    """D1: whatever the order in which the links come."""
    events = [Event(at, f"{at}", LINKS[link]) for at, link in enumerate(links)]
    for order in permutations(events):
        first = profile_of(order).last_linked_first(reversed(OWN))
        assert next(name.value for name in first if name.kind is Kind.EMAIL) == address
        assert next(name.value for name in first if name.kind is Kind.EXTERNAL) == record
        assert sorted(first) == sorted(OWN)
        assert [name.kind for name in first] == sorted(name.kind for name in OWN)


EVENTS = st.lists(
    st.builds(
        said,
        st.sampled_from(["given", "withdrawn"]),
        st.integers(1, 20 * MINUTE),
        st.sampled_from(["", OLD, NEW]),
        received=st.integers(1, 30 * MINUTE),
    ),
    max_size=6,
    unique_by=lambda event: event.uid,
)


@given(EVENTS, st.randoms())
def test_the_order_of_events_changes_no_bit_of_a_profile(events: list[Event], random: Any) -> None:
    """D1."""
    again = list(events)
    random.shuffle(again)
    assert canonical(profile_of(again)) == canonical(profile_of(events))


def test_what_is_shown_is_the_later_under_each_key_as_it_was_said() -> None:
    at = from_us(DAY) + timedelta(minutes=1)
    profile: Profile = profile_of([
        said("given", DAY, NEW, received=9 * DAY), said("withdrawn", DAY + MINUTE, NEW),
    ])  # fmt: skip
    (record,) = profile.latest_consents().values()
    assert (record.refused, from_us(record.at)) == (True, at)
