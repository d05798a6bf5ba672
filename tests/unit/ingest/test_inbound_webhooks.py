"""Inbound mail by webhook: Mailgun's and SendGrid's forms say the same as the mail itself, and
nobody else is believed.
"""

import hashlib
import hmac
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from pathlib import Path
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.mailbox import mailgun as mailgun_inbound
from services.ingest.mailbox import sendgrid as sendgrid_inbound
from services.ingest.mailbox.inbound import read
from services.ingest.registry import MAILBOX, SOURCES
from services.ingest.source_stats import source_guide
from services.ingest.sources.contract import InboundRequest, Item, Refused, Secret, Source
from services.shared.errors import Reject

MAILS = Path(__file__).parents[2] / "data" / "mail"
NOW = datetime(2026, 11, 3, 14, tzinfo=UTC)
MULTIPART = "multipart/form-data; boundary=xYzZY"
KEY = Secret("default", "key-0123456789")
Fields = list[tuple[str, str, bytes]]  # name, what else the part's headers say, value


def urlencoded(
    fields: dict[str, str | bytes], path: str = mailgun_inbound.PATH, at: datetime = NOW
) -> InboundRequest:
    return InboundRequest(path, urlencode(fields).encode(), at, "application/x-www-form-urlencoded")


def multipart(fields: Fields, query: dict[str, str] | None = None) -> InboundRequest:
    body = b"".join(
        f'--xYzZY\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()
        + value
        + b"\r\n"
        for name, more, value in fields
    )
    return InboundRequest(
        "",
        body + b"--xYzZY--\r\n",
        NOW,
        "multipart/form-data",
        {"content-type": MULTIPART},
        query or {},
    )


def raw(name: str) -> bytes:
    return (MAILS / f"{name}.eml").read_bytes()


def mailgun_fields(mail: bytes, text: str, html: str = "") -> dict[str, str | bytes]:
    """What Mailgun makes of a mail: its headers as a list, its texts in UTF-8."""
    headers = [[name, str(value)] for name, value in message_from_bytes(mail).items()]
    return {
        "recipient": "nurture@millwarden.example", "sender": "ann.ames@acme.example",
        "body-plain": text, "body-html": html,
        "message-headers": msgspec.json.encode(headers).decode(), "stripped-text": "not read",
    }  # fmt: skip


def signature(timestamp: str, token: str, key: str = KEY.value) -> dict[str, str | bytes]:
    """Mailgun's, computed again."""
    return {
        "timestamp": timestamp, "token": token,
        "signature": hmac.new(key.encode(), f"{timestamp}{token}".encode(),
        hashlib.sha256).hexdigest(),
    }  # fmt: skip


def plain(name: str, charset: str) -> str:
    mail = message_from_bytes(raw(name))
    part = next(part for part in mail.walk() if part.get_content_type() == "text/plain")
    return part.get_payload(decode=True).decode(charset)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "charset"),
    [
        ("gmail_top", "utf-8"),
        ("outlook_top", "latin-1"),
        ("oof_exchange", "ascii"),
        ("remove_me", "utf-8"),
    ],
)
def test_mailguns_form_says_what_the_mail_says(name: str, charset: str) -> None:
    """I10: taken apart, and in its original form."""
    mail = raw(name)
    assert mailgun_inbound.parse(urlencoded(mailgun_fields(mail, plain(name, charset)))) == read(
        mail, NOW
    )
    assert mailgun_inbound.parse(urlencoded({"body-mime": mail})) == read(mail, NOW)


@pytest.mark.parametrize(
    ("name", "charset"),
    [
        ("gmail_top", "utf-8"),
        ("outlook_top", "latin-1"),
        ("oof_exchange", "ascii"),
        ("remove_me", "utf-8"),
    ],
)
def test_sendgrids_form_says_what_the_mail_says(name: str, charset: str) -> None:
    """I10: taken apart, each field in a charset of its own, and in its original form."""
    mail = raw(name)
    headers, _, _ = mail.partition(b"\n\n")
    charsets = msgspec.json.encode({"headers": "UTF-8", "text": charset})
    fields: Fields = [
        ("headers", "", headers + b"\n"), ("charsets", "", charsets), ("text", "", plain(name,
        charset).encode(charset)),
        ("envelope", "", b'{"to":["nurture@millwarden.example"],"from":"ann@acme.example"}'),
    ]  # fmt: skip
    assert sendgrid_inbound.parse(multipart(fields)) == read(mail, NOW)
    assert sendgrid_inbound.parse(multipart([("email", "", mail)])) == read(mail, NOW)


