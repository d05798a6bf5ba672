"""The permanent hold-out: accounts that are never nurtured, so that its effect can be measured
(N10, M2). Pure.
"""

import hashlib

from services.nurture.rules.lead import Lead
from services.shared.contracts.identity import Cleaner
from services.shared.playbook.sections import Holdout


def is_held_out(lead: Lead, holdout: Holdout, cleaner: Cleaner) -> bool:
    """Drawn by the SHA-256 of salt and account, so that it never changes.

    The account is the domain of the address; the address itself where the domain gives mailboxes
    to everybody; without an address the user id, else the lead's id.
    """
    email = lead.snapshot.email
    domain = email.rpartition("@")[2]
    account = email if cleaner.is_free_mail(domain) else domain
    unit = account or lead.snapshot.user_id or lead.id
    drawn = hashlib.sha256(f"{holdout.salt}:{unit}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") / 2**64 < holdout.share
