"""Predictions of leads at moments, and what is made of all of them together."""

from dataclasses import dataclass, fields, replace

import numpy as np

from services.scorer.learning.calibration import followed
from services.scorer.learning.histories import B, F, I


@dataclass
class Predictions:
    """N predictions, each of a lead at a moment, made by the model of its fold; `kind` is the kind
    of moment, `at` is in days since 1970, NaN where there is no time. Each `seed` predicts all
    leads once.
    """

    lead: I
    at: F
    kind: I
    seed: I
    fold: I
    p: F
    outcome: B

    def only(self, chosen: B | I) -> "Predictions":
        """Those that are chosen, by place or as a mask."""
        return Predictions(*(getattr(self, each.name)[chosen] for each in fields(self)))


def joined(parts: list[Predictions]) -> Predictions:
    """One part after the other."""
    return Predictions(
        *(
            np.concatenate([getattr(part, each.name) for part in parts])
            for each in fields(Predictions)
        )
    )


def recalibrated(frozen: Predictions, delay: int) -> Predictions:
    """The same predictions in row order, recalibrated on outcomes that come `delay` rows late."""
    sure = np.clip(frozen.p, 1e-6, 1 - 1e-6)
    p = followed(np.log(sure) - np.log1p(-sure), frozen.outcome, delay)
    return replace(frozen, p=p)


def in_time(predictions: Predictions) -> Predictions:
    """The predictions in the order of their moments."""
    return predictions.only(np.argsort(predictions.at, kind="stable"))
