"""A model to begin with for a table whose types no playbook knows: a few states without names, from
the slowest to the fastest, and the table's types as marks.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from services.ops.learning.filtering import Act
from services.shared.clock import DAY
from services.shared.playbook.stage_model import Jump, Model

STATES = 5
MOST_MARKS = 20  # of the types, the most frequent
SLOWEST, FASTEST = 0.1, 10.0  # of the mean rate
MOVES = 0.02  # a day, to each of the neighbouring states
UP, DOWN = 0.2, 0.1


def model_of(model: Model, leads: Sequence[Sequence[Act]], last: int) -> Model:
    """The model in which these leads' types are marks, known until `last` (µs)."""
    types = Counter(
        act.type for acts in leads for act in acts if act.event.data.type != model.outcome
    )
    days = sum(last - acts[0].event.at for acts in leads) / DAY + 1
    reached = sum(any(act.event.data.type == model.outcome for act in acts) for acts in leads)
    speed = np.geomspace(SLOWEST, FASTEST, STATES)
    marks = [name for name, _ in types.most_common(MOST_MARKS)]
    states = [f"state_{number + 1}" for number in range(STATES)]
    near = np.abs(np.subtract.outer(np.arange(STATES), np.arange(STATES))) == 1
    places = _places(marks, leads)
    return model.model_copy(
        update={
            "about": "",
            "stages": states,
            "rate": {mark: (types[mark] / days * speed).tolist() for mark in marks},
            "jump": {mark: Jump(target=states[places[mark]], up=UP, down=DOWN) for mark in marks},
            "drift": (MOVES * near).tolist(),
            "hazard": ((reached + 1) / days * np.sqrt(speed)).tolist(),
            "start": [1 / STATES] * STATES,
            "given_send": {},
            "mark_of_type": {mark: mark for mark in marks},
            "eigenbasis": None,
        }
    )


def _places(marks: Sequence[str], leads: Sequence[Sequence[Act]]) -> dict[str, int]:
    """The state that each mark leads to: the busier those who made it, the faster."""
    length = Counter[str]()
    count = Counter[str]()
    for acts in leads:
        for act in acts:
            length[act.type] += len(acts)
            count[act.type] += 1
    order = sorted(marks, key=lambda mark: (length[mark] / count[mark], mark))
    return {mark: place * STATES // len(order) for place, mark in enumerate(order)}
