"""What an importer has to know of the installation, so that a file means the same from wherever it
is imported.
"""

import msgspec

from services.shared.contracts.consent_words import ConsentWords
from services.shared.contracts.event_types import CONSENT_TYPES
from services.shared.contracts.identity import Cleaner
from services.shared.playbook.sections import Identity, Playbook, Sales

OUTCOMES = (
    "purchased",
    "won",
    "lost",
    "refunded",
    "churned",
    "sales_accepted",
    "sales_rejected",
    "sales_disqualified",
    "opportunity_opened",
)


class Facts(msgspec.Struct, frozen=True):
    """From the playbook: the company's time zone, the types of acts it knows, the outcome, words
    that identify nobody, reasons of sales, the fields of a CRM that we write ourselves, and words
    for yes and no to consent.
    """

    zone: str
    types: list[str]
    outcome: str
    junk: list[str] = []
    role_mailboxes: list[str] = []
    free_mail_domains: list[str] = []
    disqualify_reasons: list[str] = msgspec.field(
        default_factory=lambda: Sales().disqualify_reasons
    )
    own_crm_fields: list[str] = msgspec.field(default_factory=list, name="ours")
    consent_yes: list[str] = []
    consent_no: list[str] = []

    def cleaner(self) -> Cleaner:
        """Cleans identifiers as ingest and the scorer do."""
        words = Identity(
            junk=self.junk,
            role_mailboxes=self.role_mailboxes,
            free_mail_domains=self.free_mail_domains,
        )
        return Cleaner(words)

    def words(self) -> ConsentWords:
        """Reads words for consent as ingest does."""
        return ConsentWords(self.consent_yes, self.consent_no)

    def sales(self) -> Sales:
        """What sales may report."""
        return Sales(disqualify_reasons=self.disqualify_reasons)


EXAMPLE = Facts(
    zone="Europe/Berlin",
    types=["demo_requested", "event_attended", "identified", "opportunity_opened"],
    outcome="opportunity_opened",
    junk=["null", "guest"],
    role_mailboxes=["info"],
    free_mail_domains=["mail.example"],
    own_crm_fields=["ripeline_stage"],
)


def facts_of(playbook: Playbook) -> Facts:
    """The facts under a playbook."""
    model, words = playbook.model, playbook.identity
    types = {
        *model.mark_of_type,
        *playbook.engagement.acts,
        *OUTCOMES,
        *CONSENT_TYPES,
        model.outcome,
        "identified",
    }
    return Facts(
        zone=playbook.company.timezone,
        types=sorted(types),
        outcome=model.outcome,
        junk=words.junk,
        role_mailboxes=words.role_mailboxes,
        free_mail_domains=words.free_mail_domains,
        disqualify_reasons=playbook.sales.disqualify_reasons,
        own_crm_fields=sorted(playbook.crm.fields),
        consent_yes=playbook.consent.yes_words,
        consent_no=playbook.consent.no_words,
    )
