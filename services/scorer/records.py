"""What crosses the scorer's rooms: incoming and stored events, a lead in hand, and its state a
product.
"""

import uuid
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from services.scorer.model.profile import Profile
from services.scorer.model.state import Event, FoldState, View
from services.shared.contracts.events import Interaction, Snapshot
from services.shared.contracts.identity import Identifier
from services.shared.playbook.sections import UNKNOWN

unpack_profile = msgspec.msgpack.Decoder(Profile).decode


class Arrival(msgspec.Struct):
    """One distinct event on its way into the set."""

    uid: str
    at: int
    digest: str
    received_at: datetime
    source: str
    flags: str
    posted_at: float
    data: Interaction
    body: str
    ids: list[Identifier]
    conflict: bool = False
    lead: uuid.UUID | None = None

    @property
    def event(self) -> Event:
        """As the fold sees it."""
        return Event(self.at, self.uid, self.data)

    @property
    def rank(self) -> tuple[int, str]:
        """Of several bodies under one id the smaller wins."""
        return self.at, self.digest


class Known(NamedTuple):
    """An event that is stored already under an arrival's id."""

    uid: uuid.UUID
    at: int
    digest: str
    lead: uuid.UUID
    anchor: int
    weaker: list[int]
    conflict: bool


class Announced(NamedTuple):
    """What was last said of a (lead, product)."""

    stage: str = UNKNOWN
    seq: int = 0
    at: datetime | None = None


class State(msgspec.Struct):
    """A stored (lead, product): its fold, what was announced, and what the lists show."""

    fold: FoldState
    fold_hash: str
    announced: Announced
    qualified: bool = False
    view: View | None = None
    as_of: int = 0
    snapshot: Snapshot | None = None  # what others are told of the view


class LeadRow(msgspec.Struct):
    """A lead in hand: its row, its states by product, its identifiers."""

    id: uuid.UUID
    version: int = 0
    profile: Profile = msgspec.field(default_factory=Profile)
    provisional: bool = False
    excluded: str = ""
    engaged_at: datetime | None = None
    states: dict[str, State] = {}
    identifiers: list[Identifier] = []
    born: bool = False  # made by this very transaction: it has no row, and nobody else knows it


def lead_row(row: Any) -> LeadRow:
    """A row of `scorer.lead` in hand."""
    return LeadRow(
        row.id,
        row.version,
        unpack_profile(row.profile),
        row.provisional,
        row.excluded,
        row.engaged_at,
    )


def state_of(row: Any) -> State:
    """A row of `scorer.lead_state` in hand."""
    fold = FoldState(row.product, row.record, row.pending, row.last_at, row.last_uid)
    announced = Announced(row.announced_stage, row.announced_seq, row.announced_at)
    return State(fold, row.fold_hash, announced, row.qualified, None, row.as_of)
