"""Simulated people with a hidden buying stage, from a seed, without clock and IO.

They differ in kind from the estimate that is tried on them: a stage lasts a gamma time, no
exponential one; visits come in clusters (Weibull gaps) of whole sessions; and every person is more
or less active than others, whatever the stage. All rates are our own (`personas`).
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from services.ops.simulation.people import HOUR, Act, Person, StageSpan, new_act
from services.ops.simulation.personas import (
    COMPANIES,
    FAMILY,
    FIRST_STAGE_WEIGHTS,
    GIVEN,
    PERSONAS,
    PLACES,
    SESSIONS_A_DAY,
    UNSUBSCRIBES_A_DAY,
    Persona,
)
from services.ops.simulation.sessions import session
from services.ops.simulation.world import STAGES, World


def population(world: World, seed: int, events: int, days: float = 60.0) -> list[Person]:
    """Seeded people who together do at least `events` distinct things in `days` days, about ten
    each.
    """
    people: list[Person] = []
    total = 0
    while total < events:
        person = make_person(world, seed, len(people), days)
        total += len(person.acts)
        people.append(person)
    surplus = total - events
    if surplus:  # the last person does only what is still wanted, so that the rate is met
        people[-1].acts = people[-1].acts[: max(len(people[-1].acts) - surplus, 1)]
    return people


def make_person(
    world: World,
    seed: int,
    index: int,
    days: float,
    first_visit: float | None = None,
    branches: int = 1,
) -> Person:
    """The index-th person of a seed, with a path and acts up to day `days`. Each company stands for
    so many `branches`, with a domain each.
    """
    rng = random.Random(f"{seed}/{index}")
    visit = _first_visit(rng, days) if first_visit is None else first_visit
    person = _new_person(rng, seed, index, visit, branches)
    person.spans = _path(rng, person.persona, person.first_visit, days)
    _give_acts(world, person, days)
    return person


def _first_visit(rng: random.Random, days: float) -> float:
    return rng.uniform(0, 0.04) * days if rng.random() < 0.12 else rng.uniform(0, 0.85) * days


def _new_person(
    rng: random.Random, seed: int, index: int, first_visit: float, branches: int
) -> Person:
    persona = rng.choices(PERSONAS, [persona.share for persona in PERSONAS])[0]
    given, family = rng.choice(GIVEN), rng.choice(FAMILY)
    company = rng.choice(COMPANIES)
    if persona.name == "student":
        company = "lakeside-university"
    if branches > 1:
        company = f"{company}-{index % branches}"
    country, zone = rng.choice(PLACES)
    traits = {
        "name": f"{given} {family}",
        "title": rng.choice(persona.titles),
        "company": company.replace("-", " ").title(),
        "company_size": rng.randint(*persona.company_size),
        "country": country,
        "timezone": zone,
        "industry": rng.choice(("food", "packaging", "machinery", "metal", "logistics", "retail")),
    }
    devices = 2 if rng.random() < 0.25 else 1
    return Person(
        index=index, persona=persona, traits=traits, first_visit=first_visit, rng=rng,
        email=f"{given}.{family}.{seed}-{index}@{company}.example".lower(),
        user_id=f"user-{seed}-{index}" if rng.random() < 0.5 else "",
        anonymous_ids=tuple(
            f"{rng.getrandbits(48):012x}-{seed}-{index}" for _ in range(devices)
        ),
        crm_id=f"crm-{seed}-{index}",
        activity=persona.activity * rng.gammavariate(1.6, 1 / 1.6),
        consents=rng.random() < 0.85,
    )  # fmt: skip


def _path(rng: random.Random, persona: Persona, first_visit: float, days: float) -> list[StageSpan]:
    """Stages until day `days`, or until the outcome."""
    stage = rng.choices(range(STAGES), FIRST_STAGE_WEIGHTS)[0]
    spans, since = [StageSpan(first_visit, stage)], first_visit
    while True:
        since += rng.gammavariate(2.2, persona.days[stage] / 2.2)
        if since >= days:
            return spans
        following = rng.choices(range(STAGES + 1), persona.transitions[stage])[0]
        if following == STAGES:
            return [*spans, StageSpan(since, None)]
        stage = following
        spans.append(StageSpan(since, stage))


def _give_acts(world: World, person: Person, days: float) -> None:
    """Fills `person.acts`, in the order of their happening."""
    rng = person.rng
    acts = list(session(world, person, person.first_visit))
    for span, following in zip(
        person.spans, [*person.spans[1:], StageSpan(days, None)], strict=True
    ):
        end = min(following.since, days)
        if span.stage is None:
            acts += _outcome(person, span.since)
            break
        at = span.since
        while (at := at + _gap(rng, person, span.stage)) < end:
            acts += session(world, person, at)
        acts += _unsubscribe(person, span, span.stage, end)
    acts = [act for act in acts if act.at < days]
    acts.sort(key=lambda act: act.at)
    person.acts = [replace(act, id=f"{person.index:05d}-{n:04d}") for n, act in enumerate(acts)]


def _unsubscribe(person: Person, span: StageSpan, stage: int, end: float) -> Iterator[Act]:
    """A known person may unsubscribe before the end of a span."""
    if person.known_since is None or person.unsubscribed_at is not None:
        return
    wait = person.rng.expovariate(UNSUBSCRIBES_A_DAY[stage])
    at = max(span.since, person.known_since) + wait
    if at < end:
        person.unsubscribed_at = at
        yield new_act(person, at, "events", "unsubscribed", {"email": person.email})


def _gap(rng: random.Random, person: Person, stage: int) -> float:
    """Days to the next session: Weibull with shape .8, so that sessions come in clusters; mean 1 /
    rate.
    """
    return rng.weibullvariate(1 / 1.133, 0.8) / (SESSIONS_A_DAY[stage] * person.activity)


def _outcome(person: Person, at: float) -> Iterator[Act]:
    """What the CRM posts of a lead that sales took over."""
    if person.known_since is None:
        return
    crm: dict[str, Any] = {
        "email": person.email,
        "external_id": {"system": "crm", "id": person.crm_id},
    }
    yield new_act(person, at, "events", "opportunity_opened", dict(crm))
    decided = at + person.rng.gammavariate(2, 4)
    if person.rng.random() < 0.55:
        yield new_act(person, decided, "events", "won", dict(crm))
        yield new_act(person, decided + HOUR, "events", "purchased", dict(crm))
    else:
        yield new_act(person, decided, "events", "lost", dict(crm))
