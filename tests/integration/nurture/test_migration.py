"""What people had set before pauses and stages were apart (N14)."""

import importlib.util
import uuid
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.db import rows
from services.shared.settings import ROOT

UNTIL = datetime(2030, 1, 1, tzinfo=UTC)


async def test_a_pause_and_a_stage_that_shared_a_date_keep_it_each(engine: AsyncEngine) -> None:
    path = ROOT / "deploy" / "migrations" / "versions" / "0004_sending.py"
    spec = importlib.util.spec_from_file_location("sending", path)
    assert spec
    assert spec.loader
    migration = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(migration)
    both, paused, staged = (uuid.UUID(int=n) for n in (1, 2, 3))
    async with engine.begin() as connection:
        for statement in migration.DOWN.split(";\n"):
            await connection.execute(text(statement))
        for lead, stage, pause in (
            (both, "decision", True), (paused, "", True), (staged, "customer", False),
        ):  # fmt: skip
            await connection.execute(
                text("INSERT INTO nurture.override VALUES (:lead, :stage, :pause, :until)"),
                {"lead": lead, "stage": stage, "pause": pause, "until": UNTIL},
            )
        for statement in migration.UP.split(";\n"):
            await connection.execute(text(statement))
        pauses = await rows(connection, "SELECT * FROM nurture.pause ORDER BY 1")
        stages = await rows(connection, "SELECT * FROM nurture.asserted_stage ORDER BY 1")
        assert [tuple(row) for row in pauses] == [(both, UNTIL), (paused, UNTIL)]
        assert [tuple(row) for row in stages] == [
            (both, "decision", UNTIL),
            (staged, "customer", UNTIL),
        ]
        for statement in migration.DOWN.split(";\n"):
            await connection.execute(text(statement))
        back = await rows(connection, "SELECT * FROM nurture.override ORDER BY 1")
        assert [tuple(row) for row in back] == [
            (both, "decision", True, UNTIL),
            (paused, "", True, UNTIL),
            (staged, "customer", False, UNTIL),
        ]
