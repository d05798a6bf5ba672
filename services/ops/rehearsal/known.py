"""What nurture knows of one lead, in memory: what its tables hold in a system that runs."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec.structs import replace

from services.nurture.rules.cadence import ANSWERED_FOR, LOOK_BACK, WITH_SALES
from services.nurture.rules.enrolment import Enrolment
from services.nurture.rules.lead import Had, Lead
from services.nurture.store.enrolments import CHANGED_BY_NEWS
from services.shared.clock import to_us
from services.shared.contracts.consent import snapshot_key
from services.shared.contracts.events import Change, Snapshot, Touch

MARKETING = snapshot_key("email", "marketing")
CALLING = snapshot_key("phone", "marketing")
POLL = timedelta(seconds=1)  # after which what is due is looked at
# after which what comes next is decided: the news of one visit are one
SOON = timedelta(minutes=10)


class Known:
    """One lead: its snapshots by product, what it has had and done, its programs, what is due."""

    def __init__(self, lead: str) -> None:
        self.id = lead
        self.enrolments: dict[str, Enrolment] = {}
        self.due: dict[str, Touch] = {}
        self.decided: set[str] = set()
        self.next_at: int | None = None
        self._snapshots: dict[str, Snapshot] = {}
        self._done: dict[str, datetime | None] = {}
        self._had: list[Had] = []
        self._sends: list[datetime] = []
        self._requested: list[tuple[datetime, str]] = []

    def lead(self, product: str, now: datetime, *, account_with_sales: bool) -> Lead:
        """The lead for a decision, as `LeadStore.leads` reads it."""
        snapshot = self._snapshots[product]
        busy = (of.sales_status for of in self._snapshots.values() if of.sales_status in WITH_SALES)
        if with_sales := next(busy, ""):
            snapshot = replace(snapshot, sales_status=with_sales)
        return Lead(
            id=self.id,
            snapshot=snapshot,
            address=snapshot.email,
            consent=snapshot.consents.get(MARKETING),
            phone_consent=snapshot.consents.get(CALLING),
            seen=frozenset(self._done),
            done={content: at for content, at in self._done.items() if at},
            had=tuple(self._had),
            recent_sends=tuple(at for at in self._sends if at > now - LOOK_BACK),
            answered=frozenset(
                content for at, content in self._requested if at > now - ANSWERED_FOR
            ),
            account_with_sales=account_with_sales,
        )

    def snapshot(self, product: str) -> Snapshot:
        """The newest of the product."""
        return self._snapshots[product]

    def keep(self, change: Change, at: datetime) -> None:
        """Keeps what a change says of the lead."""
        snapshot = change.snapshot
        if snapshot is None:
            return
        self._snapshots[change.product] = snapshot
        last = Lead(self.id, snapshot).last_answer_at
        for content in change.content:
            self._done[content] = max(last or at, self._done.get(content) or last or at)
        if last:
            self._answered(last)

    def _answered(self, at: datetime) -> None:
        """Of the last touch before it: when the lead first did something after it."""
        for place in range(len(self._had) - 1, -1, -1):
            one = self._had[place]
            if one.sent_at < at:
                if one.answered_at is None or one.answered_at > at:
                    self._had[place] = replace(one, answered_at=at)
                return

    def sent(self, touch: Touch, now: datetime) -> None:
        """Keeps a touch that has gone out."""
        self._done.setdefault(touch.content, None)
        if touch.requested:
            self._requested.append((now, touch.content))
            return
        self._sends.append(now)
        self._had.append(Had(touch.id, touch.program, touch.content, touch.channel, now))

    def call(self, now: datetime) -> None:
        """There is news of the lead: what waits for that is asked again."""
        for touch in [*self.due.values()]:
            if touch.due_at and touch.due_at > now and touch.reason in CHANGED_BY_NEWS:
                self.due[touch.id] = replace(touch, due_at=now)
        for one in [*self.enrolments.values()]:
            if one.state in ("active", "left") and one.last_touch not in self.due:
                self._next(one, now + SOON)

    def call_after(self, program: str, now: datetime) -> None:
        """A touch of the program has its outcome."""
        one = self.enrolments.get(program)
        if one and one.state in ("active", "left"):
            self.enrolments[program] = replace(one, next_at=now)

    def _next(self, one: Enrolment, at: datetime) -> None:
        soon = at if one.next_at is None else min(one.next_at, at)
        self.enrolments[one.program] = replace(one, next_at=soon)

    def is_pending(self, program: str) -> bool:
        """Whether a touch of the program waits that nobody asked for."""
        return any(touch.program == program and not touch.requested for touch in self.due.values())

    def plan(self) -> None:
        """Notes when the lead is looked at next."""
        moments = [*self._touch_moments(), *self._enrolment_moments()]
        self.next_at = min(map(to_us, moments), default=None)

    def _touch_moments(self) -> Iterable[datetime]:
        return (touch.due_at + POLL for touch in self.due.values() if touch.due_at)

    def _enrolment_moments(self) -> Iterable[datetime]:
        return (one.next_at for one in self.enrolments.values() if one.next_at)
