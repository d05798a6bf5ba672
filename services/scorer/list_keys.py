"""What lists are filtered by, as numbers that an index holds beside a place in its order."""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

from services.scorer.model.profile import Profile
from services.shared.contracts.identity import Cleaner
from services.shared.contracts.sales import SalesStatus

MEMORY = 10_000
# Ranks of sales' statuses: lists end below the rank of those that they leave out.
NO_STATUS, WON, DISQUALIFIED = 0, 8, 9
SALES_RANKS: Mapping[SalesStatus | Literal[""], int] = {
    "accepted": 1,
    "rejected": 2,
    "opportunity": 3,
    "lost": 4,
    "refunded": 5,
    "churned": 6,
    "returned": 7,
    "won": WON,
    "disqualified": DISQUALIFIED,
}


@lru_cache(maxsize=MEMORY)  # companies come again and again
def company_key(company: str) -> int:
    """The number of a company, whatever its case and blanks; 0 of none."""
    name = " ".join(company.casefold().split())
    if not name:
        return 0
    digest = hashlib.blake2b(name.encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def company_of(profile: Profile, cleaner: Cleaner) -> str:
    """The company that a lead names, or else the domain of its address, unless anybody can have an
    address there; '' where there is none.
    """
    trait = profile.traits.get("company")
    for known in (trait, profile.company):
        if known and known.value is not None:
            return str(known.value)
    domain = profile.email.rpartition("@")[2]
    return "" if cleaner.is_free_mail(domain) else domain
