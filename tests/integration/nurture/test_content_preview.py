"""An item as a lead would get it, shown and sent as a test, without a trace in the database."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner

from services.nurture.previews import preview, send_test
from services.nurture.store.leads import LeadStore
from services.ops.__main__ import app as command_line
from services.shared.contracts.events import Change, Snapshot
from services.shared.db import open_engine, rows
from services.shared.errors import Reject
from services.shared.people.audit import Actor
from services.shared.playbook.loading import load
from services.shared.settings import ROOT, Settings
from tests.support.smtp_server import SmtpServer

LEAD, MERGED = uuid.UUID(int=1), uuid.UUID(int=2)
ITEM = "case-study-bottling"
NOW = datetime(2026, 5, 13, 12, tzinfo=UTC)
PLAYBOOK = load(ROOT / "deploy" / "playbook")


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """A database with one lead, into which another one was merged."""
    engine = open_engine(settings)
    snapshot = Snapshot(stage="decision", email="lead@a.example", traits={"first_name": "Grace"})
    async with engine.begin() as connection:
        store = LeadStore(connection, b"pepper", ())
        await store.keep_snapshots([Change(lead=str(LEAD), version=1, snapshot=snapshot)])
        await connection.execute(
            text("INSERT INTO nurture.merged (lead_id, into_lead) VALUES (:a, :b)"),
            {"a": MERGED, "b": LEAD},
        )
    yield engine
    await engine.dispose()


@pytest.mark.parametrize("lead", [LEAD, MERGED])
async def test_the_lead_reads_its_name_and_plain_links(
    engine: AsyncEngine, lead: uuid.UUID
) -> None:
    shown = await preview(engine, PLAYBOOK, ITEM, lead)
    item = PLAYBOOK.content_by_id[ITEM]
    for part in (shown.text, shown.html):
        assert "Hello Grace" in part
        assert item.url in part
        assert "preview.invalid" not in part


@pytest.mark.parametrize(
    ("item", "lead", "what"),
    [("case-study-botling", LEAD, "Did you mean `case-study-bottling`"),
     (ITEM, uuid.UUID(int=9), "knows no such lead")],
)  # fmt: skip
async def test_what_there_is_not_is_refused(
    engine: AsyncEngine, item: str, lead: uuid.UUID, what: str
) -> None:
    with pytest.raises(Reject, match=what):
        await preview(engine, PLAYBOOK, item, lead)


async def test_a_test_goes_to_the_one_who_asks_and_leaves_no_trace(
    engine: AsyncEngine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []

    async def send(_: object, message: object, at: datetime) -> None:
        sent.append(message)

    monkeypatch.setattr("services.nurture.channels.email.Email.send", send)
    shown = await preview(engine, PLAYBOOK, ITEM, LEAD)
    sink = settings.model_copy(update={"smtp_is_sink": True})
    asks = Actor("person", "7", "Ada", "marketing")
    await send_test(sink, engine, PLAYBOOK, shown, "me@b.example", NOW, asks)
    (mail,) = sent
    assert mail.recipient == "me@b.example"
    assert mail.subject.startswith("[Test] ")
    assert "lead@a.example" not in mail.text + mail.html
    async with engine.connect() as connection:
        for table in ("touch", "seen"):
            count = await connection.execute(text(f"SELECT count(*) FROM nurture.{table}"))
            assert count.scalar() == 0
        (line,) = await rows(connection, "SELECT * FROM access.audit")
    assert (line.actor, line.action, line.subject) == ("Ada", "send-test", f"content {ITEM}")
    assert line.details == {"lead": str(LEAD), "to_domain": "b.example"}
    other = settings.model_copy(update={"smtp_is_sink": False})
    with pytest.raises(Reject, match="is a sample"):
        await send_test(other, engine, PLAYBOOK, shown, "me@b.example", NOW, asks)
    for nobody in ("lead@A.example", "me", "", "me@b.example\nBcc: x@b.example"):
        with pytest.raises(Reject, match="a test goes to you"):
            await send_test(sink, engine, PLAYBOOK, shown, nobody, NOW, asks)


async def test_the_command_sends_a_test_and_says_who_asked(
    engine: AsyncEngine, settings: Settings
) -> None:
    server = SmtpServer()
    named = {
        "RIPELINE_DATABASE_URL": settings.database_url.get_secret_value(),
        "RIPELINE_SMTP_URL": f"smtp://{await server.start()}",
        "RIPELINE_SMTP_IS_SINK": "true",
    }
    asked = ["content", "send-test", ITEM, "--to", "me@b.example", "--as", str(LEAD)]
    result = await asyncio.to_thread(CliRunner().invoke, command_line, asked, env=named)
    server.close()
    assert (result.exit_code, result.stdout) == (0, "sent to me@b.example\n")
    assert len(server.mails) == 1
    async with engine.connect() as connection:
        (line,) = await rows(connection, "SELECT * FROM access.audit")
    assert (line.actor_kind, line.action) == ("command line", "send-test")
