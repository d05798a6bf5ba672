"""Learning from a table of leads: what attributes say of the outcome, as a model that a playbook
may hold. Its stages are those of the playbook, for such a table has no times.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from services.ingest.importing.mapping_file import MappingFile
from services.ops.learning import curve, tables
from services.ops.learning.evaluation import all_refused
from services.ops.learning.mapping import TableMapping
from services.ops.learning.rows import Progress
from services.ops.learning.tables import LeadTable
from services.scorer.learning import company, evidence, leaks, learner, measures, persons
from services.scorer.learning.attributes import NOTHING, Column
from services.scorer.learning.episodes import Traits
from services.scorer.learning.histories import B, F, I
from services.scorer.learning.learning import FIGURES, Verdict, finished, rounded
from services.scorer.learning.persons import Columns
from services.scorer.model.fold import Fold
from services.shared.clock import EPOCH, rfc3339
from services.shared.errors import Reject
from services.shared.playbook.learned import Learned, Training
from services.shared.playbook.sections import Playbook

FOLDS = 5


class Design(NamedTuple):
    """Fit's effect and attributes as columns (N, P), the weights of fit alone, and outcomes."""

    values: F
    towards: F
    outcome: B
    groups: I
    chosen: Columns

    def weigh(self, rows: I) -> learner.Weighed:
        """The layer of some rows."""
        return learner.weigh(
            self.values[rows], self.outcome[rows], self.groups[rows], self.towards,
            np.ones(len(self.towards), np.bool_),
        )  # fmt: skip


def learn_from_leads(
    path: Path,
    written: MappingFile,
    playbook: Playbook,
    progress: Progress,
    *,
    seed: int,
    with_curve: bool,
) -> Verdict:
    """Learns attributes from the table, and compares with the share of outcomes by leads that are
    held out. Raises Reject for a table that nothing can be learned from.
    """
    mapping = written.mapping
    assert isinstance(mapping, TableMapping)
    table = tables.read(path, written, progress)
    assert isinstance(table, LeadTable)
    findings = leaks.find(table.columns, table.outcome, frozenset(mapping.known_at_capture))
    refused = {finding.column for finding in findings.refused}
    kept = [each for each in table.columns if each.name not in refused]
    if not kept:
        raise all_refused()
    made = _design(table, kept, playbook)
    figures, against = _judged(made, np.random.default_rng(seed), progress)
    figures["refused_columns"] = [finding._asdict() for finding in findings.refused]
    if with_curve:
        figures["few_outcomes"] = [
            {
                "outcomes": point.outcomes,
                "excess": point.log_loss - point.base_log_loss,
                "resamples": point.resamples,
            }
            for point in curve.curve(table, mapping, progress)
        ]
    model = playbook.model.model_copy(update={"learned": _learned(made, playbook)})
    done = finished(model, _training(path, table), figures)
    return Verdict(done, against["low"] > 0, _why(against), rounded(against, FIGURES))


def _design(table: LeadTable, kept: list[Column], playbook: Playbook) -> Design:
    traits = _traits(kept, len(table.outcome))
    chosen = persons.columns(traits)
    if not chosen.attributes:
        raise Reject(
            "no column says the same of enough leads, and something else of others",
            where="traits",
            remedy=f"bring columns of which at least {persons.LEAST_PERSONS} leads share a value; "
            "names, addresses and the like are never learned from",
        )
    fit = company.effects(Fold(playbook), traits)
    values = np.column_stack([fit, chosen.values(traits)])
    towards = np.zeros(values.shape[1])
    towards[0] = 1.0
    _, groups = np.unique(np.array(table.keys, dtype=str), return_inverse=True)
    return Design(values, towards, table.outcome, groups, chosen)


def _traits(columns: list[Column], size: int) -> list[Traits]:
    """What each row says, as the scorer would know it."""
    out: list[dict[str, Any]] = [{} for _ in range(size)]
    for each in columns:
        for row in np.flatnonzero(each.codes != NOTHING).tolist():
            out[row][each.name] = each.words[each.codes[row]]
    return list(out)


def _judged(
    made: Design, rng: np.random.Generator, progress: Progress
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures of predictions of leads that were held out, and the gain over the share."""
    distinct, place = np.unique(made.groups, return_inverse=True)
    fold = (rng.permutation(len(distinct)) % FOLDS)[place]
    p, share = np.empty(len(fold)), np.empty(len(fold))
    for number in range(FOLDS):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        weighed = made.weigh(train)
        p[test], share[test] = weighed.probability(made.values[test]), weighed.base
        progress("folds", (number + 1) / FOLDS)
    y = made.outcome.astype(np.float64)
    gains = measures.losses(share, y) - measures.losses(p, y)
    mean, error = float(gains.mean()), company.error_of_mean(gains, made.groups)
    gain = {"n": len(y), "mean": mean, "low": mean - evidence.Z * error,
            "high": mean + evidence.Z * error}  # fmt: skip
    figures = {"gain": gain} | {
        name: measures.measures(made.outcome, each)._asdict()
        | {"calibration": [part._asdict() for part in measures.calibration(made.outcome, each)]}
        for name, each in (("learned", p), ("share", share))
    }
    return figures, gain


def _learned(made: Design, playbook: Playbook) -> Learned:
    """Attributes whose mean effect over the table is 0, beside the playbook's stages."""
    plain = company.plain(playbook.model)
    weighed = made.weigh(np.arange(len(made.outcome)))
    layer = weighed.layer
    if layer is None:
        return plain
    used = np.isfinite(layer.scale)
    weight = np.where(used, layer.weight, made.towards)
    shift = float((weight[1:] * layer.mean[1:]).sum())
    return plain.model_copy(
        update={
            "layer": plain.layer.model_copy(update={"intercept": -shift}),
            "fit": float(weight[0]),
            "attributes": made.chosen.weighed(weight[1:]),
        }
    )


def _training(path: Path, table: LeadTable) -> Training:
    known = table.at[~np.isnan(table.at)]
    began, until = (
        [rfc3339(EPOCH + np.timedelta64(round(day * 86_400), "s").item())
         for day in (known.min(), known.max())] if known.size else ("", "")
    )  # fmt: skip
    return Training(
        source=path.name, began=began, until=until, leads=len(set(table.keys)), events=0,
        outcomes=int(table.outcome.sum()), rows=len(table.outcome),
    )  # fmt: skip


def _why(gain: dict[str, Any]) -> str:
    how = "better" if gain["low"] > 0 else "not surely better"
    return (
        f"on {gain['n']} leads that were held out it is {how} than the share of outcomes: "
        f"{gain['mean']:.4f} nats each (95 % interval {gain['low']:.4f} to {gain['high']:.4f})"
    )
