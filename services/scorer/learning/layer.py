"""The log-odds layer: logistic regression by Newton's method, shrunk towards given weights."""

from typing import NamedTuple

import numpy as np

from services.scorer.learning.histories import B, F

STEPS = 50
TOLERANCE = 1e-7


class Layer(NamedTuple):
    """logit p = intercept + Σ weight·(x − mean)/scale; `mean`, `scale`, `weight` are (P)."""

    intercept: float
    weight: F
    mean: F
    scale: F

    def log_odds(self, values: F) -> F:
        """Log-odds (N) of values (N, P)."""
        return self.intercept + ((values - self.mean) / self.scale) @ self.weight

    def probability(self, values: F) -> F:
        """Probabilities (N)."""
        return sigmoid(self.log_odds(values))


def fit(
    values: F,
    outcome: F,
    strength: float,
    towards: F | None = None,
    unit: B | None = None,
    start: Layer | None = None,
) -> Layer:
    """The layer that maximises the log likelihood less strength/2·|weight·scale − towards|², of
    values (N, P) that are standardised, but for the `unit` columns (P), whose scale is 1.

    `towards` are weights of scaled values, 0 where not given. A constant column has no weight.
    `start` is a layer of the same values from which the search begins. Raises ValueError where the
    outcome is the same everywhere.
    """
    if not 0 < outcome.sum() < len(outcome):
        raise ValueError("every outcome is the same")
    mean, spread = values.mean(0), values.std(0)
    varies = spread > 1e-12 * (1 + np.abs(mean))
    scale = np.where(varies, spread if unit is None else np.where(unit, 1.0, spread), np.inf)
    design = np.column_stack([np.ones(len(values)), (values - mean) / scale])
    target = np.zeros(design.shape[1])
    if towards is not None:
        target[1:] = towards
    penalty = np.full(design.shape[1], strength)
    penalty[0] = 0
    weights = target.copy()
    weights[0] = np.log(outcome.mean() / (1 - outcome.mean()))
    if start is not None:
        weights = np.concatenate([[start.intercept], start.weight])
    value = _objective(design, outcome, weights, penalty, target)
    for _ in range(STEPS):
        p = sigmoid(design @ weights)
        gradient = design.T @ (outcome - p) - penalty * (weights - target)
        curvature = (design * (p * (1 - p))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curvature + 1e-9 * np.eye(len(weights)), gradient)
        better = _objective(design, outcome, weights + step, penalty, target)
        while better < value - 1e-12 * abs(value) and np.abs(step).max() > TOLERANCE:
            step /= 2
            better = _objective(design, outcome, weights + step, penalty, target)
        weights, value = weights + step, better
        if np.abs(step).max() < TOLERANCE:
            break
    return Layer(float(weights[0]), weights[1:], mean, scale)


def sigmoid(log_odds: F) -> F:
    """1 / (1 + exp(−x)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * log_odds))


def _objective(design: F, outcome: F, weights: F, penalty: F, target: F) -> float:
    log_odds = design @ weights
    likelihood = outcome @ log_odds - np.logaddexp(0, log_odds).sum()
    return float(likelihood - 0.5 * (penalty * (weights - target) ** 2).sum())
