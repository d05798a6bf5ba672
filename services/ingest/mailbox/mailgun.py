"""Mailgun's routes: a received mail as a form, in its original form (`body-mime`) or taken apart;
each signed with a token.
"""

import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta
from secrets import token_hex
from urllib.parse import urlencode

import msgspec

from services.ingest.mailbox import inbound
from services.ingest.mailbox.text import Mail
from services.ingest.sources.contract import (
    InboundRequest,
    Item,
    Refused,
    Sample,
    Secret,
    SetupGuide,
    Source,
)
from services.ingest.sources.reading import signatures
from services.ingest.sources.reading.multipart import MULTIPART, Part, either
from services.shared.errors import Reject

PATH = "/v1/hooks/mailgun-inbound"
URLENCODED = "application/x-www-form-urlencoded"
# a repetition brings the first attempt's signature, up to eight hours later
WINDOW = timedelta(hours=12)

_headers = msgspec.json.Decoder(list[tuple[str, str]]).decode


class MailgunMail(msgspec.Struct, rename="kebab", omit_defaults=True):
    """The fields of a received mail; `body-mime` is the mail in its original form."""

    timestamp: str
    token: str
    signature: str
    sender: str = ""
    subject: str = ""
    body_plain: str = ""
    body_html: str = ""
    message_headers: str = ""
    body_mime: str = ""


def parse(request: InboundRequest) -> list[Item | Refused]:
    """The one mail of the form."""
    parts, subjects = either(request), request.words.automatic_subjects
    fields = {part.name: part.value for part in parts if not part.is_file}
    if raw := fields.get("body-mime"):
        return inbound.read(raw, request.received_at, subjects)
    return inbound.guarded(
        lambda: inbound.items(_mail(fields, parts), request.received_at, subjects)
    )


def _mail(fields: dict[str, bytes], parts: Sequence[Part]) -> Mail:
    """The mail from the fields that Mailgun made of it; without `message-headers`, every header is
    a field as well.
    """
    try:
        headers = _headers(fields.get("message-headers") or b"[]")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Reject(
            "not a list of headers", where="message-headers", remedy="send it as Mailgun does"
        ) from None
    headers = headers or [(name, value.decode(errors="replace")) for name, value in fields.items()]
    if fields.get("sender") == b"":
        headers.append(("Return-Path", "<>"))
    bodies = [
        ("text/plain", fields.get("body-plain", b"")),
        ("text/html", fields.get("body-html", b"")),
    ]
    return inbound.assembled(headers, [*bodies, *inbound.files(parts)])


def verify(request: InboundRequest, secrets: Sequence[Secret]) -> Secret:
    """The signing key that fits the form's timestamp and token; that the token serves one body only
    is checked elsewhere.
    """
    fields = {
        part.name: part.value.decode(errors="replace")
        for part in either(request)
        if not part.is_file
    }
    signed, given = (
        fields.get("timestamp", "") + fields.get("token", ""),
        fields.get("signature", ""),
    )
    fitting = signatures.fitting(
        secrets, lambda secret: signatures.same(_signature(secret, signed), given), "signature"
    )
    signatures.fresh(fields.get("timestamp", ""), request.received_at, "timestamp", window=WINDOW)
    return fitting


def _signature(secret: str, signed: str) -> str:
    return hmac.new(secret.encode(), signed.encode(), hashlib.sha256).hexdigest()


def single_use_token(request: InboundRequest) -> str:
    """The form's token."""
    return next(
        (part.value.decode(errors="replace") for part in either(request) if part.name == "token"),
        "",
    )


def sample(address: str, now: datetime) -> Sample:
    """Somebody's answer, taken apart."""
    headers = [
        ["From", address],
        ["Subject", "Re: a question"],
        ["Date", now.strftime("%a, %d %b %Y %H:%M:%S +0000")],
        ["Message-Id", f"<{token_hex(16)}@{address.rpartition('@')[2]}>"],
    ]
    fields = {
        "sender": address,
        "from": address,
        "subject": "Re: a question",
        "body-plain": "Yes, that would help.",
        "message-headers": msgspec.json.encode(headers).decode(),
    }
    return Sample(urlencode(fields).encode(), URLENCODED)


def sign(sample: Sample, secret: str, address: str, now: datetime) -> Sample:
    """The sample with timestamp, token and signature."""
    timestamp, token = str(int(now.timestamp())), token_hex(25)
    signed = {
        "timestamp": timestamp,
        "token": token,
        "signature": _signature(secret, timestamp + token),
    }
    return sample._replace(body=sample.body + b"&" + urlencode(signed).encode())


SOURCE = Source(
    "mailgun-inbound",
    parse,
    [PATH, f"{PATH}/mime"],
    frozenset({URLENCODED, MULTIPART}),
    body=MailgunMail,
    example={
        "timestamp": "1767323045",
        "token": "50 characters",
        "signature": "hex",
        "sender": "ann@example.com",
        "subject": "Re: a question",
        "body-plain": "Yes, that would help.",
    },
    setup=SetupGuide(
        "Answers by mail, through Mailgun's routes",
        [
            "Let the domain of RIPELINE_MAIL_FROM receive at Mailgun (its MX records).",
            'Add a route for that address with the action forward("{address}/mime").',
            "Connect it here with the HTTP webhook signing key of Mailgun's settings.",
        ],
    ),
    verify=verify,
    single_use_token=single_use_token,
    stop_status=406,
    sample=sample,
    sign=sign,
    new_secret=signatures.new_text,
)
