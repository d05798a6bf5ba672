"""The fold of states one by one and that of many at once: the same bits, whatever the steps."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from services.scorer.model import kernel as kernels
from services.scorer.model.fold import Fold
from services.scorer.model.kernel import Kernel
from services.scorer.model.scalar_kernel import ScalarKernel
from services.scorer.model.stage_filter import SPECIAL
from services.scorer.model.state import StateArrays, Step, Steps
from services.shared.clock import DAY, US
from services.shared.playbook.sections import Playbook
from tests.support.histories import BASE
from tests.support.learned import with_layer

ONE_BY_ONE, AT_ONCE = 1 << 40, 1  # FEW


@pytest.fixture(scope="module", params=["basis", "matrices", "layer"])
def fold(request: pytest.FixtureRequest, default_playbook: Playbook) -> Fold:
    """Also under a model whose eigenvectors cannot be used, and under a learned one."""
    playbook = default_playbook.model_copy(update={"products": ["default", "other"]})
    fold = Fold(with_layer(playbook) if request.param == "layer" else playbook)
    if request.param == "matrices":
        fold.model.basis = None
        fold._kernel = Kernel(fold.model, fold.engagement)
    return fold


def person(rng: random.Random, fold: Fold, most: int) -> list[Step]:
    """Steps with every code and rule, minutes or months apart."""
    at, codes = BASE, 2 * fold.model.shared_offset
    sales = [fold.model.code[name] for name in SPECIAL]
    usual = [rng.randrange(codes) for _ in range(3)] + (sales if rng.random() < 0.5 else [])
    steps = []
    for _ in range(rng.choice([0, 1, rng.randrange(most), most])):
        at += rng.choice([0, US, 600 * US, 1800 * US, rng.randrange(DAY), rng.randrange(200 * DAY)])
        code = rng.choice([-1, *usual, *usual, rng.randrange(codes)])
        rule = rng.randrange(-1, len(fold.engagement.acts))
        steps.append(Step(at, code, rule))
    return steps


def folded(
    fold: Fold, records: np.ndarray, people: Sequence[Sequence[Step]], few: int
) -> np.ndarray:
    steps = Steps()
    for each in people:
        steps.extend(each)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "FEW", few)
        return fold._run(records, steps, [len(each) for each in people])


@pytest.mark.parametrize("seed", range(24))
def test_one_by_one_and_at_once_give_the_same_bits(seed: int, fold: Fold) -> None:
    """From the start and from any state, also where some states have many more steps than others
    (D1).
    """
    rng = random.Random(seed)
    people = [person(rng, fold, rng.choice([3, 40])) for _ in range(rng.choice([1, 2, 9, 30]))]
    cuts = [rng.randrange(len(each) + 1) for each in people]
    initial = np.frombuffer(fold.initial("default").record * len(people), fold._type)
    at_once = folded(fold, initial, people, AT_ONCE)
    assert folded(fold, initial, people, ONE_BY_ONE).tobytes() == at_once.tobytes()
    assert folded(fold, initial, people, kernels.FEW).tobytes() == at_once.tobytes()
    some = folded(
        fold, initial, [each[:cut] for each, cut in zip(people, cuts, strict=True)], AT_ONCE
    )
    rest = [each[cut:] for each, cut in zip(people, cuts, strict=True)]
    assert folded(fold, some, rest, ONE_BY_ONE).tobytes() == at_once.tobytes()
    assert np.isfinite(at_once["belief"]).all()


def test_what_is_observed_is_what_is_folded(fold: Fold) -> None:
    """An explanation sees each belief after silence and after the step."""
    rng, seen = random.Random(5), []
    steps = person(rng, fold, 60) or person(rng, fold, 60)
    initial = np.frombuffer(fold.initial("default").record, fold._type)
    arrays = StateArrays(initial.copy())
    fold._kernel.follow(arrays, steps, lambda *what: seen.append(what))
    assert arrays.records(fold._type).tobytes() == folded(fold, initial, [steps], AT_ONCE).tobytes()
    for step, silent, after in seen:
        number = steps.index(step) + 1
        so_far = folded(fold, initial, [steps[:number]], AT_ONCE)
        assert so_far["belief"][0].tobytes() == after[:, 0].tobytes()
        assert silent.shape == after.shape == (fold.model.k, 1)


def test_a_single_state_is_folded_without_arrays(
    fold: Fold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As are those of a batch that have many more steps than the others."""
    rng, folded_alone = random.Random(7), []
    alone = ScalarKernel.run

    def counting(self: ScalarKernel, states: object, i: int, steps: list[list[int]]) -> None:
        folded_alone.append((i, len(steps[0])))
        alone(self, states, i, steps)  # type: ignore[arg-type]

    monkeypatch.setattr(ScalarKernel, "run", counting)
    long = [Step(BASE + n * DAY, 0, -1) for n in range(30)]
    people = [[Step(BASE, rng.randrange(5), -1)] * 2 for _ in range(kernels.FEW)]
    initial = np.frombuffer(fold.initial("default").record * (len(people) + 1), fold._type)
    folded(fold, initial, [*people, long], kernels.FEW)
    assert folded_alone == [(0, 28)]
