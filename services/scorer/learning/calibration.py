"""Calibration: of a finished model (beta), and followed on outcomes as they mature."""

from typing import NamedTuple

import numpy as np

from services.scorer.learning.histories import B, F
from services.scorer.learning.layer import sigmoid

CLIP = 1e-6
STEPS = 100
# (λ, H0) of the recalibrations that are mixed, from the most patient to the quickest
PACES = (
    (1.0, 1e9, 1e9), (0.9995, 50.0, 200.0), (0.999, 5.0, 20.0), (0.998, 5.0, 20.0),
    (0.995, 3.0, 12.0), (0.99, 2.0, 8.0),
)  # fmt: skip
MEMORY = 0.999  # of how well each has done
FORGET = 0.999  # λ: what is kept of earlier outcomes at each new one
PRIOR = (50.0, 200.0)  # H0: the certainty of intercept and slope before any outcome
LEAST_SLOPE = 0.2


class Beta(NamedTuple):
    """logit p' = a·ln p − b·ln(1 − p) + c (Kull, Silva Filho & Flach 2017); a, b ≥ 0."""

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    def __call__(self, p: F) -> F:
        """Calibrated probabilities."""
        sure = np.clip(p, CLIP, 1 - CLIP)
        return sigmoid(self.a * np.log(sure) - self.b * np.log1p(-sure) + self.c)


def beta(outcome: B, p: F, strength: float) -> Beta:
    """The beta calibration of predictions by maximum likelihood, shrunk to the identity by a
    gaussian prior of `strength` on each parameter. A slope that would be negative is 0.
    """
    sure = np.clip(p, CLIP, 1 - CLIP)
    design = np.column_stack([np.log(sure), -np.log1p(-sure), np.ones(len(p))])
    identity, y = np.array([1.0, 1.0, 0.0]), outcome.astype(np.float64)
    used = np.ones(3, np.bool_)
    weights = identity.copy()
    for _ in range(STEPS):
        q = sigmoid(design @ weights)
        gradient = design.T @ (y - q) - strength * (weights - identity)
        curvature = (design * (q * (1 - q))[:, None]).T @ design + strength * np.eye(3)
        step = np.zeros(3)
        step[used] = np.linalg.solve(curvature[np.ix_(used, used)], gradient[used])
        moved = weights + step
        below = used[:2] & (moved[:2] < 0)
        if below.any():
            used[:2] &= ~below
            weights = np.where(used, identity, 0.0)
            continue
        weights = moved
        if np.abs(step).max() < 1e-10:
            break
    return Beta(*map(float, weights))


class Recalibration:
    """logit p' = a + b·logit p, followed outcome by outcome by discounted Newton steps.

    H ← λH + (1−λ)H0 + q(1−q)xxᵀ, θ ← θ + H⁻¹[x(y−q) + (1−λ)H0(θ0−θ)] with θ0 = (0, 1), H0 =
    diag(50, 200) (`science.md`). Outcomes are to be given in the order in which they matured.
    """

    def __init__(self) -> None:
        self._prior = np.diag(PRIOR)
        self._certainty = self._prior.copy()
        self.intercept, self.slope = 0.0, 1.0

    def __call__(self, log_odds: float) -> float:
        """The recalibrated probability."""
        return float(sigmoid(np.array(self.intercept + self.slope * log_odds)))

    def learn(self, log_odds: float, outcome: bool) -> None:
        """One matured outcome of a prediction that was `log_odds` before recalibration."""
        x, theta = np.array([1.0, log_odds]), np.array([self.intercept, self.slope])
        q = self(log_odds)
        rest = (1 - FORGET) * self._prior
        self._certainty = FORGET * self._certainty + rest + q * (1 - q) * np.outer(x, x)
        push = x * (outcome - q) + rest @ (np.array([0.0, 1.0]) - theta)
        theta = theta + np.linalg.solve(self._certainty, push)
        self.intercept, self.slope = float(theta[0]), max(float(theta[1]), LEAST_SLOPE)


def followed(log_odds: F, outcome: B, delay: int) -> F:
    """Probabilities (N) of predictions in the order in which they were made, each recalibrated on
    the outcomes of those at least `delay` (and one) before it.

    A mixture of recalibrations that forget at several PACES, weighed by their likelihood of late,
    so that a stream that does not drift loses little and one that does is followed.
    """
    forget = np.array([pace for pace, *_ in PACES])
    priors = np.array([prior for _, *prior in PACES])
    pull = (1 - forget)[:, None] * priors
    intercept_h, mixed_h, slope_h = priors[:, 0].copy(), np.zeros(len(PACES)), priors[:, 1].copy()
    intercept, slope = np.zeros(len(PACES)), np.ones(len(PACES))
    success = np.zeros(len(PACES))
    each = np.empty((len(log_odds), len(PACES)))
    out = np.empty(len(log_odds))
    for row, own in enumerate(log_odds):
        known = row - max(delay, 1)
        if known >= 0:
            x, y = log_odds[known], float(outcome[known])
            success = MEMORY * success + np.log(each[known] if y else 1 - each[known])
            q = sigmoid(intercept + slope * x)
            curvature = q * (1 - q)
            intercept_h = forget * intercept_h + pull[:, 0] + curvature
            mixed_h = forget * mixed_h + curvature * x
            slope_h = forget * slope_h + pull[:, 1] + curvature * x * x
            push = y - q - pull[:, 0] * intercept
            turn = x * (y - q) + pull[:, 1] * (1 - slope)
            size = intercept_h * slope_h - mixed_h**2
            intercept = intercept + (slope_h * push - mixed_h * turn) / size
            slope = np.maximum(slope + (intercept_h * turn - mixed_h * push) / size, LEAST_SLOPE)
        each[row] = np.clip(sigmoid(intercept + slope * own), CLIP, 1 - CLIP)
        weight = np.exp(success - success.max())
        out[row] = each[row] @ weight / weight.sum()
    return out
