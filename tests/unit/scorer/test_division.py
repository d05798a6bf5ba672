"""Which instants change hands where links of a shared visitor come and go (D2)."""

import random
import uuid
from bisect import bisect_right
from collections.abc import Iterable, Sequence

import pytest

from services.scorer.identity.rules import TimedLink, nearest, passed_on

LEADS = [uuid.UUID(int=n) for n in range(3)]
INSTANTS = range(-1, 10)


def around(links: Sequence[TimedLink], moments: Iterable[int]) -> list[TimedLink]:
    """The first link, and of each instant the last one up to it and the first after it."""
    near = {links[0]}
    for at in moments:
        index = bisect_right(links, at, key=lambda link: link.at)
        near |= set(links[max(index - 1, 0) : index + 1])
    return sorted(near)


@pytest.mark.parametrize("seed", range(200))
def test_only_instants_change_hands_of_which_another_lead_is_the_nearest(seed: int) -> None:
    rng = random.Random(seed)
    links = [
        TimedLink(rng.randrange(9), f"{n:03}", rng.choice(LEADS)) for n in range(rng.choice([2, 9]))
    ]
    removed = set(rng.sample(links, k=rng.randrange(len(links))))
    added = {
        TimedLink(rng.randrange(9), f"{n:03}", rng.choice(LEADS))
        for n in rng.sample(range(100, 999), k=rng.randrange(3))
    }
    before, after = sorted(links), sorted({*links, *added} - removed)
    changed = {link.at for link in removed | added}
    spans = passed_on(around(before, changed), around(after, changed), changed)
    for at in INSTANTS:
        owners = nearest(before, at), nearest(after, at)
        found = [(span.old, span.new) for span in spans if span.since <= at < span.until]
        assert found == ([owners] if owners[0] != owners[1] else [])
