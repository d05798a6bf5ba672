"""Whether the running model is true: its predictions against what came of them, by month; what
matured outcomes make of its calibration; and what has changed in what comes in.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from services.scorer.learning import alike, company, evidence
from services.scorer.learning.calibration import Recalibration
from services.scorer.learning.company import Rows
from services.scorer.learning.episodes import Episode, traits_at
from services.scorer.learning.histories import F
from services.scorer.learning.moments import Moments
from services.scorer.model.fold import Fold
from services.scorer.model.score import probability
from services.shared.clock import DAY, from_us, rfc3339, to_us
from services.shared.playbook.stage_model import Model

RECENT_DAYS, BEFORE_DAYS = 28, 180
LEAST_OUTCOMES = 20
SURE = 3.0  # standard errors of an alarm on calibration
SHARE = 0.2  # of the observed share, by which predictions are off
LEAST_ACTS = 200  # of a mix of events
MIX_CHANGED = 0.25  # population stability index
SILENT_DAYS, SILENT_CHANCE = 2, 1e-4
MOST_FORECASTS, FORECASTS_A_HORIZON = 12, 3
MOVED = 0.05  # of intercept or slope, which is worth a version of its own

Days = Mapping[str, Mapping[int, int]]  # events by source and day since 1970


class Check(NamedTuple):
    """What a check found, as JSON, and the model recalibrated where outcomes move it."""

    figures: dict[str, Any]
    recalibrated: Model | None


def check(fold: Fold, found: Sequence[Episode], until: int, sources: Days) -> Check:
    """Judges the fold's model by what was known at `until` (µs)."""
    horizon = fold.playbook.model.horizon_days
    rows = company.rows_of(found, horizon, until, np.random.default_rng(0))
    z = company.predicted(fold, rows) if len(rows.when.lead) else np.zeros(0)
    later = _since_training(fold, rows)
    alarms = [*calibration_alarms(rows, z), *mix_alarms(fold, found, until),
              *silent_sources(sources, until)]  # fmt: skip
    moved = _recalibration(fold, rows, z, later)
    after = _recalibrated(fold.playbook.model, moved)
    figures: dict[str, Any] = {
        "as_of": rfc3339(from_us(until)),
        "matured": len(rows.when.lead),
        "outcomes": rows.outcomes,
        "all": evidence.figures(rows, z, evidence.capacity_of(fold.playbook)) if len(z) else None,
        "since_training": _figures(fold, rows, z, later) if later.any() else None,
        "months": _months(fold, rows, z),
        "forecasts": forecasts(fold, found, until),
        "alarms": alarms,
        "recalibration": moved,
        "alike": _alike(fold.playbook.model, after, rows, z),
    }
    return Check(figures, after)


def _alike(model: Model, after: Model | None, rows: Rows, z: F) -> dict[str, Any]:
    """What came of leads by their likelihood, under the version that is in use from then on."""
    if after and after.learned and model.learned:
        z = alike.recalibrated(z, model.learned.calibration, after.learned.calibration)
    bands = alike.counted(rows, z) if len(z) else []
    return {"version": (after or model).version, "bands": [list(band) for band in bands]}


def _figures(fold: Fold, rows: Rows, z: F, some: np.ndarray) -> dict[str, Any]:
    part = Rows(rows.found, rows.when.only(some), [])
    return evidence.figures(part, z[some], evidence.capacity_of(fold.playbook))


def _since_training(fold: Fold, rows: Rows) -> np.ndarray:
    """The moments after the end of what the model was learned from."""
    learned = fold.playbook.model.learned
    if learned is None or not learned.training.until:
        return np.zeros(len(rows.when.lead), np.bool_)
    until = to_us(datetime.fromisoformat(learned.training.until))
    return rows.when.at * DAY > until


def _months(fold: Fold, rows: Rows, z: F) -> list[dict[str, Any]]:
    """The figures of each month in which predictions were made."""
    if not len(z):
        return []
    months = np.array([rfc3339(from_us(int(at * DAY)))[:7] for at in rows.when.at])
    out = []
    for month in np.unique(months):
        mine = months == month
        figures = _figures(fold, rows, z, mine)
        out.append(
            {"month": str(month), "predicted": float(probability(z[mine]).mean())}
            | {key: figures[key] for key in ("n", "base", "auc", "log_loss", "ece")}
        )
    return out


def forecasts(fold: Fold, found: Sequence[Episode], until: int) -> list[dict[str, Any]]:
    """What the model would have forecast of all leads in reach, horizon by horizon back from the
    last that has ended, and how many outcomes came.
    """
    horizon = int(fold.playbook.model.horizon_days * DAY)
    first = min((int(each.at[0]) for each in found), default=until)
    out: list[dict[str, Any]] = []
    at = until - horizon
    while at > first and len(out) < MOST_FORECASTS:
        alive = [part for each in found if each.end > at and (part := each.until(at))]
        if alive:
            happened = sum(each.converted and at < each.end <= at + horizon for each in found
                           if int(each.at[0]) <= at)  # fmt: skip
            p = probability(company.predicted(fold, _now(alive, at)))
            spread = float((p * (1 - p)).sum())
            out.append(
                {"at": rfc3339(from_us(at)), "leads": len(alive), "expected": float(p.sum()),
                 "spread": spread, "happened": happened}
            )  # fmt: skip
        at -= horizon // FORECASTS_A_HORIZON
    return out


