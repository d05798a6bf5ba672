"""What readers and writers of leads share: the playbook, its fold, its identifier rules, and the
clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from services.scorer.model.exclusions import Exclusions
from services.scorer.model.fold import Fold
from services.scorer.model.profile import MAX_TRAIT_NAME, MOST_TRAITS, UNCOUNTED, Profile
from services.scorer.records import LastAnnounced, State
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
    pepper: bytes = b""

    @classmethod
    def of(cls, playbook: Playbook, clock: Clock, pepper: bytes = b"") -> "Scoring":
        """The scoring by a playbook, under this clock; `pepper` hashes what others are told."""
        return cls(
            playbook,
            Fold(playbook),
            Cleaner(playbook.identity),
            Exclusions(playbook.exclusions),
            clock,
            pepper,
        )

    def initial(self, product: str) -> State:
        """The state of a lead before its first event."""
        return State(self.fold.initial(product), self.playbook.fold_hash, LastAnnounced())

    def holds(self, profile: Profile, states: Iterable[State]) -> bool:
        """Whether a stored profile is what this playbook makes of its lead's events: of releases
        that kept less it is not, nor may it be where another playbook chose the traits to be kept.
        """
        if profile.stored == UNCOUNTED:
            return False
        hashes = {
            state.fold_hash for state in states if state.fold.product in self.playbook.products
        }
        is_chosen = (
            profile.traits_left_out
            or len(profile.traits) > MOST_TRAITS
            or any(len(name) > MAX_TRAIT_NAME for name in profile.traits)
        )
        return not is_chosen or hashes == {self.playbook.fold_hash}
