"""A lead's curve: belief over stages and likelihood through time, from one fold, as shapes for a
picture.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec
import numpy as np

from services.scorer.model.activity import Activity
from services.scorer.model.fold import Fold
from services.scorer.model.profile import add, tells_of_person
from services.scorer.model.stage_filter import NEVER, RESTARTING, F, I
from services.scorer.model.state import Step
from services.scorer.model.window import Known
from services.shared.clock import DAY

WIDTH, HEIGHT = 1000, 100
MOST_STEPS = 300  # above it the picture has no room for every instant


class Curve(msgspec.Struct, frozen=True):
    """`at` (T, µs), `belief` (K, T) and `likelihood` (T; NaN once the outcome has happened)."""

    stages: list[str]
    at: I
    belief: F
    likelihood: F

    def x(self, moment: int) -> float:
        """Where an instant lies, 0 to 1."""
        first, last = int(self.at[0]), int(self.at[-1])
        return min(1.0, max(0.0, (moment - first) / (last - first)))

    def ticks(self, count: int = 5) -> list[int]:
        """Instants (µs) evenly spread over the time shown."""
        return [int(at) for at in np.linspace(self.at[0], self.at[-1], count)]

    def nearest(self, moment: int) -> int:
        """Index of the last instant shown at or before `moment`."""
        return max(0, int(np.searchsorted(self.at, moment, side="right")) - 1)

    def known(self, index: int) -> float | None:
        """The likelihood there, or None."""
        return None if np.isnan(self.likelihood[index]) else float(self.likelihood[index])


def curve(fold: Fold, product: str, known: Known, now: int, instants: int = 100) -> Curve:
    """What was believed at `instants` moments between the first event that is weighed and `now`
    (µs), and around each evidence.
    """
    events = known.events
    model = fold.model
    steps: list[Step] = []
    beliefs: list[F] = [model.start]
    acts = [Activity.none(len(model.marks), 1)]

    def observe(step: Step, _: F, after: F) -> None:
        steps.append(step)
        beliefs.append(after[:, 0])
        acts.append(_after(fold, acts[-1], step))

    fold.trace(product, events, now, observe)
    times = np.array([step.at for step in steps], np.int64)
    ended = _ended(fold, steps)
    at = _instants(times, events[0].at, now, instants)
    last = np.searchsorted(times, at, side="right")
    before = np.concatenate(([NEVER], times))[last]
    belief = np.array(beliefs).T[:, last]
    silent = (before > NEVER) & (at > before) & (ended[last] == NEVER)
    if silent.any():
        days = (at[silent] - before[silent]) / DAY
        belief[:, silent] = model.advance(np.ascontiguousarray(belief[:, silent]), days)
    activity = Activity(
        np.concatenate([each.counts for each in acts], axis=1)[:, last],
        *(
            np.concatenate(column, axis=-1)[..., last]
            for column in zip(*(each[1:] for each in acts), strict=True)
        ),
    )
    chances = fold.estimate.likelihood(
        belief, activity, np.maximum(at, before), _effects(fold, known, at), ended[last]
    )
    return Curve(list(model.stages), at, belief, chances)


def _after(fold: Fold, before: Activity, step: Step) -> Activity:
    """What the lead did up to a step that the filter takes."""
    code = np.array([step.code % fold.model.shared_offset])
    after = before.map(np.copy)
    restart = np.array([fold.model.signals[code[0]] in RESTARTING])
    after.step(np.zeros(1, np.int64), np.array([step.at]), fold.model.marks_of(code), restart)
    return after


def _ended(fold: Fold, steps: Sequence[Step]) -> I:
    """After each step (and before all): when the outcome had happened, or NEVER."""
    ended = [NEVER]
    for step in steps:
        signal = fold.model.signals[step.code % fold.model.shared_offset]
        ended.append(
            step.at
            if signal in ("outcome", "purchase")
            else NEVER
            if signal in RESTARTING
            else ended[-1]
        )
    return np.array(ended, np.int64)


def _instants(steps: I, first: int, now: int, count: int) -> I:
    """Even steps from a little before the first event to now, and both sides of each jump where
    there is room.
    """
    lead_in = max((now - first) // 40, DAY // 24)
    grid = np.linspace(first - lead_in, now, count).astype(np.int64)
    grid[-1] = now
    jumps = np.concatenate((steps, steps - 1)) if steps.size <= MOST_STEPS else steps[:0]
    return np.unique(np.concatenate((grid, jumps)))


def _effects(fold: Fold, known: Known, at: I) -> F:
    """What was known of the person at each instant adds to the log-odds."""
    profile = known.before
    since, effects = [NEVER], [fold.estimate.effect(profile.fit_traits())]
    for event in known.events:
        if tells_of_person(event.data):
            add(profile, event, fold.declared)
            since.append(event.at)
            effects.append(fold.estimate.effect(profile.fit_traits()))
    return np.array(effects, float)[
        np.searchsorted(np.array(since, np.int64), at, side="right") - 1
    ]


def areas(seen: Curve) -> list[str]:
    """One closed SVG path a stage, stacked, the first stage at the bottom, in a box of WIDTH ×
    HEIGHT.
    """
    xs = [WIDTH * seen.x(int(at)) for at in seen.at]
    edges = np.vstack((np.zeros(seen.at.size), np.cumsum(seen.belief, axis=0)))
    edges[-1] = 1.0
    paths = []
    for low, high in pairwise(edges):
        top = [(x, HEIGHT * (1 - y)) for x, y in zip(xs, high, strict=True)]
        bottom = [(x, HEIGHT * (1 - y)) for x, y in zip(xs, low, strict=True)]
        paths.append(f"M{_joined(top)}L{_joined(reversed(bottom))}Z")
    return paths


def line(seen: Curve, most: float) -> str:
    """The likelihood as an SVG path with `most` at the top; broken where there was nothing to
    predict.
    """
    path, drawing = "", False
    for at, chance in zip(seen.at, seen.likelihood, strict=True):
        if np.isnan(chance):
            drawing = False
            continue
        point = WIDTH * seen.x(int(at)), HEIGHT * (1 - chance / most)
        path += f"{'L' if drawing else 'M'}{_joined([point])}"
        drawing = True
    return path


def ceiling(seen: Curve) -> float:
    """The likelihood at the top of the picture, so that low lines stay readable and high ones
    inside.
    """
    known = seen.likelihood[~np.isnan(seen.likelihood)]
    return min(1.0, max(0.4, 1.15 * float(known.max()))) if known.size else 0.4


def _joined(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.2f}" for x, y in points)
