"""What a decision is taken on: the lead as it is known, and what asks for a touch. Pure."""

from datetime import datetime

import msgspec

from services.shared.contracts.events import ConsentState, Snapshot
from services.shared.contracts.provenance import LIVE, Provenance


class Lead(msgspec.Struct, frozen=True):
    """A lead at the moment of a decision.

    Where a person has asserted a stage, `snapshot` has that one; its pause and pace are the most
    careful ones that were asked for under the address; `consent` is what counts for
    e-mail for marketing to its address; `seen` are ids of content; `recent_sends` are the times of
    touches that count towards caps and pace (`cadence.LOOK_BACK`); `paused_until` is set where a
    person has paused the lead. All of them are of the lead and of its address, `address` being the
    keyed hash of that, '' where it has none. `answered` are ids of content that was asked for and
    went out within `cadence.ANSWERED_FOR`.
    """

    id: str
    snapshot: Snapshot
    consent: ConsentState | None = None
    seen: frozenset[str] = frozenset()
    recent_sends: tuple[datetime, ...] = ()
    paused_until: datetime | None = None
    address: str = ""
    answered: frozenset[str] = frozenset()


class Trigger(msgspec.Struct, frozen=True):
    """The announced stage change, or the request, that asks for a touch."""

    stage: str
    product: str
    cause_at: datetime
    imported: Provenance = LIVE
