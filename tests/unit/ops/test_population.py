"""Simulated people: seeded, anonymous before known, late and twice, and strangers to the scorer."""

import ast
import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.nurture.rules.time_zones import zones_of
from services.nurture.rules.timing import window_opens
from services.ops import simulation
from services.ops.simulation import population, posting
from services.ops.simulation.people import MINUTE, Person, answer_to_mail
from services.ops.simulation.personas import PLACES
from services.ops.simulation.posting import Run
from services.ops.simulation.traffic import Traffic
from services.ops.simulation.world import STAGES, Page, World
from services.scorer.wording import name_of
from services.shared.clock import DAY, US, Clock, to_us
from services.shared.contracts.identity import Identifier, Kind
from services.shared.playbook.loading import load
from services.shared.playbook.sections import Cadence
from services.shared.playbook.urls import UrlMatcher
from services.shared.settings import ROOT

STAGE_NAMES = ("status_quo", "awareness", "consideration", "decision")
EVENTS = 1500


@pytest.fixture(scope="module")
def world() -> World:
    site = "https://shop.example"
    library = tuple(
        tuple(
            Page(f"{stage}-{n}", f"{site}/{stage}/{n}", f"{stage}-form" if n == 0 else "", "guide")
            for n in range(3)
        )
        for stage in STAGE_NAMES
    )
    return World(
        site,
        library,
        {"pricing_viewed": f"{site}/pricing"},
        {"demo_requested": "demo"},
        STAGE_NAMES,
    )


@pytest.fixture(scope="module")
def people(world: World) -> list[Person]:
    return population.population(world, 7, EVENTS)


def test_the_same_seed_brings_the_same_people(world: World, people: list[Person]) -> None:
    again = population.population(world, 7, EVENTS)
    assert [person.acts for person in again] == [person.acts for person in people]
    assert [person.spans for person in again] == [person.spans for person in people]


def test_another_seed_brings_others(world: World, people: list[Person]) -> None:
    other = population.population(world, 8, EVENTS)
    assert not {person.email for person in other} & {person.email for person in people}
    assert other[0].acts != people[0].acts


def test_they_do_as_many_things_as_were_asked_for(people: list[Person]) -> None:
    acts = [act for person in people for act in person.acts]
    assert len(acts) == EVENTS
    assert len({act.id for act in acts}) == EVENTS
    assert 90 <= len(people) <= 250


def test_a_person_is_anonymous_before_known(people: list[Person]) -> None:
    became_known = 0
    for person in people:
        named = [
            act.at
            for act in person.acts
            if act.endpoint == "form" or {"email", "user_id"} & set(act.fields)
        ]
        assert "email" not in person.acts[0].fields
        if named:
            became_known += 1
            assert person.acts[0].at < min(named)
    assert became_known > len(people) / 2


def test_messages_come_late_out_of_order_and_twice(people: list[Person]) -> None:
    acts = [act for person in people for act in person.acts]
    sent = [act.sent for act in sorted(acts, key=lambda act: act.at)]
    assert sent != sorted(sent)
    assert all(act.sent >= act.at for act in acts)
    assert any(act.sent - act.at > 1 for act in acts)
    assert 0.04 < sum(bool(act.copies) for act in acts) / len(acts) < 0.12
    assert all(copy > act.sent for act in acts for copy in act.copies)


def test_a_form_is_sent_once_and_at_once(people: list[Person]) -> None:
    forms = [act for person in people for act in person.acts if act.endpoint == "form"]
    assert forms
    assert all(not act.copies and act.sent - act.at <= MINUTE for act in forms)


def test_every_stage_and_every_way_occurs(people: list[Person]) -> None:
    hidden = {span.stage for person in people for span in person.spans}
    assert hidden == {0, 1, 2, 3, None}
    paths = [[span.stage for span in person.spans] for person in people]
    assert any(0 in path[1:-1] and path[0] and path[-1] for path in paths), (
        "nobody goes cold and returns"
    )
    types = Counter(act.type for person in people for act in person.acts)
    assert {
        "page_viewed",
        "identified",
        "pricing_viewed",
        "demo_requested",
        "unsubscribed",
        "purchased",
    } <= set(types)
    bursts = [
        b.at - a.at for person in people for a, b in zip(person.acts, person.acts[1:], strict=False)
    ]
    assert sum(gap < 10 * MINUTE for gap in bursts) > EVENTS / 3


def test_the_hidden_stage_is_known_from_the_first_visit_to_the_outcome(
    people: list[Person],
) -> None:
    for person in people:
        assert person.stage_at(person.first_visit - 1e-6) is None
        assert person.stage_at(person.first_visit) == person.spans[0].stage
        assert person.stage_at(1e9) == person.spans[-1].stage


