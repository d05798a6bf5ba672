"""Touches as evidence: a send opens windows, in which an open or a click counts, and so does none.

A machine's open cancels a touch's open; a person's click beside a machine's is the machine's.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from services.scorer.model.interpretation import Interpretation
from services.scorer.model.stage_filter import NEVER
from services.scorer.model.state import EarlyAnswer, Event, OpenTouch, PendingTouches, Step
from services.shared.clock import US

BESIDE = 10 * US  # a click so near to a machine's on the same mail is the machine's as well


class TouchingEvent(NamedTuple):
    """A send, an open or a click, and how many plain steps come before it."""

    position: int
    event: Event
    reading: Interpretation


class MachineAnswers(NamedTuple):
    """What machines did: the last open of each touch, and its clicks in order (µs), by touch id."""

    opens: dict[str, int]
    clicks: dict[str, list[int]]

    @classmethod
    def among(cls, events: Iterable[tuple[Event, str]]) -> "MachineAnswers":
        """Those among events in order, each with its part in a touch."""
        opens: dict[str, int] = {}
        clicks: dict[str, list[int]] = {}
        for event, part in events:
            if event.data.machine and part == "open":
                opens[event.data.touch_id] = event.at
            elif event.data.machine and part == "click":
                clicks.setdefault(event.data.touch_id, []).append(event.at)
        return cls(opens, clicks)

    def clicked_beside(self, touch_id: str, at: int) -> bool:
        """Whether a machine clicked in this touch's mail within BESIDE of `at`."""
        clicks = self.clicks.get(touch_id, ())
        first = bisect_left(clicks, at - BESIDE)
        return first < len(clicks) and clicks[first] <= at + BESIDE


