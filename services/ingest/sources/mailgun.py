"""Mailgun's webhooks: one event a request, with a signature inside the body that covers a time and
a token, not the event.

So the signature serves one body only: its single-use token is the signed text itself, wherever
somebody moves the border between time and token. Mailgun posts again for eight hours, with the same
signature, whatever is answered with other than 200 or 406; so the window is half a day, and used
tokens are kept for longer. An event's id is unique within a day only, and one event may come by two
webhooks: day and id are its identity.
"""

import hashlib
import hmac
import re
import secrets as random
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from services.ingest.sources import mails
from services.ingest.sources.contract import (
    InboundRequest,
    Item,
    Parsed,
    Sample,
    Secret,
    SetupGuide,
    Source,
)
from services.ingest.sources.reading.json import TOO_DEEP, UNREADABLE, is_deep, refused
from services.ingest.sources.reading.lenient import lenient
from services.ingest.sources.reading.signatures import fitting, fresh, new_text, same
from services.ingest.sources.remarks import remarked
from services.shared.errors import Reject

WINDOW = timedelta(hours=12)
# a looser reading would let the token's first digits pass for the time's last ones
SECONDS = re.compile(r"[0-9]{1,12}")
EVENT_TYPES = {
    "accepted": mails.PROCESSED,
    "delivered": mails.DELIVERED,
    "opened": mails.OPENED,
    "clicked": mails.CLICKED,
    "complained": mails.COMPLAINED,
    "unsubscribed": mails.UNSUBSCRIBED,
    "rejected": mails.DROPPED,
}
# permanent failures that say more than that it bounced, or nothing of the address
FAILURES = {
    "suppress-unsubscribe": mails.SUPPRESSED,
    "suppress-complaint": mails.SUPPRESSED,
    "suppress-bounce": mails.HARD_BOUNCE,
    "old": mails.SOFT_BOUNCE,
    "espblock": mails.SOFT_BOUNCE,
    "blacklisted": mails.SOFT_BOUNCE,
    "greylisted": mails.SOFT_BOUNCE,
}
BOUNCED = "bounce"  # the reason where Mailgun knows that it is for good


class Signature(msgspec.Struct, rename={"parent": "parent-signature"}):
    """The signature; a subaccount's event has its parent account's, too."""

    timestamp: str | int
    token: str
    signature: str
    parent: str | None = None

    @property
    def text(self) -> str:
        """What is signed."""
        return f"{self.timestamp}{self.token}"


class MailgunEvent(msgspec.Struct, rename="kebab"):
    """What happened."""

    event: str
    id: str | None = None
    timestamp: float | None = None
    recipient: str | None = None
    severity: Any = None
    reason: Any = None
    url: Any = None
    tags: Any = None
    user_variables: Any = None
    message: Any = None
    client_info: Any = None
    delivery_status: Any = None


class _Signed(msgspec.Struct):
    signature: Signature


class MailgunWebhook(msgspec.Struct, rename="kebab"):
    """The body."""

    event_data: MailgunEvent
    signature: Signature


_signed = msgspec.json.Decoder(_Signed).decode
NEEDED = frozenset(
    {
        "/signature", "/signature/timestamp", "/signature/token", "/signature/signature",
        "/event-data", "/event-data/event", "/event-data/recipient", "/event-data/timestamp",
    }
)  # fmt: skip


def parse(request: InboundRequest) -> list[Parsed]:
    """The one event."""
    if is_deep(request.body):
        return [refused(request.body, TOO_DEEP)]
    try:
        webhook, remarks = lenient(request.body, MailgunWebhook, NEEDED)
        return [remarked(_read(webhook.event_data, webhook.signature), remarks)]
    except (Reject, *UNREADABLE) as error:
        return [refused(request.body, error)]


def _read(event: MailgunEvent, signature: Signature) -> Item:
    at = mails.moment(event.timestamp, "/event-data/timestamp")
    status = event.delivery_status
    return mails.MailEvent(
        _type(event),
        id=f"{at:%Y-%m-%d}:{event.id}" if at and event.id else signature.token,
        email=event.recipient,
        at=at,
        touch=mails.touch(
            mails.inside(event.user_variables, "touch_id"),
            mails.inside(event.message, "headers", "message-id"),
        ),
        url=event.url,
        campaign=mails.first(event.tags),
        reason=mails.inside(status, "message")
        or mails.inside(status, "description")
        or event.reason,
        machine=event.event in ("opened", "clicked")
        and bool(mails.inside(event.client_info, "bot")),
    ).interaction()


