"""The state as values of a layer under which silence, and mails that nobody answers, only lower the
likelihood (S4): what fades with them has weights of 0 or more, what grows weights of 0 or less.
"""

import numpy as np

from services.scorer.learning.histories import F, I
from services.scorer.model.estimate import value_names
from services.scorer.model.stage_filter import StageModel
from services.shared.playbook.learned import Layer

TIMES = 3  # since the last act, since the first, and how many acts there were


class Ladder:
    """Of the belief it has how much lies in the stages from one on, likelier to reach the outcome
    by each rung, and the logarithms of the lowest and the highest stage alone.
    """

    def __init__(self, model: StageModel) -> None:
        self._names = value_names(model)
        self._order = np.argsort(model.v, kind="stable")  # stages, the likeliest last
        marks, k = len(model.marks), model.k
        self._belief = 2 * marks + 2 * TIMES  # place of the first stage's
        self._log = self._belief + k
        self._soon = self._log + k
        signs = np.zeros(len(self._names), np.int64)
        signs[:marks] = 1  # counts, which halve
        signs[[marks, marks + 1, marks + TIMES, marks + TIMES + 1]] = -1  # times
        signs[self._belief : self._log] = 1
        signs[self._log + self._order[0]], signs[self._log + self._order[-1]] = -1, 1
        signs[self._soon :] = 1
        self.signs: I = signs
        middle = self._log + self._order[1:-1]
        self._unused = [self._belief + self._order[0], *middle]
        if (np.argsort(model.soon, kind="stable") != self._order).any():
            self._unused.append(self._soon)

    def values(self, state: F) -> F:
        """Values (N, P) for the layer of those of the state."""
        out = state.copy()
        belief = state[:, self._belief + self._order]
        above = np.cumsum(belief[:, ::-1], axis=1)[:, ::-1]
        out[:, self._belief + self._order] = above
        out[:, self._unused] = 0.0
        return out

    def layer(self, intercept: float, slope: F, mean: F, values: F) -> Layer:
        """The layer on the state itself, of slopes (P) and means (P) of values (N, P)."""
        rungs = self._belief + self._order
        slopes, means = slope.copy(), mean.copy()
        slopes[rungs] = np.cumsum(slope[rungs])
        intercept -= float((slope[rungs] * mean[rungs]).sum())
        means[rungs] = 0.0
        low, high = values.min(0), values.max(0)
        low[rungs], high[rungs] = 0.0, 1.0
        return Layer(
            intercept=intercept, names=self._names, weight=slopes.tolist(), mean=means.tolist(),
            scale=[1.0] * len(slopes), low=low.tolist(), high=high.tolist(),
        )  # fmt: skip
