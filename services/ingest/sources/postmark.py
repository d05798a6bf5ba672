"""Postmark's webhooks: one record a request, of the type `RecordType`; no signature, but a password
in the address (Basic).

Postmark posts again (a bounce for about ten hours, the others three times) whatever is not answered
with 200, and stops at 403. Only bounces and complaints bear an id: the others are known again by
their raw body, which holds its time.
"""

import base64
import binascii
import hashlib
import uuid
from collections.abc import Sequence
from datetime import datetime
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
from services.ingest.sources.reading.signatures import fitting, new_text, same
from services.ingest.sources.remarks import remarked
from services.shared.clock import rfc3339
from services.shared.errors import Reject

EVENT_TYPES = {
    "Delivery": mails.DELIVERED,
    "Open": mails.OPENED,
    "Click": mails.CLICKED,
    "SpamComplaint": mails.COMPLAINED,
}
# other bounces are for a time, unless Postmark made the address inactive
BOUNCES = {
    "HardBounce": mails.HARD_BOUNCE,
    "BadEmailAddress": mails.HARD_BOUNCE,
    "SpamComplaint": mails.COMPLAINED,
    "Unsubscribe": mails.UNSUBSCRIBED,
    "ManuallyDeactivated": mails.SUPPRESSED,
}
# it arrived, and a program answered
AUTOMATIC = frozenset({"AutoResponder", "AddressChange", "ChallengeVerification"})
SUPPRESSIONS = {
    "HardBounce": mails.HARD_BOUNCE,
    "SpamComplaint": mails.COMPLAINED,
    "ManualSuppression": mails.UNSUBSCRIBED,
}


class PostmarkRecord(msgspec.Struct, rename="pascal"):
    """A record of any type."""

    record_type: str
    id: int | str | None = msgspec.field(name="ID", default=None)
    email: str | None = None
    recipient: str | None = None
    bounced_at: datetime | None = None
    delivered_at: datetime | None = None
    received_at: datetime | None = None
    changed_at: datetime | None = None
    type: Any = None
    inactive: Any = None
    suppress_sending: Any = None
    suppression_reason: Any = None
    origin: Any = None
    original_link: Any = None
    description: Any = None
    details: Any = None
    tag: Any = None
    metadata: Any = None


NEEDED = frozenset({"/RecordType", "/Email", "/Recipient"}) | {
    f"/{name}At" for name in ("Bounced", "Delivered", "Received", "Changed")
}


def parse(request: InboundRequest) -> list[Parsed]:
    """The one record."""
    if is_deep(request.body):
        return [refused(request.body, TOO_DEEP)]
    try:
        record, remarks = lenient(request.body, PostmarkRecord, NEEDED)
        return [remarked(_read(record, request.body), remarks)]
    except (Reject, *UNREADABLE) as error:
        return [refused(request.body, error)]


def _read(record: PostmarkRecord, body: bytes) -> Item:
    at = record.bounced_at or record.delivered_at or record.received_at or record.changed_at
    by_body = hashlib.sha256(body).hexdigest()[:32] if at else ""
    type_ = _type(record)
    return mails.MailEvent(
        type_,
        id=by_body if record.id is None else f"{record.record_type}:{record.id}",
        email=record.email or record.recipient,
        at=at,
        touch=mails.touch(mails.inside(record.metadata, "touch_id")),
        url=record.original_link,
        campaign=record.tag,
        reason=mails.text(record.details)
        or record.description
        or record.suppression_reason
        or record.type,
        machine=type_ is mails.REPLIED,
    ).interaction()


def _type(record: PostmarkRecord) -> mails.MailEventType:
    """The record's event type. Raises Reject for a record that we do not know."""
    if record.record_type == "Bounce":
        kind = mails.text(record.type)
        if kind in AUTOMATIC:
            return mails.REPLIED
        known = BOUNCES.get(kind)
        if known and known is not mails.HARD_BOUNCE:
            return known
        is_hard = known is mails.HARD_BOUNCE or record.inactive is True
        return mails.bounce("", mails.text(record.details), otherwise="hard" if is_hard else "soft")
    if record.record_type == "SubscriptionChange":
        if record.suppress_sending is False:
            return mails.RESUBSCRIBED
        type_ = SUPPRESSIONS.get(mails.text(record.suppression_reason), mails.UNSUBSCRIBED)
        return (
            mails.SUPPRESSED
            if type_ is mails.UNSUBSCRIBED and record.origin != "Recipient"
            else type_
        )
    if record.record_type not in EVENT_TYPES:
        raise mails.unknown(record.record_type, "/RecordType")
    return EVENT_TYPES[record.record_type]


def verify(request: InboundRequest, secrets: Sequence[Secret]) -> Secret:
    """The password that fits, whatever the user's name. Raises Reject `not-connected`,
    `signature`.
    """
    given = _password(request.headers.get("authorization", ""))
    return fitting(secrets, lambda password: same(given, password), "Authorization")


def _password(authorization: str) -> str:
    scheme, _, given = authorization.partition(" ")
    try:
        return (
            base64.b64decode(given, validate=True).decode().partition(":")[2]
            if scheme.lower() == "basic"
            else ""
        )
    except (binascii.Error, ValueError):
        return ""


def sign(sample: Sample, secret: str, address: str, now: datetime) -> Sample:
    """Adds the header that an address with user and password leads to."""
    basic = base64.b64encode(f"postmark:{secret}".encode()).decode()
    return sample._replace(headers={**sample.headers, "authorization": f"Basic {basic}"})


def sample(address: str, now: datetime) -> Sample:
    """A person clicks in a mail."""
    record = {
        "RecordType": "Click",
        "MessageStream": "outbound",
        "MessageID": str(uuid.uuid4()),
        "Recipient": address,
        "ReceivedAt": rfc3339(now),
        "OriginalLink": "https://www.example.com/pricing",
        "ClickLocation": "HTML",
        "UserAgent": "Mozilla/5.0",
        "Metadata": {},
        "Tag": "sample",
    }
    return Sample(msgspec.json.encode(record), "application/json")


SOURCE = Source(
    "postmark",
    parse,
    ("/v1/hooks/postmark",),
    stop_status=403,
    body=PostmarkRecord,
    example={
        "RecordType": "Click",
        "Recipient": "ann@example.com",
        "ReceivedAt": "2026-01-02T03:04:05Z",
        "OriginalLink": "https://www.example.com/pricing",
    },
    setup=SetupGuide(
        "Postmark: what happened to our mails",
        [
            "Run `ripeline sources connect postmark`: it shows a new secret, once.",
            "At Postmark open the server, its message stream, Webhooks, Add webhook, and enter "
            "the address {address}.",
            "Under Basic auth credentials enter any user name, and the secret as the password.",
            "Choose Open, Click, Delivery, Bounce, Spam Complaint and Subscription Change, and "
            "save.",
        ],
    ),
    verify=verify,
    sample=sample,
    sign=sign,
    new_secret=new_text,
)