def test_a_bounce_that_was_taken_apart_is_still_one() -> None:
    """Its parts come as attached files."""
    mail = message_from_bytes(raw("bounce_postfix"))
    text, report, returned = mail.get_payload()  # type: ignore[misc]
    status = b"\n".join(block.as_bytes() for block in report.get_payload())  # type: ignore[union-attr]
    files: Fields = [
        (
            "attachment-1",
            '; filename="delivery-status"\r\nContent-Type: message/delivery-status',
            status,
        ),
        (
            "attachment-2",
            '; filename="headers"\r\nContent-Type: text/rfc822-headers',
            returned.get_payload().encode(),
        ),  # type: ignore[union-attr]
        ("attachment-3", '; filename="a.pdf"\r\nContent-Type: application/pdf', b"%PDF"),
    ]
    fields = mailgun_fields(raw("bounce_postfix"), text.get_payload()) | {"sender": ""}  # type: ignore[union-attr]
    given = [
        (name, "", value.encode() if isinstance(value, str) else value)
        for name, value in fields.items()
    ]
    assert mailgun_inbound.parse(multipart([*given, *files])) == read(raw("bounce_postfix"), NOW)
    headers = raw("bounce_postfix").partition(b"\n\n")[0]
    assert sendgrid_inbound.parse(multipart([("headers", "", headers), *files])) == read(
        raw("bounce_postfix"), NOW
    )


@pytest.mark.parametrize(
    ("fields", "machine"),
    [
        ([("envelope", "", b'{"from":""}')], True),
        ([("envelope", "", b'{"from":"a@b.de"}')], False),
        ([], False),
    ],
)
def test_who_hands_in_without_a_sender_is_a_machine(fields: Fields, machine: bool) -> None:
    [item] = sendgrid_inbound.parse(
        multipart(
            [("headers", "", b"From: a@b.de\nSubject: Re: x\n"), ("text", "", b"Hi"), *fields]
        )
    )
    assert isinstance(item, Item)
    assert item.machine is machine


def test_boxes_in_boxes_are_refused_in_an_attachment_too() -> None:
    nested = "".join(
        f'Content-Type: multipart/mixed; boundary="b{n}"\n\n--b{n}\n' for n in range(60)
    ).encode()
    file = ("attachment1", '; filename="x"\r\nContent-Type: message/rfc822', nested)
    [item] = sendgrid_inbound.parse(multipart([("headers", "", b"From: a@b.de\n"), file]))
    assert isinstance(item, Refused)
    assert item.reject.kind == "unreadable-mail"


def test_without_the_list_of_headers_mailguns_fields_are_the_headers() -> None:
    [item] = mailgun_inbound.parse(
        urlencoded(
            {"From": "a@b.de", "Subject": "Re: ä", "Message-Id": "<1@b.de>", "body-plain": "Ja"}
        )
    )
    assert isinstance(item, Item)
    assert (item.type, item.email, item.properties) == (
        "email_replied",
        "a@b.de",
        {"subject": "Re: ä", "text": "Ja"},
    )


def test_mailguns_signature_is_over_timestamp_and_token() -> None:
    """Security: several secrets, and any change is noticed."""
    post = urlencoded({"body-plain": "x", **signature(str(int(NOW.timestamp())), "t" * 50)})
    assert mailgun_inbound.verify(post, [Secret("new", "other"), KEY]) == KEY
    assert mailgun_inbound.single_use_token(post) == "t" * 50
    for broken in (
        post.body.replace(b"ttt", b"tts", 1),
        post.body.replace(b"timestamp=1", b"timestamp=2"),
    ):
        with pytest.raises(Reject) as caught:
            mailgun_inbound.verify(post._replace(body=broken), [KEY])
        assert caught.value.kind == "signature"
    with pytest.raises(Reject) as caught:
        mailgun_inbound.verify(post, [])
    assert caught.value.kind == "not-connected"


