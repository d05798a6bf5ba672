"""The evaluation of a run: what is right passes, and each broken promise gets its sentence."""

import itertools
import random
from typing import Any

import pytest

from services.ops.simulation import evaluation, points
from services.ops.simulation.evaluation import Accuracy
from services.ops.simulation.posting import Tally
from services.ops.simulation.readback import SystemRecord, TouchRow

RUN = "sim-7-"


def touch(announcement: str, status: str = "sent", **more: Any) -> TouchRow:
    return TouchRow(announcement, "p", status, **more)


def sound() -> tuple[SystemRecord, Tally]:
    record = SystemRecord(
        identifiers={"l1": []},
        events={f"{RUN}1", f"{RUN}2", "form-1", "click-of-ingest"},
        announcements={"a1", "a2"},
        touches=[touch("a1", decision_ms=12.0), touch("a2", "withheld", reason="capped",
        decision_ms=None)],
    )  # fmt: skip
    tally = Tally(accepted={f"{RUN}1", f"{RUN}2", "form-1"}, duplicates=3)
    tally.mails["t1"] = 1
    return record, tally


def test_a_sound_run_is_reported_and_has_no_failings() -> None:
    record, tally = sound()
    assert evaluation.failings(record, tally, RUN) == []
    assert evaluation.report(record, tally, RUN, 0, Accuracy(0.5, 0.4)) == {
        "accepted": 3, "counted": 3, "duplicates_sent": 3, "dead_letters": 0, "leads": 1,
        "transitions": 2,
        "touches": {"sent": 1, "withheld": {"capped": 1}}, "undecided_transitions": 0,
        "touches_per_lead": 1.0,
        "handoffs": {"opened": 0, "accepted": 0, "expired": 0, "returned": 0},
        "event_to_touch_ms": {"p50": 12.0, "p95": 12.0, "p99": 12.0},
        "stage_accuracy": 0.5, "stage_accuracy_by_points": 0.4, "simulated": True,
    }  # fmt: skip


def test_a_lost_event_is_reported() -> None:
    record, tally = sound()
    record.events.remove(f"{RUN}2")
    assert evaluation.failings(record, tally, RUN) == [
        f"1 events were accepted and not counted, {RUN}2 for one."
    ]


def test_an_event_that_nobody_accepted_is_reported() -> None:
    record, tally = sound()
    record.events.add(f"{RUN}9")
    assert "without having been accepted" in evaluation.failings(record, tally, RUN)[0]


def test_an_undecided_stage_change_is_reported() -> None:
    record, tally = sound()
    record.touches.pop()
    assert evaluation.failings(record, tally, RUN) == [
        "1 stage changes have no decision, a2 for one."
    ]


def test_a_touch_that_went_out_twice_is_reported() -> None:
    record, tally = sound()
    tally.mails["t1"] += 1
    record.touches.append(touch("a1"))
    sentences = " ".join(evaluation.failings(record, tally, RUN))
    assert "answered twice by one program, a1" in sentences
    assert "went out twice, t1" in sentences


def test_percentiles_are_of_the_nearest_rank() -> None:
    assert evaluation.percentiles([float(n) for n in range(1, 101)]) == {
        "p50": 50.0,
        "p95": 95.0,
        "p99": 99.0,
    }
    assert evaluation.percentiles([]) == {"p50": None, "p95": None, "p99": None}


def test_macro_recall_weighs_every_stage_alike() -> None:
    pairs = [("a", "a")] * 9 + [("b", "a")]
    assert points.macro_recall(pairs) == 0.5
    assert points.macro_recall([]) is None


@pytest.mark.parametrize("seed", range(20))
def test_no_thresholds_beat_the_best_ones(seed: int) -> None:
    rng = random.Random(seed)
    scored = [(float(rng.randint(0, 8)), rng.randint(0, 2)) for _ in range(40)]
    present = sorted({true for _, true in scored})
    best = 0.0
    for low, high in itertools.combinations_with_replacement([n - 0.5 for n in range(11)], 2):
        named = [((score > low) + (score > high), true) for score, true in scored]
        recalls = [
            sum(n == t for n, t in named if t == true) / sum(t == true for _, t in named)
            for true in present
        ]
        best = max(best, sum(recalls) / len(recalls))
    assert points.best_macro_recall(scored) == pytest.approx(best)
