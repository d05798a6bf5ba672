"""What a decision is taken on: the lead as it is known, and what asks for a touch. Pure."""

from datetime import datetime

import msgspec

from services.shared.contracts.events import ConsentState, Snapshot
from services.shared.contracts.holdout import Arm
from services.shared.contracts.provenance import LIVE, Provenance


class Had(msgspec.Struct, frozen=True):
    """A touch of a program that a lead has had, unasked, and when it first did something after it;
    None where it has not.
    """

    touch: str
    program: str
    content: str
    channel: str
    sent_at: datetime
    answered_at: datetime | None = None


class Lead(msgspec.Struct, frozen=True):
    """A lead at the moment of a decision.

    Where a person has asserted a stage, `snapshot` has that one; its pause and pace are the most
    careful ones that were asked for under the address; `consent` is what counts for
    e-mail for marketing to its address, `phone_consent` for calls; `seen` are ids of content, sent
    or found by itself, `done` those whose call to action it has done, with the last time; `had` are
    its touches in the order in which they went out; `recent_sends` are the times of touches that
    count towards caps and pace (`cadence.LOOK_BACK`); `paused_until` is set where a
    person has paused the lead; `held` are ids of content of touches that a person holds. All of
    them are of the lead and of its address, `address` being the keyed hash of that, '' where it has
    none. `answered` are ids of content that was asked for and went out within
    `cadence.ANSWERED_FOR`. `account_with_sales`: whether sales works with somebody
    else of its company, where the playbook pauses it then.
    """

    id: str
    snapshot: Snapshot
    consent: ConsentState | None = None
    phone_consent: ConsentState | None = None
    seen: frozenset[str] = frozenset()
    done: dict[str, datetime] = {}
    had: tuple[Had, ...] = ()
    recent_sends: tuple[datetime, ...] = ()
    paused_until: datetime | None = None
    address: str = ""
    answered: frozenset[str] = frozenset()
    account_with_sales: bool = False
    held: frozenset[str] = frozenset()

    @property
    def last_answer_at(self) -> datetime | None:
        """When it last did or said anything by itself."""
        known = (self.snapshot.last_act_at, self.snapshot.answered_at)
        return max((at for at in known if at), default=None)


def domain_of(snapshot: Snapshot) -> str:
    """The domain of the lead's address; '' where it has none."""
    return snapshot.email.rpartition("@")[2].lower()


class Trigger(msgspec.Struct, frozen=True):
    """The announced stage change, the request, or the place in a program (`follows` is the touch
    before it, its id as `announcement`) that asks for a touch; `persona` is the lead's, `arm` its
    account's.
    """

    stage: str
    product: str
    cause_at: datetime
    imported: Provenance = LIVE
    follows: bool = False
    persona: str = ""
    arm: Arm = "treated"
