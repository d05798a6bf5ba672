"""SendGrid's Inbound Parse: a received mail as a form, in its original form (`email`) or taken
apart; a secret in the address.
"""

from collections.abc import Sequence
from datetime import datetime
from secrets import token_hex

import msgspec

from services.ingest.mailbox import inbound
from services.ingest.mailbox.text import Mail, decoded, parsed
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

PATH = "/v1/hooks/sendgrid-inbound"
BOUNDARY = "xYzZY"  # SendGrid's own


class Envelope(msgspec.Struct):
    """Who handed the mail in; '' for reports."""

    from_: str = msgspec.field(default="unknown", name="from")


class SendGridMail(msgspec.Struct, omit_defaults=True):
    """The fields of a received mail; `email` is the mail in its original form."""

    headers: str = ""
    envelope: str = ""
    charsets: str = ""
    text: str = ""
    html: str = ""
    email: str = ""


_envelope = msgspec.json.Decoder(Envelope).decode
_charsets = msgspec.json.Decoder(dict[str, str]).decode


def parse(request: InboundRequest) -> list[Item | Refused]:
    """The one mail of the form."""
    parts, subjects = either(request), request.words.automatic_subjects
    fields = {part.name: part.value for part in parts if not part.is_file}
    if raw := fields.get("email"):
        return inbound.read(raw, request.received_at, subjects)
    return inbound.guarded(
        lambda: inbound.items(_mail(fields, parts), request.received_at, subjects)
    )


def _mail(fields: dict[str, bytes], parts: Sequence[Part]) -> Mail:
    """The mail from the fields that SendGrid made of it, each in a charset of its own."""
    headers = [
        (name, str(value))
        for name, value in parsed(fields.get("headers", b"")[: inbound.MAX_MAIL]).raw_items()
    ]
    try:
        charsets = _charsets(fields.get("charsets") or b"{}")
        if not _envelope(fields.get("envelope") or b"{}").from_:
            headers.append(("Return-Path", "<>"))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        charsets = {}
    bodies = [
        (
            f"text/{kind}",
            decoded(
                fields.get(name, b"")[: inbound.MAX_MAIL], charsets.get(name, "utf-8")
            ).encode(),
        )
        for kind, name in (("plain", "text"), ("html", "html"))
    ]
    return inbound.assembled(headers, [*bodies, *inbound.files(parts)])


def verify(request: InboundRequest, secrets: Sequence[Secret]) -> Secret:
    """The secret in the URL that SendGrid posts to; SendGrid signs nothing."""
    given = request.query.get("secret", "")
    return signatures.fitting(secrets, lambda secret: signatures.same(secret, given), "secret")


def sample(address: str, now: datetime) -> Sample:
    """Somebody's answer, taken apart."""
    headers = (
        f"From: {address}\nSubject: Re: a question\nDate: "
        f"{now.strftime('%a, %d %b %Y %H:%M:%S +0000')}\n"
        f"Message-ID: <{token_hex(16)}@{address.rpartition('@')[2]}>\n"
    )
    fields = {
        "headers": headers,
        "from": address,
        "subject": "Re: a question",
        "text": "Yes, that would help.",
    }
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in fields.items()
    ]
    return Sample(
        f"{''.join(parts)}--{BOUNDARY}--\r\n".encode(), f"{MULTIPART}; boundary={BOUNDARY}"
    )


def sign(sample: Sample, secret: str, address: str, now: datetime) -> Sample:
    """The sample at the URL that SendGrid posts to."""
    return sample._replace(query={**sample.query, "secret": secret})


SOURCE = Source(
    "sendgrid-inbound",
    parse,
    [PATH],
    frozenset({MULTIPART}),
    body=SendGridMail,
    example={"headers": "From: ann@example.com", "text": "Yes, that would help."},
    setup=SetupGuide(
        "Answers by mail, through SendGrid's Inbound Parse",
        [
            "Point the MX record of the domain of RIPELINE_MAIL_FROM to mx.sendgrid.net.",
            "In Settings, Inbound Parse, add that host with the URL {address}?secret=SECRET.",
            "Tick “POST the raw, full MIME message” there.",
        ],
    ),
    verify=verify,
    stop_status=200,
    sample=sample,
    sign=sign,
    new_secret=signatures.new_text,
)
