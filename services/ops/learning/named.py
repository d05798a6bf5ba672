"""Learning from a table of events. Types that the playbook's model knows keep its stages' names,
and the file is one that the scorer takes; of others states without names are learned.
"""

from collections.abc import Sequence
from pathlib import Path

from services.ingest.importing.mapping_file import MappingFile
from services.ops.learning import filtering, unnamed
from services.ops.learning.filtering import Acts
from services.ops.learning.mapping import FilterMapping
from services.ops.learning.rows import Progress
from services.scorer.learning.episodes import Episode, episodes
from services.scorer.learning.learning import Verdict, learn
from services.scorer.model.window import known_of
from services.shared.errors import Reject
from services.shared.playbook.sections import Playbook

NAMED = 0.5  # of the events, whose types the model knows


def learn_from_table(
    path: Path,
    written: MappingFile,
    playbook: Playbook,
    progress: Progress,
    *,
    seed: int,
    with_curve: bool,
) -> Verdict:
    """Learns from the table, as known at its last time, and compares with the playbook's model, or
    where its types are others with the share of outcomes.
    """
    mapping = written.mapping
    assert isinstance(mapping, FilterMapping)
    if mapping.outcome is None:
        raise Reject(
            "the mapping names no outcome to learn from",
            where="outcome",
            remedy="write `outcome: {type: …}`, or `{column: …, equals: …}`",
        )
    model = playbook.model.model_copy(update={"horizon_days": mapping.horizon})
    playbook = _vouching(playbook, mapping.known_at_capture)
    fold = filtering.fold_of(playbook, model)
    acts = filtering.read(path, written, fold, progress)
    count = sum(map(len, acts.leads.values()))
    is_named = filtering.unweighed(fold, acts).total() <= (1 - NAMED) * count
    if not is_named:
        model = unnamed.model_of(model, [*acts.leads.values()], acts.last)
        fold = filtering.fold_of(playbook, model)
    found: list[Episode] = []
    for number, own in enumerate(acts.leads.values()):
        known = known_of([act.event for act in own], fold.declared)
        found += episodes(fold, playbook.products[0], known, number, acts.last)
        if number % 200 == 0:
            progress("episodes", number / len(acts.leads))
    progress("episodes", 1.0)
    _check_order(found, acts, fold.playbook.model.outcome)
    return learn(
        fold.playbook, fold, found, acts.last, path.name, events=count,
        seed=seed, with_curve=with_curve, by_share=not is_named, progress=progress,
    )  # fmt: skip


def _vouching(playbook: Playbook, columns: Sequence[str]) -> Playbook:
    """The playbook under which these columns are learned from, whatever they look like."""
    known = [*playbook.fit.known_at_capture, *columns]
    sections = {name: getattr(playbook, name) for name in type(playbook).model_fields}
    fit = playbook.fit.model_copy(update={"known_at_capture": known})
    return Playbook.model_construct(**sections | {"fit": fit})


def _check_order(found: Sequence[Episode], acts: Acts, outcome: str) -> None:
    """Raises Reject where outcomes come before everything else."""
    reached = sum(any(a.event.data.type == outcome for a in own) for own in acts.leads.values())
    if reached and not any(each.converted for each in found):
        raise Reject(
            f"no lead has an event before its outcome ({reached} have one)",
            where="outcome",
            remedy="look at the column of `time`: do its dates run backwards?",
        )
