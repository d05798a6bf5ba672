"""Reports that mail systems send about a mail of ours: that it bounced (RFC 3464), or that somebody
called it spam (RFC 5965).
"""

import re
from email.message import Message
from email.utils import getaddresses
from typing import NamedTuple

from services.ingest.mailbox.text import (
    Mail,
    content,
    header,
    headers_in,
    own_words,
    parts,
    raw_header,
    without_markup,
)
from services.ingest.sources.bounces import STATUS, kind_of
from services.ingest.sources.touches import touch_of

MAX_REASON = 300
MAIL_DAEMONS = re.compile(r"mailer-daemon|postmaster", re.IGNORECASE)
DELIVERED = frozenset({"delivered", "relayed", "expanded"})
COMPLAINTS = frozenset({"abuse", "opt-out", "miscategorized", "other"})


class DeliveryReport(NamedTuple):
    """The fate of a mail of ours; `type` is '' where the report is about something else."""

    type: str
    touch_id: str = ""
    recipient: str = ""
    properties: dict[str, str] = {}


class OwnMail(NamedTuple):
    """A mail that we sent: its touch, and its recipient where that is known."""

    touch_id: str
    recipient: str


def delivery_report(mail: Mail) -> DeliveryReport | None:
    """The report that this mail is; None for what people or their programs write."""
    kind = (
        str(mail.get_param("report-type", "")).lower()
        if mail.get_content_type() == "multipart/report"
        else ""
    )
    if kind == "delivery-status":
        return _bounce(mail)
    if kind == "feedback-report":
        return _complaint(mail)
    if MAIL_DAEMONS.search(raw_header(mail, "from")) or raw_header(mail, "x-failed-recipients"):
        return _plain_bounce(mail)
    return None


def addresses(value: str) -> list[str]:
    """The mail addresses of a header that is not decoded yet."""
    return [address for _, address in getaddresses([value]) if "@" in address]


def _bounce(mail: Mail) -> DeliveryReport:
    blocks = [
        block for part in _enclosed(mail, "message/delivery-status") for block in _children(part)
    ]
    status_block = next(
        (
            block
            for block in blocks
            if raw_header(block, "action") or raw_header(block, "final-recipient")
        ),
        None,
    )
    touch, recipient = _reported_mail(mail)
    if status_block is None:
        return DeliveryReport("email_bounced", touch, recipient, {"type": "soft"})
    action, status = (
        raw_header(status_block, "action").lower(),
        raw_header(status_block, "status").partition(" ")[0],
    )
    named = raw_header(status_block, "original-recipient") or raw_header(
        status_block, "final-recipient"
    )
    reason = header(status_block, "diagnostic-code").partition(";")[2].strip()[:MAX_REASON]
    recipient = recipient or named.rpartition(";")[2].strip()
    if action in DELIVERED:
        return DeliveryReport("email_delivered", touch, recipient)
    kind = kind_of(status, reason) or kind_of(status, reason, _explanation(mail)) or "soft"
    properties = {"type": kind, "status": status, "reason": reason}
    return DeliveryReport("email_bounced", touch, recipient, properties)


def _plain_bounce(mail: Mail) -> DeliveryReport:
    """A bounce in prose, as old servers write them; our own headers stand in it, or in an enclosed
    message.
    """
    text = "\n".join(content(part) for part in parts(mail))
    touch, recipient = _reported_mail(mail)
    if not touch:
        touch, recipient = (
            touch_in(text),
            recipient or next(iter(addresses(raw_header(mail, "x-failed-recipients"))), ""),
        )
    found = STATUS.search(text)
    status, reason = (found[0] if found else ""), own_words(text)[:MAX_REASON]
    return DeliveryReport(
        "email_bounced",
        touch,
        recipient,
        {"type": kind_of(status, text) or "soft", "status": status, "reason": reason},
    )


def _complaint(mail: Mail) -> DeliveryReport:
    feedback = next(
        (child for part in _enclosed(mail, "message/feedback-report") for child in _children(part)),
        Message(),
    )
    kind = raw_header(feedback, "feedback-type").lower()
    touch, recipient = _reported_mail(mail)
    recipient = recipient or next(iter(addresses(raw_header(feedback, "original-rcpt-to"))), "")
    return DeliveryReport(
        "email_complained" if kind in COMPLAINTS else "", touch, recipient, {"feedback": kind[:40]}
    )


def _explanation(mail: Mail) -> str:
    """What a report says to people, before the mail that it is about."""
    first = next((part for part in parts(mail) if part.get_content_maintype() == "text"), None)
    if first is None or first.get_content_type() == "text/rfc822-headers":
        return ""
    text = content(first)
    return without_markup(text) if first.get_content_subtype() == "html" else text


def touch_in(text: str) -> str:
    """The touch that our own headers name, quoted in a text."""
    found = re.search(
        r"^[> ]*(?:X-Ripeline-Touch|Message-ID): *<?([0-9a-f-]{36})",
        text,
        re.IGNORECASE | re.MULTILINE,
    )
    return touch_of(f"{found[1]}@ours") if found else ""


def touch_written(mail: Mail) -> str:
    """The touch that made this mail, where it is one of ours."""
    return touch_of(f"{raw_header(mail, 'x-ripeline-touch')}@ours") or touch_of(
        raw_header(mail, "message-id")
    )


def _reported_mail(mail: Mail) -> OwnMail:
    """The mail of ours that a report encloses, or answers."""
    for part in parts(mail, inside=True):
        original = (
            headers_in(content(part)) if part.get_content_type() == "text/rfc822-headers" else part
        )
        if part is not mail and (touch := touch_written(original)):
            return OwnMail(touch, next(iter(addresses(raw_header(original, "to"))), ""))
    return OwnMail(touch_of(raw_header(mail, "in-reply-to"), raw_header(mail, "references")), "")


def _enclosed(mail: Mail, kind: str) -> list[Mail]:
    return [part for part in parts(mail) if part.get_content_type() == kind]


def _children(part: Mail) -> list[Mail]:
    within = part.get_payload()
    return (
        [child for child in within if isinstance(child, Message)]
        if isinstance(within, list)
        else []
    )
