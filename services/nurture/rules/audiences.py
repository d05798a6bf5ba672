"""Who is in an audience, and what other tools learn of them. Pure."""

import hashlib
from typing import NamedTuple

from services.nurture.rules.consent import permitted
from services.nurture.rules.grounds import Rules
from services.nurture.rules.holdout import is_held_out
from services.nurture.rules.lead import Lead
from services.nurture.rules.time_zones import country_of
from services.shared.contracts.events import ConsentState
from services.shared.playbook.audiences import Audience

NAMES = ("first_name", "last_name", "language")  # traits that a newsletter addresses people by
LONGEST = 200  # characters of a trait


class Candidate(NamedTuple):
    """A lead with what counts of the audience's consent, and of mails for marketing, to its
    address; `programs` are those that it is in.
    """

    lead: Lead
    consent: ConsentState | None
    mails: ConsentState | None
    programs: frozenset[str]


def is_member(rules: Rules, audience: Audience, one: Candidate) -> bool:
    """Whether a lead is in an audience that is no suppression list: it has consented, fits every
    filter, and is neither left out nor held out. A newsletter reaches nobody who refuses mails.
    """
    snapshot, playbook = one.lead.snapshot, rules.playbook
    double = playbook.consent.double_opt_in and audience.asks[0] == "email"
    if not snapshot.email or snapshot.excluded or not permitted(one.consent, double_opt_in=double):
        return False
    is_mail = audience.purpose == "newsletter"
    if is_mail and one.mails and one.mails.state == "withdrawn":
        return False
    return _fits(rules, audience, one) and not is_held_out(
        one.lead, playbook.holdout, rules.cleaner
    )


def row_of(rules: Rules, audience: Audience, lead: Lead) -> dict[str, str]:
    """What goes out of a member, by column; no more than its purpose needs."""
    row = address_of(audience, lead.snapshot.email)
    if audience.purpose != "newsletter":
        return row
    traits = lead.snapshot.traits
    for name in NAMES:
        value = traits.get(name)
        row[name] = value[:LONGEST] if isinstance(value, str) else ""
    return row | {"stage": lead.snapshot.stage, "persona": rules.library.persona(traits).id}


def columns_of(audience: Audience) -> list[str]:
    """The columns of an audience, in order."""
    address = "email_sha256" if audience.hashed else "email"
    is_newsletter = audience.purpose == "newsletter"
    return [address, *NAMES, "stage", "persona"] if is_newsletter else [address]


def address_of(audience: Audience, email: str) -> dict[str, str]:
    """The address, or its SHA-256, lower-cased, as advertising tools compare it."""
    plain = email.strip().lower()
    if audience.hashed:
        return {"email_sha256": hashlib.sha256(plain.encode()).hexdigest()}
    return {"email": plain}


def _fits(rules: Rules, audience: Audience, one: Candidate) -> bool:
    snapshot = one.lead.snapshot
    country = country_of(snapshot.traits, rules.playbook.company.timezone)
    persona = rules.library.persona(snapshot.traits).id
    return (
        snapshot.stage in (audience.stages or [snapshot.stage])
        and persona in (audience.personas or [persona])
        and snapshot.product in (audience.products or [snapshot.product])
        and (not audience.sales or snapshot.sales_status in audience.sales)
        and country.lower() in ([c.lower() for c in audience.countries] or [country.lower()])
        and (not audience.programs or not one.programs.isdisjoint(audience.programs))
    )
