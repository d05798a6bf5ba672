"""Every source of an installation: the formats and mailboxes of all, and those that its playbook
maps.
"""

from services.ingest.mailbox import inbound
from services.ingest.mailbox import mailgun as mailgun_inbound
from services.ingest.mailbox import sendgrid as sendgrid_inbound
from services.ingest.sources import (
    canonical,
    cloudevents,
    forms,
    hubspot,
    imports,
    jitsu,
    mailchimp,
    mailgun,
    mapped,
    postmark,
    segment,
    sendgrid,
    typeform,
)
from services.ingest.sources.contract import Source, Words
from services.shared.contracts.consent_words import ConsentWords
from services.shared.playbook.loading import SECTIONS, FileProblem, InvalidFile
from services.shared.playbook.sections import Playbook

SOURCES = (
    canonical.SOURCE,
    cloudevents.SOURCE,
    imports.SOURCE,
    segment.SOURCE,
    jitsu.SOURCE,
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
    """Every source of an installation: those that all have, and those that its playbook maps.
    Raises `InvalidFile`.
    """
    sources = [*SOURCES, hubspot.source(frozenset(playbook.crm.fields))]
    taken = {source.name for source in (*sources, FORMS, MAILBOX)} | {"links"}
    problems = [
        FileProblem(
            SECTIONS["senders"],
            1,
            f"the id {rule.id!r} is that of a source that everybody has",
            "Choose another one",
        )
        for rule in playbook.senders
        if rule.id in taken
    ]
    if problems:
        raise InvalidFile(problems)
    return [*sources, *map(mapped.source, playbook.senders)]


def words_of(playbook: Playbook) -> Words:
    """The known words, and those that the playbook adds."""
    consent = ConsentWords(playbook.consent.yes_words, playbook.consent.no_words)
    return Words(consent, tuple(playbook.inbound.automatic_subjects))
