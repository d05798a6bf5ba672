"""The fold: a lead's state as a pure function of the set of its events, vectorised over lanes
(lead, product).

`Journey.fold` takes lanes' states and their new events in order and returns the new states; from
the void state and all events it gives, bit for bit, what any sequence of smaller folds gives.
`Journey.view` looks at states from a moment.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, pairwise
from math import isnan
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np

from services.scorer.model.interpretation import Reader, Reading
from services.scorer.model.score import EngagementScore, FitScore, likelihood
from services.scorer.model.stage_filter import NEVER, UNPUBLISHED, B, F, I, Publication, StageModel
from services.shared.clock import DAY, US
from services.shared.contracts.events import Interaction
from services.shared.playbook.sections import UNKNOWN, Playbook

BESIDE = 10 * US  # a click so near to a machine's on the same mail is the machine's as well


class Event(msgspec.Struct, frozen=True):
    """One distinct event of a lead: when (µs), its identity (32 hex digits), and what was said."""

    at: int
    uid: str
    data: Interaction


class OpenTouch(msgspec.Struct, array_like=True):
    """A sent touch whose windows are not closed; a factor is 0 awaited, 1 folded (for or against),
    2 cancelled or not tracked.

    `clicked_at` is the click that was folded, `scanned_at` the last one by a machine.
    """

    id: str
    sent_at: int
    open: int
    click: int
    clicked_at: int = NEVER
    scanned_at: int = NEVER


class Early(msgspec.Struct, array_like=True):
    """When a touch was last answered whose sending is not known yet: by people, and by machines."""

    open: int = NEVER
    click: int = NEVER
    machine_open: int = NEVER
    scanned_at: int = NEVER

    @property
    def last(self) -> int:
        """The last of them."""
        return max(self.open, self.click, self.machine_open, self.scanned_at)


class Pending(msgspec.Struct, array_like=True):
    """The part of a lane's state that concerns touches."""

    touches: list[OpenTouch] = []
    early: dict[str, Early] = {}


class Machines(NamedTuple):
    """What machines do in a batch: the last open of each touch, and its clicks in order (µs)."""

    opens: dict[str, int]
    clicks: dict[str, list[int]]


class Row(NamedTuple):
    """One instant of a lane: when, the signal's code or −1, the engagement rule or −1, and the
    event behind it.
    """

    at: int
    code: int
    act: int
    uid: str = ""
    touch: str = ""


class Lane(msgspec.Struct):
    """State of one (lead, product): the fixed-size record of the fold, and its pending touches."""

    product: str
    record: bytes
    pending: bytes = b""
    last_at: int = NEVER
    last_uid: str = ""

    @property
    def position(self) -> tuple[int, str]:
        """The last event that weighed; an earlier one needs a fold from the start."""
        return self.last_at, self.last_uid


class View(NamedTuple):
    """A lane looked at from a moment; `likelihood` is None once the outcome has happened."""

    stage: str
    stage_since: int | None
    belief: dict[str, float]
    confidence: float
    likelihood: float | None
    fit: float
    engagement: float
    next_review_at: int | None


