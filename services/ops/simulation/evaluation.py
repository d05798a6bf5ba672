"""Judges a run: whether everything was counted, decided once, and estimated well."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from services.ops.simulation import points
from services.ops.simulation.people import Person
from services.ops.simulation.posting import Run, Tally
from services.ops.simulation.readback import QueryClient, SystemRecord
from services.ops.simulation.world import World

SAMPLED_PEOPLE = 400
SAMPLED_AT = (0.25, 0.5, 0.75, 1.0)  # of the run's days


class Accuracy(NamedTuple):
    """Macro recall of the hidden stage: by the published stage, and by the best thresholds on plain
    points; None without samples.
    """

    published: float | None
    points: float | None


class Sample(NamedTuple):
    """A moment at which a person's stage is compared."""

    person: Person
    day: float


def report(
    record: SystemRecord, tally: Tally, run_prefix: str, dead_letters: int, accuracy: Accuracy
) -> dict[str, Any]:
    """The result of a run, as `ripeline demo --json` prints it."""
    withheld = Counter(str(touch.reason) for touch in record.touches if touch.status == "withheld")
    waits = [touch.decision_ms for touch in record.touches if touch.decision_ms is not None]
    return {
        "accepted": len(tally.accepted),
        "counted": len(_counted(record, tally, run_prefix)),
        "duplicates_sent": tally.duplicates,
        "dead_letters": dead_letters,
        "leads": len(record.identifiers),
        "transitions": len(record.announcements),
        "touches": {
            "sent": sum(touch.status == "sent" for touch in record.touches),
            "withheld": dict(withheld.most_common()),
        },
        "touches_per_lead": _per_lead(record),
        "handoffs": handoffs(record.handoffs),
        "undecided_transitions": len(_undecided(record)),
        "event_to_touch_ms": percentiles(waits),
        "stage_accuracy": accuracy.published,
        "stage_accuracy_by_points": accuracy.points,
        "simulated": True,
    }


def handoffs(found: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many hand-offs were opened, and what came of them."""
    counts = Counter(each["status"] for each in found)
    opened = sum(bool(each["opened_at"]) and each["status"] != "superseded" for each in found)
    return {"opened": opened} | {name: counts[name] for name in ("accepted", "expired", "returned")}


def failings(record: SystemRecord, tally: Tally, run_prefix: str) -> list[str]:
    """A sentence for each promise that was not kept."""
    sentences = []
    counted = _counted(record, tally, run_prefix)
    if lost := tally.accepted - counted:
        sentences.append(f"{len(lost)} events were accepted and not counted, {min(lost)} for one.")
    if extra := counted - tally.accepted:
        sentences.append(
            f"{len(extra)} events were counted without having been accepted, {min(extra)} for one."
        )
    if undecided := _undecided(record):
        sentences.append(
            f"{len(undecided)} stage changes have no decision, {min(undecided)} for one."
        )
    decided = Counter(
        (touch.announcement, touch.program) for touch in record.touches if touch.announcement
    )
    if twice := [announcement for (announcement, _), times in decided.items() if times > 1]:
        sentences.append(
            f"{len(twice)} stage changes were answered twice by one program, {twice[0]} for one."
        )
    if twice_out := [touch for touch, times in tally.mails.items() if times > 1]:
        sentences.append(f"{len(twice_out)} touches went out twice, {twice_out[0]} for one.")
    return sentences


def _counted(record: SystemRecord, tally: Tally, run_prefix: str) -> set[str]:
    """This run's events; those that ingest made itself (tracked links) have ids that no sender
    knows.
    """
    return {name for name in record.events if name.startswith(run_prefix) or name in tally.accepted}


def _per_lead(record: SystemRecord) -> float | None:
    """Touches that went out, by the number of leads; None without leads."""
    sent = sum(touch.status in ("sent", "unknown") for touch in record.touches)
    return round(sent / len(record.identifiers), 2) if record.identifiers else None


def _undecided(record: SystemRecord) -> set[str]:
    return record.announcements - {touch.announcement for touch in record.touches}


def percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """Nearest-rank percentiles of milliseconds; none without values."""
    ordered = sorted(values)
    return {
        f"p{p}": round(ordered[max(-(-p * len(ordered) // 100), 1) - 1], 1) if ordered else None
        for p in (50, 95, 99)
    }


def samples(people: Sequence[Person], tally: Tally, days: float, seed: int) -> list[Sample]:
    """Up to `SAMPLED_PEOPLE` people at the days of `SAMPLED_AT`, once they have done anything and
    until their outcome.
    """
    active = [person for person in people if tally.done[person.index]]
    drawn = random.Random(f"{seed}/sample").sample(active, min(len(active), SAMPLED_PEOPLE))
    return [
        Sample(person, share * days)
        for person in drawn
        for share in SAMPLED_AT
        if _first_act(tally, person) <= share * days and person.stage_at(share * days) is not None
    ]


async def stage_accuracy(
    client: QueryClient,
    record: SystemRecord,
    tally: Tally,
    world: World,
    run: Run,
    sampled: Sequence[Sample],
) -> Accuracy:
    """How well the hidden stages of the samples were recognised."""
    lead_of = _lead_by_identifier(record.identifiers)

    async def published(sample: Sample) -> str:
        names = (sample.person.email, *sample.person.anonymous_ids)
        lead = next((lead_of[name] for name in names if name in lead_of), "")
        return await client.stage(lead, run.moment(sample.day)) if lead else "unknown"

    named = await asyncio.gather(*map(published, sampled))
    hidden = [sample.person.stage_at(sample.day) or 0 for sample in sampled]
    scores = [_points(tally, sample) for sample in sampled]
    recall = points.macro_recall(zip(map(world.stage_name, hidden), named, strict=True))
    best = points.best_macro_recall(list(zip(scores, hidden, strict=True)))
    return Accuracy(_rounded(recall), _rounded(best))


def _first_act(tally: Tally, person: Person) -> float:
    """The day of the first thing that a person did."""
    return min(done.day for done in tally.done[person.index])


def _points(tally: Tally, sample: Sample) -> float:
    acts = tally.done[sample.person.index]
    return points.score(done.type for done in acts if done.day <= sample.day)


def _lead_by_identifier(identifiers: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {value: lead for lead, values in identifiers.items() for value in values}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
