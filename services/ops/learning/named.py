"""Learning from a table of events whose types the playbook's model knows: its stages keep their
names, and the file is one that the scorer and `ripeline filter` take.
"""

from pathlib import Path

from services.ingest.importing.mapping_file import MappingFile
from services.ops.learning import filtering
from services.ops.learning.mapping import FilterMapping
from services.ops.learning.rows import Progress
from services.scorer.learning.episodes import Episode, episodes
from services.scorer.learning.learning import Verdict, learn
from services.scorer.model.window import known_of
from services.shared.errors import Reject
from services.shared.playbook.sections import Playbook


def learn_from_table(
    path: Path,
    written: MappingFile,
    playbook: Playbook,
    progress: Progress,
    *,
    seed: int,
    with_curve: bool,
) -> Verdict:
    """Learns from the table, as known at its last time, and compares with the playbook's model.
    Raises Reject where none of its types says anything to the stages.
    """
    mapping = written.mapping
    assert isinstance(mapping, FilterMapping)
    model = playbook.model.model_copy(update={"horizon_days": mapping.horizon})
    playbook = playbook.with_model(model)
    fold = filtering.fold_of(playbook, model)
    acts = filtering.read(path, written, fold, progress)
    found: list[Episode] = []
    for number, own in enumerate(acts.leads.values()):
        known = known_of([act.event for act in own], fold.declared)
        found += episodes(fold, playbook.products[0], known, number, acts.last)
        if number % 200 == 0:
            progress("episodes", number / len(acts.leads))
    progress("episodes", 1.0)
    if not found:
        unknown = ", ".join(list(filtering.unweighed(fold, acts))[:5])
        raise Reject(
            f"none of the table's types says anything to the stages: {unknown}",
            where="type",
            remedy="map them by `names` to event types of the product, or to "
            + ", ".join(model.rate),
        )
    return learn(
        playbook, fold, found, acts.last, path.name, events=sum(map(len, acts.leads.values())),
        seed=seed, with_curve=with_curve, progress=progress,
    )  # fmt: skip
