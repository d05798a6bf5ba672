"""The formats that ingest takes: one pure file each, and one entry here."""

from services.ingest.sources import (
    canonical,
    cloudevents,
    forms,
    hubspot,
    imports,
    inbound,
    mailchimp,
    mailgun,
    mailgun_inbound,
    mapped,
    postmark,
    segment,
    sendgrid,
    sendgrid_inbound,
    typeform,
)
from services.ingest.sources.contract import Foreign, Item, Post, Refused, Reply, Secret, Source
from services.shared.playbook import SECTIONS, Broken, Playbook, Problem

__all__ = ["FORMS", "MAILBOX", "SOURCES", "Foreign", "Item", "Post", "Refused", "Reply", "Secret", "Source", "served"]

SOURCES = (
    canonical.SOURCE,
    cloudevents.SOURCE,
    segment.SOURCE,
    imports.SOURCE,
    sendgrid.SOURCE,
    mailgun.SOURCE,
    postmark.SOURCE,
    mailchimp.SOURCE,
    typeform.SOURCE,
    mailgun_inbound.SOURCE,
    sendgrid_inbound.SOURCE,
)
FORMS, MAILBOX = forms.SOURCE, inbound.MAILBOX


def served(playbook: Playbook) -> list[Source]:
    """Every source of an installation: those that all have, and those that its playbook maps. Raises `Broken`."""
    sources = [*SOURCES, hubspot.source(frozenset(playbook.crm.fields))]
    taken = {source.door for source in (*sources, FORMS, MAILBOX)} | {"links"}
    problems = [
        Problem(SECTIONS["senders"], 1, f"the id {rule.id!r} is that of a source that everybody has", "Choose another one")
        for rule in playbook.senders
        if rule.id in taken
    ]
    if problems:
        raise Broken(problems)
    return [*sources, *map(mapped.source, playbook.senders)]
