"""The mailbox's reader with a real IMAP server and a real database: places, gaps, TLS, and servers
that are away.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ingest.mailbox.cursor import LOCK
from services.ingest.mailbox.imap import BATCH, ImapSession, MailboxAddress, quoted
from services.ingest.mailbox.reader import MailboxReader, MailHandling
from services.ingest.normalise import Normaliser
from services.ingest.registry import MAILBOX
from services.ingest.source_stats import SourceStatistics
from services.shared.contracts.events import INTERACTIONS, decode_envelope, decode_interaction
from services.shared.contracts.identity import Cleaner
from services.shared.db import value
from services.shared.errors import Reject, Retry
from services.shared.messaging.kafka import Outgoing
from services.shared.playbook.sections import Playbook
from tests.support import present
from tests.support.certificates import make_certificate
from tests.support.mailserver import PASSWORD, USER, MailServer
from tests.support.proxy import Proxy

Make = Callable[[MailboxAddress], MailboxReader]
BIG = b"From: big@b.de\r\nSubject: Re: x\r\n\r\nYes.\r\n" + b"> quoted\r\n" * 100_000


class Broker:
    """Records who is published; `away` refuses, as a broker does that does not answer."""

    def __init__(self) -> None:
        self.away = False
        self.people: list[str] = []

    async def publish(self, records: Sequence[Outgoing]) -> None:
        if self.away:
            raise Retry("the broker did not acknowledge")
        interactions = [
            decode_interaction(decode_envelope(record.value).data)
            for record in records
            if record.topic == INTERACTIONS
        ]
        self.people += [interaction.email for interaction in interactions]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("imap"))


@pytest.fixture(scope="module")
def server(scratch: Path, certificate: tuple[Path, Path]) -> Iterator[MailServer]:
    one = MailServer(scratch / "imap-alone", *certificate)
    one.start()
    yield one
    one.stop()


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def trusted(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate is among those that the system trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))


def at(server: MailServer, folder: str) -> MailboxAddress:
    return MailboxAddress(False, "127.0.0.1", server.port, USER, PASSWORD, folder)


@pytest.fixture
def made(engine: AsyncEngine, broker: Broker, default_playbook: Playbook, trusted: None) -> Make:
    """Makes a reader of a mailbox."""

    def make(address: MailboxAddress) -> MailboxReader:
        normaliser = Normaliser(Cleaner(default_playbook.identity), b"pepper")
        statistics = SourceStatistics(engine, [MAILBOX], "http://x.example")
        handling = MailHandling(normaliser, broker, statistics, present.CLOCK)  # type: ignore[arg-type]
        return MailboxReader(address, 0.05, engine, handling)

    return make


def written(*people: str) -> list[bytes]:
    return [
        f"From: {one}@b.de\r\nSubject: Re: x\r\nMessage-ID: <{one}@b.de>\r\n\r\nYes.\r\n".encode()
        for one in people
    ]


def still() -> None:
    """A beat that nobody watches."""


async def test_every_mail_is_read_once_in_order_and_a_refused_one_holds_nothing_up(
    server: MailServer, made: Make, broker: Broker
) -> None:
    people = [f"p{n:02}" for n in range(BATCH + 5)]
    bulk = b"List-Id: <a.b>\r\nFrom: x@y.de\r\n\r\nNews\r\n"
    server.deliver(*written(*people), bulk, BIG, folder="Order")
    box = made(at(server, "Order"))
    for _ in range(2):
        await box.poll(still)
        assert broker.people == [f"{one}@b.de" for one in people] + ["big@b.de"]
    server.deliver(*written("later"), folder="Order")
    await made(at(server, "Order")).poll(still)
    assert broker.people[-2:] == ["big@b.de", "later@b.de"]


async def test_what_the_broker_did_not_acknowledge_is_read_again(
    server: MailServer, made: Make, broker: Broker
) -> None:
    """Promise 1: the cursor is stored after the acknowledgement."""
    server.deliver(*written("a"), folder="Away")
    box, broker.away = made(at(server, "Away")), True
    with pytest.raises(Retry):
        await box.poll(still)
    broker.away = False
    await box.poll(still)
    assert broker.people == ["a@b.de"]


async def test_gaps_in_the_numbers_are_crossed_and_new_numbers_begin_again(
    server: MailServer, made: Make, broker: Broker
) -> None:
    """UIDs have gaps of any width; with another UIDVALIDITY they mean other mails."""
    server.deliver(*written("a"), folder="Gaps")
    imap = server.connected()
    imap.select("Gaps")
    for _ in range(300):
        imap.append("Gaps", "", "", b"From: gone@b.de\r\n\r\n")
    imap.uid("STORE", "2:*", "+FLAGS", r"(\Deleted)")
    imap.expunge()
    imap.logout()
    server.deliver(*written("b"), folder="Gaps")
    box = made(at(server, "Gaps"))
    await box.poll(still)
    assert broker.people == ["a@b.de", "b@b.de"]
    server.deliver(*written("c"), folder="Other")
    imap = server.connected()
    imap.delete("Gaps")
    imap.rename("Other", "Gaps")
    imap.logout()
    await box.poll(still)
    assert broker.people == ["a@b.de", "b@b.de", "c@b.de"]


async def test_of_two_processes_one_reads(
    server: MailServer, made: Make, broker: Broker, engine: AsyncEngine
) -> None:
    server.deliver(*written("a"), folder="Two")
    address = at(server, "Two")
    async with engine.begin() as connection:
        assert await value(
            connection,
            "SELECT pg_try_advisory_xact_lock(:lock, hashtext(:name))",
            lock=LOCK,
            name=address.name,
        )
        await made(address).poll(still)
        assert broker.people == []
    await asyncio.gather(made(address).poll(still), made(address).poll(still))
    assert broker.people == ["a@b.de"]


async def test_tls_from_the_start_and_after_starttls_with_a_certificate_that_is_checked(
    server, made, broker, monkeypatch
) -> None:
    """Security: the password goes to nobody else."""
    server.deliver(*written("a"), folder="Secret")
    await made(at(server, "Secret")._replace(secure=True, port=server.tls_port)).poll(still)
    assert broker.people == ["a@b.de"]
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    for address in (
        at(server, "Secret"),
        at(server, "Secret")._replace(secure=True, port=server.tls_port),
    ):
        with pytest.raises(ssl.SSLCertVerificationError):
            await made(address).poll(still)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            {"password": "wrong"},
            "the mail server refuses the user or password of RIPELINE_IMAP_URL",
        ),
        ({"folder": "Nowhere"}, "the mailbox of RIPELINE_IMAP_URL has no such folder"),
    ],
)
async def test_a_wrong_setting_is_reported_without_its_value(
    server: MailServer, made: Make, changed: dict[str, str], reason: str
) -> None:
    with pytest.raises(Retry) as caught:
        await made(at(server, "INBOX")._replace(**changed)).poll(still)
    assert str(caught.value) == reason


async def test_it_waits_for_a_server_that_is_away_and_goes_on_by_itself(
    server: MailServer, made: Make, broker: Broker
) -> None:
    """O4: the loop gives heartbeats all the while, so that no watchdog ends the process."""
    server.deliver(*written("a"), folder="Later")
    proxy, beats = Proxy(f"127.0.0.1:{server.port}"), 0

    def beat() -> None:
        nonlocal beats
        beats += 1

    watching = asyncio.create_task(made(at(server, "Later")._replace(port=proxy.port)).watch(beat))
    while beats < 4:
        await asyncio.sleep(0.02)
    assert broker.people == []
    proxy.open()
    try:
        async with asyncio.timeout(15):
            while not broker.people:
                await asyncio.sleep(0.05)
    finally:
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
        proxy.close()
    assert broker.people == ["a@b.de"]


async def test_a_server_that_hangs_is_left_and_the_thread_with_it(
    engine: AsyncEngine, made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step has its time; cutting the connection frees the thread."""
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections and never answers
    monkeypatch.setattr("services.ingest.mailbox.imap.ANSWER_S", 0.2)
    address = MailboxAddress(False, "127.0.0.1", silent.getsockname()[1], "u", "p", "INBOX")
    with pytest.raises(TimeoutError):
        await made(address).poll(still)
    silent.close()
    async with engine.connect() as connection:
        assert not (await connection.execute(text("SELECT 1 FROM access.mailbox"))).first()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        (
            "imaps://a%40b.de:p%2Fw@mx.example/INBOX",
            MailboxAddress(True, "mx.example", 993, "a@b.de", "p/w", "INBOX"),
        ),
        (
            "imap://u:p@mx.example:1143",
            MailboxAddress(False, "mx.example", 1143, "u", "p", "INBOX"),
        ),
        (
            "imaps://u:p@mx.example/Ordner/Antworten%20%C3%A4/",
            MailboxAddress(True, "mx.example", 993, "u", "p", "Ordner/Antworten ä"),
        ),
    ],
)
def test_the_setting_names_server_user_and_folder(url: str, address: MailboxAddress) -> None:
    assert MailboxAddress.parse(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "mx.example",
        "https://u:secret@mx.example/",
        "imap://mx.example/",
        "imaps://u:secret@mx:port/",
        "imaps://u:secret@",
    ],
)
def test_a_setting_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(Reject) as caught:
        MailboxAddress.parse(url)
    assert "secret" not in str(caught.value)
    assert "imaps://" in caught.value.remedy


@pytest.mark.parametrize(
    ("folder", "wire"),
    [
        ("INBOX", '"INBOX"'),
        ("A & B", '"A &- B"'),
        ("Entwürfe", '"Entw&APw-rfe"'),
        ("台北/日本語", '"&U,BTFw-/&ZeVnLIqe-"'),
        ('a"\\b', '"a\\"\\\\b"'),
    ],
)
def test_a_folders_name_goes_over_the_wire_in_imaps_own_utf7(folder: str, wire: str) -> None:
    """RFC 3501, 5.1.3, with its own example."""
    assert quoted(folder) == wire


async def test_without_tls_no_password_leaves_this_machine(
    monkeypatch: pytest.MonkeyPatch, scratch: Path
) -> None:
    """Security: a server elsewhere that offers none is not signed in to."""
    plain = MailServer(scratch / "imap-plain")
    plain.start()
    monkeypatch.setattr("services.ingest.mailbox.imap.LOCALHOST", frozenset())
    with pytest.raises(Retry, match="offers no TLS"):
        ImapSession(at(plain, "INBOX"))
    plain.stop()
    assert "Login" not in plain.log.read_text()
