"""The ledger as people see it: nothing is lost, nothing that rounds to nothing has a number, and
silence stands at its act.
"""

import random
from datetime import UTC

import pytest

from services.scorer.model.explanation import Ledger, explain
from services.scorer.model.fold import Fold
from services.scorer.model.state import Event
from services.scorer.model.window import known_of
from services.scorer.queries.lines import LEAST, Words
from services.scorer.ui.ledger import NOTHING, Move, ledger_view
from services.shared.contracts.events import event_uid
from services.shared.playbook.sections import Playbook
from tests.support.histories import DAY, history
from tests.support.learned import with_layer


def ledger(fold: Fold, seed: int) -> Ledger:
    events = {}
    for each in history(random.Random(seed), people=1, length=25):
        uid = event_uid("x", each.data.id)
        events.setdefault(uid, Event(each.at, uid, each.data))
    order = sorted(events.values(), key=lambda event: (event.at, event.uid))
    return explain(fold, "default", known_of(order), order[-1].at + 9 * DAY)


@pytest.mark.parametrize("calibrated", [True, False])
def test_rows_hold_the_whole_ledger_and_silence_stands_at_its_act(
    default_playbook: Playbook, calibrated: bool
) -> None:
    """S5."""
    fold = Fold(with_layer(default_playbook))
    words = Words(default_playbook.content_by_id, default_playbook.model, UTC)
    joined = 0
    for seed in range(60):
        found = ledger(fold, seed)
        view = ledger_view(found, words, (None, 5)[seed % 2], calibrated=calibrated)
        moves = [row.move for row in view.rows if row.move]
        every = [*moves, view.earlier_move, view.small_move]
        assert sum(move.delta for move in every) == pytest.approx(found.total - found.start)
        if view.total is not None:
            points = view.start + sum(move.points for move in every)
            assert points == pytest.approx(view.total)
        for move in moves:
            assert abs(move.points) >= NOTHING if calibrated else abs(move.delta) >= LEAST
        assert max((move.bar for move in moves), default=1.0) == 1.0
        for before, row in zip(view.rows, view.rows[1:], strict=False):
            if row.follows:
                assert (row.kind, before.kind == "silence") == ("silence", False)
                joined += 1
    assert joined > 60


def test_a_bar_is_told_in_words() -> None:
    told = [Move(delta, 0.0).words for delta in (1.2, 0.4, 0.1, -0.3)]
    assert told == [
        "raises it strongly", "raises it clearly", "raises it a little", "lowers it clearly",
    ]  # fmt: skip
