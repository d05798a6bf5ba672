"""The stage filter's rates learned from episodes: EM from a model whose stages have names, which
priors keep what they are called.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression

from services.scorer.learning import arrivals
from services.scorer.learning.arrivals import Arrivals, Priors, Propagator
from services.scorer.learning.episodes import Episode
from services.scorer.learning.histories import Batch, F, History, I
from services.scorer.model.stage_filter import StageModel
from services.shared.clock import DAY
from services.shared.playbook.stage_model import Jump, Model

# what the given model counts for: days in each stage, leads at their start, acts of each mark and
# side, mails
PRIOR_DAYS, PRIOR_LEADS, PRIOR_JUMPS, PRIOR_MAILS = 1000.0, 20.0, 200.0, 100.0
CELLS = 200_000
STEPS = 60
SURE = 2.0
KAPPAS = (0.2, 0.3, 0.5, 0.7, 1.0)

Progress = Callable[[int, float], None]


class Learning(NamedTuple):
    """A process with named stages: its start, its priors, and the form of its jumps."""

    start: Arrivals
    priors: Priors
    targets: list[int]


def learning_of(model: Model) -> Learning:
    """What EM begins with, and is held to."""
    stages = StageModel(model)
    k = stages.k
    rate = np.array([model.rate[mark] for mark in stages.marks]).T
    jump = np.array([stages.jump_matrix(mark) for mark in stages.marks])
    drift = np.array(model.drift, float)
    np.fill_diagonal(drift, 0.0)
    hazard, answer = np.array(model.hazard), np.array([g.p for g in model.given_send.values()]).T
    answer = answer.reshape(k, -1) if answer.size else np.zeros((k, 0))
    process = Arrivals(stages.start, drift, rate, jump, hazard, answer)
    priors = Priors(
        events=rate * PRIOR_DAYS,
        days=np.full(k, PRIOR_DAYS),
        moves=drift * PRIOR_DAYS,
        jumps=jump * PRIOR_JUMPS / k,
        outcomes=hazard * PRIOR_DAYS,
        start=stages.start * PRIOR_LEADS,
        answered=answer * PRIOR_MAILS,
        unanswered=(1 - answer) * PRIOR_MAILS,
    )
    targets = [stages.stages.index(model.jump[mark].target) for mark in stages.marks]
    return Learning(process, priors, targets)


def batches(stages: StageModel, found: Sequence[Episode]) -> list[Batch]:
    """The episodes from their first act on, as marks of the process: what answers our mails comes
    after the marks.
    """
    number = _numbers(stages)
    own = [history for each in found if (history := _history(each, number, len(stages.marks)))]
    own.sort(key=lambda history: -len(history.times))
    out: list[Batch] = []
    while own:
        count = max(1, CELLS // len(own[0].times))
        out.append(Batch(own[:count]))
        del own[:count]
    return out


def _numbers(stages: StageModel) -> I:
    """The mark of each code, or −1."""
    kinds = list(stages.model.given_send)
    name = {mark: i for i, mark in enumerate(stages.marks)}
    for a, kind in enumerate(kinds):
        name[kind] = len(stages.marks) + 2 * a
        name[f"no_{kind}"] = len(stages.marks) + 2 * a + 1
    return np.array([name.get(signal, -1) for signal in stages.signals] * 2, np.int64)


def _history(episode: Episode, number: I, marks: int) -> History | None:
    kept = number[episode.code]
    acts = np.flatnonzero((kept >= 0) & (kept < marks))
    if not acts.size:
        return None
    first = int(acts[0])
    return History(episode.at[first:] / DAY, kept[first:], episode.end / DAY, episode.converted)


def fitted(
    model: Model, own: Sequence[Batch], *, steps: int = STEPS, progress: Progress | None = None
) -> Model:
    """The model with the rates that EM finds; its κ stays. Stages likelier to reach the outcome are
    no less likely to answer a mail, so that no answer never speaks for them (S4).
    """
    learning = learning_of(model)
    process = arrivals.fit(
        own, learning.start, learning.priors,
        shape=arrivals.towards(learning.targets), steps=steps, progress=progress,
    )  # fmt: skip
    return answering(with_process(model, process))


def answering(model: Model) -> Model:
    """The model with chances to answer that do not fall from stage to stage."""
    order = np.argsort(StageModel(model).v, kind="stable")
    given = {}
    for name, each in model.given_send.items():
        chances = np.array(each.p)
        chances[order] = isotonic_regression(chances[order]).x
        given[name] = each.model_copy(update={"p": chances.tolist()})
    return model.model_copy(update={"given_send": given})


def with_process(model: Model, process: Arrivals) -> Model:
    """The model under other rates."""
    marks = list(model.rate)
    jump = {}
    for m, mark in enumerate(marks):
        target = model.stages.index(model.jump[mark].target)
        sides = process.jump[m, :, target]
        up = float(sides[0]) if target > 0 else model.jump[mark].up
        down = float(sides[-1]) if target < len(sides) - 1 else model.jump[mark].down
        jump[mark] = Jump(target=model.jump[mark].target, up=up, down=down)
    given = {
        name: each.model_copy(update={"p": process.answer[:, a].tolist()})
        for a, (name, each) in enumerate(model.given_send.items())
    }
    return model.model_copy(
        update={
            "rate": {mark: process.rate[:, m].tolist() for m, mark in enumerate(marks)},
            "jump": jump,
            "drift": process.drift.tolist(),
            "hazard": process.hazard.tolist(),
            "start": process.start.tolist(),
            "given_send": given,
            "eigenbasis": None,
        }
    )


def choose_kappa(model: Model, found: Sequence[Batch]) -> float:
    """The κ under which what held-out leads do next is least surprising; the model's own unless
    that is worse by more than SURE standard errors.
    """
    process = learning_of(model).start
    losses = {kappa: surprise(process, kappa, found) for kappa in sorted({*KAPPAS, model.kappa})}
    best = min(losses, key=lambda kappa: float(losses[kappa].mean()))
    gap = losses[model.kappa] - losses[best]
    error = float(gap.std()) / np.sqrt(max(gap.size, 1))
    return best if float(gap.mean()) > SURE * error else model.kappa


def surprise(process: Arrivals, kappa: float, found: Sequence[Batch]) -> F:
    """Of each lead −log of the density of its acts, its silence and its outcome, each predicted by
    the process itself from a belief whose evidence is tempered by κ.
    """
    return np.concatenate([_surprise(process, kappa, batch) for batch in found])


def _surprise(process: Arrivals, kappa: float, batch: Batch) -> F:
    acts = np.concatenate([process.acts, process.answers])
    tempered = np.concatenate(
        [
            process.rate.T[:, :, None] ** kappa * process.jump,
            np.diagonal(process.answers, axis1=1, axis2=2)[:, :, None] ** kappa
            * np.eye(len(process.start)),
        ]
    )
    whole, slow = Propagator(process.quiet()), Propagator(process.quiet(kappa))
    loss = np.zeros(batch.size)
    belief = np.repeat(process.start[None], batch.size, axis=0)
    for j, n in enumerate(batch.alive):
        marks = batch.marks[j, :n]
        if j:
            ahead = whole.forward(belief[:n], batch.gaps[j, :n])
            loss[:n] -= np.log(np.einsum("nk,nkl->n", ahead, acts[marks]))
            moved = slow.forward(belief[:n], batch.gaps[j, :n])
        else:
            moved = belief[:n]
        state = np.einsum("nk,nkl->nl", moved, tempered[marks])
        belief[:n] = state / state.sum(1, keepdims=True)
    reached = whole.forward(belief, batch.tail)
    ending = np.where(batch.converted[:, None], process.hazard, 1.0)
    return loss - np.log((reached * ending).sum(1))
