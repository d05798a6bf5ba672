"""Calibration: beta, and on outcomes as they mature."""

import numpy as np
import pytest
from scipy.optimize import minimize

from services.scorer.learning.calibration import Recalibration, beta, followed
from services.scorer.learning.layer import sigmoid
from services.scorer.learning.measures import measures


def stream(n: int, *, drifts: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of a model, and outcomes, which are as it says or drift away from it."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(-1, 1.2, n)
    shift = np.where(np.arange(n) > n / 3, 1.5, 0) if drifts else 0.0
    return log_odds, rng.random(n) < sigmoid(log_odds * (0.5 if drifts else 1) + shift)


def test_beta_is_the_maximum_of_its_likelihood() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.02, 0.98, 500)
    outcome = rng.random(500) < p**2

    def loss(weights: np.ndarray) -> float:
        z = weights[0] * np.log(p) - weights[1] * np.log1p(-p) + weights[2]
        prior = 0.5 * 2.0 * ((weights - [1, 1, 0]) ** 2).sum()
        return float(np.logaddexp(0, z).sum() - (outcome * z).sum() + prior)

    found = minimize(loss, [1.0, 1.0, 0.0], tol=1e-10)
    np.testing.assert_allclose(beta(outcome, p, 2.0), found.x, atol=1e-3)


def test_beta_of_few_outcomes_stays_near_the_identity() -> None:
    np.testing.assert_allclose(
        beta(np.array([True, False]), np.array([0.2, 0.7]), 50), (1, 1, 0), atol=0.1
    )


def test_a_drifting_stream_is_followed_and_one_that_does_not_drift_loses_little() -> None:
    for drifts in (True, False):
        log_odds, outcome = stream(12_000, drifts=drifts)
        frozen = measures(outcome, sigmoid(log_odds))
        late = measures(outcome, followed(log_odds, outcome, 500))
        if drifts:
            assert late.ece < frozen.ece / 2
            assert late.log_loss < frozen.log_loss
        else:
            assert late.log_loss < frozen.log_loss + 0.002


@pytest.mark.parametrize("delay", [0, 1, 7])
def test_no_prediction_knows_an_outcome_before_its_time(delay: int) -> None:
    log_odds, outcome = stream(60, drifts=True)
    before, other = followed(log_odds, outcome, delay), outcome.copy()
    other[30] = ~other[30]
    after = followed(log_odds, other, delay)
    changed = np.flatnonzero(before != after)
    assert changed[0] == 30 + max(delay, 1)


def test_outcomes_as_predicted_leave_the_recalibration_where_it_was() -> None:
    log_odds, outcome = stream(4_000, drifts=False)
    calibration = Recalibration()
    for each, happened in zip(log_odds, outcome, strict=True):
        calibration.learn(float(each), bool(happened))
    assert calibration(0.0) == pytest.approx(0.5, abs=0.06)
    assert calibration.slope == pytest.approx(1.0, abs=0.1)
