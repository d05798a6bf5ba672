"""Models with a log-odds layer, drawn at random: what the fold makes of them must not depend on
what they were learned from.
"""

import numpy as np

from services.scorer.model.estimate import value_names
from services.scorer.model.stage_filter import StageModel
from services.shared.playbook.learned import (
    Calibration,
    Layer,
    Learned,
    Levels,
    Numbers,
    Training,
)
from services.shared.playbook.sections import Playbook

TRAINING = Training(
    source="drawn at random", began="2026-01-01T00:00:00Z", until="2026-02-01T00:00:00Z",
    leads=1, events=1, outcomes=1, rows=1,
)  # fmt: skip


def with_layer(playbook: Playbook, seed: int = 0) -> Playbook:
    """The playbook under a model whose every number counts."""
    rng = np.random.default_rng(seed)
    names = value_names(StageModel(playbook.model))
    size = len(names)
    layer = Layer(
        intercept=float(rng.normal(-1, 1)), names=names, weight=rng.normal(0, 0.3, size).tolist(),
        mean=rng.normal(0, 1, size).tolist(), scale=rng.uniform(0.5, 3, size).tolist(),
        low=[-9.0] * size, high=[40.0] * size,
    )  # fmt: skip
    attributes: list[Levels | Numbers] = [
        Levels(trait="title", levels={"cto": 0.7, "student": -0.9}, other=0.1, missing=-0.2),
        Numbers(
            trait="size", low=0, high=3, mean=1.5, scale=1.2, slope=0.4, knots=[1.0, 2.0],
            hinges=[0.2, -0.6], missing=0.3,
        ),
    ]  # fmt: skip
    learned = Learned(
        version=f"drawn-{seed}", layer=layer, fit=0.8, attributes=attributes, training=TRAINING,
        calibration=Calibration(a=0.9, b=1.1, c=0.1, intercept=-0.2, slope=0.95), calibrated=True,
    )  # fmt: skip
    return playbook.with_model(playbook.model.model_copy(update={"learned": learned}))
