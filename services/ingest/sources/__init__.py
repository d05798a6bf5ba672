"""The formats that ingest takes: one pure file each, and one entry here."""

from services.ingest.sources import canonical, cloudevents, forms, mailchimp, mailgun, postmark, segment, sendgrid
from services.ingest.sources.contract import Foreign, Item, Post, Refused, Reply, Secret, Source
from services.shared.playbook import Playbook

__all__ = ["FORMS", "SOURCES", "Foreign", "Item", "Post", "Refused", "Reply", "Secret", "Source", "served"]

SOURCES = (
    canonical.SOURCE,
    cloudevents.SOURCE,
    segment.SOURCE,
    sendgrid.SOURCE,
    mailgun.SOURCE,
    postmark.SOURCE,
    mailchimp.SOURCE,
)
FORMS = forms.SOURCE


def served(playbook: Playbook) -> list[Source]:
    """Every source of an installation: those that all have, and those that its playbook maps."""
    return [*SOURCES]
