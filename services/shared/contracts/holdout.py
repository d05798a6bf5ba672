"""The permanent hold-out: which accounts no program touches, drawn by a hash. Pure."""

import hashlib

from services.shared.contracts.identity import Cleaner


def unit_of(email: str, user_id: str, lead: str, cleaner: Cleaner) -> str:
    """The account that is drawn: the domain of the address; the address itself where the domain
    gives mailboxes to everybody; without an address the user id, else the lead's id.
    """
    domain = email.rpartition("@")[2]
    account = email if cleaner.is_free_mail(domain) else domain
    return account or user_id or lead


def draw_of(unit: str, salt: str) -> float:
    """Between 0 and 1, by the SHA-256 of salt and account, so that it never changes; an account is
    held out where it is below the hold-out's share.
    """
    drawn = hashlib.sha256(f"{salt}:{unit}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") / 2**64
