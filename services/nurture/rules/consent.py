"""Permissions: whether what counts permits, and what is missing. Pure."""

from datetime import datetime

from services.nurture.rules.lead import Lead
from services.shared.contracts.consent import DOUBLE_OPT_IN, SOFT_BOUNCES
from services.shared.contracts.events import ConsentState


def permitted(consent: ConsentState | None, *, double_opt_in: bool) -> bool:
    """Unknown permission is none; with double opt-in only the confirmed one counts."""
    if consent is None or consent.state != "given":
        return False
    return consent.basis == DOUBLE_OPT_IN or not double_opt_in


def why_not_permitted(
    consent: ConsentState | None, *, double_opt_in: bool, what: str = "to write to"
) -> str | None:
    """What is missing for a mail that nobody asked for, or for `what` else; None where nothing
    is.
    """
    if permitted(consent, double_opt_in=double_opt_in):
        return None
    if consent is None:
        return f"no permission {what} this lead is known"
    return _withdrawn(consent) or "the permission is not confirmed"


def why_not_by(channel: str, lead: Lead, *, double_opt_in: bool) -> str | None:
    """What is missing for a touch of this channel that nobody asked for; None where nothing is."""
    if channel == "call":  # which nobody confirms from a mailbox
        return why_not_permitted(lead.phone_consent, double_opt_in=False, what="to call")
    return why_not_permitted(lead.consent, double_opt_in=double_opt_in)


def withdrawn_since(consent: ConsentState | None, at: datetime) -> str | None:
    """What somebody asks for is sent whatever was refused before; not to who refuses later."""
    return _withdrawn(consent) if consent and consent.at > at else None


def _withdrawn(consent: ConsentState) -> str | None:
    if consent.state != "withdrawn":
        return None
    if consent.basis == SOFT_BOUNCES:
        return (
            "three or more mails in a row came back over two weeks (a full mailbox or a block), "
            f"the last on {consent.at:%Y-%m-%d}"
        )
    return f"the lead took the permission back on {consent.at:%Y-%m-%d}"
