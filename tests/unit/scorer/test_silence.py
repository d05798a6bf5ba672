"""Under a learned layer silence and mails that nobody answers only lower the likelihood (S4), and
the lines of an explanation still add up to the number (S5).
"""

import numpy as np
import pytest

from services.scorer.learning import anchored, company, layer
from services.scorer.learning.histories import F
from services.scorer.model.explanation import explain
from services.scorer.model.fold import Fold
from services.scorer.model.score import logit
from services.scorer.model.state import Event
from services.scorer.model.window import known_of
from services.shared.contracts.event_types import TOUCH_SENT
from services.shared.contracts.events import Interaction, event_uid
from services.shared.playbook.sections import Playbook
from tests.support import simulated
from tests.support.histories import BASE, DAY

DAYS = np.array([0, 0.1, 0.5, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 300])
TOUCH = "00000001-0000-4000-8000-000000000000"
NOISE = 1e-9
HISTORIES = 120


def learned(playbook: Playbook, seed: int) -> Fold:
    """The fold of a model with a layer, learned from leads who act beside what the stages say."""
    rng = np.random.default_rng(seed)
    process = simulated.unlike(playbook.model, rng, spread=0.8)
    found = simulated.archive(process, 600, rng, title=True)
    model = company.learned(playbook, found, simulated.until(500))
    assert model.learned
    assert any(model.learned.layer.weight[:-1])
    return Fold(playbook.with_model(model))


@pytest.fixture(scope="module", params=[0, 3])
def fold(request: pytest.FixtureRequest, default_playbook: Playbook) -> Fold:
    return learned(default_playbook, request.param)


def event(number: int, type_: str, day: float, **more: object) -> Event:
    data = Interaction(id=f"e{number}", type=type_, email="ada@acme.example", **more)  # type: ignore[arg-type]
    return Event(BASE + int(day * DAY), event_uid("x", data.id), data)


def history(fold: Fold, rng: np.random.Generator) -> list[Event]:
    """One to twelve acts within 60 days, of every type that is an act."""
    types = sorted(
        type_ for type_, mark in fold.playbook.model.mark_of_type.items() if isinstance(mark, str)
    )
    days = np.sort(rng.uniform(0, 60, int(rng.integers(1, 13)))).tolist()
    traits = {"title": str(rng.choice(["cto", "buyer"]))}
    return [event(n, str(rng.choice(types)), day, traits=traits) for n, day in enumerate(days)]


def seen(fold: Fold, events: list[Event]) -> F | None:
    """Log-odds (D) so many DAYS after the last event; None where the outcome has happened."""
    [state] = fold.refold("default", [events])
    last = max(each.at for each in events if each.data.type != TOUCH_SENT)
    views = [fold.view([state], [last + int(day * DAY)], [50.0])[0] for day in DAYS]
    found = [view.likelihood for view in views if view.likelihood is not None]
    return logit(np.array(found)) if len(found) == len(DAYS) else None


def test_silence_and_mails_without_an_answer_never_raise_the_likelihood(fold: Fold) -> None:
    rng = np.random.default_rng(1)
    judged = 0
    for _ in range(HISTORIES):
        events = history(fold, rng)
        silent = seen(fold, events)
        if silent is None:
            continue
        sent = event(99, TOUCH_SENT, (events[-1].at + 1 - BASE) / DAY, touch_id=TOUCH,
                     properties={"clicks_tracked": True, "opens_tracked": True})  # fmt: skip
        mailed = seen(fold, [*events, sent])
        assert mailed is not None
        assert np.diff(silent).max() <= NOISE
        assert (mailed - silent).max() <= NOISE
        assert mailed[-3] < silent[-3]
        judged += 1
    assert judged > HISTORIES / 2


def test_the_lines_of_an_explanation_add_up_to_the_number(fold: Fold) -> None:
    rng = np.random.default_rng(2)
    for _ in range(HISTORIES // 4):
        known = known_of(history(fold, rng), fold.declared)
        now = known.events[-1].at + int(rng.integers(40 * DAY))
        ledger = explain(fold, "default", known, now)
        assert ledger.start + sum(line.delta for line in ledger.lines) == pytest.approx(
            ledger.total, abs=1e-9
        )
        if ledger.likelihood is None:
            continue
        fits, effects = fold.persons([known.profile.fit_traits()])
        [view] = fold.view(fold.refold("default", [known.events]), [now], fits, effects)
        assert ledger.likelihood == pytest.approx(view.likelihood, abs=1e-9)
        silences = [line.delta for line in ledger.lines if line.kind in ("silence", "no_click")]
        assert max(silences, default=0.0) <= NOISE


def test_stages_nearer_to_the_outcome_answer_mails_no_less(default_playbook: Playbook) -> None:
    """Whatever the mails of a small archive say."""
    model = default_playbook.model
    given = {
        name: each.model_copy(update={"p": [0.3, 0.1, 0.4, 0.2]})
        for name, each in model.given_send.items()
    }
    rising = anchored.answering(model.model_copy(update={"given_send": given}))
    for each in rising.given_send.values():
        assert each.p == pytest.approx([0.2, 0.2, 0.3, 0.3])


def test_weights_keep_the_signs_that_are_asked_for() -> None:
    """And are the best of those, by their gradient."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2_000, 4))
    y = (rng.random(2_000) < layer.sigmoid(values @ [1.0, -1.0, 0.5, 0.0])).astype(float)
    signs = np.array([1, 1, -1, 0])
    fitted = layer.fit(values, y, 1.0, signs=signs)
    assert fitted.weight[0] > 0.8
    assert fitted.weight[1] == fitted.weight[2] == 0
    standard = (values - fitted.mean) / fitted.scale
    gradient = (y - fitted.probability(values)) @ standard - fitted.weight
    assert np.abs(gradient[[0, 3]]).max() < 1e-4
    assert gradient[1] < 0
    assert gradient[2] > 0
