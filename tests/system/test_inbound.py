"""Answers by mail on the running system: from a real IMAP server, and by Mailgun's and SendGrid's
webhooks (I10).
"""

import asyncio
import hashlib
import hmac
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from email.message import EmailMessage
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from services.ingest.senders import Vault, connect
from tests.support import present
from tests.support.mailserver import PASSWORD, USER, MailServer
from tests.support.processes import Process
from tests.support.running_system import System, wait_until
from tests.system.test_one_lead import Story

Reader = Callable[..., Awaitable[Process]]


@pytest.fixture(scope="module")
def variables(system: System, scratch: Path) -> dict[str, str]:
    """The settings of the running system's services, its pepper among them."""
    state = scratch / "system" / "tmp" / f"ripeline-{os.getuid()}" / "up.json"
    return dict(json.loads(state.read_text())["environ"])


@pytest.fixture(scope="module")
def mail_server(scratch: Path) -> Iterator[MailServer]:
    server = MailServer(scratch / "imap")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def reader(
    variables: dict[str, str], mail_server: MailServer, tmp_path: Path
) -> AsyncIterator[Reader]:
    """Starts one more ingest of the running system, which reads a folder of the mailbox."""
    started: list[Process] = []

    async def start(folder: str, fault: str = "") -> Process:
        login = f"{quote(USER)}:{quote(PASSWORD, safe='')}"
        address = f"imap://{login}@127.0.0.1:{mail_server.port}/{quote(folder)}"
        own = {
            "RIPELINE_IMAP_URL": address,
            "RIPELINE_IMAP_POLL_S": "0.3",
            "RIPELINE_SPOOL_DIR": str(tmp_path / f"spool-{len(started)}"),
        }
        own["RIPELINE_ENVIRONMENT"] = "test"
        process = Process(
            "services.ingest", variables | own, tmp_path / f"ingest-{len(started)}.log", fault
        )
        started.append(process)
        await process.start()
        await process.ready()
        return process

    yield start
    for process in started:
        assert await process.stop() == 0, process.tail()


def mail(
    sender: str,
    body: str,
    *,
    answers: str = "",
    subject: str = "Re: What four bottlers changed",
    **headers: str,
) -> EmailMessage:
    """A mail as somebody's program writes it."""
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = sender, "nurture@ripeline.example", subject
    made["Date"], made["Message-ID"] = (
        format_datetime(present.now()),
        f"<{uuid.uuid4().hex}@{sender.rpartition('@')[2]}>",
    )
    if answers:
        made["In-Reply-To"] = made["References"] = answers
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    made.set_content(body)
    return made


def answers_of(system: System, lead: str, type_: str = "email_replied") -> list[dict[str, Any]]:
    return [item for item in system.timeline(lead) if item.get("type") == type_]


async def there(ask: Callable[[], Any]) -> Any:
    """What `ask` returns once it is true, while our own processes are kept alive."""
    return await asyncio.to_thread(wait_until, ask)


async def test_an_answer_in_the_mailbox_joins_its_lead_and_touch_and_a_machines_weighs_nothing(
    system: System, mail_server: MailServer, reader: Reader
) -> None:
    """I10, I4: the lead is engaged by its answer, and by nothing that its program wrote."""
    story = await asyncio.to_thread(Story, system)
    touch, sent = story.touch["id"], story.mail["Message-ID"]
    away = mail(
        story.email,
        "I am away. Please remove me from nothing.",
        answers=sent,
        Auto_Submitted="auto-replied",
    )
    mail_server.deliver(away.as_bytes(), folder="Answers")
    process = await reader("Answers")
    [item] = await there(lambda: answers_of(system, story.id))
    assert (item["machine"], item["touch_id"], item["source"], item["read_as"]) == (
        True,
        touch,
        "mailbox:default",
        None,
    )
    before = await asyncio.to_thread(system.query, f"/v1/leads/{story.id}")
    answer = mail(
        story.email,
        f"Line 3 stops. Call me.\n\nOn 3 Nov 2026 we wrote:\n> Unsubscribe: {story.link('u')}\n",
        answers=sent,
    )
    mail_server.deliver(answer.as_bytes(), folder="Answers")
    await there(lambda: len(answers_of(system, story.id)) == 2)
    [item] = [answer for answer in answers_of(system, story.id) if not answer["machine"]]
    assert (item["touch_id"], item["read_as"]) == (touch, "reply")
    after = await asyncio.to_thread(system.query, f"/v1/leads/{story.id}")
    assert after["engagement"] > before["engagement"]
    assert {consent["state"] for consent in after["consent"]} == {"given"}
    assert process.deaths == 0
    imap = mail_server.connected()
    imap.select("Answers", readonly=True)
    assert len(imap.uid("SEARCH", "UNSEEN")[1][0].split()) == 2  # nothing is marked
    imap.logout()


async def test_remove_me_from_another_address_silences_the_one_that_was_written_to(
    system: System, mail_server: MailServer, reader: Reader
) -> None:
    """I10, N6: in plain words, in the writer's own part."""
    story = await asyncio.to_thread(Story, system)
    other = system.address("private")
    removed = mail(other, "Please take me off your list.", answers=story.mail["Message-ID"])
    mail_server.deliver(removed.as_bytes(), folder="Removals")
    await reader("Removals")

    def withdrawn() -> bool:
        return "withdrawn" in {
            consent["state"] for consent in system.query(f"/v1/leads/{story.id}")["consent"]
        }

    await there(withdrawn)
    leads = [
        await there(lambda: system.lookup(email=other)),
        await there(lambda: system.lookup(email=story.email)),
    ]
    assert {consent["state"] for consent in leads[0]["consent"]} == {"withdrawn"}
    assert leads[1]["id"] == story.id


