"""Leads drawn from a marked Markovian arrival process with known stages: what a learned filter is
held against.
"""

from typing import NamedTuple

import numpy as np

from services.scorer.learning.anchored import learning_of
from services.scorer.learning.arrivals import Arrivals
from services.scorer.learning.episodes import Episode, Person
from services.scorer.learning.histories import History
from services.scorer.model.stage_filter import StageModel
from services.shared.clock import DAY
from services.shared.contracts.events import Interaction
from services.shared.playbook.sections import Playbook
from services.shared.playbook.stage_model import Model
from tests.support.histories import BASE, Occurrence


class Simulated(NamedTuple):
    """A lead's history, and its stage right after each event."""

    history: History
    stages: list[int]


def unlike(model: Model, rng: np.random.Generator, spread: float = 0.4) -> Arrivals:
    """The model's process with rates that differ by a lognormal factor."""
    process = learning_of(model).start
    return process._replace(
        rate=process.rate * np.exp(rng.normal(0, spread, process.rate.shape)),
        hazard=process.hazard * np.exp(rng.normal(0, spread, process.hazard.shape)),
        drift=process.drift * np.exp(rng.normal(0, spread, process.drift.shape)),
    )


def leads(
    process: Arrivals, count: int, rng: np.random.Generator, days: tuple[float, float] = (10, 200)
) -> list[Simulated]:
    """Leads from their first event on, each seen for so many days or until the outcome."""
    return [_lead(process, rng, float(rng.uniform(*days))) for _ in range(count)]


def _lead(process: Arrivals, rng: np.random.Generator, end: float) -> Simulated:
    k = len(process.start)
    leave, speed = process.drift.sum(1), process.rate.sum(1)
    first = process.start * speed
    state = int(rng.choice(k, p=first / first.sum()))
    at, times, marks, stages, converted = 0.0, [], [], [], False
    is_act = True
    while True:
        if is_act:
            mark = int(rng.choice(len(process.jump), p=process.rate[state] / speed[state]))
            state = int(rng.choice(k, p=process.jump[mark, state]))
            times.append(at)
            marks.append(mark)
            stages.append(state)
        total = leave[state] + speed[state] + process.hazard[state]
        at += rng.exponential(1 / total)
        if at >= end:
            break
        draw = rng.random() * total
        if draw < process.hazard[state]:
            end, converted = at, True
            break
        is_act = draw >= process.hazard[state] + leave[state]
        if not is_act:
            state = int(rng.choice(k, p=process.drift[state] / leave[state]))
    return Simulated(History(np.array(times), np.array(marks), end, converted), stages)


def archive(
    process: Arrivals,
    count: int,
    rng: np.random.Generator,
    entry_days: float = 300,
    until_days: float = 500,
    title: bool = False,
) -> list[Episode]:
    """Leads that enter over so many days, as the live fold's episodes; with `title` those who are
    a CTO convert more often.
    """
    out = []
    for number in range(count):
        entry = float(rng.uniform(0, entry_days))
        boost = title and rng.random() < 0.3
        own = process._replace(hazard=process.hazard * (4.0 if boost else 1.0))
        history, _ = _lead(own, rng, until_days - entry)
        at = BASE + np.rint((entry + history.times) * DAY).astype(np.int64)
        traits = {"title": "cto" if boost else "buyer"} if title else {}
        end = BASE + int((entry + history.end) * DAY)
        persons = [Person(-(1 << 62), traits)]
        out.append(Episode(number, int(at[0]), at, history.marks, end, history.converted, persons))
    return out


def until(days: float) -> int:
    """The end of an archive of so many days (µs)."""
    return BASE + int(days * DAY)


def stage_score(model: Model, found: list[Simulated]) -> float:
    """Mean log of the belief in the true stage right after each event."""
    stages = StageModel(model)
    total, count = 0.0, 0
    for history, true in found:
        belief, last = stages.start[:, None], 0.0
        for at, mark, stage in zip(history.times, history.marks, true, strict=True):
            if at > last:
                belief = stages.advance(belief, np.array([at - last]))
            belief = stages.update(belief, np.array([mark]))
            last, count = at, count + 1
            total += float(np.log(max(belief[stage, 0], 1e-12)))
    return total / count


def occurrences(playbook: Playbook, found: list[Episode]) -> list[Occurrence]:
    """The episodes as what senders would post of them."""
    model = playbook.model
    stage_of = {f"content_{stage}": stage for stage in model.stages}
    content = {
        mark: next(item.id for item in playbook.content if item.stages[-1] == stage)
        for mark, stage in stage_of.items()
        if mark in model.rate
    }
    types = {mark: type_ for type_, mark in model.mark_of_type.items() if isinstance(mark, str)}
    out = []
    for each in found:
        email = f"p{each.lead}@firm{each.lead}.example"
        steps = [list(model.rate)[code] for code in each.code.tolist()]
        steps += [model.outcome] if each.converted else []
        for n, (at, mark) in enumerate(zip([*each.at.tolist(), each.end], steps, strict=False)):
            type_ = "content_downloaded" if mark in content else types.get(mark, mark)
            traits = dict(each.persons[-1].traits) if not n else {}
            data = Interaction(
                id=f"e{each.lead}-{n}", type=type_, email=email, traits=traits,
                content_id=content.get(mark, ""),
            )  # fmt: skip
            out.append(Occurrence(int(at), data))
    return out
