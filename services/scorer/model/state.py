"""What the fold works on: events, the state of one (lead, product), its steps, and views of it.

Times are µs since 1970; NEVER is before all of them. Arrays hold L states in the last axis.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
import numpy as np

from services.scorer.model.activity import Activity
from services.scorer.model.stage_filter import NEVER, F, I, Publication
from services.shared.contracts.event_types import EventType
from services.shared.contracts.events import Interaction
from services.shared.contracts.sales import UNDONE

# of a record: what `Activity` has
ACTIVITY = ("counts", "counted_at", "first_act_at", "last_act_at", "number_of_acts", "last_mark")


class Event(msgspec.Struct, frozen=True):
    """One distinct event of a lead: when (µs), its identity (32 hex digits), its content, and when
    it was received (µs; None: as it happened).
    """

    at: int
    uid: str
    data: Interaction
    received: int | None = None


def undone(events: Iterable[Event]) -> set[str]:
    """The uids of what sales has taken back by these events."""
    return {
        str(event.data.properties.get(UNDONE))
        for event in events
        if event.data.type == EventType.SALES_UNDONE and not event.data.machine
    }


class OpenTouch(msgspec.Struct, array_like=True):
    """A sent touch whose windows are not closed.

    `open` and `click` are 0 while awaited, 1 once folded (for or against), 2 where cancelled or
    not tracked. `clicked_at` is the click that was folded, `scanned_at` the last one by a machine.
    """

    id: str
    sent_at: int
    open: int
    click: int
    clicked_at: int = NEVER
    scanned_at: int = NEVER


class EarlyAnswer(msgspec.Struct, array_like=True):
    """The last answers, by people and by machines, to a touch whose sending is not known yet."""

    open: int = NEVER
    click: int = NEVER
    machine_open: int = NEVER
    scanned_at: int = NEVER

    @property
    def last(self) -> int:
        """The last of them."""
        return max(self.open, self.click, self.machine_open, self.scanned_at)


class PendingTouches(msgspec.Struct, array_like=True):
    """The part of a state that concerns touches: open windows, and early answers by touch id."""

    touches: list[OpenTouch] = []
    early: dict[str, EarlyAnswer] = {}

    def find(self, touch_id: str) -> OpenTouch | None:
        """The open touch of this id."""
        return next((touch for touch in self.touches if touch.id == touch_id), None)

    def packed(self) -> bytes:
        """As `FoldState.pending` holds it; empty where nothing is pending."""
        return msgspec.msgpack.encode(self) if self.touches or self.early else b""

    @classmethod
    def of(cls, packed: bytes) -> "PendingTouches":
        """The pending touches of a state."""
        return msgspec.msgpack.decode(packed, type=cls) if packed else cls()


class FoldState(msgspec.Struct):
    """The fold of one (lead, product): a record of fixed size, and its pending touches packed."""

    product: str
    record: bytes
    pending: bytes = b""
    last_at: int = NEVER
    last_uid: str = ""

    @property
    def position(self) -> tuple[int, str]:
        """The last event that weighed; one before it needs a refold."""
        return self.last_at, self.last_uid


class Step(NamedTuple):
    """One instant of a state: the signal's code or −1, the engagement rule or −1, and its cause.

    `uid` is the event behind it, `touch` the touch that it answers or whose window ended; '' where
    there is none.
    """

    at: int
    code: int
    act: int
    uid: str = ""
    touch: str = ""


RULE_BITS = 16
_RULES = (1 << RULE_BITS) - 1


def packed(code: int, rule: int) -> int:
    """A signal's code and an engagement rule, each −1 for none, as one number: negative where
    there is no signal.
    """
    return code << RULE_BITS | rule + 1


class Steps:
    """Steps of several states as columns, one state's after another's: instants, and what counts
    at each (`packed`).
    """

    def __init__(self) -> None:
        self.at: list[int] = []
        self.what: list[int] = []

    def __len__(self) -> int:
        return len(self.at)

    def extend(self, steps: Iterable[Step]) -> None:
        """Appends steps."""
        for step in steps:
            self.at.append(step.at)
            self.what.append(packed(step.code, step.act))

    def shorten(self, size: int) -> None:
        """Takes out all steps but the first so many."""
        del self.at[size:], self.what[size:]

    def arrays(self) -> tuple[I, I, I]:
        """Instants, codes and rules."""
        what = np.array(self.what, np.int64)
        return np.array(self.at, np.int64), what >> RULE_BITS, (what & _RULES) - 1

    def lists(self, part: slice) -> tuple[list[int], list[int], list[int]]:
        """Of some steps the same."""
        what = self.what[part]
        return (
            self.at[part],
            [each >> RULE_BITS for each in what],
            [(each & _RULES) - 1 for each in what],
        )


class View(NamedTuple):
    """A state as seen from a moment; `likelihood` is None once the outcome has happened."""

    stage: str
    stage_since: int | None
    belief: dict[str, float]
    confidence: float
    likelihood: float | None
    fit: float
    engagement: float
    next_review_at: int | None


def record_type(
    stages: int, sessions: int, groups: int, acts: int, counted: int = 0
) -> np.dtype[Any]:
    """The layout of `FoldState.record`; `counted` marks have decayed counts where a layer reads
    them.
    """
    activity = [
        ("counts", "<f8", (counted,)),
        ("counted_at", "<i8", (counted,)),
        ("first_act_at", "<i8"),
        ("last_act_at", "<i8"),
        ("number_of_acts", "<i8"),
        ("last_mark", "<i8"),
    ]
    return np.dtype(
        [
            ("belief", "<f8", (stages,)),
            ("evidence_at", "<i8"),
            ("stage", "<i8"),
            ("since", "<i8"),
            ("ended", "<i8"),
            ("session", "<i8", (sessions,)),
            ("points", "<f8", (groups,)),
            ("points_at", "<i8"),
            ("window", "<i8", (acts,)),
            ("used", "<i8", (acts,)),
            *(activity if counted else []),
        ]
    )


class StateArrays:
    """Records of L states as arrays."""

    def __init__(self, records: np.ndarray[Any, Any]) -> None:
        self.belief: F = np.array(records["belief"].T, order="C")
        self.evidence_at: I = records["evidence_at"].copy()
        self.published = Publication(records["stage"].copy(), records["since"].copy())
        self.ended: I = records["ended"].copy()
        self.session: I = np.array(records["session"].T, order="C")
        self.points: F = np.array(records["points"].T, order="C")
        self.points_at: I = records["points_at"].copy()
        self.window: I = np.array(records["window"].T, order="C")
        self.used: I = np.array(records["used"].T, order="C")
        self.activity = _activity(records)

    def records(self, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """The same as records (L)."""
        out = np.empty(self.ended.size, dtype)
        out["belief"], out["session"] = self.belief.T, self.session.T
        out["points"], out["points_at"] = self.points.T, self.points_at
        out["window"], out["used"] = self.window.T, self.used.T
        out["stage"], out["since"] = self.published
        out["evidence_at"], out["ended"] = self.evidence_at, self.ended
        if self.activity is not None:
            for name, column in zip(ACTIVITY, self.activity, strict=True):
                out[name] = column.T
        return out


def _activity(records: np.ndarray[Any, Any]) -> Activity | None:
    """What the leads of records did; None in those that do not tell."""
    if "counts" not in (records.dtype.names or ()):
        return None
    return Activity(*(np.array(records[name].T, order="C") for name in ACTIVITY))
