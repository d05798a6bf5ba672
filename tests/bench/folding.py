"""P11: the pure fold and its kernel, without any server."""

import time
from collections.abc import Callable
from statistics import median

import numpy as np

from services.scorer.model.fold import Fold
from services.shared.playbook.sections import Playbook
from tests.bench import people
from tests.bench.measure import Line, Outcome

LEADS, EACH = 1_000, 10


def fold(playbook: Playbook, *, quick: bool) -> Outcome:
    """A full fold of 10,000 events over 1,000 leads; the filter alone on ten rounds of 1,000."""
    fold, events = Fold(playbook), people.sets(LEADS, EACH)
    model, rng = fold.model, np.random.default_rng(1)
    days = rng.exponential(4.0, (EACH, LEADS))
    codes = rng.integers(0, len(model.marks), (EACH, LEADS))

    def kernel() -> None:
        belief = np.repeat(model.start[:, None], LEADS, axis=1)
        for j in range(EACH):
            belief = model.update(model.advance(belief, days[j]), codes[j])

    rounds = 20 if quick else 60
    fold_ms = _milliseconds(lambda: fold.refold("default", events), rounds)
    kernel_ms = _milliseconds(kernel, rounds)
    return Outcome(
        {"fold_ms": round(fold_ms, 3), "kernel_ms": round(kernel_ms, 3)},
        [
            Line(
                "P11",
                "fold of 10,000 events, 1,000 leads",
                f"{fold_ms:.2f} ms",
                "",
                f"{fold_ms:.1f} ms",
                "≤ 15 ms",
                fold_ms <= 15,
            ),
            Line(
                "P11",
                "the filter kernel alone",
                f"{kernel_ms:.2f} ms",
                "",
                f"{kernel_ms:.1f} ms",
                "≤ 5 ms",
                kernel_ms <= 5,
            ),
        ],
    )


def _milliseconds(work: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds + 3):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return median(taken[3:]) * 1000
