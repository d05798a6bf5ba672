"""What a mail server answers, command by command, and what stands on the wire (N6, N7)."""

import re
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.nurture.channels import Bounced, OutcomeUnknown, ReceiverRefuses, ServerUnusable
from services.nurture.channels.email import Email
from services.nurture.channels.message import Message
from services.shared.errors import Retry
from services.shared.settings import Settings
from services.shared.urls import read_sender
from tests.support.certificates import make_certificate
from tests.support.smtp_server import BODY, DROP, SILENCE, SmtpServer

NOW = datetime(2026, 5, 13, 12, 0, tzinfo=UTC)
TOUCH = "11111111-1111-4111-8111-111111111111"
LONG = "https://mail.millwarden.example/u/" + "aB3_-" * 40
MESSAGE = Message(
    TOUCH, "ada@acme.example", "Übung macht den Meister " * 8, "Text", "<p>Text</p>",
    "https://m.example/l", LONG, "https://m.example/p",
)  # fmt: skip


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that vouches for itself, and its key."""
    return make_certificate(tmp_path_factory.mktemp("smtp"))


@pytest.fixture
async def server(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SmtpServer]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    started = SmtpServer(context)
    yield started
    started.close()


async def send(server: SmtpServer, login: str = "", **settings: Any) -> None:
    """Sends MESSAGE over the server."""
    url = f"smtp://{login}{await server.start()}"
    given = Settings(smtp_url=url, **({"sending_timeout_s": 2.0} | settings))
    await Email(given).send(MESSAGE, NOW)


@pytest.mark.parametrize(
    ("verb", "answer", "raised"),
    [
        ("CONNECT", "554 no mail from you", ServerUnusable),
        ("CONNECT", "421 busy", ServerUnusable),
        ("CONNECT", DROP, ServerUnusable),
        ("CONNECT", SILENCE, ServerUnusable),
        ("EHLO", "421 busy", ServerUnusable),
        ("STARTTLS", "454 not now", ServerUnusable),
        ("STARTTLS", DROP, ServerUnusable),
        ("AUTH", "535 5.7.8 wrong password", ServerUnusable),
        ("AUTH", "454 not now", ServerUnusable),
        ("MAIL", "452 over your quota", ServerUnusable),
        ("MAIL", "552 over your quota", ServerUnusable),
        ("MAIL", "550 not your address", ServerUnusable),
        ("MAIL", DROP, ServerUnusable),
        ("MAIL", SILENCE, ServerUnusable),
        ("RCPT", "550 nobody here", Bounced),
        ("RCPT", "450 greylisted", Retry),
        ("RCPT", "421 going down", Retry),
        ("RCPT", "530 log in first", ServerUnusable),
        ("RCPT", DROP, ServerUnusable),
        ("RCPT", SILENCE, ServerUnusable),
        ("DATA", DROP, ServerUnusable),
        ("DATA", SILENCE, ServerUnusable),
        ("DATA", "552 too large", Bounced),
        ("DATA", "451 not now", Retry),
        ("DATA", "421 going down", Retry),
        (BODY, "554 spam", Bounced),
        (BODY, "550 5.7.26 unauthenticated", ReceiverRefuses),
        (BODY, "421 4.7.28 unusual rate", ReceiverRefuses),
        (BODY, "451 not now", Retry),
        ("RCPT", "what?", ServerUnusable),
        (BODY, "what?", OutcomeUnknown),
        (BODY, DROP, OutcomeUnknown),
        (BODY, SILENCE, OutcomeUnknown),
    ],
)
async def test_only_an_answer_to_rcpt_or_data_speaks_of_the_mail(
    server: SmtpServer, verb: str, answer: str, raised: type[Exception]
) -> None:
    server.answers[verb] = answer
    with pytest.raises(raised) as told:
        await send(server, "user:pass%20word@", sending_timeout_s=1.0)
    assert type(told.value) is raised
    assert raised is OutcomeUnknown or server.mails == []
    assert "ada@" not in str(told.value)
    if raised is ServerUnusable and answer[0].isdigit():
        assert answer[4:] in str(told.value) or verb == "STARTTLS"


async def test_a_password_goes_over_tls_alone(server: SmtpServer) -> None:
    await send(server, "user:password@")
    assert server.verbs.index("STARTTLS") < server.verbs.index("AUTH")
    assert len(server.mails) == 1
    plain = SmtpServer()
    with pytest.raises(ServerUnusable, match="STARTTLS"):
        await send(plain, "user:password@")
    assert "AUTH" not in plain.verbs
    plain.close()


async def test_a_certificate_that_nobody_vouches_for_gets_no_password(
    server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    with pytest.raises(ServerUnusable):
        await send(server, "user:password@")
    assert "AUTH" not in server.verbs


SENDERS = {
    "Ripeline <nurture@localhost>": "nurture@localhost",
    "nurture@millwarden.example": "nurture@millwarden.example",
    "Müller & Söhne, Werke <n@millwarden.example>": "n@millwarden.example",
    '"Müller, Jürgen" <n@millwarden.example>': "n@millwarden.example",
    "Jürgen " * 20 + "<nurture@" + "m" * 60 + ".example>": "nurture@" + "m" * 60 + ".example",
    "Team <post@müller.example>": "post@xn--mller-kva.example",
}


@pytest.mark.parametrize("sender", SENDERS)
async def test_no_address_in_a_header_is_encoded_or_folded(server: SmtpServer, sender: str) -> None:
    """RFC 2369, 8058 and 5322, on the bytes of the wire."""
    await send(server, mail_from=sender)
    (raw,) = server.mails
    lines = raw.partition(b"\r\n\r\n")[0].decode("ascii").split("\r\n")
    address = SENDERS[sender]
    for whole in (
        f"List-Unsubscribe: <{LONG}>",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        f"Message-ID: <{TOUCH}@{address.partition('@')[2]}>",
        f"X-PM-Metadata-touch_id: {TOUCH}",
        "To: ada@acme.example",
    ):
        assert lines.count(whole) == 1, whole
    unfolded = re.sub(r"\r\n(?=[ \t])", "", raw.partition(b"\r\n\r\n")[0].decode())
    (from_,) = re.findall(r"^From: (.*)$", unfolded, re.MULTILINE)
    assert from_.rstrip("\r").endswith(f"<{address}>") or from_.rstrip("\r") == address
    assert any(line.endswith(f"<{address}>") or line == f"From: {address}" for line in lines)
    assert all(len(line) <= 998 for line in lines)
    words = re.findall(r"=\?[^?]+\?[bq]\?[^?]*\?=", unfolded, re.IGNORECASE)
    assert all(len(word) <= 75 for word in words)


@pytest.mark.parametrize(
    "sender", ["nobody", "Name <>", "<a b@c.example>", "a@b, c@d", "Jö <jö@x.example>", "x@"]
)
def test_a_sender_that_is_none_is_refused_at_the_start(sender: str) -> None:
    with pytest.raises(ValidationError, match="address@domain"):
        Settings(mail_from=sender)


def test_the_address_of_the_installation_may_hold_any_letter() -> None:
    """Its links stand in headers."""
    url = Settings(public_url="https://müller.example:8443/grüße/?a=b%20c").public_url
    assert url == "https://xn--mller-kva.example:8443/gr%C3%BC%C3%9Fe/?a=b%20c"
    assert Settings(public_url="http://127.0.0.1:8080/").public_url == "http://127.0.0.1:8080"


async def test_a_mail_reads_as_it_was_written(server: SmtpServer) -> None:
    await send(server)
    mail = message_from_bytes(server.mails[0])
    assert mail["List-Unsubscribe"] == f"<{LONG}>"
    assert read_sender("Ä, Ö <a@b.example>").display_name == "Ä, Ö"
