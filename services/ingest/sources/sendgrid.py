"""Twilio SendGrid's Event Webhook: an array of events, signed by ECDSA (P-256, SHA-256) over the
time and the raw body.

SendGrid posts again for a day whatever is not answered with 2xx, and does not say whether it signs
again: the window is a day. That costs nothing, since the signature covers the whole body, and a
replay counts nothing twice. For the same reason a batch without a sound event is answered with 200:
repeated, it would be no better. `sg_event_id` may be another one in a repetition, so an event with
a time is known again by what it says: of which mail, to whom, when, what, and which link.
"""

import base64
import hashlib
import re
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)

from services.ingest.sources import mails
from services.ingest.sources.contract import (
    InboundRequest,
    Item,
    Parsed,
    Refused,
    Sample,
    Secret,
    SetupGuide,
    Source,
)
from services.ingest.sources.reading.json import (
    TOO_DEEP,
    UNREADABLE,
    counted,
    is_deep,
    pieces,
    refused,
)
from services.ingest.sources.reading.lenient import lenient
from services.ingest.sources.reading.signatures import fitting, fresh
from services.ingest.sources.remarks import also_remarked
from services.shared.errors import Reject

SIGNATURE, TIMESTAMP = (
    "x-twilio-email-event-webhook-signature",
    "x-twilio-email-event-webhook-timestamp",
)
WINDOW = timedelta(hours=25)
ALGORITHM = ec.ECDSA(hashes.SHA256())
ARMOUR = re.compile(r"-----[A-Z ]+-----|\s")  # a key may be given as PEM, too
EVENT_TYPES = {
    "processed": mails.PROCESSED,
    "deferred": mails.SOFT_BOUNCE,
    "delivered": mails.DELIVERED,
    "open": mails.OPENED,
    "click": mails.CLICKED,
    "spamreport": mails.COMPLAINED,
    "unsubscribe": mails.UNSUBSCRIBED,
    "group_unsubscribe": mails.UNSUBSCRIBED,
    "group_resubscribe": mails.RESUBSCRIBED,
}
# words in the reason why SendGrid did not even try; without any of them the fault is ours
DROP_REASONS = {
    "unsubscribed": mails.SUPPRESSED,
    "spam reporting": mails.SUPPRESSED,
    "bounced": mails.HARD_BOUNCE,
}


class SendGridEvent(msgspec.Struct, rename={"smtp_id": "smtp-id"}):
    """An event; custom arguments stand beside its own fields."""

    event: str
    email: str | None = None
    timestamp: float | None = None
    sg_event_id: str | None = None
    sg_message_id: Any = None
    smtp_id: Any = None
    touch_id: Any = None
    type: Any = None
    reason: Any = None
    response: Any = None
    status: Any = None
    url: Any = None
    url_offset: Any = None
    attempt: Any = None
    asm_group_id: Any = None
    category: Any = None
    marketing_campaign_name: Any = None
    sg_machine_open: Any = None


NEEDED = frozenset({"/event", "/email", "/timestamp"})
_all = msgspec.json.Decoder(list[SendGridEvent]).decode


def parse(request: InboundRequest) -> Sequence[Parsed]:
    """Every event of the body, in order; a broken one does not take the others with it."""
    try:
        events = counted(_all(request.body))
    except UNREADABLE:
        return [_alone(piece) for piece in pieces(request.body)]
    return [_read(event) for event in events]


def _alone(piece: bytes) -> Parsed:
    if is_deep(piece):
        return refused(piece, TOO_DEEP)
    try:
        event, remarks = lenient(piece, SendGridEvent, NEEDED)
    except UNREADABLE as error:
        return refused(piece, error)
    return also_remarked(_read(event), remarks)


def _read(event: SendGridEvent) -> Item | Refused:
    try:
        return mails.MailEvent(
            _type(event),
            id=_identity(event),
            email=event.email,
            at=mails.moment(event.timestamp, "/timestamp"),
            touch=mails.touch(event.touch_id, event.smtp_id),
            url=event.url,
            campaign=event.marketing_campaign_name or mails.first(event.category),
            reason=event.reason or event.response,
            machine=event.sg_machine_open in (True, "true"),
        ).interaction()
    except Reject as reject:
        return Refused(event.sg_event_id, reject)


def _identity(event: SendGridEvent) -> str:
    """The hash of what the event says; without a time SendGrid's own id, '' without one."""
    if event.timestamp is None:
        return event.sg_event_id or ""
    stated = [
        (event.email or "").strip().lower(), event.timestamp, event.event, event.sg_message_id,
        event.smtp_id, event.touch_id, event.url, event.url_offset, event.type, event.attempt,
        event.asm_group_id,
    ]  # fmt: skip
    return hashlib.sha256(msgspec.json.encode(stated)).hexdigest()[:32]


