"""What an evaluation says: measures with intervals, calibration, columns that were refused."""

import csv
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from services.ops.learning.evaluation import Evaluation
from services.ops.learning.predictions import Predictions
from services.scorer.learning.histories import B, F, I
from services.scorer.learning.leaks import Finding
from services.scorer.learning.measures import Bin, Measures, at_capacity, calibration, measures
from services.scorer.learning.moments import KINDS, LANDMARK
from services.shared.clock import EPOCH, rfc3339

RESAMPLES = 200  # of the leads, for intervals
INTERVAL = (0.025, 0.975)
MEASURED = ("auc", "log_loss", "brier", "ece", "precision_at_10")


def summary(
    found: Evaluation, progress: Callable[[str, float], None], capacity: int | None = None
) -> dict[str, Any]:
    """The result as JSON: of landmarks, or of rows where a table has no moments; `by_moment` has
    every kind. With several seeds measures are means over them.
    """
    headline = _only(found.predictions, LANDMARK)
    result: dict[str, Any] = _means(headline)
    result["calibration"] = [part._asdict() for part in bins(headline)]
    result["refused_columns"] = [_finding(one) for one in found.findings.refused]
    result["suspect_columns"] = [_finding(one) for one in found.findings.suspect]
    without = found.without_suspects or found.predictions
    result["without_suspects"] = _means(_only(without, LANDMARK))
    if found.frozen:
        result["frozen"] = _means(_only(found.frozen, LANDMARK))
    result["baselines"] = {
        name: found.baselines.get(name)
        for name in ("points", "points_half_life_7", "last_activity")
    }
    kinds = np.unique(found.predictions.kind) if found.has_moments else ()
    result["by_moment"] = {KINDS[kind]: _means(_only(found.predictions, kind)) for kind in kinds}
    result["intervals"] = _intervals(headline, progress)
    one = headline.only(_seeds(headline)[0])
    sales = at_capacity(one.outcome, one.p, one.at, one.lead, capacity)
    result["precision_at_capacity"] = sales._asdict()
    return result


def bins(predictions: Predictions) -> list[Bin]:
    """The ten bins of the headline's calibration."""
    return calibration(predictions.outcome, predictions.p)


def headline(found: Evaluation) -> Predictions:
    """The predictions that the headline is about."""
    return _only(found.predictions, LANDMARK)


def write_scored(path: Path, found: Evaluation) -> None:
    """One line for each prediction of the headline: lead, moment, fold, p, y."""
    kept = headline(found)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["lead", "moment", "fold", "p", "y"])
        for lead, at, fold, p, y in zip(
            kept.lead, kept.at, kept.fold, kept.p, kept.outcome, strict=True
        ):
            moment = "" if np.isnan(at) else rfc3339(EPOCH + timedelta(days=float(at)))
            writer.writerow([found.keys[lead], moment, fold, f"{p:.9f}", int(y)])


def _only(predictions: Predictions, kind: int) -> Predictions:
    return predictions.only(predictions.kind == kind)


def _means(predictions: Predictions) -> dict[str, Any]:
    """Measures, averaged over the seeds: each seed predicts every row once."""
    found = [
        measures(predictions.outcome[rows], predictions.p[rows]) for rows in _seeds(predictions)
    ]
    return {
        "n": found[0].n,
        "base": found[0].base,
        **{name: _mean([getattr(one, name) for one in found]) for name in MEASURED},
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _seeds(predictions: Predictions) -> list[I]:
    """Places of the predictions of each seed."""
    return [np.flatnonzero(predictions.seed == seed) for seed in np.unique(predictions.seed)]


def _intervals(
    predictions: Predictions, progress: Callable[[str, float], None]
) -> dict[str, list[float]]:
    """95 % intervals of the first seed's measures, by resampling leads."""
    rows = _seeds(predictions)[0]
    _, lead = np.unique(predictions.lead[rows], return_inverse=True)
    by_lead = np.argsort(lead, kind="stable")
    size = np.bincount(lead)
    begin = np.concatenate([[0], np.cumsum(size)[:-1]])
    rng = np.random.default_rng(0)
    found: list[Measures] = []
    for number in range(RESAMPLES):
        drawn = rng.integers(0, len(size), len(size))
        chosen = by_lead[_ranges(begin[drawn], size[drawn])]
        outcome = predictions.outcome[rows][chosen]
        found.append(measures(outcome, predictions.p[rows][chosen]))
        progress("intervals", (number + 1) / RESAMPLES)
    return {
        name: [round(float(x), 6) for x in np.quantile(_known(found, name), INTERVAL)]
        for name in MEASURED
        if len(_known(found, name))
    }


def _known(found: list[Measures], name: str) -> F:
    return np.array([v for one in found if (v := getattr(one, name)) is not None])


def _ranges(begin: I, size: I) -> I:
    """The numbers from each begin on, `size` of each, one after the other."""
    ends = np.cumsum(size)
    return np.arange(int(ends[-1])) + np.repeat(begin - (ends - size), size)


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "column": finding.column,
        "reason": finding.reason,
        "auc_alone": round(finding.auc_alone, 4),
    }


def gain(outcome: B, p: F) -> list[tuple[float, float]]:
    """Share of outcomes found (0–1) by the share of leads that are asked, the likeliest first."""
    order = np.argsort(-p, kind="stable")
    found = np.cumsum(outcome[order]) / max(int(outcome.sum()), 1)
    at = np.unique(np.linspace(0, len(p) - 1, 101).astype(int))
    return [(0.0, 0.0), *((float((i + 1) / len(p)), float(found[i])) for i in at)]
