"""Addresses that mails have not reached for a while: soft bounces in a row. Pure.

Kept for each address are the newest days with a soft bounce, and when a mail last reached it; both
are a join of sets of events, in whatever order these come.
"""

from collections.abc import Mapping

import msgspec

from services.shared.contracts.event_types import REACHED
from services.shared.contracts.events import Interaction

DAY_US = 86_400_000_000
IN_A_ROW = 3  # days with a soft bounce, and none on which a mail arrived in between
FOR_DAYS = 13  # between the first and the last: fourteen calendar days
LONGEST_GAP_DAYS = 45  # what lies further apart is no row: mails in between may have arrived unseen
MOST_DAYS = 16  # kept of an address; so many days are a row by themselves
MOST_ADDRESSES = 20  # kept of a lead
NEVER = -(1 << 62)


class Deliveries(msgspec.Struct, array_like=True, frozen=True):
    """Of one address: times (µs) of the first soft bounce on each of the newest days, ascending,
    and when a mail last reached it.
    """

    soft: tuple[int, ...] = ()
    reached: int = NEVER

    def join(self, other: "Deliveries") -> "Deliveries":
        """Of both sets."""
        first: dict[int, int] = {}
        for at in (*self.soft, *other.soft):
            first[at // DAY_US] = min(at, first.get(at // DAY_US, at))
        return Deliveries(
            tuple(sorted(first.values())[-MOST_DAYS:]), max(self.reached, other.reached)
        )

    def suppressed_at(self) -> int | None:
        """The last bounce (µs) of a row that is long enough; None where mails may go on."""
        row: list[int] = []
        for at in self.soft:
            if at <= self.reached:
                continue
            if row and at // DAY_US - row[-1] // DAY_US > LONGEST_GAP_DAYS:
                row = []
            row.append(at)
        if len(row) < IN_A_ROW or row[-1] // DAY_US - row[0] // DAY_US < FOR_DAYS:
            return None
        return row[-1]


NONE = Deliveries()


def of_event(data: Interaction, at: int) -> Deliveries | None:
    """What an event says of the address that it names; None where it says nothing."""
    if data.type in REACHED:
        return Deliveries(reached=at)
    if data.type == "email_bounced" and str(data.properties.get("type", "")).lower() == "soft":
        return Deliveries((at,))
    return None


def joined(one: Mapping[str, Deliveries], other: Mapping[str, Deliveries]) -> dict[str, Deliveries]:
    """Both, of at most so many addresses: the first in their own order, so that the order of events
    decides nothing; '' stands for events that name none and is the first.
    """
    both = dict(one)
    for address, deliveries in other.items():
        both[address] = both.get(address, NONE).join(deliveries)
    return {address: both[address] for address in sorted(both)[:MOST_ADDRESSES]}


def suppressed_at(known: Mapping[str, Deliveries], address: str) -> int | None:
    """Since when (µs) nothing is sent to an address, None where that is not so; events that name
    no address count for each.
    """
    own = known.get(address)
    if own is None and "" not in known:
        return None
    return known.get("", NONE).join(own or NONE).suppressed_at()
