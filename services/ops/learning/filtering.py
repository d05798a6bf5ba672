"""What the stage filter believes after each event of a table, by the product's own fold."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from services.ingest.importing import times
from services.ingest.importing.mapping_file import MappingFile
from services.ingest.importing.opening import opened
from services.ingest.importing.table import Table
from services.ingest.importing.times import Manners
from services.ops.learning.mapping import FilterMapping
from services.ops.learning.rows import (
    FAR_TIME,
    ZONE,
    Progress,
    manners_of,
    outcomes_of,
    plausible,
    rows_of,
    types_of,
)
from services.ops.learning.tables import trait_columns
from services.scorer.model.fold import Fold
from services.scorer.model.interpretation import NOTHING, Interpretation
from services.scorer.model.readings import word
from services.scorer.model.state import Event, FoldState, View, packed
from services.shared.clock import DAY, EPOCH, rfc3339
from services.shared.contracts.events import Interaction
from services.shared.errors import Reject
from services.shared.playbook.sections import Playbook
from services.shared.playbook.stage_model import Model

MICROSECOND = timedelta(microseconds=1)
NEUTRAL_FIT = 50.0  # points at which fit adds nothing
ENDS = ("published", "likelihood")


class Act(NamedTuple):
    """One event of a lead, and what the table calls it."""

    event: Event
    type: str


@dataclass
class Acts:
    """The events of each lead in order; `last` is the table's last instant (µs)."""

    leads: dict[str, list[Act]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    last: int = 0


class Look(NamedTuple):
    """What is believed of a lead at an instant (µs): just after an event, or where `type` is ''
    between two.
    """

    at: int
    type: str
    view: View


def fold_of(playbook: Playbook, model: Model | None) -> Fold:
    """The playbook's fold under a model, in which marks count also as types of their own name."""
    sections = {name: getattr(playbook, name) for name in type(playbook).model_fields}
    fold = Fold(Playbook.model_construct(**sections | ({"model": model} if model else {})))
    for signal, code in fold.model.code.items():
        if signal not in fold.playbook.model.mark_of_type:
            step = packed(code, NOTHING)
            reading = Interpretation(signal, signal=signal, code=code, weighs=True, step=step)
            fold.interpreter.by_type.setdefault(signal, reading)
    return fold


def read(path: Path, written: MappingFile, fold: Fold, progress: Progress) -> Acts:
    """The table's events by lead. Raises Reject where no row can be read."""
    mapping = written.mapping
    assert isinstance(mapping, FilterMapping)
    manners = manners_of(path, written, needed=True)
    with opened(path, written) as table:
        return _acts(table, mapping, fold, manners, progress)


def _acts(
    table: Table, mapping: FilterMapping, fold: Fold, manners: Manners, progress: Progress
) -> Acts:
    header = table.header
    key, at = header.find(mapping.key), times.reader(mapping.time, header, ZONE, manners)
    what = types_of(mapping, header)
    is_outcome = outcomes_of(mapping.outcome, header, what) if mapping.outcome else None
    columns = trait_columns(mapping, header)
    product, outcome = fold.playbook.products[0], fold.playbook.model.outcome
    assert key is not None
    found = Acts()
    for number, row in enumerate(rows_of(table, progress)):
        if isinstance(row, Reject):
            found.skipped[row.title] += 1
            continue
        who, instant = row[key].strip(), _instant(at, row)
        if not who or instant is None:
            found.skipped["row without a " + ("readable time" if who else "lead")] += 1
            continue
        type_ = what(row)
        name = outcome if is_outcome and is_outcome(row) else type_
        uid = f"{number:032d}"
        traits = {trait: row[place] for trait, place in columns if word(row[place])}
        event = Event(instant, uid, Interaction(id=uid, type=name, product=product, traits=traits))
        found.leads.setdefault(who, []).append(Act(event, type_))
    if not found.leads:
        reasons = ", ".join(f"{count} × {reason}" for reason, count in found.skipped.items())
        raise Reject(
            "the table has no rows that can be read" + (f": {reasons}" if reasons else ""),
            where="file",
            remedy="see the mapping's `lead` and `time`",
        )
    _leave_out_far(found)
    for acts in found.leads.values():
        acts.sort(key=lambda act: (act.event.at, act.event.uid))
    return found


def _leave_out_far(found: Acts) -> None:
    """Leaves out what is far from all other times."""
    every = np.array([act.event.at for acts in found.leads.values() for act in acts], np.int64)
    kept = plausible(every / DAY)
    found.last = int(every[kept].max())
    if kept.all():
        return
    found.skipped[FAR_TIME] += int((~kept).sum())
    first = int(every[kept].min())
    for who, acts in list(found.leads.items()):
        found.leads[who] = [act for act in acts if first <= act.event.at <= found.last]
        if not found.leads[who]:
            del found.leads[who]


def _instant(at: times.Read, row: list[str]) -> int | None:
    try:
        moment = at(row)
    except Reject:
        return None
    return (moment - EPOCH) // MICROSECOND if moment else None


def filtered(
    fold: Fold, acts: Acts, every: int, until: int | None, progress: Progress
) -> dict[str, list[Look]]:
    """Looks at each lead just after each event, and where `every` (µs) is above 0 at each multiple
    of it since the first between two events, and after the last one up to `until`.
    """
    order = sorted(acts.leads, key=lambda lead: -len(acts.leads[lead]))
    events = [acts.leads[lead] for lead in order]
    looks: dict[str, list[Look]] = {lead: [] for lead in acts.leads}
    states: Sequence[FoldState] = [fold.initial(fold.playbook.products[0])] * len(order)
    total, done, alive = sum(map(len, events)), 0, len(order)
    known: list[dict[str, Any]] = [{} for _ in order]
    for step in range(len(events[0])):
        while len(events[alive - 1]) <= step:
            alive -= 1
        states = fold.extend(states[:alive], [[each[step].event] for each in events[:alive]])
        for lead in range(alive):
            known[lead] |= events[lead][step].event.data.traits
        effects = [fold.estimate.attributes_effect(each) for each in known[:alive]]
        seen = [
            (lead, *look)
            for lead in range(alive)
            for look in _instants(events[lead], step, every, until)
        ]
        views = fold.view(
            [states[lead] for lead, *_ in seen], [at for _, at, _ in seen],
            [NEUTRAL_FIT] * len(seen), [effects[lead] for lead, *_ in seen],
        )  # fmt: skip
        for (lead, at, type_), view in zip(seen, views, strict=True):
            looks[order[lead]].append(Look(at, type_, view))
        done += alive
        progress("filtering", done / total)
    return looks


def _instants(
    events: Sequence[Act], step: int, every: int, until: int | None
) -> Iterator[tuple[int, str]]:
    """The instant of one event, and those before the next."""
    event, type_ = events[step]
    yield event.at, type_
    if not every:
        return
    first = events[0].event.at
    end = events[step + 1].event.at if step + 1 < len(events) else (until or 0)
    yield from (
        (at, "") for at in range(first + ((event.at - first) // every + 1) * every, end, every)
    )


def write(path: Path, fold: Fold, looks: dict[str, list[Look]]) -> int:
    """Writes a line a look, leads in the table's order; returns their number."""
    stages, lines = fold.model.stages, 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["lead", "at", "type", *stages, *ENDS])
        for lead, seen in looks.items():
            for at, type_, view in seen:
                moment = rfc3339(EPOCH + timedelta(microseconds=at))
                belief = (repr(view.belief[stage]) for stage in stages)
                likelihood = "" if view.likelihood is None else repr(view.likelihood)
                writer.writerow([lead, moment, type_, *belief, view.stage, likelihood])
            lines += len(seen)
    return lines


def unweighed(fold: Fold, acts: Acts) -> Counter[str]:
    """Types of events that say nothing to the filter, with how often they occur."""
    types = Counter(act.event.data.type for each in acts.leads.values() for act in each)
    known = fold.interpreter.by_type
    return Counter({
        type_: count for type_, count in types.items()
        if type_ not in known and not fold.weighs(Interaction(id="", type=type_))
    })  # fmt: skip
