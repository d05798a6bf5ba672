"""`ripeline content`: which readers will soon have had everything, from what nurture has stored."""

import uuid
from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture.content_api import LibraryResponse
from services.nurture.library import ContentLibrary
from services.nurture.store.leads import LeadStore
from services.ops.commands.content import report
from services.shared.clock import Clock
from services.shared.contracts.events import Change, ConsentState, Snapshot
from services.shared.db import open_engine
from services.shared.playbook.loading import load
from services.shared.playbook.sections import Playbook
from services.shared.settings import ROOT, Settings
from tests.support.nurture import with_parts

NOW = datetime(2026, 5, 13, 12, tzinfo=UTC)
GIVEN = {"email:marketing": ConsentState("given", NOW - timedelta(days=90), "form")}
TOUCH = """INSERT INTO nurture.touch (id, announcement_id, program, lead_id, product, stage,
        content, channel, status, reason, why, decided_at, due_at, sent_at)
    VALUES (:id, :id, 'customer-onboarding', :lead, 'default', 'customer', 'users-group', 'email',
        'sent', '', '', :at, :at, :at)"""


async def test_readers_who_run_out_are_reported_14_days_ahead(settings: Settings) -> None:
    """Of three customers one has had all, one has one item left, and one has all five; who has not
    agreed to be written to is none of the readers.
    """
    playbook = load(ROOT / "deploy" / "playbook")
    nobody_held_out = playbook.holdout.model_copy(update={"share": 0.0})
    playbook = with_parts(playbook, holdout=nobody_held_out)
    program = next(each for each in playbook.programs if each.id == "customer-onboarding")
    leads = [str(uuid.UUID(int=n + 1)) for n in range(3)]
    seen = [program.items, program.items[:-1], []]
    engine = open_engine(settings)
    async with engine.begin() as connection:
        store = LeadStore(connection, b"pepper", ())
        await store.keep_snapshots(
            Change(
                lead=lead,
                version=1,
                snapshot=Snapshot(stage="customer", email=f"{lead}@a.example", consents=consents),
            )
            for lead, consents in [*((lead, GIVEN) for lead in leads), (str(uuid.UUID(int=9)), {})]
        )
        await connection.execute(
            text("INSERT INTO nurture.seen (lead_id, content) VALUES (:lead, :content)"),
            [
                {"lead": uuid.UUID(lead), "content": content}
                for lead, had in zip(leads, seen, strict=True)
                for content in had
            ],
        )
        for days in (1, 8, 15, 22, 40):  # one a week
            values = {"id": uuid.uuid4(), "lead": uuid.UUID(leads[1])}
            await connection.execute(text(TOUCH), values | {"at": NOW - timedelta(days=days)})
    await engine.dispose()
    found = await report(settings, playbook, NOW)
    segments = {each["program"]: each for each in found["exhausted"]}
    customers = segments["customer-onboarding"]
    assert (customers["readers"], customers["exhausted"], customers["soon"]) == (3, 1, 1)
    assert customers["per_week"] == 1.0
    assert customers["first_at"] == "2026-05-20T12:00:00Z"


async def test_the_api_says_what_the_command_says(
    settings: Settings, engine: AsyncEngine, default_playbook: Playbook
) -> None:
    clock = Clock()
    library = ContentLibrary(settings, engine, default_playbook, clock)
    said = LibraryResponse.model_validate(await library.report()).model_dump(mode="json")
    assert said.pop("learned") == []
    assert said == await report(settings, default_playbook, clock.now())


async def test_without_a_database_that_is_not_known() -> None:
    settings = Settings.of({"RIPELINE_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"})
    found = await report(settings, load(ROOT / "deploy" / "playbook"), NOW)
    assert found["exhausted"] is None
    assert found["cells"]
