"""Simulated people with a hidden buying stage, from a seed, without clock and IO.

They differ in kind from the estimate that is tried on them: a stage lasts a gamma time, no
exponential one; visits come in clusters (Weibull gaps) of whole sessions; and every person is more
or less active than others, whatever the stage. All rates are our own (`personas`).
"""

import random

from services.ops.simulation.acts import give_acts
from services.ops.simulation.people import Person, StageSpan
from services.ops.simulation.personas import (
    COMPANIES,
    FAMILY,
    FIRST_STAGE_WEIGHTS,
    GIVEN,
    PERSONAS,
    Persona,
)
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
    world: World, seed: int, index: int, days: float, first_visit: float | None = None
) -> Person:
    """The index-th person of a seed, with a path and acts up to day `days`."""
    rng = random.Random(f"{seed}/{index}")
    visit = _first_visit(rng, days) if first_visit is None else first_visit
    person = _new_person(rng, seed, index, visit)
    person.spans = _path(rng, person.persona, person.first_visit, days)
    give_acts(world, person, days)
    return person


def _first_visit(rng: random.Random, days: float) -> float:
    return rng.uniform(0, 0.04) * days if rng.random() < 0.12 else rng.uniform(0, 0.85) * days


def _new_person(rng: random.Random, seed: int, index: int, first_visit: float) -> Person:
    persona = rng.choices(PERSONAS, [persona.share for persona in PERSONAS])[0]
    given, family = rng.choice(GIVEN), rng.choice(FAMILY)
    company = rng.choice(COMPANIES)
    if persona.name == "student":
        company = "lakeside-university"
    traits = {
        "name": f"{given} {family}",
        "title": rng.choice(persona.titles),
        "company": company.replace("-", " ").title(),
        "company_size": rng.randint(*persona.company_size),
        "country": rng.choice(("DE", "FR", "GB", "SE", "US", "NL")),
        "industry": rng.choice(("food", "packaging", "machinery", "metal", "logistics", "retail")),
    }
    devices = 2 if rng.random() < 0.25 else 1
    return Person(
        index=index, persona=persona, traits=traits, first_visit=first_visit, rng=rng,
        email=f"{given}.{family}.{seed}-{index}@{company}.example".lower(),
        user_id=f"user-{seed}-{index}" if rng.random() < 0.5 else "",
        anonymous_ids=tuple(
            f"visitor-{seed}-{index}-{rng.getrandbits(48):012x}" for _ in range(devices)
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
