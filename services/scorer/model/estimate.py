"""The likelihood of the outcome: by the stage filter alone, or by the log-odds layer, attributes
and calibration of a learned model.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from services.scorer.model import activity as acts
from services.scorer.model.activity import Activity
from services.scorer.model.attributes import AttributeWeights
from services.scorer.model.score import LOGIT_LIMIT, FitScore, logit, probability
from services.scorer.model.stage_filter import NEVER, F, I, StageModel
from services.shared.playbook.learned import Calibration, Layer

CLIP = 1e-4  # of probabilities whose logarithm the layer reads


class Estimate:
    """The log-odds of one model; `has_layer` says whether it reads what a lead did."""

    def __init__(self, model: StageModel, fit: FitScore) -> None:
        self._model, self._fit = model, fit
        learned = self._learned = model.model.learned
        self.has_layer = learned is not None
        self.is_calibrated = learned is not None and learned.calibrated
        self._attributes = AttributeWeights(learned.attributes if learned else ())
        if learned:
            self._layer = LayerWeights(learned.layer, len(value_names(model)))

    def effect(self, traits: Mapping[str, Any]) -> float:
        """What is known of a person adds to the log-odds: fit, and learned attributes."""
        fit = float(self._fit.effect(self._fit.points(traits)))
        if self._learned is None:
            return fit
        return self._learned.fit * fit + self._attributes(traits)

    def attributes_effect(self, traits: Mapping[str, Any]) -> float:
        """What learned attributes alone add to the log-odds."""
        return self._attributes(traits)

    def attributes(self, traits: Mapping[str, Any]) -> list[tuple[str, float]]:
        """(words, log-odds) of each learned attribute."""
        return self._attributes.reasons(traits)

    def log_odds(self, belief: F, activity: Activity, until: I, effect: F) -> F:
        """Log-odds (L), within ±12, of a belief (K, L) and activity as of `until` (L, µs)."""
        if self._learned is None:
            return self._by_stages(belief, effect)
        return self.of_values(values(self._model, belief, activity, until), effect)

    def of_values(self, numbers: F, effect: F) -> F:
        """The same of `values` (P, L)."""
        if self._learned is None:
            k = self._model.k
            return self._by_stages(numbers[-2 * k - 2 : -k - 2], effect)
        return calibrated(self._learned.calibration, self._layer(numbers) + effect)

    def _by_stages(self, belief: F, effect: F) -> F:
        z = logit(self._model.outcome_probability(belief)) + effect
        return np.clip(z, -LOGIT_LIMIT, LOGIT_LIMIT)

    def likelihood(self, belief: F, activity: Activity, until: I, effect: F, ended: I) -> F:
        """The probability (L) of the outcome within the horizon; NaN once it has happened."""
        z = self.log_odds(belief, activity, until, effect)
        return np.where(ended > NEVER, np.nan, probability(z))


class LayerWeights:
    """The layer as arrays, a weight for each value. Raises ValueError where the numbers differ."""

    def __init__(self, layer: Layer, size: int) -> None:
        if len(layer.names) != size:
            raise ValueError(f"the layer has {len(layer.names)} weights for {size} values")
        column = {
            name: np.array(getattr(layer, name), float)[:, None]
            for name in ("weight", "mean", "scale", "low", "high")
        }
        self._intercept, self._mean = layer.intercept, column["mean"]
        self._low, self._high = column["low"], column["high"]
        self._slope: F = column["weight"] / column["scale"]

    def __call__(self, numbers: F) -> F:
        """Log-odds (L) of values (P, L), added up in their order."""
        kept = np.minimum(np.maximum(numbers, self._low), self._high)
        terms = (kept - self._mean) * self._slope
        total = np.full(terms.shape[1], self._intercept)
        for term in terms:
            total = total + term
        return total


def values(model: StageModel, belief: F, activity: Activity, until: I) -> F:
    """What the layer reads (P, L), in the order of `value_names`."""
    chances = [_logit(model.outcome_soon(belief)), _logit(model.outcome_probability(belief))]
    return np.concatenate([activity.values(until), belief, np.log(belief + CLIP), chances])


def value_names(model: StageModel) -> list[str]:
    """The names of those values."""
    return [
        *acts.names(model.marks),
        *model.stages, *(f"{stage}, log" for stage in model.stages),
        "outcome soon by the stages", "outcome by the stages",
    ]  # fmt: skip


def calibrated(by: Calibration, z: F) -> F:
    """Calibrated log-odds, within ±12."""
    kept = np.clip(z, -LOGIT_LIMIT, LOGIT_LIMIT)
    beta = by.b * np.logaddexp(0, kept) - by.a * np.logaddexp(0, -kept) + by.c
    return np.clip(by.intercept + by.slope * beta, -LOGIT_LIMIT, LOGIT_LIMIT)


def _logit(p: F) -> F:
    kept = np.clip(p, CLIP, 1 - CLIP)
    return np.log(kept) - np.log1p(-kept)
