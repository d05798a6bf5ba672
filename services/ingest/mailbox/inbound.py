"""Inbound mail: the answer of a person, of its machine, or of a mail system to one of our mails.

An answer belongs to the touch that In-Reply-To and References name. What machines write weighs
nothing; an objection in plain words withdraws consent; a bounce or a complaint counts only for a
mail that was ours. A mail that answers nothing is `email_received`, which no model weighs, so that
a stranger's advertisement does not become a warm lead.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import islice

from msgspec.structs import replace as replaced

from services.ingest.mailbox.automatic import (
    is_automatic,
    is_bulk,
    is_passed_on,
    is_spam,
    sender,
)
from services.ingest.mailbox.phrases import is_answer, is_objection
from services.ingest.mailbox.reports import DeliveryReport, delivery_report
from services.ingest.mailbox.text import (
    MAX_HEADER,
    Mail,
    body,
    content,
    header,
    own_words,
    parsed,
    parts,
    raw_header,
)
from services.ingest.sources.contract import Item, Refused, SetupGuide, Source
from services.ingest.sources.reading.multipart import Part
from services.ingest.sources.touches import touch_of
from services.shared.contracts.events import CLOCK_TOLERANCE, TOO_OLD, Consent
from services.shared.contracts.identity import ADDRESS
from services.shared.errors import Reject

# bytes from the beginning of a mail that are read: the parser takes quadratic time over some mails
MAX_MAIL = 64 * 1024
MAX_NESTED, MAX_HEADERS = 50, 500
MAX_SUBJECT = 200
# characters of a mail from a list that asks for nothing but an end; newsletters are longer
MAX_LIST_OBJECTION = 400
PART = re.compile(r"text/(?:plain|html|calendar|rfc822-headers)|message/[a-z0-9-]+")
UNREADABLE = Reject(
    "not a readable mail", remedy="look at it in the mailbox", kind="unreadable-mail"
)
# what Python's parser raises over some mails; no document lists them
PARSER_ERRORS = (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError)
PARTSTAT = re.compile(r";PARTSTAT=(ACCEPTED|DECLINED|TENTATIVE)\b")


def read(raw: bytes, now: datetime, subjects: tuple[str, ...] = ()) -> list[Item | Refused]:
    """The interactions of a mail in its original form; of a long one the beginning is read.
    `subjects` are further beginnings of the subjects of automatic answers.
    """
    return guarded(lambda: items(_parsed(raw[:MAX_MAIL]), now, subjects))


def guarded(reading: Callable[[], list[Item | Refused]]) -> list[Item | Refused]:
    """What `reading` returns; a mail over which Python's parser fails is refused."""
    try:
        return reading()
    except Reject as reject:
        return [Refused(None, reject)]
    except PARSER_ERRORS:
        return [Refused(None, UNREADABLE)]


def assembled(headers: Iterable[tuple[str, str]], bodies: Iterable[tuple[str, bytes]]) -> Mail:
    """A mail from its headers, and (content type, UTF-8 bytes) of each part, as a mail tool took it
    apart.
    """
    mail, left = Mail(), MAX_MAIL
    inner: list[Mail | str] = []
    for name, value in islice(headers, MAX_HEADERS):
        mail[name] = value[:MAX_HEADER]
    for media, data in bodies:
        if PART.fullmatch(media):
            head = f'Content-Type: {media}; charset="utf-8"\nContent-Transfer-Encoding: 8bit\n\n'
            inner.append(_parsed(head.encode() + data[:left]))
            left = max(left - len(data), 0)
    mail.set_payload(inner)
    return mail


def _parsed(data: bytes) -> Mail:
    """The mail of these bytes. Raises Reject for deeply nested parts, which the parser is slow
    over.
    """
    if data.lower().count(b"boundary=") > MAX_NESTED:
        raise UNREADABLE
    return parsed(data)


def files(parts: Iterable[Part]) -> list[tuple[str, bytes]]:
    """Of the attachments of a mail that was taken apart, the parts of reports and the answers to
    invitations.
    """
    return [
        (part.media, part.value)
        for part in parts
        if part.is_file and part.media not in ("text/plain", "text/html")
    ]


def items(mail: Mail, now: datetime, subjects: tuple[str, ...] = ()) -> list[Item | Refused]:
    """The interactions that a mail is. Raises Reject for one that is none."""
    if raw_header(mail, "x-ripeline-touch"):
        raise Reject(
            "a mail of our own",
            remedy="let only what others send reach this mailbox",
            kind="own-mail",
        )
    if report := delivery_report(mail):
        return [_reported(mail, report, now)]
    return _answered(mail, now, subjects)


def _reported(mail: Mail, report: DeliveryReport, now: datetime) -> Item:
    if not report.touch_id or not report.type:
        raise Reject(
            "a report about no mail of ours", remedy="nothing is to be done", kind="not-ours"
        )
    return Item(
        id=_id(mail),
        type=report.type,
        email=_address(report.recipient, report.touch_id),
        touch_id=report.touch_id,
        occurred_at=_written_at(mail, now),
        properties=report.properties,
    )


