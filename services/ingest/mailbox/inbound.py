"""Inbound mail: the answer of a person, of its machine, or of a mail system to one of our mails.

An answer is joined to its touch by In-Reply-To and References. What machines write weighs nothing;
a wish to be left alone in plain words is a refusal; a bounce or a complaint is believed only about
a mail that was ours. A mail that answers nothing is `email_received`, which no model weighs, so
that a stranger's advertisement does not become a warm lead.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import islice

from msgspec.structs import replace as replaced

from services.ingest.mailbox.phrases import is_answer, refuses, sounds_automatic
from services.ingest.mailbox.reports import Report, addresses, report
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
from services.ingest.sources.contract import About, Item, Refused, Source
from services.ingest.sources.reading.multipart import Part
from services.ingest.sources.touches import touch_of
from services.shared.contracts.events import CLOCK_TOLERANCE, TOO_OLD, Consent
from services.shared.contracts.identity import ADDRESS
from services.shared.errors import Reject

# bytes from the beginning of a mail that are read: the parser takes quadratic time over some mails
MAX_MAIL = 64 * 1024
MAX_NESTED, MAX_HEADERS = 50, 500
MAX_SUBJECT = 200
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
PART = re.compile(r"text/(?:plain|html|calendar|rfc822-headers)|message/[a-z0-9-]+")
UNREADABLE = Reject(
    "not a readable mail", remedy="look at it in the mailbox", kind="unreadable-mail"
)
# no document lists them
UNDIGESTED = (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError)
PARTSTAT = re.compile(r";PARTSTAT=(ACCEPTED|DECLINED|TENTATIVE)\b")


def read(raw: bytes, now: datetime) -> list[Item | Refused]:
    """What a mail in its original form says; of a long one the beginning is read."""
    return taken(lambda: items(_opened(raw[:MAX_MAIL]), now))


def taken(reading: Callable[[], list[Item | Refused]]) -> list[Item | Refused]:
    """What `reading` found; a mail that Python's parser cannot digest is refused."""
    try:
        return reading()
    except Reject as reject:
        return [Refused(None, reject)]
    except UNDIGESTED:
        return [Refused(None, UNREADABLE)]


def put_together(headers: Iterable[tuple[str, str]], bodies: Iterable[tuple[str, bytes]]) -> Mail:
    """A mail that somebody took apart: its headers, and (content type, UTF-8 bytes) of each part
    that is left.
    """
    mail, left = Mail(), MAX_MAIL
    inner: list[Mail | str] = []
    for name, value in islice(headers, MAX_HEADERS):
        mail[name] = value[:MAX_HEADER]
    for media, data in bodies:
        if PART.fullmatch(media):
            head = f'Content-Type: {media}; charset="utf-8"\nContent-Transfer-Encoding: 8bit\n\n'
            inner.append(_opened(head.encode() + data[:left]))
            left = max(left - len(data), 0)
    mail.set_payload(inner)
    return mail


def _opened(data: bytes) -> Mail:
    """The mail of these bytes. Raises Reject for boxes in boxes, over which the parser takes its
    time.
    """
    if data.lower().count(b"boundary=") > MAX_NESTED:
        raise UNREADABLE
    return parsed(data)


def files(parts: Iterable[Part]) -> list[tuple[str, bytes]]:
    """Of what was attached to a mail that was taken apart, the parts of reports and the answers to
    invitations.
    """
    return [
        (part.media, part.value)
        for part in parts
        if part.is_file and part.media not in ("text/plain", "text/html")
    ]


def items(mail: Mail, now: datetime) -> list[Item | Refused]:
    """The interactions that a mail is. Raises Reject for one that is none."""
    if raw_header(mail, "x-ripeline-touch"):
        raise Reject(
            "a mail of our own",
            remedy="let only what others send reach this mailbox",
            kind="own-mail",
        )
    if told := report(mail):
        return [_reported(mail, told, now)]
    return _answered(mail, now)


def _reported(mail: Mail, told: Report, now: datetime) -> Item:
    if not told.touch_id or not told.type:
        raise Reject(
            "a report about no mail of ours", remedy="nothing is to be done", kind="not-ours"
        )
    return Item(
        id=_id(mail),
        type=told.type,
        email=_address(told.recipient, told.touch_id),
        touch_id=told.touch_id,
        occurred_at=_said_at(mail, now),
        properties=told.properties,
    )


