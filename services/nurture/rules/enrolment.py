"""A person in a program: where it stands there, what comes next and when. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

import msgspec

from services.shared.contracts.events import derived

# `left`: it may come back; `completed`: the goal is reached; `ended`: the program is gone
EnrolmentState = Literal["active", "left", "completed", "ended"]
_RANK: dict[EnrolmentState, int] = {"left": 0, "active": 1, "completed": 2, "ended": 3}


class Enrolment(msgspec.Struct, frozen=True):
    """One person in one program.

    `place` counts the touches that were decided, `last_touch` is the id of the last of them.
    `next_at` is when it is decided again; None where only news of the lead, of its pending touch or
    of the playbook calls for that. `reason` and `why` tell what it waits for. `left_at` is when it
    left last.
    """

    lead: str
    program: str
    product: str
    entered_at: datetime
    state: EnrolmentState = "active"
    place: int = 0
    last_touch: str = ""
    next_at: datetime | None = None
    reason: str = ""
    why: str = ""
    left_at: datetime | None = None

    @property
    def before(self) -> str:
        """The id of the touch before the next one; of the entry where there is none."""
        return self.last_touch or derived("entry", self.lead, self.program)

    def next_touch(self) -> str:
        """The id of the touch at this place: derived from the one before, so that it is one."""
        return derived(self.before, "touch", self.program)

    def with_touch(self, why: str) -> "Enrolment":
        """As it goes on once its next touch is decided."""
        return msgspec.structs.replace(
            self, state="active", place=self.place + 1, last_touch=self.next_touch(),
            next_at=None, reason="", why=why,
        )  # fmt: skip


def merged(enrolments: Iterable[Enrolment], lead: str) -> Enrolment:
    """Of one program those of several people who are one, as that person's; in any order the same.

    It stands where the furthest stood, and is decided again at once, or at the earliest of the next
    moments.
    """
    known = sorted(
        enrolments, key=lambda one: (one.place, _RANK[one.state], one.last_touch, one.lead)
    )
    furthest = known[-1]
    state = max((one.state for one in known), key=_RANK.__getitem__)
    return msgspec.structs.replace(
        furthest,
        lead=lead,
        state=state,
        entered_at=min(one.entered_at for one in known),
        next_at=min((one.next_at for one in known if one.next_at), default=None),
        left_at=max((one.left_at for one in known if one.left_at), default=None),
    )
