"""Whether a learned model may replace the running one: a model learned from the earlier part of an
archive is compared with it on the later part.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from services.scorer.learning import company, measures
from services.scorer.learning.company import Progress, Rows
from services.scorer.learning.episodes import Episode
from services.scorer.learning.histories import B, F
from services.scorer.learning.moments import KINDS
from services.scorer.model.fold import Fold
from services.scorer.model.score import probability
from services.shared.clock import DAY, from_us, rfc3339
from services.shared.playbook.sections import Playbook

LEAST_LEADS = 30
LEAST_LATER = 20  # outcomes in the later part
LEAST_DAYS = 28.0  # beyond two horizons
EARLIER = 0.6  # of what is beyond two horizons
Z = 1.96
SIZES, RESAMPLES = (0, 30, 300, 3_000), 20
WITHOUT_OUTCOMES = 200  # leads, where the curve has none with the outcome
HELD_OUT, MOST_HELD = 0.2, 5_000  # of the leads, and their rows
LEAST_HELD, ROOM = 0.03, 1.03  # where nearly all are learned from; outcomes beside those of a size


class Judgement(NamedTuple):
    """Whether the learned model wins over the running one, why in one sentence, its figures beside
    the cold start's, and its gain `against` the running one.
    """

    wins: bool
    why: str
    figures: dict[str, Any] = {}
    against: dict[str, Any] = {}


def nothing_to_learn(found: Sequence[Episode], outcome: str) -> str:
    """Why a model cannot be learned at all; '' where one can."""
    leads = len({each.lead for each in found})
    if leads < LEAST_LEADS:
        return (
            f"{leads} leads have done anything that a model learns from, and at least "
            f"{LEAST_LEADS} are needed"
        )
    if not any(each.converted for each in found):
        return f"no lead has reached the outcome ({outcome}, or a purchase): nothing to learn from"
    return ""


def judge(
    playbook: Playbook,
    running: Fold,
    found: Sequence[Episode],
    until: int,
    seed: int,
    progress: Progress,
    *,
    by_share: bool = False,
) -> Judgement:
    """Learns from what was known at a moment within the archive, and compares with the running
    model on the moments after it, whose horizons ended by `until` (µs); `by_share` with the share
    of outcomes in the earlier part, where the model that it begins with says nothing of its own.
    """
    horizon = int(playbook.model.horizon_days * DAY)
    first = min(each.at[0] for each in found)
    beyond = until - 2 * horizon - int(first)
    if beyond < LEAST_DAYS * DAY:
        needed = 2 * playbook.model.horizon_days + LEAST_DAYS
        return Judgement(
            False,
            f"the archive spans {(until - int(first)) / DAY:.0f} days, and {needed:.0f} are needed "
            "to learn from the earlier part and to judge by the later one",
        )
    cut = int(first) + horizon + int(EARLIER * beyond)
    earlier = [part for each in found if (part := each.until(cut))]
    rng = np.random.default_rng(seed + 1)
    later = company.rows_of(found, playbook.model.horizon_days, until, rng, since=cut)
    if later.outcomes < LEAST_LATER or later.when.outcome.all():
        return Judgement(
            False,
            f"{later.outcomes} outcomes follow moments after {_day(cut)}, and at least "
            f"{LEAST_LATER} are needed to judge by",
        )

    def predicted(without: Collection[str] = ()) -> F:
        model = company.learned(playbook, earlier, cut, seed, progress, without)
        return company.predicted(Fold(playbook.with_model(model)), later)

    learned, suspect = predicted(), company.leaks_of(playbook, earlier, cut).suspect
    if by_share:
        cold = other = _share(
            company.rows_of(earlier, playbook.model.horizon_days, cut, rng), len(learned)
        )
    else:
        cold, other = (company.predicted(fold, later) for fold in (Fold(playbook), running))
    against = _gain(later, learned, other)
    wins, why = against["low"] > 0, in_words(against)
    figures_ = {
        "from": _day(cut),
        "until": _day(until),
        "outcomes": later.outcomes,
        "gain": _gain(later, learned, cold),
        "learned": figures(later, learned, capacity_of(playbook)),
        "share" if by_share else "cold_start": figures(later, cold, capacity_of(playbook)),
    }
    if suspect:
        names = {finding.column for finding in suspect}
        figures_["without_suspects"] = figures(later, predicted(names), capacity_of(playbook))
    return Judgement(wins, why, figures_, against)


def _share(rows: Rows, size: int) -> F:
    """Log-odds (`size`) of the smoothed share of outcomes among rows."""
    outcome = rows.when.outcome
    share = (outcome.sum() + 0.5) / (len(outcome) + 1)
    return np.full(size, np.log(share / (1 - share)))


def in_words(gain: dict[str, Any]) -> str:
    """Whether one model is better than another by its gain on later data, in a sentence."""
    how = "it is better" if gain["low"] > 0 else "it is not surely better"
    between = f"(95 % interval {gain['low']:.4f} to {gain['high']:.4f})"
    return f"on {gain['n']} later predictions {how}: {gain['mean']:.4f} nats each {between}"


def _day(instant: int) -> str:
    return rfc3339(from_us(instant))[:10]


def _gain(rows: Rows, learned: F, other: F) -> dict[str, Any]:
    """How much less the learned model is surprised than another, in nats a prediction."""
    y = rows.when.outcome.astype(np.float64)
    gains = company.loss(other, y) - company.loss(learned, y)
    mean, error = float(gains.mean()), company.error_of_mean(gains, rows.groups)
    return {"n": len(y), "mean": mean, "low": mean - Z * error, "high": mean + Z * error}


def capacity_of(playbook: Playbook) -> int | None:
    """How many leads sales can work a week; None where the playbook does not say."""
    return playbook.handoff.capacity_per_week or None


def figures(rows: Rows, log_odds: F, capacity: int | None) -> dict[str, Any]:
    """Measures of predictions, of all and by the kind of moment, their calibration, and precision
    at sales' capacity a week.
    """
    y, p = rows.when.outcome, probability(log_odds)
    kinds = {
        name: _measured(y[mine], p[mine])
        for kind, name in enumerate(KINDS)
        if (mine := rows.when.kind == kind).any()
    }
    bins = [bin_._asdict() for bin_ in measures.calibration(y, p)]
    at_capacity = measures.at_capacity(y, p, rows.when.at, rows.groups, capacity)
    return _measured(y, p) | {
        "precision_at_capacity": at_capacity._asdict(), "by_moment": kinds, "calibration": bins,
    }  # fmt: skip


def _measured(y: B, p: F) -> dict[str, Any]:
    return measures.measures(y, p)._asdict()


def curve(
    playbook: Playbook,
    found: Sequence[Episode],
    until: int,
    seed: int,
    progress: Progress,
    *,
    by_share: bool = False,
) -> list[dict[str, Any]]:
    """How much worse than the cold start, or the share of the same outcomes, a model is that has
    learned from few: nats on leads that are held out, the mean of RESAMPLES.
    """
    rng = np.random.default_rng(seed + 2)
    by_lead: dict[int, list[Episode]] = {}
    for each in found:
        by_lead.setdefault(each.lead, []).append(each)
    order = rng.permutation(np.array(sorted(by_lead)))
    total = sum(each.converted for each in found)
    points: list[dict[str, Any]] = []
    for number, size in enumerate(SIZES):
        share = min(HELD_OUT, 1 - ROOM * size / max(total, 1))
        count = round(share * len(order))
        if share < LEAST_HELD or not count:
            break
        judged = _Curve(playbook, [by_lead[lead] for lead in order[:count].tolist()], until, rng)
        rest = {lead: by_lead[lead] for lead in order[count:].tolist()}
        losses = judged.losses(rest, size, seed, _part(progress, number), by_share=by_share)
        if losses:
            excess = np.array(losses)
            points.append(
                {"outcomes": size, "excess": float(excess.mean()), "worst": float(excess.max()),
                 "resamples": len(losses)}
            )  # fmt: skip
    progress("few outcomes", 1.0)
    return points


def _part(progress: Progress, number: int) -> Callable[[float], None]:
    """The progress of one of the SIZES."""
    return lambda share: progress("few outcomes", (number + share) / len(SIZES))


class _Curve:
    """Leads that are held out, by which models of others are judged."""

    def __init__(
        self, playbook: Playbook, held: Sequence[list[Episode]], until: int,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self._playbook, self._until, self._rng = playbook, until, rng
        unseen = [episode for own in held for episode in own]
        rows = company.rows_of(unseen, playbook.model.horizon_days, until, rng)
        some = np.sort(rng.permutation(len(rows.when.lead))[:MOST_HELD])
        self._rows = Rows(rows.found, rows.when.only(some), [rows.traits[i] for i in some.tolist()])
        self._y = self._rows.when.outcome.astype(np.float64)

    def losses(
        self,
        by_lead: dict[int, list[Episode]],
        size: int,
        seed: int,
        progress: Callable[[float], None],
        *,
        by_share: bool,
    ) -> list[float]:
        """How much worse than what they are held against models of `size` outcomes are (nats)."""
        if not self._rows.outcomes:
            return []
        cold = self._loss(company.predicted(Fold(self._playbook), self._rows))
        out: list[float] = []
        for number in range(RESAMPLES):
            sample = _sample(by_lead, size, self._rng)
            if sample is None:
                break
            model = company.learned(self._playbook, sample, self._until, seed)
            z = company.predicted(Fold(self._playbook.with_model(model)), self._rows)
            if by_share:
                horizon = self._playbook.model.horizon_days
                few = company.rows_of(sample, horizon, self._until, self._rng)
                cold = self._loss(_share(few, len(self._y)))
            out.append(self._loss(z) - cold)
            progress((number + 1) / RESAMPLES)
        return out

    def _loss(self, log_odds: F) -> float:
        return float(company.loss(log_odds, self._y).mean())


def _sample(
    by_lead: dict[int, list[Episode]], outcomes: int, rng: np.random.Generator
) -> list[Episode] | None:
    """Leads in a random order until so many reached the outcome; of none, leads without it. None
    where there are too few.
    """
    order = rng.permutation(np.array(sorted(by_lead)))
    sample: list[Episode] = []
    count = 0
    for number, lead in enumerate(order.tolist()):
        own = by_lead[lead]
        converted = sum(each.converted for each in own)
        if not outcomes and converted:
            continue
        sample += own
        count += converted
        if outcomes and count >= outcomes:
            return sample
        if not outcomes and number >= WITHOUT_OUTCOMES:
            break
    return sample if not outcomes and sample else None
