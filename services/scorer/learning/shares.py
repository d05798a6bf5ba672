"""The evidence question: how much of what can be predicted comes from content consumption, and how
much from other signals. Every prediction is of leads whose account the model has not seen.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from services.scorer.learning import learner, measures
from services.scorer.learning.attributes import Column, Encoder
from services.scorer.learning.families import CONTENT, FAMILIES
from services.scorer.learning.histories import B, F, I
from services.scorer.learning.signals import AGE, Signals

PARTS = ("content", "other", "both")
FOLDS = 5
RESAMPLES = 400
INTERVAL = (0.025, 0.975)
MOST_ROWS = 20_000

Progress = Callable[[str, float], None]


def sampled(group: I, rng: np.random.Generator) -> I:
    """The rows of a part of the groups, where there are more than MOST_ROWS."""
    distinct, place = np.unique(group, return_inverse=True)
    if len(group) <= MOST_ROWS:
        return np.arange(len(group))
    return np.flatnonzero((rng.random(len(distinct)) < MOST_ROWS / len(group))[place])


def answer(signals: Signals, progress: Progress, seed: int = 0) -> dict[str, Any]:
    """Figures of `content`, `other` and `both`: nats a prediction gained over the lead's age
    alone, which all know, AUC and log loss, with 95 % intervals by resampling groups; what each
    adds to the other; the same of each family.
    """
    families = _families(signals)
    wanted = _wanted(families)
    y = signals.outcome.astype(np.float64)
    p = _predicted(signals, wanted, progress, seed)
    age = measures.losses(p["age"], y)
    draws = Draws(signals.group, np.random.default_rng(seed + 1))
    gains = {name: age - measures.losses(each, y) for name, each in p.items()}
    aucs = {name: auc_draws(signals.outcome, p[name], draws) for name in PARTS}
    found: dict[str, Any] = {
        name: _part(signals.outcome, p[name], gains[name], draws, aucs[name]) for name in PARTS
    }
    found["age_alone"] = {"auc": measures.auc(signals.outcome, p["age"])}
    for name, other in (("content_beyond_other", "other"), ("other_beyond_content", "content")):
        found[name] = _beyond(signals.outcome, p, gains, draws, aucs, other)
    found["content_share"] = _share(gains, draws)
    found["signals"] = [_family(name, wanted, gains, p, signals, draws) for name in families]
    progress("intervals", 1.0)
    return found


def _families(signals: Signals) -> list[str]:
    """The families that the table has, in their order."""
    known = {*signals.family, *(family for family, _ in signals.traits)}
    return [name for name in FAMILIES if name in known]


def _wanted(families: Sequence[str]) -> dict[str, frozenset[str]]:
    """The families that each model reads."""
    every = frozenset(families)
    content = every & frozenset(CONTENT)
    wanted = {"age": frozenset(), "content": content, "other": every - content, "both": every}
    for name in families:
        wanted[f"only {name}"] = frozenset({name})
        wanted[f"without {name}"] = every - {name}
    return wanted


def _predicted(
    signals: Signals, wanted: dict[str, frozenset[str]], progress: Progress, seed: int
) -> dict[str, F]:
    """Probabilities (N) of each model, by models of other groups."""
    distinct, place = np.unique(signals.group, return_inverse=True)
    fold = (np.random.default_rng(seed).permutation(len(distinct)) % FOLDS)[place]
    p = {name: np.empty(len(signals.outcome)) for name in wanted}
    done: dict[frozenset[str], F] = {}
    for number in range(FOLDS):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        done.clear()
        for step, (name, families) in enumerate(wanted.items()):
            if families not in done:
                done[families] = _of_fold(signals, families, train, test)
            p[name][test] = done[families]
            progress("folds", (number + (step + 1) / len(wanted)) / FOLDS)
    return p


def _of_fold(signals: Signals, families: frozenset[str], train: I, test: I) -> F:
    """Probabilities of the rows `test` by a model of the rows `train`."""
    mine = np.array([name in families or name == AGE for name in signals.family], np.bool_)
    columns: list[Column] = [each for name, each in signals.traits if name in families]
    encoder = Encoder(columns, train)
    parts = [
        np.column_stack([signals.values[rows][:, mine], encoder(columns, rows).values])
        for rows in (train, test)
    ]
    unit = np.arange(parts[0].shape[1]) >= mine.sum()
    weighed = learner.weigh(
        parts[0], signals.outcome[train], signals.group[train], unit=unit, errors=0.0
    )
    return weighed.probability(parts[1])


class Draws:
    """How often each group is drawn in each of RESAMPLES draws of as many groups."""

    def __init__(self, group: I, rng: np.random.Generator) -> None:
        distinct, self.place = np.unique(group, return_inverse=True)
        self.size = np.bincount(self.place)
        count = len(distinct)
        self.times = np.array([
            np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(RESAMPLES)
        ], np.float64)  # fmt: skip

    def means(self, values: F) -> F:
        """The mean of values (N) in each draw."""
        sums = np.bincount(self.place, weights=values, minlength=len(self.size))
        return np.asarray((self.times @ sums) / (self.times @ self.size))


def auc_draws(outcome: B, p: F, draws: Draws) -> F:
    """The AUC in each draw, each row weighed by how often its group was drawn."""
    order = np.argsort(p, kind="stable")
    ranked, y, place = p[order], outcome[order], draws.place[order]
    ends = np.flatnonzero(np.append(np.diff(ranked) > 0, True))
    out = np.empty(len(draws.times))
    for number, times in enumerate(draws.times):
        weight = times[place]
        with_, without = (np.add.reduceat(weight * (y == sign), np.r_[0, ends[:-1] + 1])
                          for sign in (True, False))  # fmt: skip
        below = np.cumsum(without) - without
        pairs = weight[y].sum() * weight[~y].sum()
        out[number] = (with_ * (below + without / 2)).sum() / pairs if pairs else np.nan
    return out


def _part(outcome: B, p: F, gain: F, draws: Draws, auc: F) -> dict[str, Any]:
    return {
        "nats": float(gain.mean()),
        "auc": measures.auc(outcome, p),
        "log_loss": measures.measures(outcome, p).log_loss,
        "intervals": {"nats": _interval(draws.means(gain)), "auc": _interval(auc)},
    }


def _beyond(
    outcome: B, p: dict[str, F], gains: dict[str, F], draws: Draws, aucs: dict[str, F], other: str
) -> dict[str, Any]:
    """What both know that `other` alone does not."""
    gain = gains["both"] - gains[other]
    whole, part = (measures.auc(outcome, p[name]) or 0.5 for name in ("both", other))
    return {
        "nats": float(gain.mean()),
        "auc": whole - part,
        "intervals": {
            "nats": _interval(draws.means(gain)),
            "auc": _interval(aucs["both"] - aucs[other]),
        },
    }


def _share(gains: dict[str, F], draws: Draws) -> dict[str, Any] | None:
    """The share of the nats that is content's: the mean of what it knows alone and of what it adds
    to the rest (Shapley's value of two). None where it is not sure that anything is known.
    """
    total = draws.means(gains["both"])
    if np.quantile(total, INTERVAL[0]) <= 0:
        return None
    own = (gains["content"] + gains["both"] - gains["other"]) / 2
    return {
        "value": float(own.mean() / gains["both"].mean()),
        "interval": _interval(draws.means(own) / total),
    }


def _family(
    name: str,
    wanted: dict[str, frozenset[str]],
    gains: dict[str, F],
    p: dict[str, F],
    signals: Signals,
    draws: Draws,
) -> dict[str, Any]:
    """What one family knows alone, and what the others do not know without it."""
    alone, beyond = gains[f"only {name}"], gains["both"] - gains[f"without {name}"]
    if not wanted[f"without {name}"]:
        beyond = alone
    return {
        "signal": name,
        "part": "content" if name in CONTENT else "other",
        "nats": float(alone.mean()),
        "auc": measures.auc(signals.outcome, p[f"only {name}"]),
        "beyond": float(beyond.mean()),
        "intervals": {
            "nats": _interval(draws.means(alone)), "beyond": _interval(draws.means(beyond)),
        },
    }  # fmt: skip


def _interval(draws: F) -> list[float]:
    known = draws[~np.isnan(draws)]
    return [float(each) for each in np.quantile(known, INTERVAL)] if len(known) else []


def in_words(found: dict[str, Any]) -> str:
    """The answer in a sentence."""
    both, share = found["both"], found["content_share"]
    if share is None:
        return (
            "Neither content nor other signals predict the outcome surely: "
            f"both together gain {both['nats']:.4f} nats a prediction (95 % interval "
            f"{_between(both['intervals']['nats'])})."
        )
    content, other = (found[f"{name}"]["auc"] for name in ("content", "other"))
    value, low, high = (min(max(each, 0.0), 1.0) for each in (share["value"], *share["interval"]))
    return (
        f"Content consumption alone has an AUC of {content:.3f}, the other signals {other:.3f}, "
        f"both {both['auc']:.3f}; {value:.0%} of what both know is content's (95 % interval "
        f"{low:.0%} to {high:.0%})."
    )


def _between(interval: Sequence[float]) -> str:
    return f"{interval[0]:.4f} to {interval[1]:.4f}"