@pytest.mark.parametrize(("hours", "fresh"), [(0, True), (8, True), (13, False), (-13, False)])
def test_mailguns_repetitions_come_for_eight_hours_under_the_first_signature(
    hours: int, fresh: bool
) -> None:
    """Security: older ones are refused; within them a token serves one body."""
    post = urlencoded(signature(str(int((NOW - timedelta(hours=hours)).timestamp())), "t"))
    if fresh:
        assert mailgun_inbound.verify(post, [KEY]) == KEY
    else:
        with pytest.raises(Reject) as caught:
            mailgun_inbound.verify(post, [KEY])
        assert caught.value.kind == "stale"


@pytest.mark.parametrize(
    "query", [{}, {"secret": ""}, {"secret": "key-012345678"}, {"secret": "ÄÖ"}]
)
def test_sendgrids_address_needs_its_secret(query: dict[str, str]) -> None:
    assert sendgrid_inbound.verify(multipart([], {"secret": KEY.value}), [KEY]) == KEY
    with pytest.raises(Reject) as caught:
        sendgrid_inbound.verify(multipart([], query), [KEY])
    assert caught.value.kind == "signature"


@pytest.mark.parametrize("source", [mailgun_inbound.SOURCE, sendgrid_inbound.SOURCE])
def test_a_signed_sample_passes_its_own_door_as_an_answer(source: Source) -> None:
    assert source.new_secret
    assert source.sample
    assert source.sign
    assert source.verify
    signer, verifier = source.new_secret()
    made = source.sign(
        source.sample("ann@acme.example", NOW), signer, "https://x.example" + source.paths[0], NOW
    )
    post = InboundRequest(
        source.paths[0],
        made.body,
        NOW,
        made.media.partition(";")[0],
        {"content-type": made.media},
        made.query,
    )
    assert source.verify(post, [Secret("default", verifier)]).name == "default"
    [item] = source.parse(post)
    assert isinstance(item, Item)
    assert (item.type, item.email, item.machine, item.occurred_at) == (
        "email_replied",
        "ann@acme.example",
        False,
        NOW,
    )


def test_the_sources_are_listed_with_what_to_do() -> None:
    assert {"mailgun-inbound", "sendgrid-inbound"} <= {
        source.name for source in SOURCES if source.setup
    }
    guide = source_guide(MAILBOX, "https://x.example")
    assert (guide.address, guide.signs) == ("", False)
    assert "RIPELINE_IMAP_URL" in guide.steps[1]
    steps = source_guide(mailgun_inbound.SOURCE, "https://x.example").steps
    assert any(
        'forward("https://x.example/v1/hooks/mailgun-inbound/mime")' in step for step in steps
    )


FIELDS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "headers",
                "text",
                "html",
                "email",
                "envelope",
                "charsets",
                "message-headers",
                "body-plain",
                "body-mime",
                "From",
            ]
        ),
        st.sampled_from(
            [
                "",
                '; filename="x"\r\nContent-Type: message/rfc822',
                '; filename="y"\r\nContent-Type: text/calendar',
            ]
        ),
        st.one_of(
            st.binary(max_size=60),
            st.sampled_from(
                [b'{"from":null}', b'{"text":"hex"}', b'[["From","a@b.de"]]', b"[[1]]"]
            ),
        ),
    ),
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(FIELDS)
def test_any_form_ends_in_items_or_refusals(fields: Fields) -> None:
    """Bad input: whatever comes under a valid signature; a form that is none raises Reject, and
    nothing else.
    """
    for source in (mailgun_inbound.SOURCE, sendgrid_inbound.SOURCE):
        found: list[Item | Refused] = []
        with suppress(Reject):
            found = source.parse(multipart(fields))
        assert all(isinstance(item, Item | Refused) for item in found)
