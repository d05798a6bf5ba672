"""The log-odds layer: logistic regression by Newton's method, shrunk towards given weights."""

from typing import NamedTuple

import numpy as np

from services.scorer.learning.histories import B, F, I

STEPS = 100
TOLERANCE = 1e-14  # of the objective, a row, by which the last step would still better it
LEAST_CURVATURE = 1e-12
HALVINGS = 40
SLOW = 0.1  # of that gain from one step to the next: the curvature is worked out again above it


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
    signs: I | None = None,
) -> Layer:
    """The layer that maximises the log likelihood less strength/2·|weight·scale − towards|², of
    values (N, P) that are standardised, but for the `unit` columns (P), whose scale is 1.

    `towards` are weights of scaled values, 0 where not given. A constant column has no weight.
    `start` is a layer of the same values from which the search begins. Weights with a sign (P) of 1
    are kept at 0 or above it, of −1 at 0 or below it, of 0 free; `towards` has the same signs.
    Raises ValueError where the outcome is the same everywhere.
    """
    return Design(values, outcome, towards, unit, signs).fit(strength, start)


class Design:
    """Values and outcomes that layers of several strengths are fitted to; arguments as `fit` has
    them.

    Newton's steps keep the curvature of earlier ones, also of another strength, while they gain;
    weights at their limit, which the gradient would push beyond it, stay there.
    """

    def __init__(
        self,
        values: F,
        outcome: F,
        towards: F | None = None,
        unit: B | None = None,
        signs: I | None = None,
    ) -> None:
        if not 0 < outcome.sum() < len(outcome):
            raise ValueError("every outcome is the same")
        self._mean, spread = values.mean(0), values.std(0)
        varies = spread > 1e-12 * (1 + np.abs(self._mean))
        scaled = spread if unit is None else np.where(unit, 1.0, spread)
        self._scale = np.where(varies, scaled, np.inf)
        self._rows = np.empty((len(values), values.shape[1] + 1))
        self._rows[:, 0] = 1
        np.subtract(values, self._mean, out=self._rows[:, 1:])
        self._rows[:, 1:] /= self._scale
        self._outcome = outcome
        self._target = np.zeros(values.shape[1] + 1)
        if towards is not None:
            self._target[1:] = towards
        self._signs = np.zeros(len(self._target), np.int64)
        if signs is not None:
            self._signs[1:] = signs
        self._curvature: F | None = None

    def fit(
        self, strength: float, start: Layer | None = None, tolerance: float = TOLERANCE
    ) -> Layer:
        """The layer of a strength; the search begins at `start` and ends where a step would gain
        less than `tolerance` a row.
        """
        penalty = np.full(len(self._target), strength)
        penalty[0] = 0
        weights = self._target.copy()
        weights[0] = np.log(self._outcome.mean() / (1 - self._outcome.mean()))
        if start is not None:
            weights = np.concatenate([[start.intercept], start.weight])
        log_odds = self._rows @ weights
        value = self._objective(log_odds, weights, penalty)
        shape, before = None, np.inf
        for _ in range(STEPS):
            p = sigmoid(log_odds)
            gradient = (self._outcome - p) @ self._rows - penalty * (weights - self._target)
            if shape is None:
                shape = self._shape(p, penalty, again=False)
            step = self._step(shape, gradient, weights)
            gain = float(gradient @ step)
            if gain > SLOW * before:
                shape = self._shape(p, penalty, again=True)
                step = self._step(shape, gradient, weights)
                gain = float(gradient @ step)
            if gain < tolerance * len(p):
                break
            before = gain
            weights, log_odds, value = self._moved(weights, log_odds, value, step, penalty)
        return Layer(float(weights[0]), weights[1:], self._mean, self._scale)

    def _shape(self, p: F, penalty: F, *, again: bool) -> F:
        """The penalised curvature at probabilities p, or where it is known and not `again`, at
        earlier ones: its inverse where no weight has a sign.
        """
        if again or self._curvature is None:
            weighed = self._rows * np.sqrt(np.maximum(p * (1 - p), LEAST_CURVATURE))[:, None]
            self._curvature = weighed.T @ weighed
        curvature = self._curvature.copy()
        curvature[np.diag_indices_from(curvature)] += penalty + 1e-9
        return curvature if self._signs.any() else np.linalg.inv(curvature)

    def _step(self, shape: F, gradient: F, weights: F) -> F:
        """Newton's step of the weights that may move."""
        if not self._signs.any():
            return shape @ gradient
        free = ~((self._signs != 0) & (weights == 0) & (gradient * self._signs <= 0))
        while True:
            step = np.zeros(len(weights))
            step[free] = np.linalg.solve(shape[np.ix_(free, free)], gradient[free])
            beyond = free & (self._signs != 0) & (weights == 0) & (step * self._signs < 0)
            if not beyond.any():
                return step
            free &= ~beyond

    def _moved(
        self, weights: F, log_odds: F, value: float, step: F, penalty: F
    ) -> tuple[F, F, float]:
        """Weights, log-odds and objective after the step, halved until it does no harm and cut off
        where a weight would change its sign.
        """
        for _ in range(HALVINGS):
            moved = weights + step
            moved[moved * self._signs < 0] = 0.0
            then = log_odds + self._rows @ (moved - weights)
            better = self._objective(then, moved, penalty)
            if better >= value - 1e-12 * abs(value):
                break
            step = step / 2
        return moved, then, better

    def _objective(self, log_odds: F, weights: F, penalty: F) -> float:
        likelihood = self._outcome @ log_odds - np.logaddexp(0, log_odds).sum()
        return float(likelihood - 0.5 * (penalty * (weights - self._target) ** 2).sum())


def sigmoid(log_odds: F) -> F:
    """1 / (1 + exp(−x)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * log_odds))
