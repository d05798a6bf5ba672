"""Learning as a whole: the model, its version, the evidence for it, and the verdict."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from services.scorer.learning import company, evidence
from services.scorer.learning.company import Progress
from services.scorer.learning.episodes import Episode
from services.scorer.model.fold import Fold
from services.scorer.model.stage_filter import StageModel
from services.shared.clock import from_us, rfc3339
from services.shared.playbook.learned import Training
from services.shared.playbook.sections import Playbook
from services.shared.playbook.stage_model import Model

DIGITS = 10  # that a model file keeps, so that the same archive gives the same file
FIGURES = 6


class Verdict(NamedTuple):
    """A learned model, None where there is nothing to learn from; whether it wins over the running
    one, why, and its gain `against` that.
    """

    model: Model | None
    wins: bool
    why: str
    against: dict[str, Any] = {}


def learn(
    playbook: Playbook,
    running: Fold,
    found: Sequence[Episode],
    until: int,
    source: str,
    *,
    events: int = 0,
    seed: int = 0,
    with_curve: bool = True,
    by_share: bool = False,
    progress: Progress = lambda *_: None,
) -> Verdict:
    """Learns from episodes as known at `until` (µs), beginning with the playbook's own model, and
    compares with the running one, or by `by_share` with the share of outcomes.
    """
    if why := evidence.nothing_to_learn(found, playbook.model.outcome):
        return Verdict(None, False, why)
    judged = evidence.judge(playbook, running, found, until, seed, progress, by_share=by_share)
    model = company.learned(playbook, found, until, seed, progress)
    seen = company.leaks_of(playbook, found, until)
    figures = judged.figures | {
        "refused_columns": [finding._asdict() for finding in seen.refused],
        "suspect_columns": [finding._asdict() for finding in seen.suspect],
    }
    if with_curve:
        figures["few_outcomes"] = evidence.curve(
            playbook, found, until, seed, progress, by_share=by_share
        )
    training = Training(
        source=source,
        began=rfc3339(from_us(min(int(each.at[0]) for each in found))),
        until=rfc3339(from_us(until)),
        leads=len({each.lead for each in found}),
        events=events or sum(len(each.at) for each in found),
        outcomes=sum(each.converted for each in found),
        rows=sum(part.get("n", 0) for part in [judged.figures.get("learned", {})]),
    )
    made = finished(model, training, figures)
    return Verdict(made, judged.wins, judged.why, rounded(judged.against, FIGURES))


def finished(model: Model, training: Training, figures: dict[str, Any]) -> Model:
    """The model with what it comes from, its numbers rounded, its eigenbasis, and its version: a
    hash of all of it.
    """
    assert model.learned is not None
    learned = model.learned.model_copy(
        update={"training": training, "evidence": rounded(figures, FIGURES)}
    )
    about = (
        f"Learned from {training.outcomes} outcomes of {training.leads} leads: {training.source}."
    )
    whole = model.model_copy(update={"learned": learned, "about": about, "eigenbasis": None})
    body = rounded(whole.model_dump(mode="json"), DIGITS)
    body["learned"]["evidence"] = learned.evidence
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]
    body["learned"]["version"] = digest
    made = Model.model_validate(body)
    return made.model_copy(update={"eigenbasis": StageModel(made).held_eigenbasis()})


def rounded(value: Any, digits: int) -> Any:
    """The same with so many significant digits of each number."""
    if isinstance(value, bool | int) or value is None:
        return value
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: rounded(each, digits) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each, digits) for each in value]
    return value
