"""What a list of leads is asked for."""

from typing import Literal, get_args

import msgspec

Order = Literal["likelihood", "engagement", "fit", "last_event_at"]
ORDERS: tuple[Order, ...] = get_args(Order)


class LeadFilter(msgspec.Struct, frozen=True):
    """Which leads, highest first by `order`; '' and None ask for nothing."""

    product: str
    stage: str = ""
    min_likelihood: float | None = None
    min_fit: float | None = None
    min_engagement: float | None = None
    order: Order = "likelihood"
    limit: int = 50
    cursor: str = ""

    @property
    def scope(self) -> str:
        """The name under which this list's cursors are made: the same for all of its pages."""
        return msgspec.json.encode(msgspec.structs.replace(self, cursor="", limit=0)).decode()
