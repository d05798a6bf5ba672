"""The lift by intention to treat, with an asymptotic confidence sequence.

ψ of a unit is (A/e − (1 − A)/(1 − e)) · (Y − m(X)): A says whether it is treated, e is the share of
treated units, Y its outcome, m a regression of the outcome on what was known at entry. Its mean is
the difference of the arms' outcomes, adjusted for chance differences at entry (AIPW with one
regression for both arms as control variate). Everything hangs on sums by arm, so the lift of every
day costs no more than that of the last.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F = NDArray[np.float64]
LEAST_OUTCOMES = 20  # in each arm; below, the sequence alone finds effects that are not there


class Sums(NamedTuple):
    """Sums over the units of one arm at each of T looks, all (..., T): their number, the value x at
    entry, the outcome y, and their products.
    """

    n: F
    x: F
    y: F
    xx: F
    xy: F
    yy: F

    def __add__(self, other: "Sums") -> "Sums":  # type: ignore[override]
        return Sums(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def residual(self, a: F, b: F) -> tuple[F, F]:
        """Sums of y − a − b·x and of its square."""
        first = self.y - a * self.n - b * self.x
        square = (
            self.yy - 2 * a * self.y - 2 * b * self.xy
            + a * a * self.n + 2 * a * b * self.x + b * b * self.xx
        )  # fmt: skip
        return first, np.maximum(square, 0.0)


class Plan(NamedTuple):
    """What is fixed before the first look: the error rate, and the number of units at which the
    sequence is tightest.
    """

    alpha: float = 0.05
    units: int = 10_000


class Lift(NamedTuple):
    """The lift at each look and half the width of its interval, both in outcomes a unit."""

    effect: F
    half_width: F


def lift(treated: Sums, held_out: Sums, plan: Plan) -> Lift:
    """The lift at each look; NaN where an arm is empty."""
    both = treated + held_out
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = both.xx - both.x**2 / both.n
        b = np.where(spread > 1e-12 * both.n, (both.xy - both.x * both.y / both.n) / spread, 0.0)
        a = (both.y - b * both.x) / both.n
        share = treated.n / both.n
        first_1, square_1 = treated.residual(a, b)
        first_0, square_0 = held_out.residual(a, b)
        effect = first_1 / treated.n - first_0 / held_out.n
        mean_square = (square_1 / share**2 + square_0 / (1 - share) ** 2) / both.n
        deviation = np.sqrt(np.maximum(mean_square - effect**2, 0.0))
        return Lift(effect, deviation * half_width(both.n, plan))


def half_width(n: F, plan: Plan) -> F:
    """Half the width of the asymptotic confidence sequence after n units, in standard deviations of
    ψ: √(2(n·rho² + 1)/(n²·rho²) · log(√(n·rho² + 1)/alpha)) (Waudby-Smith and others, 2024, with
    their choice of rho for the planned number of units).
    """
    doubled = 2 * np.log(1 / plan.alpha)
    rho2 = (doubled + np.log(doubled + 1)) / plan.units
    scaled = n * rho2 + 1
    return np.asarray(np.sqrt(2 * scaled / (n * n * rho2) * np.log(np.sqrt(scaled) / plan.alpha)))
