"""The published stage against people whose truth is known, and who differ in kind from the model
(G1, G2).
"""

import random
from datetime import UTC, datetime

import pytest

from services.ops.simulation import points
from services.ops.simulation.people import Act, Person
from services.ops.simulation.population import population
from services.ops.simulation.world import World
from services.scorer.model.fold import Fold
from services.scorer.model.state import Event
from services.shared.clock import DAY, to_us
from services.shared.contracts.events import Interaction, event_uid
from services.shared.playbook.sections import Playbook

START = to_us(datetime(2026, 3, 1, tzinfo=UTC))
DAYS, EVENTS, LOOKS = 60.0, 6000, (0.3, 0.5, 0.7, 0.95)


@pytest.fixture(scope="module")
def world(default_playbook: Playbook) -> World:
    return World.of(default_playbook)


def as_event(act: Act) -> Event:
    """The act as ingest would put it; whose it is does not matter here."""
    taken = {"content_id", "url", "product", "machine"}
    fields = {name: value for name, value in act.fields.items() if name in taken}
    form = {"form": act.form} if act.form else {}
    data = Interaction(id=act.id, user_id="x", properties=form, **{"type": act.type, **fields})
    return Event(START + int(act.at * DAY), event_uid("x", act.id), data)


def looked_at(fold: Fold, person: Person, day: float) -> str:
    events = sorted(
        (as_event(act) for act in person.acts if act.at <= day),
        key=lambda event: (event.at, event.uid),
    )
    lane = fold.refold("default", [events])[0]
    return fold.view([lane], [START + int(day * DAY)], [50.0])[0].stage


def test_every_stage_is_published_for_some_and_recall_beats_the_best_points_thresholds(
    default_playbook: Playbook, world: World
) -> None:
    fold = Fold(default_playbook)
    people = population(world, 11, EVENTS, DAYS)
    looks = [
        (person, share * DAYS)
        for person in random.Random(11).sample(people, min(len(people), 350))
        for share in LOOKS
        if person.acts
        and min(act.at for act in person.acts) <= share * DAYS
        and person.stage_at(share * DAYS) is not None
    ]
    named = [looked_at(fold, person, day) for person, day in looks]
    hidden = [person.stage_at(day) or 0 for person, day in looks]
    ours = points.macro_recall(zip(map(world.stage_name, hidden), named, strict=True))
    scores = [
        points.score(act.type for act in person.acts if act.at <= day) for person, day in looks
    ]
    theirs = points.best_macro_recall(list(zip(scores, hidden, strict=True)))
    assert set(named) >= set(default_playbook.model.stages)
    assert ours is not None
    assert theirs is not None
    assert ours > theirs, f"{ours:.3f} against {theirs:.3f}"