class TouchWindows:
    """The rules of a model's windows (µs by kind, `open` and `click`), and its signals' codes."""

    def __init__(self, window: Mapping[str, int], code: Mapping[str, int]) -> None:
        self._window, self._code = window, code
        self._longest = max(window.values(), default=0)

    def merge(
        self, packed: bytes, steps: list[Step], touching: list[TouchingEvent], until: int
    ) -> tuple[list[Step], bytes]:
        """Plain steps with what touches, answers and deadlines before `until` add, in order.

        Returns them and the pending touches, packed.
        """
        pending = PendingTouches.of(packed)
        machines = MachineAnswers.among(
            (event, reading.touch_part) for _, event, reading in touching
        )
        for touch in pending.touches:
            if touch.id in machines.opens and touch.open == 0:
                touch.open = 2
        out: list[Step] = []
        cuts = [0, *(each.position for each in touching), len(steps)]
        for part, (start, end) in enumerate(pairwise(cuts)):
            for step in steps[start:end]:
                out += self.deadlines(pending, step.at, inclusive=False)
                out.append(step)
            if part < len(touching):
                _, event, reading = touching[part]
                out += self.deadlines(pending, event.at, inclusive=False)
                out += self._steps_of(pending, event, reading.touch_part, machines)
        out += self.deadlines(pending, until, inclusive=False)
        return out, pending.packed()

    def _steps_of(
        self, pending: PendingTouches, event: Event, part: str, machines: MachineAnswers
    ) -> list[Step]:
        """What a send, an open or a click adds; changes `pending`."""
        data = event.data
        touch = pending.find(data.touch_id)
        if part == "send":
            return [] if touch else self._sent(pending, event, machines)
        known = touch or pending.early.get(data.touch_id)
        if part == "click" and not data.machine and _is_machines(known, event, machines):
            return []
        if touch is None:
            self._note_early(pending, event, part)
        elif data.machine and part == "open":
            touch.open = 2
        elif data.machine:
            touch.scanned_at = event.at
        elif getattr(touch, part) == 0:
            return [self._answered(touch, part, event, event.at)]
        return []

    def _answered(self, touch: OpenTouch, part: str, event: Event, answered_at: int) -> Step:
        """The step of an open or a click that counts."""
        setattr(touch, part, 1)
        if part == "click":
            touch.clicked_at = answered_at
        return Step(event.at, self._code[part], -1, event.uid, touch.id)

    def _note_early(self, pending: PendingTouches, event: Event, part: str) -> None:
        """Keeps an answer whose send is not known yet; forgets those for which none came."""
        oldest = event.at - self._longest
        for name in [name for name, early in pending.early.items() if early.last < oldest]:
            del pending.early[name]
        machines = {"open": "machine_open", "click": "scanned_at"}
        field = machines[part] if event.data.machine else part
        setattr(pending.early.setdefault(event.data.touch_id, EarlyAnswer()), field, event.at)

    def _sent(self, pending: PendingTouches, event: Event, machines: MachineAnswers) -> list[Step]:
        """A send opens its windows; answers at most one window before it count now."""
        data, oldest = event.data, event.at - self._longest
        opens, clicks = (
            bool(data.properties.get(f"{kind}s_tracked")) for kind in ("open", "click")
        )
        early = pending.early.pop(data.touch_id, EarlyAnswer())
        machine_open = max(early.machine_open, machines.opens.get(data.touch_id, NEVER))
        counts_opens = opens and machine_open < oldest
        touch = OpenTouch(
            data.touch_id, event.at, 0 if counts_opens else 2, 0 if clicks else 2,
            scanned_at=early.scanned_at,
        )  # fmt: skip
        pending.touches.append(touch)
        return [
            self._answered(touch, part, event, answered_at)
            for part, answered_at in (("open", early.open), ("click", early.click))
            if answered_at >= oldest and getattr(touch, part) == 0
        ]

    def deadlines(self, pending: PendingTouches, until: int, *, inclusive: bool) -> list[Step]:
        """The no-opens and no-clicks due before `until`, in order; forgets closed touches."""
        due: list[tuple[int, str, str]] = []
        limit = until + 1 if inclusive else until
        for touch in pending.touches:
            for kind, window in self._window.items():
                if touch.sent_at + window < limit and getattr(touch, kind) == 0:
                    due.append((touch.sent_at + window, touch.id, kind))
                    setattr(touch, kind, 1)
        kept = self._longest + BESIDE
        pending.touches = [touch for touch in pending.touches if touch.sent_at + kept >= limit]
        due.sort()
        return [Step(at, self._code[f"no_{kind}"], -1, "", touch) for at, touch, kind in due]

    def next_deadline(self, pending: PendingTouches, now: int) -> int | None:
        """The next end of a window after `now` in which something is still awaited."""
        ends = (
            touch.sent_at + window
            for touch in pending.touches
            for kind, window in self._window.items()
            if getattr(touch, kind) == 0 and touch.sent_at + window > now
        )
        return min(ends, default=None)

    def undoes(self, packed: bytes, event: Event, part: str) -> bool:
        """Whether a machine's open or click may undo what has been folded into a state.

        An open: its touch's open is folded, or the touch is forgotten. A click: a person's lies
        beside it.
        """
        pending = PendingTouches.of(packed)
        touch = pending.find(event.data.touch_id)
        early = pending.early.get(event.data.touch_id, EarlyAnswer())
        if part == "open":
            return touch.open == 1 if touch else early.machine_open == NEVER
        return event.at - (touch.clicked_at if touch else early.click) <= BESIDE


def _is_machines(
    known: OpenTouch | EarlyAnswer | None, click: Event, machines: MachineAnswers
) -> bool:
    """Whether a machine clicked beside a person's click: in this batch, or last before it."""
    past = known is not None and click.at - known.scanned_at <= BESIDE
    return past or machines.clicked_beside(click.data.touch_id, click.at)


def scanned_clicks(clicks: Sequence[Event]) -> set[str]:
    """Of clicks in order, the uids of people's that are a machine's by what lies beside them."""
    machines = MachineAnswers.among((event, "click") for event in clicks)
    return {
        event.uid
        for event in clicks
        if not event.data.machine and machines.clicked_beside(event.data.touch_id, event.at)
    }
