"""The log-odds layer against scikit-learn, and how it chooses its shrinkage."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from services.scorer.learning import layer, learner
from services.scorer.learning.layer import Design


def drawn(n: int = 800, size: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.normal(2, 3, (n, size)) * np.array([1, 5, 0.2, 1, 1, 1])[:size]
    log_odds = values @ np.array([0.4, 0.1, -2, 0, 0, 0.2])[:size] - 1
    return values, (rng.random(n) < layer.sigmoid(log_odds)).astype(np.float64)


@pytest.mark.parametrize("strength", [0.1, 3.0, 300.0])
def test_the_layer_is_the_ridge_regression_of_scikit_learn(strength: float) -> None:
    values, outcome = drawn()
    scaled = (values - values.mean(0)) / values.std(0)
    other = LogisticRegression(C=1 / strength, tol=1e-12, max_iter=10_000).fit(scaled, outcome)
    own = layer.fit(values, outcome, strength)
    np.testing.assert_allclose(own.weight, other.coef_[0], atol=1e-5)
    np.testing.assert_allclose(
        own.probability(values), other.predict_proba(scaled)[:, 1], atol=1e-6
    )


def test_along_a_path_of_strengths_each_layer_is_as_if_fitted_alone() -> None:
    values, outcome = drawn()
    design, fitted = Design(values, outcome), None
    for strength in (1_000.0, 30.0, 1.0, 0.01):
        fitted = design.fit(strength, fitted)
        alone = layer.fit(values, outcome, strength)
        np.testing.assert_allclose(fitted.weight, alone.weight, atol=1e-6)


def test_strong_shrinkage_leaves_the_weights_that_were_given() -> None:
    values, outcome = drawn()
    towards = np.array([1.0, 0, 0, 0, 0, 0.5])
    fitted = layer.fit(values, outcome, 1e9, towards)
    np.testing.assert_allclose(fitted.weight, towards, atol=1e-5)


def test_separable_and_constant_columns_have_finite_weights() -> None:
    outcome = np.repeat([0.0, 1.0], 50)
    values = np.column_stack([outcome, np.ones(100), np.arange(100.0)])
    fitted = layer.fit(values, outcome, 1.0)
    assert np.isfinite(fitted.probability(values)).all()
    assert fitted.weight[1] == 0


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="every outcome is the same"):
        layer.fit(np.ones((3, 1)), np.ones(3), 1.0)


def test_values_that_say_nothing_leave_the_share_of_outcomes() -> None:
    rng = np.random.default_rng(1)
    outcome = rng.random(600) < 0.2
    weighed = learner.weigh(rng.normal(size=(600, 30)), outcome, np.arange(600))
    assert weighed.layer is None
    assert set(weighed.probability(np.zeros((2, 30)))) == {(outcome.sum() + 0.5) / 601}


@pytest.mark.parametrize("outcomes", [0, 3, 600])
def test_too_few_outcomes_leave_it_too(outcomes: int) -> None:
    outcome = np.arange(600) < outcomes
    values = outcome[:, None].astype(np.float64)
    assert learner.weigh(values, outcome, np.arange(600)).layer is None
