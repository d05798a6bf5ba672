"""Counts of sources, on a real database (I2)."""

from sqlalchemy.ext.asyncio import AsyncEngine

from services.ingest.source_stats import MAX_REMARKS_STORED, SourceStatistics
from services.ingest.sources import canonical
from services.ingest.sources.contract import Remark
from services.shared.db import rows

NEIN = Remark("consent-word", "marketing", "Nein")


async def stored(engine: AsyncEngine) -> dict[tuple[str, str, str], int]:
    async with engine.connect() as connection:
        found = await rows(connection, "SELECT * FROM access.source_remark")
    return {(row.kind, row.field, row.text): row.seen for row in found}


async def test_remarks_are_counted_over_processes_and_bounded(engine: AsyncEngine) -> None:
    first, second = (
        SourceStatistics(engine, [canonical.SOURCE], "http://x.example") for _ in range(2)
    )
    first.count_remarks("canonical", [NEIN, NEIN])
    first.count_remarks("unknown", [NEIN])
    await first.store()
    await first.store()
    second.count_remarks("canonical", [NEIN])
    second.count_remarks("canonical", [Remark("cut", f"/{number}") for number in range(500)])
    await second.store()
    found = await stored(engine)
    assert found["consent-word", "marketing", "Nein"] == 3
    assert sum(found.values()) == 503
    assert len(found) <= MAX_REMARKS_STORED + 1
