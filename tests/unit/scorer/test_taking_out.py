"""A profile without one of its events is that of the others (D1)."""

import random

import pytest

from services.ops.commands.verify import canonical
from services.scorer.model import profile, soft_bounces
from services.scorer.model.profile import UNCOUNTED, Profile, profile_of
from services.scorer.model.state import Event
from services.scorer.model.taking_out import take_out
from services.shared.contracts.events import Interaction
from tests.support import histories
from tests.support.histories import DAY, SECOND

LIMITS = (
    (profile, "MOST_MILESTONES", 1),
    (profile, "MOST_TRAITS", 1),
    (profile, "MOST_CONSENTS", 1),
    (profile, "MOST_LINKED", 2),
    (profile, "MOST_MAILED", 2),
    (profile, "MOST_PRODUCTS", 1),
    (soft_bounces, "MOST_ADDRESSES", 2),
    (soft_bounces, "MOST_DAYS", 2),
)
MORE = ("email_bounced", "email_delivered", "email_sent", "touch_sent", "meeting_booked", "lost")


def history(rng: random.Random) -> list[Event]:
    """Events of one person, and more that tell of mails and products."""
    happened = histories.history(rng, people=2, length=40)
    events = [Event(one.at, f"{n:03}", one.data, one.at) for n, one in enumerate(happened)]
    for n in range(100, 130):
        at = histories.BASE + rng.randrange(30) * DAY + rng.randrange(2) * SECOND
        data = Interaction(
            id=str(n), type=rng.choice(MORE), email=f"p{rng.randrange(4)}@firm.example",
            user_id="u", product=rng.choice(["", "one", "two"]), properties={"type": "soft"},
        )  # fmt: skip
        events.append(Event(at, str(n), data, at))
    return events


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("seed", range(25))
def test_what_is_left_is_the_profile_of_the_others(
    seed: int, bounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, name, limit in LIMITS if bounded else ():
        monkeypatch.setattr(place, name, limit)
    events = history(random.Random(seed))
    taken = 0
    for event in events:
        rest = profile_of(events)
        if take_out(rest, event):
            others = profile_of([other for other in events if other is not event])
            assert canonical(rest) == canonical(others), event
            taken += 1
        else:
            assert canonical(rest) == canonical(profile_of(events))
    assert taken


def test_nothing_is_taken_out_of_a_profile_that_is_not_counted() -> None:
    (event, *_) = history(random.Random(1))
    assert not take_out(Profile(stored=UNCOUNTED), event)
