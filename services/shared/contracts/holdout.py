"""The arms of the experiment: accounts that no program touches, accounts that get the same content
by the calendar, and all others; drawn by a hash. Pure.
"""

import hashlib
from typing import Literal

from services.shared.contracts.identity import Cleaner

Arm = Literal["treated", "calendar", "holdout"]


def unit_of(email: str, user_id: str, lead: str, cleaner: Cleaner) -> str:
    """The account that is drawn: the domain of the address; the address itself where the domain
    gives mailboxes to everybody; without an address the user id, else the lead's id.
    """
    domain = email.rpartition("@")[2]
    account = email if cleaner.is_free_mail(domain) else domain
    return account or user_id or lead


def draw_of(unit: str, salt: str) -> float:
    """Between 0 and 1, by the SHA-256 of salt and account, so that it never changes."""
    drawn = hashlib.sha256(f"{salt}:{unit}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") / 2**64


def arm_of(draw: float, held_out: float, by_calendar: float) -> Arm:
    """The arm of a draw by the shares of two arms: the hold-out has the lowest draws and the
    calendar the highest, so that neither's share moves the accounts of the other.
    """
    if draw < held_out:
        return "holdout"
    return "calendar" if by_calendar and draw >= 1 - by_calendar else "treated"
