"""The stage filter against values worked out independently, and its arithmetic (G1, G2, G3, S4)."""

import json
from pathlib import Path

import numpy as np
import pytest

from services.scorer.model.stage_filter import NEVER, UNPUBLISHED, Publication, StageModel
from services.shared.clock import DAY
from services.shared.playbook.sections import Playbook

GOLDEN = json.loads((Path(__file__).parents[2] / "data" / "filter_golden.json").read_text())[
    "cases"
]


@pytest.fixture(scope="module")
def model(default_playbook: Playbook) -> StageModel:
    return StageModel(default_playbook.model)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_belief_and_outlook_agree_with_plain_matrix_exponentials(
    model: StageModel, case: dict
) -> None:
    belief, last = model.start[:, None], None
    for step in [*case["steps"], case["end"]]:
        if last is not None:
            belief = model.advance(belief, np.array([step["at_days"] - last]))
        if "evidence" in step:
            belief = model.update(belief, np.array([model.code[step["evidence"]]]))
        np.testing.assert_allclose(belief[:, 0], step["belief"], atol=1e-9, rtol=0)
        np.testing.assert_allclose(
            model.outcome_probability(belief)[0], step["p90"], atol=1e-9, rtol=0
        )
        last = step["at_days"]


def test_a_lane_is_the_same_bits_alone_and_in_a_batch(model: StageModel) -> None:
    rng = np.random.default_rng(5)
    size = 2003
    belief, days, code = (
        rng.dirichlet(np.ones(4), size).T.copy(),
        rng.exponential(9, size),
        rng.integers(0, 11, size),
    )
    together = model.update(model.advance(belief, days), code)
    for i in rng.integers(0, size, 300):
        alone = model.update(model.advance(belief[:, [i]], days[[i]]), code[[i]])
        assert alone.tobytes() == together[:, [i]].tobytes()


def test_without_an_eigenbasis_the_exponential_gives_the_same_numbers(
    model: StageModel, default_playbook: Playbook
) -> None:
    other = StageModel(default_playbook.model)
    other.basis = None
    belief, days = np.tile(model.start[:, None], (1, 5)), np.array([0.1, 1, 7, 40, 300.0])
    np.testing.assert_allclose(other.advance(belief, days), model.advance(belief, days), atol=1e-12)


def test_the_model_file_holds_the_eigenbasis_of_its_parameters(default_playbook: Playbook) -> None:
    basis = default_playbook.model.eigenbasis
    assert basis is not None
    assert basis.of == default_playbook.model.parameters_hash


def test_several_products_share_an_event_that_names_none(default_playbook: Playbook) -> None:
    """rate^{κw}, B → (1−w)·I + w·B (D5)."""
    whole, half = StageModel(default_playbook.model), StageModel(default_playbook.model, 0.5)
    pricing = half.code["pricing"]
    belief = whole.start[:, None]
    np.testing.assert_allclose(
        half.update(belief, np.array([pricing])), whole.update(belief, np.array([pricing]))
    )
    factor = np.array(default_playbook.model.rate["pricing"]) ** (
        default_playbook.model.kappa * 0.5
    )
    jump = 0.5 * np.eye(4) + 0.5 * whole.jump_matrix("pricing")
    expected = (whole.start * factor) @ jump
    shared = half.update(belief, np.array([pricing + half.shared_offset]))
    np.testing.assert_allclose(shared[:, 0], expected / expected.sum(), atol=1e-12)


def test_a_stage_goes_up_at_once_and_down_only_after_the_dwell(model: StageModel) -> None:
    free = np.array([True])
    high = Publication(np.array([3]), np.array([0]))
    early = model.publish(high, np.array([1]), np.array([DAY]), free)
    late = model.publish(high, np.array([1]), np.array([2 * DAY]), free)
    up = model.publish(
        Publication(np.array([1]), np.array([0])), np.array([3]), np.array([1]), free
    )
    assert (early.stage[0], late.stage[0], up.stage[0]) == (3, 1, 3)


def test_an_unclear_belief_publishes_nothing(model: StageModel) -> None:
    belief = np.array([[0.49, 0.5, 0.2], [0.4, 0.5, 0.2], [0.11, 0.0, 0.5], [0.0, 0.0, 0.1]])
    assert model.candidate(belief).tolist() == [UNPUBLISHED, UNPUBLISHED, 2]


def test_reviews_happen_on_their_days_and_never_between(model: StageModel) -> None:
    """The published stage is inside the fold: a look between two review days sees the earlier
    one's.
    """
    belief = model.update(model.start[:, None], np.array([model.code["demo"]]))
    start = Publication(np.array([3]), np.array([0]))
    free = np.array([True])
    days = {}
    for day in np.arange(0.5, 60, 0.5):
        look = model.review(
            belief, np.array([0]), np.array([int(day * DAY)]), start, free, inclusive=True
        )
        days[day] = (int(look.stage[0]), int(look.since[0]))
    changed = {since // DAY for _, since in days.values() if since}
    assert changed
    assert changed <= {int(day) for day in model.model.review_days}


def test_a_lead_without_evidence_is_never_reviewed(model: StageModel) -> None:
    none = Publication(np.array([UNPUBLISHED]), np.array([NEVER]))
    look = model.review(
        model.start[:, None],
        np.array([NEVER]),
        np.array([90 * DAY]),
        none,
        np.array([True]),
        inclusive=True,
    )
    assert look.stage[0] == UNPUBLISHED
