"""What readers and writers of leads share: the playbook, its fold, its identifier rules, and the
clock.
"""

from dataclasses import dataclass

from services.scorer.model.fold import Fold
from services.scorer.model.profile import Exclusions
from services.shared.clock import Clock
from services.shared.contracts.identity import Cleaner
from services.shared.playbook.sections import Playbook


@dataclass(frozen=True)
class Scoring:
    """One playbook at work; tables of the model are worked out once, in `of`."""

    playbook: Playbook
    fold: Fold
    cleaner: Cleaner
    exclusions: Exclusions
    clock: Clock

    @classmethod
    def of(cls, playbook: Playbook, clock: Clock) -> "Scoring":
        """The scoring by a playbook, under this clock."""
        return cls(
            playbook,
            Fold(playbook),
            Cleaner(playbook.identity),
            Exclusions(playbook.exclusions),
            clock,
        )
