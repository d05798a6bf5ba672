"""DKIM signatures, verified on the bytes of the wire against a DNS server (N15)."""

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import dkim
import dns.resolver
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.nurture.channels.email import Email
from services.nurture.channels.message import Message
from services.shared.dkim_signing import Signer
from services.shared.errors import Reject
from services.shared.settings import Settings
from tests.support.dns_server import DnsServer, txt
from tests.support.smtp_server import SmtpServer

NOW = datetime(2026, 5, 13, 12, 0, tzinfo=UTC)
MESSAGE = Message(
    "11111111-1111-4111-8111-111111111111", "ada@acme.example", "Übung macht den Meister",
    "Text\n.\n.. dots and Ümläute " + "long " * 400, "<p>Text</p>",
    "https://m.example/l", "https://m.example/u/" + "aB3_-" * 30, "https://m.example/p",
)  # fmt: skip
NAME = "2030a._domainkey.millwarden.example"


@pytest.fixture
async def server() -> AsyncIterator[SmtpServer]:
    started = SmtpServer()
    yield started
    started.close()


@pytest.fixture
async def names() -> AsyncIterator[DnsServer]:
    started = DnsServer({})
    yield started
    started.close()
    await asyncio.sleep(0)


def key_file(folder: Path, kind: str) -> Path:
    key = Ed25519PrivateKey.generate() if kind == "ed25519" else generate_private_key(65537, 2048)
    path = folder / f"{kind}.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def settings(path: Path, smtp: str = "127.0.0.1:9") -> Settings:
    return Settings(
        smtp_url=f"smtp://{smtp}",
        mail_from="Millwarden <post@millwarden.example>",
        dkim_domain="millwarden.example",
        dkim_selector="2030a",
        dkim_key_file=path,
        sending_timeout_s=5.0,
    )  # fmt: skip


def lookup(resolver: dns.resolver.Resolver, name: bytes, timeout: float = 5) -> bytes:
    """What dkimpy asks of DNS."""
    found = resolver.resolve(name.decode(), "TXT", lifetime=timeout)
    return b"".join(found[0].strings)


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
async def test_a_signature_holds_on_the_wire_and_breaks_with_what_it_covers(
    server: SmtpServer, names: DnsServer, tmp_path: Path, kind: str
) -> None:
    given = settings(key_file(tmp_path, kind), await server.start())
    signer = Signer.of(given)
    assert signer
    names.zone[NAME, "TXT"] = [txt(signer.record())]
    host, _, port = (await names.start()).partition(":")
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [host], int(port)
    await Email(given).send(MESSAGE, NOW)
    (raw,) = server.mails
    ask = partial(lookup, resolver)

    async def holds(mail: bytes) -> bool:
        try:
            return await asyncio.to_thread(lambda: dkim.DKIM(mail).verify(dnsfunc=ask))
        except dkim.DKIMException:
            return False

    raw = raw.replace(b"\r\n..", b"\r\n.")  # RFC 5321, 4.5.2
    assert await holds(raw)
    assert (NAME, "TXT") in names.asked
    signature = raw.partition(b"\r\nFrom:")[0]
    assert b"a=" + signer.algorithm in signature
    for header in (b"list-unsubscribe", b"list-unsubscribe-post", b"from", b"subject"):
        assert header in signature.replace(b"\r\n", b"").lower()
    for old, new in (
        (b"List-Unsubscribe: <https://m", b"List-Unsubscribe: <https://n"),
        (b"One-Click", b"Two-Click"),
        (b"<p>Text", b"<p>Test"),
        (b"\r\nSubject:", b"\r\nSubject: Another\r\nSubject:"),
    ):
        assert old in raw
        assert not await holds(raw.replace(old, new, 1))


async def test_without_a_key_nothing_is_signed(server: SmtpServer) -> None:
    await Email(Settings(smtp_url=f"smtp://{await server.start()}")).send(MESSAGE, NOW)
    assert b"DKIM-Signature" not in server.mails[0]


@pytest.mark.parametrize("content", [b"", b"no key", b"short", None])
def test_a_key_that_cannot_sign_is_told_at_the_start(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "key.pem"
    if content == b"short":
        key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        content = base64.b64encode(key)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Reject, match="RIPELINE_DKIM_KEY_FILE"):
        Email(settings(path))


@pytest.mark.parametrize(
    "given", [{"dkim_domain": "a.example"}, {"dkim_selector": "s"}, {"dkim_key_file": "k.pem"}]
)
def test_half_a_setting_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="belong together"):
        Settings(**given)  # type: ignore[arg-type]