async def test_killed_between_publishing_and_noting_it_loses_nothing_and_counts_nothing_twice(
    system: System, mail_server: MailServer, reader: Reader, variables: dict[str, str]
) -> None:
    """Reliability: the mails are published again, and their ids make that harmless."""
    folder, wire = "Crash & Brüche", '"Crash &- Br&APw-che"'
    people = [system.address(f"p{n}") for n in range(25)]  # more than a lot
    mail_server.deliver(
        *(mail(person, "Yes, please.").as_bytes() for person in people), folder=wire
    )
    first = await reader(folder, "between_publish_and_uid:2")
    for person in people:
        await there(partial(system.lookup, email=person))
    await there(lambda: first.deaths == 1)
    assert first.died_by_fault == "between_publish_and_uid:2"
    await first.ready()
    mail_server.deliver(mail(people[0], "And more.").as_bytes(), folder=wire)
    await reader(folder)  # a second process at the same mailbox
    ids = {person: (await there(partial(system.lookup, email=person)))["id"] for person in people}
    await there(lambda: len(answers_of(system, ids[people[0]])) == 2)
    await asyncio.sleep(1)  # further looks
    assert [len(answers_of(system, ids[person])) for person in people] == [2] + [1] * 24
    engine = create_async_engine(
        variables["RIPELINE_DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://")
    )
    async with engine.connect() as connection:
        places = await connection.execute(
            text("SELECT next_uid FROM access.mailbox WHERE name LIKE '%Crash%'")
        )
        assert [row.next_uid for row in places] == [27]
        withdrawn = await connection.execute(
            text("SELECT first_heard_at IS NOT NULL FROM access.source WHERE name = 'mailbox'")
        )
        assert withdrawn.scalar_one() is True
    await engine.dispose()


# -- webhooks -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def connected(system: System, variables: dict[str, str]) -> str:
    """The secret with which both senders are connected."""

    async def make() -> None:
        engine = create_async_engine(
            system.database.replace("postgresql://", "postgresql+asyncpg://")
        )
        async with engine.begin() as connection:
            for source in ("mailgun-inbound", "sendgrid-inbound"):
                await connect(
                    connection,
                    Vault(variables["RIPELINE_PEPPER"].encode()),
                    source,
                    "inbound-secret",
                )
        await engine.dispose()

    asyncio.run(make())
    time.sleep(1.5)  # secrets are read again every second
    return "inbound-secret"


def signed(secret: str, token: str = "") -> dict[str, str]:
    """Mailgun's signature."""
    stamp, token = str(int(present.now().timestamp())), token or uuid.uuid4().hex
    made = hmac.new(secret.encode(), (stamp + token).encode(), hashlib.sha256).hexdigest()
    return {"timestamp": stamp, "token": token, "signature": made}


def test_mailguns_route_posts_an_answer_and_repeats_it_without_harm(
    system: System, connected: str
) -> None:
    """I10: 200 is success, 406 is stop, a token serves one body."""
    story_mail = mail(system.address(), "Yes, please.")
    fields = {
        "body-mime": story_mail.as_string(),
        "recipient": "nurture@ripeline.example",
    } | signed(connected)
    url = f"{system.ingest}/v1/hooks/mailgun-inbound/mime"
    assert [system.http.post(url, data=fields).status_code for _ in range(2)] == [200, 200]
    lead = system.wait_for_lead(1, email=story_mail["From"])
    assert [item["source"] for item in answers_of(system, lead["id"])] == [
        "mailgun-inbound:default"
    ]
    other = system.http.post(url, data=fields | {"body-mime": "From: x@y.example\n\nBuy"})
    assert (other.status_code, other.json()["type"].rpartition("#")[2]) == (406, "replayed")
    forged = system.http.post(url, data=fields | signed("guessed"))
    assert (forged.status_code, forged.json()["type"].rpartition("#")[2]) == (401, "signature")
    nothing = system.http.post(
        url, data={"body-mime": "List-Id: <a.b>\nFrom: x@y.example\n\nNews"} | signed(connected)
    )
    assert nothing.status_code == 406


def test_sendgrids_form_withdraws_consent_of_who_asks_in_plain_words(
    system: System, connected: str
) -> None:
    """I10, N6: a parsed form, its text in an old charset."""
    email = system.address()
    system.post_event(
        type="form_submitted", email=email, consent=[{"state": "given", "basis": "form"}]
    )
    fields = mail(email, "x")
    headers = "".join(
        f"{name}: {value}\n"
        for name, value in fields.items()
        if not name.startswith(("Content", "MIME"))
    )
    parts: dict[str, Any] = {
        "headers": (None, headers), "from": (None, email), "charsets": (None,
        '{"text":"iso-8859-1"}'),
        "text": (None, "Löschen Sie mich bitte aus dem Verteiler.".encode("latin-1")),
        "envelope": (None, json.dumps({"to": ["nurture@ripeline.example"], "from": email})),
    }  # fmt: skip
    url = f"{system.ingest}/v1/hooks/sendgrid-inbound"
    assert system.http.post(url, params={"secret": "guessed"}, files=parts).status_code == 401
    assert system.http.post(url, params={"secret": connected}, files=parts).status_code == 200

    def withdrawn() -> bool:
        lead = system.lookup(email=email)
        return bool(lead and {consent["state"] for consent in lead["consent"]} == {"withdrawn"})

    wait_until(withdrawn)