def test_keener_stages_act_more(world: World) -> None:
    days, acts = dict.fromkeys(range(STAGES), 0.0), Counter[int]()
    for person in population.population(world, 3, 6000):
        ends = [span.since for span in person.spans[1:]] + [60.0]
        for span, end in zip(person.spans, ends, strict=True):
            if span.stage is not None:
                days[span.stage] += end - span.since
        for act in person.acts:
            if (stage := person.stage_at(act.at)) is not None:
                acts[stage] += 1
    pace = [acts[stage] / days[stage] for stage in range(STAGES)]
    assert pace == sorted(pace)
    assert pace[3] > 4 * pace[0]


def test_nobody_answers_mail_after_leaving(people: list[Person]) -> None:
    person = next(person for person in people if person.spans[0].stage == 2)
    moment = person.first_visit + 1e-9
    before = person.unsubscribed_at
    person.unsubscribed_at = None
    rng = random.Random(1)
    answers = Counter(answer_to_mail(person, moment, rng) for _ in range(2000))
    person.unsubscribed_at = moment
    assert answers["follow"] > answers["leave"] > 0
    assert {answer_to_mail(person, moment, rng) for _ in range(200)} == {""}
    person.unsubscribed_at = before


def test_the_default_playbook_makes_a_world() -> None:
    playbook = load(ROOT / "deploy" / "playbook")
    world = World.of(playbook)
    content = UrlMatcher(
        (url, item.id) for item in playbook.content for url in (item.url, *item.urls)
    )
    pages = UrlMatcher((url, rule.type) for rule in playbook.pages for url in rule.urls)
    for stage in range(STAGES):
        assert world.pages(stage)
        assert all(content.find(page.url) == page.content_id for page in world.pages(stage))
        assert world.stage_name(stage) == playbook.model.stages[stage]
    assert all(pages.find(url) == kind for kind, url in world.urls.items())


def test_an_act_is_posted_in_the_form_of_its_endpoint(people: list[Person]) -> None:
    start = 1_700_000_000 * US
    run = Run(7, Clock(origin=1.0), start)
    acts = [act for person in people for act in person.acts]
    for act in acts:
        if act.endpoint == "events":
            item = posting.canonical(act, run)
            assert (item["id"], item["type"]) == (f"sim-7-1-{act.id}", act.type)
            assert (
                abs(to_us(datetime.fromisoformat(item["occurred_at"])) - start - act.at * DAY) < 2
            )
        elif act.endpoint == "segment":
            message = posting.segment_message(act, run)
            assert message["messageId"] == f"sim-7-1-{act.id}"
            assert message["type"] == {"page_viewed": "page", "identified": "identify"}[act.type]
            assert message.get("userId") or message.get("anonymousId")


def test_the_simulator_knows_nothing_of_the_scorer() -> None:
    for file in Path(str(simulation.__file__)).parent.glob("*.py"):
        tree = ast.parse(file.read_text("utf-8"))
        names = {
            name
            for node in ast.walk(tree)
            for name in (
                [node.module or ""] if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            )
        }  # fmt: skip
        assert not any("scorer" in name or "nurture" in name for name in names)


def test_people_live_where_it_is_day_for_most_at_every_hour(people: list[Person]) -> None:
    """So mails go out at every hour, whatever quiet hours say."""
    cadence = Cadence()
    places = {(person.traits["country"], person.traits["timezone"]) for person in people}
    assert places <= set(PLACES)
    for hour in range(24):
        moment = datetime(2026, 11, 27, hour, 30, tzinfo=UTC)
        zones = [zones_of(person.traits, "UTC") for person in people]
        awake = [window_opens(cadence, moment, zone) == moment for zone in zones]
        assert sum(awake) > 0.5 * len(people), hour


def test_visitors_without_a_name_are_told_apart(people: list[Person]) -> None:
    names = [
        name_of({}, [Identifier(Kind.ANONYMOUS, known)]).name
        for person in people
        for known in person.anonymous_ids
    ]
    assert len(set(names)) == len(names)


async def test_once_time_is_life_there_were_visits_before_and_go_on(world: World) -> None:
    """Who left the site a while ago is written to at once."""
    run = Run(7, Clock(), 0)
    traffic = Traffic(None, run, world, [], None)  # type: ignore[arg-type]
    traffic._visits(60.0)
    visits = [person.first_visit for person in traffic.people]
    assert min(visits) < 60 - world.on_site_minutes * MINUTE
    assert len(visits) > 300
    assert all(visit <= 60 for visit in visits)
    traffic._visits(60 + 1 * MINUTE)
    later = [person.first_visit for person in traffic.people[len(visits) :]]
    assert 3 < len(later) < 60
    assert all(60 < visit <= 60 + MINUTE for visit in later)