def _answered(mail: Mail, now: datetime) -> list[Item | Refused]:
    subject, answers = header(mail, "subject")[:MAX_SUBJECT], _answers(mail)
    touch, text = touch_of(*answers), own_words(body(mail))
    machine = is_machine(mail, subject)
    leaves = not machine and refuses(subject, text)
    if not touch and not leaves and (is_spam(mail) or (machine and is_bulk(mail))):
        raise Reject("a mail for many", remedy="let newsletters go elsewhere", kind="bulk-mail")
    said = Item(
        id=_id(mail),
        type="email_replied"
        if touch or answers or machine or is_answer(subject)
        else "email_received",
        email=_address(_sender(mail), touch),
        touch_id=touch,
        occurred_at=_said_at(mail, now),
        machine=machine,
        properties={name: value for name, value in (("subject", subject), ("text", text)) if value},
    )
    if machine:
        return [said]
    if answer := _calendar(mail):
        return [
            replaced(
                said, type="calendar_answered", properties=said.properties | {"answer": answer}
            )
        ]
    return _refusal(said, _refused_at(mail, now)) if leaves else [said]


def _refusal(said: Item, at: datetime | None) -> list[Item | Refused]:
    """A refusal by the address that wrote, and by whoever our mail went to: many people write from
    another address.
    """
    consent = (Consent(state="withdrawn", basis="answer by mail", at=at),)
    refusal: list[Item | Refused] = [replaced(said, type="unsubscribed", consent=consent)]
    if said.touch_id and said.email:
        refusal.append(
            replaced(
                said,
                id=f"{said.id}.touch",
                type="consent_withdrawn",
                email="",
                consent=consent,
                properties={},
            )
        )
    return refusal


def is_machine(mail: Mail, subject: str) -> bool:
    """Whether no person wrote it: RFC 3834's mark, those from before it, or the subject of an
    absence.

    X-Auto-Response-Suppress alone says nothing: it asks others for silence, and people's mails
    carry it too.
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
        or MACHINE_SENDER.match(_sender(mail))
        or sounds_automatic(subject)
    )


def is_bulk(mail: Mail) -> bool:
    """Whether it went to a list."""
    return bool(raw_header(mail, "list-id") or raw_header(mail, "list-unsubscribe"))


def is_spam(mail: Mail) -> bool:
    """Whether the receiving server's filter says so."""
    return raw_header(mail, "x-spam-flag").lower() == "yes"


def _answers(mail: Mail) -> list[str]:
    """The ids of the mails that it answers, the nearest first."""
    return [
        *raw_header(mail, "in-reply-to").split(),
        *reversed(raw_header(mail, "references").split()),
    ]


def _sender(mail: Mail) -> str:
    """Who wrote; of several the one that sent it, else the first."""
    authors = addresses(raw_header(mail, "from"))
    sent = addresses(raw_header(mail, "sender")) if len(authors) > 1 else []
    return next((one for one in sent if one in authors), next(iter(authors), ""))


def _address(address: str, touch: str) -> str:
    """The address; none where the touch tells better who it is than an address that is not one."""
    return "" if touch and not ADDRESS.fullmatch(address.strip().lower()) else address


def _id(mail: Mail) -> str:
    """The same for every copy of a mail: from its Message-ID, else from what it says."""
    said = raw_header(mail, "message-id") or "\0".join(
        (*(raw_header(mail, name) for name in ("from", "date", "subject")), body(mail))
    )
    return hashlib.sha256(said.encode(errors="replace")).hexdigest()[:32]


def _said_at(mail: Mail, now: datetime) -> datetime | None:
    """When it was written, by its clock, else received, by our server's; None, the time of reading,
    where neither tells.
    """
    return _date(raw_header(mail, "date"), now) or _received_at(mail, now)


def _refused_at(mail: Mail, now: datetime) -> datetime | None:
    """When a wish counts: from its arrival, whatever the writer's clock says, and from the end of
    that second.
    """
    known = [at for at in (_date(raw_header(mail, "date"), now), _received_at(mail, now)) if at]
    return max(known) + timedelta(seconds=1) if known else None


def _received_at(mail: Mail, now: datetime) -> datetime | None:
    """The time that the last server on its way, ours, wrote above all others."""
    return _date(raw_header(mail, "received").rpartition(";")[2], now)


def _date(said: str, now: datetime) -> datetime | None:
    """A header's time; None where it is none, or a clock was wrong."""
    try:
        at = parsedate_to_datetime(said)
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
    lambda post: read(post.body, post.received_at),
    [],
    about=About(
        "Answers by mail, from a mailbox",
        [
            "Let mail to RIPELINE_MAIL_FROM arrive in a folder of its own, and make a password "
            "for it.",
            "Set RIPELINE_IMAP_URL=imaps://user:password@host/INBOX and start ingest again; "
            "see docs/inbound.md.",
        ],
    ),
)