def _answered(mail: Mail, now: datetime, subjects: tuple[str, ...]) -> list[Item | Refused]:
    subject, answers = header(mail, "subject")[:MAX_SUBJECT], _answers(mail)
    touch, text = touch_of(*answers), own_words(body(mail))
    machine, is_for_many = is_automatic(mail, subject, subjects), is_bulk(mail)
    is_short = touch or not is_for_many or len(text) <= MAX_LIST_OBJECTION
    objects = bool(not machine and is_short and is_objection(subject, text))
    if not touch and not objects and (is_spam(mail) or is_for_many):
        raise Reject("a mail for many", remedy="let newsletters go elsewhere", kind="bulk-mail")
    machine = machine or (not objects and is_passed_on(mail))
    is_reply = touch or answers or machine or is_answer(subject)
    item = Item(
        id=_id(mail),
        type="email_replied" if is_reply else "email_received",
        email=_address(sender(mail), touch),
        touch_id=touch,
        occurred_at=_written_at(mail, now),
        machine=machine,
        properties={name: value for name, value in (("subject", subject), ("text", text)) if value},
    )
    if machine:
        return [item]
    if answer := _calendar(mail):
        properties = item.properties | {"answer": answer}
        return [replaced(item, type="calendar_answered", properties=properties)]
    return _objection(item, _objected_at(mail, now)) if objects else [item]


def _objection(item: Item, at: datetime | None) -> list[Item | Refused]:
    """A withdrawal by the address that wrote, and by the recipient of our mail: many people write
    from another address.
    """
    consent = (Consent(state="withdrawn", basis="answer by mail", at=at),)
    withdrawn: list[Item | Refused] = [replaced(item, type="unsubscribed", consent=consent)]
    if item.touch_id and item.email:
        withdrawn.append(
            replaced(
                item,
                id=f"{item.id}.touch",
                type="consent_withdrawn",
                email="",
                consent=consent,
                properties={},
            )
        )
    return withdrawn


def _answers(mail: Mail) -> list[str]:
    """The ids of the mails that it answers, the nearest first."""
    return [
        *raw_header(mail, "in-reply-to").split(),
        *reversed(raw_header(mail, "references").split()),
    ]


def _address(address: str, touch: str) -> str:
    """The address; '' where it is malformed and the touch identifies the person."""
    return "" if touch and not ADDRESS.fullmatch(address.strip().lower()) else address


def _id(mail: Mail) -> str:
    """The same for every copy of a mail: a hash of its Message-ID, else of its content."""
    identity = raw_header(mail, "message-id") or "\0".join(
        (*(raw_header(mail, name) for name in ("from", "date", "subject")), body(mail))
    )
    return hashlib.sha256(identity.encode(errors="replace")).hexdigest()[:32]


def _written_at(mail: Mail, now: datetime) -> datetime | None:
    """When it was written, else received by our server; None, the time of reading, where neither
    is known.
    """
    return _date(raw_header(mail, "date"), now) or _received_at(mail, now)


def _objected_at(mail: Mail, now: datetime) -> datetime | None:
    """When an objection counts: the later of writing and receipt, since the writer's clock may be
    slow, at the end of that second.
    """
    known = [at for at in (_date(raw_header(mail, "date"), now), _received_at(mail, now)) if at]
    return max(known) + timedelta(seconds=1) if known else None


def _received_at(mail: Mail, now: datetime) -> datetime | None:
    """The time that the last server on its way, ours, wrote above all others."""
    return _date(raw_header(mail, "received").rpartition(";")[2], now)


def _date(header: str, now: datetime) -> datetime | None:
    """A header's time; None where it has none, or one that is beyond CLOCK_TOLERANCE or TOO_OLD."""
    try:
        at = parsedate_to_datetime(header)
        at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return at if now - TOO_OLD < at < now + CLOCK_TOLERANCE else None


def _calendar(mail: Mail) -> str:
    """How somebody answered an invitation: accepted, declined, tentative; '' where the mail is no
    such answer.
    """
    for part in parts(mail):
        if part.get_content_type() == "text/calendar" and "METHOD:REPLY" in (text := content(part)):
            found = PARTSTAT.search(re.sub(r"\r?\n[ \t]", "", text))
            return found[1].lower() if found else "unknown"
    return ""


MAILBOX = Source(
    "mailbox",
    lambda request: read(request.body, request.received_at),
    [],
    setup=SetupGuide(
        "Answers by mail, from a mailbox",
        [
            "Let mail to RIPELINE_MAIL_FROM arrive in a folder of its own, and make a password "
            "for it.",
            "Set RIPELINE_IMAP_URL=imaps://user:password@host/INBOX and start ingest again; "
            "see docs/inbound.md.",
        ],
    ),
)
