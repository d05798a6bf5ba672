"""Whether a mail was written by a person, sent by a machine, or meant for many."""

import re

from services.ingest.mailbox.phrases import is_automatic_subject
from services.ingest.mailbox.reports import addresses
from services.ingest.mailbox.text import Mail, raw_header

MACHINE_HEADERS = (
    "x-autoreply",
    "x-autorespond",
    "x-auto-reply",
    "x-autoresponder",
    "x-mail-autoreply",
    "x-loop",
    "list-id",
)
MACHINE_PRECEDENCE = frozenset({"bulk", "junk", "list", "auto_reply", "auto-reply"})
MACHINE_SENDER = re.compile(
    r"(?:no|do-?not)[-_.]?reply\S*@|auto(?:reply|responder)\S*@", re.IGNORECASE
)


def is_automatic(mail: Mail, subject: str) -> bool:
    """Whether no person wrote it: RFC 3834's mark, those from before it, or the subject of an
    automatic answer.

    X-Auto-Response-Suppress alone is no sign: it asks others not to answer, and people's mails have
    it too.
    """
    marked = raw_header(mail, "auto-submitted").lower()
    return bool(
        (marked and not marked.startswith("no"))
        or any(
            raw_header(mail, name).lower() not in ("", "no", "false") for name in MACHINE_HEADERS
        )
        or raw_header(mail, "precedence").lower() in MACHINE_PRECEDENCE
        or "rules agent" in raw_header(mail, "x-ms-exchange-generated-message-source").lower()
        or raw_header(mail, "return-path") == "<>"
        or mail.get_content_type() == "multipart/report"
        or MACHINE_SENDER.match(sender(mail))
        or is_automatic_subject(subject)
    )


def is_bulk(mail: Mail) -> bool:
    """Whether it went to a mailing list."""
    return bool(raw_header(mail, "list-id") or raw_header(mail, "list-unsubscribe"))


def is_spam(mail: Mail) -> bool:
    """Whether the receiving server's filter says so."""
    return raw_header(mail, "x-spam-flag").lower() == "yes"


def sender(mail: Mail) -> str:
    """The author's address; of several the one that sent it, else the first."""
    authors = addresses(raw_header(mail, "from"))
    sent = addresses(raw_header(mail, "sender")) if len(authors) > 1 else []
    return next((address for address in sent if address in authors), next(iter(authors), ""))