def _now(found: Sequence[Episode], at: int) -> Rows:
    """The moment `at` (µs) of each episode."""
    count = len(found)
    last = np.array([each.at[-1] for each in found], np.int64)
    events = np.array([len(each.at) for each in found], np.int64)
    when = Moments(
        np.arange(count), np.full(count, at / DAY), (at - last) / DAY, events,
        np.zeros(count, np.bool_), np.zeros(count, np.int64),
    )  # fmt: skip
    return Rows(found, when, traits_at(found, when))


def calibration_alarms(rows: Rows, z: F) -> list[dict[str, Any]]:
    """Whether the predictions that matured last are off on the whole."""
    if not len(z):
        return []
    last = rows.when.at >= rows.when.at.max() - RECENT_DAYS
    y, p = rows.when.outcome[last].astype(np.float64), probability(z[last])
    part = Rows(rows.found, rows.when.only(last), [])
    if part.outcomes < LEAST_OUTCOMES and p.sum() < LEAST_OUTCOMES:
        return []
    gap = p - y
    error = company.error_of_mean(gap, part.groups)
    off = abs(float(gap.mean()))
    if off <= SURE * error or off <= SHARE * max(float(y.mean()), float(p.mean())):
        return []
    what = f"predicted {p.mean():.1%} on average, and {y.mean():.1%} had the outcome"
    return [{"kind": "calibration", "what": what}]


def mix_alarms(fold: Fold, found: Sequence[Episode], until: int) -> list[dict[str, Any]]:
    """Whether people act otherwise than they did before."""
    marks = fold.model.marks
    recent, before = np.zeros(len(marks)), np.zeros(len(marks))
    for each in found:
        mark = fold.model.marks_of(each.code)
        age = (until - each.at) / DAY
        for counts, mine in ((recent, age <= RECENT_DAYS),
                             (before, (age > RECENT_DAYS) & (age <= BEFORE_DAYS))):  # fmt: skip
            np.add.at(counts, mark[mine & (mark >= 0)], 1)
    if min(recent.sum(), before.sum()) < LEAST_ACTS:
        return []
    now, then = ((each + 0.5) / (each + 0.5).sum() for each in (recent, before))
    index = float(((now - then) * np.log(now / then)).sum())
    if index <= MIX_CHANGED:
        return []
    most = int(np.argmax(np.abs(now - then)))
    what = f"{marks[most]} made {then[most]:.0%} of what people do, and makes {now[most]:.0%} of it"
    return [{"kind": "mix", "what": what, "index": index}]


def silent_sources(sources: Days, until: int) -> list[dict[str, Any]]:
    """Sources that said nothing for so long that chance does not explain it."""
    today = until // DAY
    out = []
    for source, days in sorted(sources.items()):
        last = max(days)
        silence = int(today - last)
        seen = [day for day in days if last - BEFORE_DAYS < day <= last]
        spoken = len(seen) / (last - min(seen) + 1)  # share of days on which it speaks
        chance = math.pow(max(1 - spoken, 0.0), silence) if silence else 1.0
        if silence > SILENT_DAYS and len(seen) >= SILENT_DAYS and chance < SILENT_CHANCE:
            out.append({"kind": "silent", "what": f"{source} has been silent for {silence} days"})
    return out


def count_source(sources: dict[str, Counter[int]], source: str, at: int) -> None:
    """Counts an event of a source at `at` (µs)."""
    sources.setdefault(source, Counter())[at // DAY] += 1


def _recalibration(fold: Fold, rows: Rows, z: F, later: np.ndarray) -> dict[str, Any] | None:
    """What outcomes that matured since the training make of intercept and slope, from the model
    without any: its rows in the order in which they matured, so it is the same whenever they came.
    """
    learned = fold.playbook.model.learned
    if learned is None or not later.any():
        return None
    by = learned.calibration
    frozen = (z - by.intercept) / by.slope if by.slope else z
    when = rows.when
    matured = when.at + fold.playbook.model.horizon_days
    ends = np.array([each.end for each in rows.found], np.float64)[when.lead] / DAY
    matured = np.where(when.outcome, ends, matured)
    order = np.lexsort((when.at, rows.groups, matured))
    follow = Recalibration()
    for place in order[later[order]].tolist():
        follow.learn(float(frozen[place]), bool(when.outcome[place]))
    return {
        "outcomes": int(when.outcome[later].sum()),
        "intercept": follow.intercept,
        "slope": follow.slope,
    }


def _recalibrated(model: Model, moved: dict[str, Any] | None) -> Model | None:
    """The model under another calibration; None where it is the same as far as it matters."""
    learned = model.learned
    if learned is None or moved is None or moved["outcomes"] < LEAST_OUTCOMES:
        return None
    now = learned.calibration
    change = abs(moved["intercept"] - now.intercept), abs(moved["slope"] - now.slope)
    if max(change) < MOVED:
        return None
    found = {name: float(f"{moved[name]:.6g}") for name in ("intercept", "slope")}
    base = learned.parent or learned.version
    version = f"{base}+{found['intercept']:g},{found['slope']:g}"
    update = {
        "calibration": now.model_copy(update=found), "parent": base, "version": version,
    }  # fmt: skip
    return model.model_copy(update={"learned": learned.model_copy(update=update)})
