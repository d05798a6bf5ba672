"""What a list of leads is asked for."""

from typing import Literal, get_args

import msgspec

from services.shared.contracts.sales import SalesStatus
from services.shared.playbook.sections import CUSTOMER

Order = Literal["likelihood", "engagement", "fit", "last_event_at"]
ORDERS: tuple[Order, ...] = get_args(Order)
SalesFilter = SalesStatus | Literal["", "none", "any"]
SALES_FILTERS: tuple[SalesFilter, ...] = ("", "any", "none", *get_args(SalesStatus))


class LeadFilter(msgspec.Struct, frozen=True):
    """Which leads, highest first by `order`; '' and None ask for nothing.

    Without a `sales_status` those are left out that sales disqualified or won, but of customers
    only the disqualified. `updated_since` (µs) is of the stored numbers.
    """

    product: str
    stage: str = ""
    min_likelihood: float | None = None
    min_fit: float | None = None
    min_engagement: float | None = None
    sales_status: SalesFilter = ""
    updated_since: int | None = None
    company: str = ""
    order: Order = "likelihood"
    limit: int = 50
    cursor: str = ""

    @property
    def leaves_out(self) -> tuple[SalesStatus, ...]:
        """The statuses that are left out because nobody asked for them."""
        if self.sales_status:
            return ()
        return ("disqualified",) if self.stage == CUSTOMER else ("won", "disqualified")

    @property
    def scope(self) -> str:
        """The name under which this list's cursors are made: the same for all of its pages."""
        return msgspec.json.encode(msgspec.structs.replace(self, cursor="", limit=0)).decode()