def _type(event: SendGridEvent) -> mails.MailEventType:
    """The event's type. Raises Reject for one that we do not know."""
    if found := EVENT_TYPES.get(event.event):
        return found
    if event.event == "bounce":
        kind = mails.text(event.type) or (
            "bounce" if mails.text(event.status).startswith("5") else "blocked"
        )
        return mails.bounce(
            mails.text(event.status),
            mails.text(event.reason),
            mails.text(event.response),
            otherwise="hard" if kind == "bounce" else "soft",
        )
    if event.event == "dropped":
        reason = mails.text(event.reason).lower()
        if reason == "invalid":
            return mails.HARD_BOUNCE
        return next(
            (type_ for words, type_ in DROP_REASONS.items() if words in reason), mails.DROPPED
        )
    raise mails.unknown(event.event, "/event")


def verify(request: InboundRequest, secrets: Sequence[Secret]) -> Secret:
    """The public key that fits the signature. Raises Reject `not-connected`, `signature`,
    `stale`.
    """
    stamp, given = request.headers.get(TIMESTAMP, ""), request.headers.get(SIGNATURE, "")
    signed = stamp.encode() + request.body
    secret = fitting(secrets, lambda key: _signed_by(key, given, signed), SIGNATURE)
    fresh(stamp, request.received_at, TIMESTAMP, window=WINDOW)
    return secret


def _signed_by(key: str, signature: str, signed: bytes) -> bool:
    public = _public(key)
    try:
        if public:
            public.verify(base64.b64decode(signature, validate=True), signed, ALGORITHM)
        return public is not None
    except (InvalidSignature, ValueError):
        return False


@lru_cache(maxsize=64)
def _public(key: str) -> ec.EllipticCurvePublicKey | None:
    """The public key of a text in base64; None where it is none of this kind."""
    try:
        public = load_der_public_key(base64.b64decode(ARMOUR.sub("", key), validate=True))
    except (ValueError, UnsupportedAlgorithm):
        return None
    return public if isinstance(public, ec.EllipticCurvePublicKey) else None


def sign(sample: Sample, secret: str, address: str, now: datetime) -> Sample:
    """Signs as SendGrid does; the secret is a private key (PKCS #8, base64)."""
    private = load_der_private_key(base64.b64decode(secret), None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise ValueError("not a private key on an elliptic curve")
    stamp = str(int(now.timestamp()))
    signature = base64.b64encode(private.sign(stamp.encode() + sample.body, ALGORITHM)).decode()
    return sample._replace(headers={**sample.headers, SIGNATURE: signature, TIMESTAMP: stamp})


def new_secret() -> tuple[str, str]:
    """A private key, and the public one that SendGrid would show."""
    private = ec.generate_private_key(ec.SECP256R1())
    secret = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(secret).decode(), base64.b64encode(public).decode()


def sample(address: str, now: datetime) -> Sample:
    """A mail arrives, is opened by a machine and clicked by a person."""
    mail = uuid.uuid4().hex
    events = [
        {
            "email": address,
            "timestamp": int(now.timestamp()),
            "event": name,
            "sg_event_id": uuid.uuid4().hex,
            "sg_message_id": f"{mail}.recvd-0",
            "smtp-id": f"<{mail}@geopod-ismtpd-0>",
            **more,
        }
        for name, more in (
            ("delivered", {"response": "250 OK"}),
            ("open", {"useragent": "Mozilla/5.0", "sg_machine_open": True}),
            ("click", {"useragent": "Mozilla/5.0", "url": "https://www.example.com/pricing"}),
        )
    ]
    return Sample(msgspec.json.encode(events), "application/json")


SOURCE = Source(
    "sendgrid",
    parse,
    ("/v1/hooks/sendgrid",),
    stop_status=200,
    body=list[SendGridEvent],
    example=[
        {
            "email": "ann@example.com",
            "timestamp": 1767323045,
            "event": "click",
            "sg_event_id": "c2VuZGdyaWQ",
            "url": "https://www.example.com/pricing",
        }
    ],
    setup=SetupGuide(
        "Twilio SendGrid: what happened to our mails",
        [
            "At SendGrid open Settings, Mail Settings, Event Webhooks, and create one with the "
            "address {address}.",
            "Choose Delivered, Deferred, Bounced, Dropped, Opened, Clicked, Spam Reports, "
            "Unsubscribed, Group Unsubscribes.",
            "Turn on Signed Event Webhook, save, and copy the verification key.",
            "Run `ripeline sources connect sendgrid --secret VERIFICATION_KEY`, then Test "
            "Integration at SendGrid.",
        ],
    ),
    verify=verify,
    sample=sample,
    sign=sign,
    new_secret=new_secret,
)
