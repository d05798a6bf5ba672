"""A database or a broker that is away when a service starts (I2, O2, O4)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.refusals import refused, visit
from tests.support.replica import Replica
from tests.support.running_system import System


async def pause() -> None:
    """A tenth of a second."""
    await asyncio.sleep(0.1)


@pytest.fixture
async def replica(
    system: System, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Replica]:
    replica = Replica(system, request.param, tmp_path)
    yield replica
    assert await replica.process.stop() == 0, replica.process.tail()
    replica.database.close()
    replica.broker.close()


@pytest.mark.parametrize("replica", ["ingest", "scorer", "nurture"], indirect=True)
async def test_a_service_waits_for_a_database_that_is_away_at_start(replica: Replica) -> None:
    """O2: it lives, says that it is not ready, and becomes ready by itself."""
    replica.broker.open()
    await replica.process.start()
    assert await replica.readiness() == 503
    replica.database.open()
    await replica.process.ready()
    assert replica.process.deaths == 0


@pytest.mark.parametrize("replica", ["scorer", "nurture"], indirect=True)
async def test_a_service_waits_for_a_broker_that_is_away_at_start(replica: Replica) -> None:
    replica.database.open()
    await replica.process.start()
    assert await replica.readiness() == 503
    replica.broker.open()
    await replica.process.ready()
    assert replica.process.deaths == 0


@pytest.mark.parametrize("replica", ["ingest"], indirect=True)
async def test_while_the_broker_is_away_events_are_put_off_and_forms_are_kept(
    system: System, replica: Replica
) -> None:
    """I2, O4: 503 with Retry-After for who can repeat; a form is safe on disk and arrives by itself
    later.
    """
    replica.database.open()
    await replica.process.start()
    await replica.process.ready()
    url, email = replica.process.url, system.address()
    async with httpx.AsyncClient(timeout=20) as http:
        put_off = await http.post(f"{url}/v1/events", json=visit(), headers=system.key("secret"))
        refused(put_off, 503, "away")
        assert int(put_off.headers["retry-after"]) > 0
        kept = await http.post(
            f"{url}/v1/forms/contact", data={"email": email}, headers=system.key("public")
        )
        assert kept.status_code == 200
    assert system.lookup(email=email) is None
    replica.broker.open()
    for _ in range(200):
        if lead := system.lookup(email=email):
            break
        await pause()
    assert lead
    assert lead["events_counted"] == 1
