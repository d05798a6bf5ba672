"""What crosses the scorer's rooms: incoming and stored events, a lead in hand, its states, and what
was announced of them.
"""

import uuid
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from services.scorer.model.profile import UNCOUNTED, Profile, SalesOutcome
from services.scorer.model.state import Event, FoldState, View
from services.shared.clock import to_us
from services.shared.contracts.consent import ConsentKey
from services.shared.contracts.events import Cause, Interaction, Snapshot
from services.shared.contracts.identity import Identifier
from services.shared.contracts.provenance import Provenance
from services.shared.playbook.sections import UNKNOWN


class IncomingEvent(msgspec.Struct):
    """One decoded event on its way into the set; `identifiers` are its own, strongest first."""

    uid: str
    at: int
    digest: str
    received_at: datetime
    source: str
    provenance: Provenance
    posted_at: float
    data: Interaction
    body: str
    identifiers: list[Identifier]
    conflict: bool = False
    lead: uuid.UUID | None = None

    @property
    def event(self) -> Event:
        """As the fold sees it."""
        return Event(self.at, self.uid, self.data, to_us(self.received_at))

    @property
    def rank(self) -> tuple[int, str, datetime]:
        """Of several bodies under one id the smallest wins, of equal ones the first received."""
        return self.at, self.digest, self.received_at

    @property
    def strongest(self) -> Identifier:
        """The identifier that decides whose the event is."""
        return self.identifiers[0]

    @property
    def linked(self) -> list[Identifier]:
        """The identifiers that the event links to the strongest."""
        return self.identifiers[1:]


class StoredEvent(NamedTuple):
    """What is stored under an event's id; identifiers by the numbers of their rows."""

    uid: uuid.UUID
    at: int
    digest: str
    lead: uuid.UUID
    strongest: int
    linked: list[int]
    conflict: bool
    received_at: datetime

    @property
    def rank(self) -> tuple[int, str, datetime]:
        """As of an incoming event."""
        return self.at, self.digest, self.received_at


class LastAnnounced(NamedTuple):
    """The stage last announced of a (lead, product), its number, and when; `unknown` before any."""

    stage: str = UNKNOWN
    seq: int = 0
    at: datetime | None = None


class StageChange(msgspec.Struct, frozen=True):
    """A change that is to be announced: since when (µs) and why the stage is another one."""

    lead: uuid.UUID
    product: str
    from_stage: str
    stage: str
    cause: Cause
    cause_at: int
    cause_event: str
    likelihood: float | None


class Announcement(msgspec.Struct, frozen=True):
    """A stage change with the number that it was stored under; its fields are the table's."""

    id: str
    lead_id: uuid.UUID
    product: str
    seq: int
    from_stage: str
    stage: str
    cause: Cause
    cause_at: datetime
    cause_event: str
    likelihood: float | None
    fold_hash: str
    announced_at: datetime
    previous_at: datetime | None = None  # when the one before it was announced


class State(msgspec.Struct):
    """A stored (lead, product): its fold, what was announced, and what the lists show; `sales` is
    what sales reported last of the product, as of the view.
    """

    fold: FoldState
    fold_hash: str
    announced: LastAnnounced
    qualified: bool = False
    view: View | None = None
    sales: SalesOutcome | None = None
    as_of: int = 0
    snapshot: Snapshot | None = None  # of the view, for others


class LeadRow(msgspec.Struct):
    """A lead in hand: its row, its states by product, its identifiers.

    `publish_at` (µs) is when others are told what they do not know of it yet, None where they know
    it all. `unreadable` where the stored profile is; it is to be made from the events then.
    """

    id: uuid.UUID
    version: int = 0
    profile: Profile = msgspec.field(default_factory=Profile)
    provisional: bool = False
    excluded: str = ""
    engaged_at: datetime | None = None
    publish_at: int | None = None
    states: dict[str, State] = {}
    identifiers: list[Identifier] = []
    created: bool = False  # by this very transaction: it has no row, and nobody else knows it
    unreadable: bool = False
    company_key: int = 0  # of its company, as of the view
    account: int = 0  # the hash of what the hold-out draws, as of the view
    draw: float | None = None  # of the account, as of the view
    handoff: str = ""  # status of its last hand-off

    @property
    def announced(self) -> dict[str, LastAnnounced]:
        """What was announced last by product."""
        return {product: state.announced for product, state in self.states.items()}

    def was_engaged(self, *moments: datetime | None) -> None:
        """Takes over when others were last informed of leads that became part of this one."""
        known = [at for at in (self.engaged_at, *moments) if at]
        self.engaged_at = max(known, default=None)


class UnreadableLead(Exception):
    """What is stored of a lead is none of our rows."""


_CONSENT = Profile.__struct_fields__.index("consent")
_FIELDS = len(Profile.__struct_fields__)
# how MessagePack begins an array of so many
_HEADER = msgspec.msgpack.encode(Profile())[: 1 if _FIELDS < 16 else 3]
_decode_profile = msgspec.msgpack.Decoder(Profile).decode


def unpack_profile(packed: bytes) -> Profile:
    """A profile as rows hold it; those of releases that kept fewer fields are `UNCOUNTED`, some of
    which joined a consent's key by tabs. Raises UnreadableLead.
    """
    profile = _decoded(packed)
    if not packed.startswith(_HEADER):
        profile.stored = UNCOUNTED
    return profile


def _decoded(packed: bytes) -> Profile:
    try:
        return _decode_profile(packed)
    except msgspec.ValidationError as error:
        try:
            return _unpack_joined(packed)
        except Exception:
            raise UnreadableLead(f"its profile cannot be read: {error}") from error
    except msgspec.DecodeError as error:
        raise UnreadableLead(f"its profile cannot be read: {error}") from error


def _unpack_joined(packed: bytes) -> Profile:
    fields = msgspec.msgpack.decode(packed)
    consents = fields[_CONSENT].items()
    fields[_CONSENT] = {_consent_key(key): record for key, record in consents}
    return msgspec.convert(fields, Profile)


def _consent_key(joined: str) -> ConsentKey:
    address, _, rest = joined.partition("\t")
    channel, _, purpose = rest.rpartition("\t")
    return ConsentKey(address, channel, purpose)


def lead_row(row: Any) -> LeadRow:
    """A row of `scorer.lead` in hand, `unreadable` where its profile is."""
    try:
        profile, unreadable = unpack_profile(row.profile), False
    except UnreadableLead:
        profile, unreadable = Profile(stored=UNCOUNTED), True
    return LeadRow(
        row.id,
        row.version,
        profile,
        row.provisional,
        row.excluded,
        row.engaged_at,
        row.publish_at,
        unreadable=unreadable,
        handoff=row.handoff,
    )


def state_of(row: Any) -> State:
    """A row of `scorer.lead_state` in hand."""
    fold = FoldState(row.product, row.record, row.pending, row.last_at, row.last_uid)
    announced = LastAnnounced(row.announced_stage, row.announced_seq, row.announced_at)
    return State(fold, row.fold_hash, announced, row.qualified, as_of=row.as_of)
