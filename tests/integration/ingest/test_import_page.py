"""What the import page tells of sending (N14)."""

import httpx
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ingest.wiring import wire
from services.shared.http.keys import new_key, register
from services.shared.messaging import sending
from services.shared.settings import Settings

HELD = "INSERT INTO access.held (channel, program, held) VALUES ('email', 'first-steps', 7)"


async def test_the_import_page_says_that_sending_is_stopped_and_what_is_held(
    settings: Settings, engine: AsyncEngine
) -> None:
    ingest, key = wire(settings), new_key()
    await register(engine, key, "machines", "secret")
    await ingest.parts.keys.load()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(ingest.app()), base_url="http://page"
    ) as http:
        await http.post("/import/sign-in", data={"key": key}, headers={"Origin": "http://page"})
        assert "Sending is stopped" not in (await http.get("/import")).text
        async with engine.begin() as connection:
            await sending.stop(connection, "Ada <b>")
            await connection.execute(text(HELD))
        page = (await http.get("/import")).text
        assert "Sending is stopped" in page
        assert "by Ada &lt;b&gt;" in page
        assert "7 held: 7 by email of first-steps" in page
        async with engine.begin() as connection:
            await sending.resume(connection)
        assert "Sending is stopped" not in (await http.get("/import")).text
    await ingest.parts.engine.dispose()