def _type(event: MailgunEvent) -> mails.MailEventType:
    """The event's type. Raises Reject for one that we do not know."""
    if event.event == "failed":
        if event.severity != "permanent":
            return mails.SOFT_BOUNCE
        return FAILURES.get(mails.text(event.reason)) or _bounce(event)
    if event.event not in EVENT_TYPES:
        raise mails.unknown(event.event, "/event-data/event")
    return EVENT_TYPES[event.event]


def _bounce(event: MailgunEvent) -> mails.MailEventType:
    """Whether a permanent failure is of the address, by the server's words, else by Mailgun's."""
    status = event.delivery_status
    said = mails.text(mails.inside(status, "bounce-type"))
    is_hard = said == "hard" or (mails.text(event.reason) == BOUNCED and said != "soft")
    return mails.bounce(
        mails.text(mails.inside(status, "enhanced-code")),
        mails.text(mails.inside(status, "message")),
        mails.text(mails.inside(status, "description")),
        otherwise="hard" if is_hard else "soft",
    )


def verify(request: InboundRequest, secrets: Sequence[Secret]) -> Secret:
    """The signing key that fits. Raises Reject `not-connected`, `signature`, `stale`."""
    given = _signature(request)
    secret = fitting(secrets, lambda key: _fits(key, given), "/signature")
    fresh(str(given.timestamp), request.received_at, "/signature/timestamp", window=WINDOW)
    return secret


def single_use_token(request: InboundRequest) -> str:
    """The signed text: it serves one body."""
    return _signature(request).text


def _signature(request: InboundRequest) -> Signature:
    try:
        return _signed(request.body).signature
    except UNREADABLE:
        remedy = "send Mailgun's JSON as it is, with its `signature`"
        raise Reject(
            "no signature in the body", where="/signature", remedy=remedy, kind="signature"
        ) from None


def _fits(key: str, given: Signature) -> bool:
    if not given.token or not SECONDS.fullmatch(str(given.timestamp)):
        return False
    digest = _digest(key, given.text)
    return same(given.signature, digest) or (
        given.parent is not None and same(given.parent, digest)
    )


def _digest(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def sign(sample: Sample, secret: str, address: str, now: datetime) -> Sample:
    """Puts Mailgun's signature into the body."""
    stamp, token = str(int(now.timestamp())), random.token_hex(25)
    signature = {"timestamp": stamp, "token": token, "signature": _digest(secret, stamp + token)}
    return sample._replace(
        body=msgspec.json.encode({"signature": signature, **msgspec.json.decode(sample.body)})
    )


def sample(address: str, now: datetime) -> Sample:
    """A person clicks in a mail."""
    event = {
        "event": "clicked",
        "id": uuid.uuid4().hex[:22],
        "timestamp": now.timestamp(),
        "recipient": address,
        "url": "https://www.example.com/pricing",
        "client-info": {"client-type": "browser", "device-type": "desktop", "bot": ""},
        "message": {"headers": {"message-id": f"{uuid.uuid4().hex}@mail.example.com"}},
        "user-variables": {},
        "tags": [],
    }
    return Sample(msgspec.json.encode({"event-data": event}), "application/json")


SOURCE = Source(
    "mailgun",
    parse,
    ("/v1/hooks/mailgun",),
    stop_status=406,
    body=MailgunWebhook,
    example={
        "signature": {"timestamp": "1767323045", "token": "50 characters", "signature": "hex"},
        "event-data": {
            "event": "clicked",
            "id": "Ase7i2zsRYeDXztHGENqRA",
            "timestamp": 1767323045.2,
            "recipient": "ann@example.com",
            "url": "https://www.example.com/pricing",
        },
    },
    setup=SetupGuide(
        "Mailgun: what happened to our mails",
        [
            "At Mailgun open Send, Sending, Webhooks, and copy the HTTP webhook signing key.",
            "Run `ripeline sources connect mailgun --secret SIGNING_KEY`.",
            "Add a webhook with the address {address} for each of: delivered, opened, clicked, "
            "permanent failure, temporary "
            "failure, spam complaints, unsubscribes.",
        ],
    ),
    verify=verify,
    single_use_token=single_use_token,
    sample=sample,
    sign=sign,
    new_secret=new_text,
)
