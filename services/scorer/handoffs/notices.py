"""What owners and a webhook get of a hand-off: the text of a mail, the body of a webhook. Pure."""

import uuid
from datetime import datetime, tzinfo
from typing import Any, NamedTuple

import msgspec

from services.scorer.handoffs.records import Handoff
from services.scorer.handoffs.responses import HandoffResponse
from services.scorer.handoffs.rules import Noted
from services.scorer.handoffs.store import NoticeRow
from services.shared.clock import local_time, rfc3339
from services.shared.contracts.events import derived

NOTIFIED = ("opened", "reassigned", "reminded", "expired")
KINDS = {
    "raised_hand": "asks for a person",
    "ready": "is ready to buy",
    "reawakened": "is back after a long silence",
}
SUBJECTS = {
    "opened": "{name} {kind}",
    "reassigned": "{name} {kind}: yours now",
    "reminded": "Half the time is over: {name}",
    "expired": "Time is over: {name} is back in nurture",
}
PHONES = ("phone", "mobile", "phone_number", "mobile_phone")


class Contact(NamedTuple):
    """How the lead is called and reached; `page` is its address in the page, '' where none is
    set.
    """

    name: str
    email: str
    phone: str
    page: str


class MailText(msgspec.Struct, frozen=True):
    """A mail to an owner."""

    subject: str
    text: str


def notices(noted: Noted, contact: Contact, zone: tzinfo, *, webhook: bool) -> list[NoticeRow]:
    """The notices of a step; of most there are none."""
    handoff = noted.handoff
    if noted.what not in NOTIFIED:
        return []
    found = []
    if handoff.owner:
        mail = msgspec.json.encode(mail_text(noted.what, handoff, contact, zone)).decode()
        found.append(_row(noted, "mail", handoff.owner, mail))
    if webhook:
        found.append(_row(noted, "webhook", "", webhook_body(noted, contact)))
    return found


def webhook_body(noted: Noted, contact: Contact) -> str:
    """The body of a signed webhook, in JSON."""
    shown = msgspec.to_builtins(HandoffResponse.of(noted.handoff))
    body = {
        "type": f"handoff.{noted.what}",
        "timestamp": rfc3339(noted.at),
        "data": shown | {"contact": contact._asdict()},
    }
    return msgspec.json.encode(body).decode()


def _row(noted: Noted, channel: str, recipient: str, body: str) -> NoticeRow:
    """Its id is that of the step, so that it is sent once."""
    handoff = noted.handoff
    id_ = uuid.UUID(derived("notice", handoff.id, noted.what, noted.at.isoformat(), channel))
    return NoticeRow(id_, handoff.id, noted.what, channel, recipient, body)


def mail_text(what: str, handoff: Handoff, contact: Contact, zone: tzinfo) -> MailText:
    """The mail of a step."""
    subject = SUBJECTS[what].format(name=contact.name, kind=KINDS[handoff.kind])
    lines = [subject + ".", ""]
    lines += [f"- {reason}" for reason in handoff.reasons]
    if handoff.said:
        lines += ["", f"They wrote: “{handoff.said}”"]
    reach = [
        f"{word}: {given}"
        for word, given in (("E-mail", contact.email), ("Phone", contact.phone))
        if given
    ]
    lines += ["", *reach] if reach else []
    if what != "expired":
        lines += ["", f"Please respond by {_local(handoff.respond_by, zone)}."]
        lines += [f"Without an answer it ends on {_local(handoff.expires_at, zone)}."]
    if handoff.why_owner:
        lines += ["", f"Why you: {handoff.why_owner}."]
    if contact.page:
        lines += ["", contact.page]
    return MailText(_header(subject), "\n".join(lines) + "\n")


def _header(text: str) -> str:
    """A subject in one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]


def _local(moment: datetime | None, zone: tzinfo) -> str:
    return f"{local_time(moment, zone):%A, %-d %B, %H:%M (%Z)}" if moment else "any time"


def phone_of(traits: dict[str, Any]) -> str:
    """The first phone number among the traits."""
    return next((str(traits[name]) for name in PHONES if traits.get(name)), "")