class Columns:
    """States of L lanes as arrays, lanes in the last axis."""

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

    def records(self, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        out = np.empty(self.ended.size, dtype)
        out["belief"], out["session"], out["points"] = self.belief.T, self.session.T, self.points.T
        out["window"], out["used"] = self.window.T, self.used.T
        out["stage"], out["since"] = self.published
        out["evidence_at"], out["ended"], out["points_at"] = (
            self.evidence_at,
            self.ended,
            self.points_at,
        )
        return out


new_row = tuple.__new__  # a Row without the detour over keywords
Observer = Callable[[Row, F, F], None]


class Journey:
    """The fold of one playbook."""

    def __init__(self, playbook: Playbook) -> None:
        self.playbook = playbook
        several = len(playbook.products) > 1
        self.model = StageModel(playbook.model, playbook.unnamed_product_weight if several else 1.0)
        self.fit = FitScore(playbook.fit)
        self.engagement = EngagementScore(playbook.engagement)
        self.reader = Reader(playbook, self.model.code, self.engagement.rule)
        k, m = self.model.k, self.model.sessions
        g, r = len(self.engagement.groups), len(self.engagement.acts)
        self.dtype = np.dtype([
            ("belief", "<f8", (k,)), ("evidence_at", "<i8"), ("stage", "<i8"), ("since", "<i8"),
            ("ended", "<i8"),
            ("session", "<i8", (m,)), ("points", "<f8", (g,)), ("points_at", "<i8"), ("window",
            "<i8", (r,)),
            ("used", "<i8", (r,)),
        ])  # fmt: skip
        void = np.zeros(1, self.dtype)
        void["belief"] = self.model.start
        void["stage"] = UNPUBLISHED
        for field in ("evidence_at", "since", "ended", "session", "points_at", "window"):
            void[field] = NEVER
        self._void = void.tobytes()

    def void(self, product: str) -> Lane:
        """The state before any event."""
        return Lane(product, self._void)

    def weighs(self, event: Interaction) -> bool:
        """Whether the event makes an instant; what does not never calls for a fold."""
        return self.reader.read(event).weighs

    # -- folding ----------------------------------------------------------------------------------

    def fold(self, lanes: Sequence[Lane], events: Sequence[Sequence[Event]]) -> list[Lane]:
        """States after `events[i]` on `lanes[i]`: sorted by (at, uid), all beyond the lane's
        position.

        A machine's open or click that undoes what was folded before is found by `cancels`; fold
        such a lane from void.
        """
        rows, out = [], []
        for lane, new in zip(lanes, events, strict=True):
            made, after = self.rows(lane, new)
            rows.append(made)
            out.append(after)
        columns = self._columns(lanes)
        self._run(columns, rows)
        records, size = columns.records(self.dtype).tobytes(), self.dtype.itemsize
        for i, lane in enumerate(out):
            lane.record = records[i * size : (i + 1) * size]
        return out

    def fold_all(self, product: str, events: Sequence[Sequence[Event]]) -> list[Lane]:
        """States of whole sets of events, each sorted by (at, uid)."""
        return self.fold([self.void(product)] * len(events), events)

    def cancels(self, lane: Lane, event: Event) -> bool:
        """Whether what a machine did may undo what has been folded.

        An open: its touch's open factor is in, or the touch is forgotten. A click: a person's lies
        beside it.
        """
        about = self.reader.read(event.data).about if event.data.machine else ""
        if not about:
            return False
        pending = _pending(lane.pending)
        touch, early = _touch_of(pending, event), pending.early.get(event.data.touch_id, Early())
        if about == "open":
            return touch.open == 1 if touch else early.machine_open == NEVER
        return event.at - (touch.clicked_at if touch else early.click) <= BESIDE

    def scanned(self, product: str, events: Sequence[Event]) -> set[str]:
        """Of all events of a lane, the people's clicks that are a machine's by what lies beside
        them.
        """
        others = set(self.playbook.products) - {product}
        clicks = [
            e
            for e in events
            if e.data.product not in others and self.reader.read(e.data).about == "click"
        ]
        by_machine = _machines((event, "click") for event in clicks)
        return {
            e.uid
            for e in clicks
            if not e.data.machine and _beside(by_machine.clicks.get(e.data.touch_id, ()), e.at)
        }

    def rows(self, lane: Lane, events: Sequence[Event]) -> tuple[list[Row], Lane]:
        """Turns events into instants, with the deadlines of touches between them; returns them and
        the lane without record.
        """
        read, products = self.reader.read, self.playbook.products
        shared = self.model.shared_offset if len(products) > 1 else 0
        rows: list[Row] = []
        touching: list[tuple[int, Event, Reading]] = []
        last = lane.position
        for event in events:
            reading = read(event.data)
            if not reading.weighs:
                continue
            product = event.data.product
            named = shared and product in products
            if named and product != lane.product:
                continue
            last = (event.at, event.uid)
            if reading.about:
                touching.append((len(rows), event, reading))
            else:
                code = (
                    reading.code + shared
                    if shared and not named and reading.code >= 0
                    else reading.code
                )
                rows.append(new_row(Row, (event.at, code, reading.rule, event.uid, "")))
        pending = lane.pending
        if (touching or pending) and last != lane.position:
            rows, pending = self._with_touches(_pending(pending), rows, touching, last)
        return rows, Lane(lane.product, b"", pending, *last)

    def _with_touches(
        self,
        pending: Pending,
        rows: list[Row],
        touching: list[tuple[int, Event, Reading]],
        last: tuple[int, str],
    ) -> tuple[list[Row], bytes]:
        """Merges plain rows with what touches, their answers and their deadlines add."""
        machines = _machines((event, reading.about) for _, event, reading in touching)
        for touch in pending.touches:
            if touch.id in machines.opens and touch.open == 0:
                touch.open = 2
        out: list[Row] = []
        cuts = [0, *(index for index, _, _ in touching), len(rows)]
        for part, (start, end) in enumerate(pairwise(cuts)):
            for row in rows[start:end]:
                out += self.deadlines(pending, row.at, inclusive=False)
                out.append(row)
            if part < len(touching):
                _, event, reading = touching[part]
                out += self.deadlines(pending, event.at, inclusive=False)
                out += self._touch(pending, event, reading, machines)
        out += self.deadlines(pending, last[0], inclusive=False)
        keep = bool(pending.touches or pending.early)
        return out, msgspec.msgpack.encode(pending) if keep else b""

    def _touch(
        self, pending: Pending, event: Event, reading: Reading, machines: Machines
    ) -> list[Row]:
        """What a send, an open or a click adds; changes `pending`."""
        data, about = event.data, reading.about
        touch = _touch_of(pending, event)
        if about == "send":
            return [] if touch else self._sent(pending, event, machines)
        if (
            about == "click"
            and not data.machine
            and _scanned(touch or pending.early.get(data.touch_id), event, machines)
        ):
            return []
        if touch is None:
            self._answered_early(pending, event, about)
        elif data.machine and about == "open":
            touch.open = 2
        elif data.machine:
            touch.scanned_at = event.at
        elif getattr(touch, about) == 0:
            return [self._answered(touch, about, event, event.at)]
        return []

    def _answered(self, touch: OpenTouch, about: str, event: Event, answered_at: int) -> Row:
        """The instant at which an open or a click counts."""
        setattr(touch, about, 1)
        if about == "click":
            touch.clicked_at = answered_at
        return Row(event.at, self.model.code[about], -1, event.uid, touch.id)

    def _answered_early(self, pending: Pending, event: Event, about: str) -> None:
        """Notes an answer whose send is not known yet; forgets those for which none came."""
        oldest = event.at - max(self.model.window.values())
        for name in [name for name, early in pending.early.items() if early.last < oldest]:
            del pending.early[name]
        field = (
            {"open": "machine_open", "click": "scanned_at"}[about] if event.data.machine else about
        )
        setattr(pending.early.setdefault(event.data.touch_id, Early()), field, event.at)

    def _sent(self, pending: Pending, event: Event, machines: Machines) -> list[Row]:
        """A send opens its windows; what answered it before counts now, at most one window
        early.
        """
        data, oldest = event.data, event.at - max(self.model.window.values())
        opens, clicks = (
            bool(data.properties.get(key)) for key in ("opens_tracked", "clicks_tracked")
        )
        early = pending.early.pop(data.touch_id, Early())
        cancelled = max(early.machine_open, machines.opens.get(data.touch_id, NEVER)) >= oldest
        touch = OpenTouch(
            data.touch_id, event.at, 0 if opens and not cancelled else 2, 0 if clicks else 2
        )
        touch.scanned_at = early.scanned_at
        pending.touches.append(touch)
        return [
            self._answered(touch, about, event, answered_at)
            for about, answered_at in (("open", early.open), ("click", early.click))
            if answered_at >= oldest and getattr(touch, about) == 0
        ]

    def deadlines(self, pending: Pending, until: int, *, inclusive: bool) -> list[Row]:
        """The no-opens and no-clicks that are due before `until`, in order; forgets touches whose
        windows are closed.
        """
        due: list[tuple[int, str, str]] = []
        limit = until + 1 if inclusive else until
        for touch in pending.touches:
            for kind, window in self.model.window.items():
                if touch.sent_at + window < limit and getattr(touch, kind) == 0:
                    due.append((touch.sent_at + window, touch.id, kind))
                    setattr(touch, kind, 1)
        longest = max(self.model.window.values()) + BESIDE
        pending.touches = [touch for touch in pending.touches if touch.sent_at + longest >= limit]
        due.sort()
        return [Row(at, self.model.code[f"no_{kind}"], -1, "", touch) for at, touch, kind in due]

    # -- the kernel -------------------------------------------------------------------------------

    def _columns(self, lanes: Sequence[Lane]) -> Columns:
        return Columns(np.frombuffer(b"".join(lane.record for lane in lanes), self.dtype))

    def _run(
        self, columns: Columns, rows: Sequence[Sequence[Row]], observe: Observer | None = None
    ) -> None:
        """Folds `rows[i]` into lane i: the j-th row of every lane at once."""
        counts = np.array([len(made) for made in rows], np.int64)
        flat = list(chain.from_iterable(rows))
        if not flat:
            return
        at, code, act = (
            np.fromiter(map(itemgetter(n), flat), np.int64, len(flat)) for n in range(3)
        )
        first = np.concatenate(([0], np.cumsum(counts)[:-1]))
        order = np.argsort(-counts, kind="stable")
        lengths = counts[order]
        for j in range(int(lengths[0])):
            lanes = order[: int(np.searchsorted(-lengths, -j, side="left"))]
            at_j = first[lanes] + j
            self._round(
                columns,
                lanes,
                at[at_j],
                code[at_j],
                act[at_j],
                rows[0][j] if observe else None,
                observe,
            )

    def _round(
        self,
        c: Columns,
        lanes: I,
        at: I,
        code: I,
        act: I,
        row: Row | None = None,
        observe: Observer | None = None,
    ) -> None:
        """One row of each of `lanes`."""
        fresh = self._fresh(c, lanes, at, code)
        acts = fresh & (act >= 0)
        if acts.any():
            some = np.flatnonzero(acts)
            self._count(c, lanes[some], at[some], act[some])
        ended = c.ended[lanes] > NEVER
        restart = code % self.model.shared_offset == self.model.code["restart"]
        purchase = code % self.model.shared_offset == self.model.code["purchase"]
        live = fresh & (code >= 0) & (~ended | restart | purchase)
        if live.all():
            self._filter(c, lanes, at, code, row, observe)
        elif live.any():
            some = np.flatnonzero(live)
            self._filter(c, lanes[some], at[some], code[some], row, observe)

    def _fresh(self, c: Columns, lanes: I, at: I, code: I) -> B:
        """False where the same mark, or word of sales, opened a session less than its gap before;
        opens sessions.

        Another word of sales ends those of the rest: won, lost and won again are three facts.
        """
        mark = np.where(code >= 0, self.model.session_of_code[code], -1)
        marked = mark >= 0
        last = c.session[mark, lanes]
        fresh = ~marked | (at - last > self.model.session_gap)
        begins = np.flatnonzero(marked & fresh)
        first = len(self.model.marks)
        words = begins[mark[begins] >= first]
        if words.size:
            c.session[first:, lanes[words]] = NEVER
        c.session[mark[begins], lanes[begins]] = at[begins]
        return fresh

    def _count(self, c: Columns, lanes: I, at: I, act: I) -> None:
        """Adds engagement points within their frequency limits."""
        rules = self.engagement
        renew = at - c.window[act, lanes] >= rules.period[act]
        c.window[act, lanes] = np.where(renew, at, c.window[act, lanes])
        used = np.where(renew, 0, c.used[act, lanes])
        counts = np.flatnonzero(used < rules.limit[act])
        c.used[act, lanes] = used + 1
        lanes, at, act = lanes[counts], at[counts], act[counts]
        points = rules.decayed(c.points[:, lanes], c.points_at[lanes], at)
        points[rules.group[act], np.arange(lanes.size)] += rules.points[act]
        c.points[:, lanes] = points
        c.points_at[lanes] = at

    def _filter(
        self, c: Columns, lanes: I, at: I, code: I, row: Row | None, observe: Observer | None
    ) -> None:
        """Silence, then the signal, then the published stage."""
        model = self.model
        belief, evidence_at = c.belief[:, lanes], c.evidence_at[lanes]
        published = Publication(c.published.stage[lanes], c.published.since[lanes])
        free = c.ended[lanes] == NEVER
        published = model.review(belief, evidence_at, at, published, free, inclusive=False)
        days = np.where(free & (evidence_at > NEVER), at - evidence_at, 0) / DAY
        silent = np.where(days > 0, model.advance(belief, days), belief)
        after = model.update(silent, code)
        special = code % model.shared_offset
        restart = special == model.code["restart"]
        after = np.where(restart, model.start[:, None], after)
        ends = (special == model.code["outcome"]) | (special == model.code["purchase"])
        want = np.where(model.publishes_nothing[code] | ends, UNPUBLISHED, model.candidate(after))
        want = np.where(model.forced[code] >= 0, model.forced[code], want)
        published = model.publish(published, want, at, np.ones(at.size, np.bool_))
        forced = (model.forced[code] >= 0) & (published.stage != model.forced[code])
        published = Publication(
            np.where(forced, want, published.stage), np.where(forced, at, published.since)
        )
        if observe and row:
            observe(row, silent, after)
        c.belief[:, lanes] = after
        c.evidence_at[lanes] = at
        c.published.stage[lanes], c.published.since[lanes] = published
        c.ended[lanes] = np.where(ends, at, np.where(restart, NEVER, c.ended[lanes]))

    # -- looking ----------------------------------------------------------------------------------

    def view(self, lanes: Sequence[Lane], now: Sequence[int], fits: Sequence[float]) -> list[View]:
        """The lanes as they look at `now[i]`: silence since the last evidence included."""
        columns, until = self._columns(lanes), np.array(now, np.int64)
        pendings = [_pending(lane.pending) if lane.pending else None for lane in lanes]
        rows = [
            self.deadlines(pending, moment, inclusive=True) if pending else []
            for pending, moment in zip(pendings, now, strict=True)
        ]
        self._run(columns, rows)
        model, free = self.model, columns.ended == NEVER
        stage, since = model.review(
            columns.belief, columns.evidence_at, until, columns.published, free, inclusive=True
        )
        days = np.where(free & (columns.evidence_at > NEVER), until - columns.evidence_at, 0) / DAY
        belief = np.where(days > 0, model.advance(columns.belief, days), columns.belief)
        chance = likelihood(model, self.fit, belief, np.array(fits, float), columns.ended)
        points = self.engagement.shown(
            self.engagement.decayed(columns.points, columns.points_at, until)
        )
        names = [*self.playbook.stages, UNKNOWN]
        reviews, beliefs = self._reviews(columns, until), belief.T.tolist()
        looks = zip(
            stage.tolist(),
            since.tolist(),
            beliefs,
            chance.tolist(),
            fits,
            points.tolist(),
            reviews,
            pendings,
            now,
            strict=True,
        )
        return [
            View(
                stage=names[stage],
                stage_since=since if since > NEVER else None,
                belief=dict(zip(model.stages, belief, strict=True)),
                confidence=max(belief),
                likelihood=None if isnan(chance) else chance,
                fit=fit,
                engagement=engagement,
                next_review_at=self._next(review, pending, moment) if pending else review,
            )
            for stage, since, belief, chance, fit, engagement, review, pending, moment in looks
        ]

    def _reviews(self, columns: Columns, until: I) -> list[int | None]:
        """The next review day of each lane."""
        review_us = self.model.review_us
        day = np.searchsorted(review_us, until - columns.evidence_at, side="right")
        ahead = (columns.ended == NEVER) & (columns.evidence_at > NEVER) & (day < review_us.size)
        instants = columns.evidence_at + review_us[np.minimum(day, review_us.size - 1)]
        return [
            instant if due else None
            for instant, due in zip(instants.tolist(), ahead.tolist(), strict=True)
        ]

    def _next(self, review: int | None, pending: Pending, now: int) -> int | None:
        """The next instant at which silence may change something: a review day, or the end of a
        touch's window.
        """
        instants = [
            touch.sent_at + window
            for touch in pending.touches
            for kind, window in self.model.window.items()
            if getattr(touch, kind) == 0 and touch.sent_at + window > now
        ]
        return min([*instants, *([review] if review is not None else [])], default=None)

    def trace(
        self, product: str, events: Sequence[Event], now: int, observe: Observer
    ) -> tuple[F, int, bool]:
        """Folds one lane from the start, telling `observe(row, belief after silence, belief after
        the row)` each instant.

        Returns the belief at `now` (K, 1), when the last evidence was, and whether the outcome has
        happened.
        """
        lane = self.void(product)
        rows, after = self.rows(lane, events)
        if after.pending:
            rows += self.deadlines(_pending(after.pending), now, inclusive=True)
        columns = self._columns([lane])
        self._run(columns, [rows], observe)
        evidence_at, ended = int(columns.evidence_at[0]), bool(columns.ended[0] > NEVER)
        belief = columns.belief
        if not ended and evidence_at > NEVER and now > evidence_at:
            belief = self.model.advance(belief, np.array([(now - evidence_at) / DAY]))
        return belief, evidence_at, ended


def _machines(events: Iterable[tuple[Event, str]]) -> Machines:
    """What machines do among events in order, each with what it is about."""
    machines = Machines({}, {})
    for event, about in events:
        if event.data.machine and about == "open":
            machines.opens[event.data.touch_id] = event.at
        elif event.data.machine and about == "click":
            machines.clicks.setdefault(event.data.touch_id, []).append(event.at)
    return machines


def _scanned(known: OpenTouch | Early | None, click: Event, machines: Machines) -> bool:
    """Whether a machine clicked beside a person's click: in this batch, before or after it, or last
    before the batch.
    """
    past = known is not None and click.at - known.scanned_at <= BESIDE
    return past or _beside(machines.clicks.get(click.data.touch_id, ()), click.at)


def _beside(clicks: Sequence[int], at: int) -> bool:
    first = bisect_left(clicks, at - BESIDE)
    return first < len(clicks) and clicks[first] <= at + BESIDE


def _touch_of(pending: Pending, event: Event) -> OpenTouch | None:
    return next((touch for touch in pending.touches if touch.id == event.data.touch_id), None)


def _pending(packed: bytes) -> Pending:
    return msgspec.msgpack.decode(packed, type=Pending) if packed else Pending()
