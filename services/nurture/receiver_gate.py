"""How much mail goes out: the ramp of a new sender, the rate of a receiver, and receivers that are
stopped.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Self

from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncConnection

from services.nurture.rules.cadence import Over
from services.nurture.rules.grounds import Rules
from services.nurture.rules.lead import Lead
from services.nurture.rules.receivers import (
    HOUR,
    Hold,
    Verdict,
    day_limit,
    ramp_hold,
    rate_hold,
    receiver_of,
    verdict,
)
from services.nurture.store.receivers import ReceiverStore, Refusal
from services.shared.contracts.events import Touch
from services.shared.playbook.sections import Sending


class ReceiverGate:
    """What holds mails of one batch, by what has gone out; `taken` counts each that goes.

    While it is in use nobody else counts, until the end of its transaction.
    """

    def __init__(self, sending: Sending, now: datetime) -> None:
        self._sending, self._now, self._since = sending, now, now
        self._times: dict[str, list[datetime]] = defaultdict(list)
        self._today = 0
        self._refusals: dict[str, Refusal] = {}
        self._verdicts: dict[str, Verdict] = {}

    @classmethod
    async def of(
        cls,
        connection: AsyncConnection,
        rules: Rules,
        domain: str,
        leads: Iterable[Lead],
        now: datetime,
    ) -> Self | None:
        """What holds mails of a sender's domain to these leads; None where a local sink takes them
        all.
        """
        if rules.sink:
            return None
        gate = cls(rules.playbook.sending, now)
        receivers = {receiver_of(lead.snapshot.email) for lead in leads if lead.snapshot.email}
        await gate.read(connection, sorted(receivers), domain)
        return gate

    def checked(self, touch: Touch, receiver: str) -> Touch:
        """A mail that is to be sent, due later where its receiver or the sender's ramp holds it."""
        if touch.status != "sending" or touch.channel != "email":
            return touch
        hold = self.hold(receiver, is_requested=bool(touch.requested))
        if hold is None:
            return touch
        return replace(touch, status="due", due_at=hold.over.at, reason=hold.reason)

    async def read(
        self, connection: AsyncConnection, receivers: Sequence[str], domain: str
    ) -> None:
        """Reads what has gone out, from the sender's domain, to these receivers among others."""
        store = ReceiverStore(connection)
        await store.lock()
        self._since = await store.sender_since(domain, self._now)
        limit = day_limit(self._sending, self._since, self._now)
        if limit is not None:
            today = self._now.replace(hour=0, minute=0, second=0, microsecond=0)
            self._today = await store.sent_since(today, limit)
        self._times |= await store.last_times(
            receivers, self._now - HOUR, self._now, self._sending.per_hour
        )
        self._refusals = await store.refusals(self._now)
        counts = await store.complaints(receivers, self._now)
        self._verdicts = {receiver: verdict(of) for receiver, of in counts.items()}

    def hold(self, receiver: str, *, is_requested: bool) -> Hold | None:
        """What holds a mail to a receiver at this moment; what was asked for only a stop does."""
        if refusal := self._refusals.get(receiver):
            return Hold(Over(refusal.until, refusal.why), "receiver_stopped")
        judged = self._verdicts.get(receiver)
        if judged and judged.state == "stopped":
            return Hold(Over(self._now + HOUR, judged.why), "receiver_stopped")
        if is_requested:
            return None
        if over := ramp_hold(self._sending, self._since, self._today, self._now):
            return Hold(over, "sender_ramp")
        if over := rate_hold(self._sending, receiver, self._times[receiver], self._now):
            return Hold(over, "receiver_rate")
        return None

    def taken(self, receiver: str) -> None:
        """A mail goes out to the receiver."""
        self._times[receiver].append(self._now)
        self._today += 1
