"""The lease of a spool, on a real database: whatever fails, nothing is sent past a refusal that was
acknowledged (N6).
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.ingest import spool_lease
from services.ingest.delivery import Delivery
from services.ingest.spool import Spool
from services.ingest.spool_lease import SpoolLease
from services.shared.contracts.events import CONSENTS, INTERACTIONS
from services.shared.db import open_engine
from services.shared.errors import Reject, Retry
from services.shared.messaging import spool_leases
from services.shared.messaging.kafka import Outgoing
from services.shared.messaging.spool_leases import Lease
from services.shared.settings import Settings
from tests.support.proxy import Proxy

REFUSAL, VISIT = Outgoing(CONSENTS, "k", b"refused"), Outgoing(INTERACTIONS, "k", b"seen")


class AwayPublisher:
    """A broker that is away."""

    away = True

    async def publish(self, records: Sequence[Outgoing], timeout: float = 5) -> None:
        raise Retry("away")


class Ingest:
    """The parts of ingest that keep what the broker did not get, on a database behind a proxy."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        url = settings.database_url.get_secret_value()
        user, _, place = url.partition("@")
        self.proxy = Proxy(place.partition("/")[0]).open()
        beside = f"{user}@{self.proxy.address}/{place.partition('/')[2]}"
        self.engine = open_engine(Settings(**(settings.model_dump() | {"database_url": beside})))
        self.folder = folder
        self.start()

    def start(self) -> None:
        """A process of it."""
        self.spool = Spool(self.folder, 10**6)
        self.spool.open()
        self.lease = SpoolLease(self.engine, self.spool, self.folder)
        self.lease.open()
        self.delivery = Delivery(AwayPublisher(), self.spool, self.lease)  # type: ignore[arg-type]

    async def cut_off(self) -> None:
        """The database does not answer it any more."""
        await self.engine.dispose()
        self.proxy.close()

    async def drain(self) -> None:
        """The broker is back."""

        async def publish(_: Sequence[Outgoing]) -> None:
            pass

        draining = asyncio.create_task(self.spool.drain(publish, lambda: None))
        while self.spool.count:
            await asyncio.sleep(0.01)
        draining.cancel()


@pytest.fixture
async def ingest(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ingest]:
    monkeypatch.setattr(spool_leases, "LEASE_S", 1.0)
    monkeypatch.setattr(spool_lease, "LEASE_S", 1.0)
    monkeypatch.setattr(spool_lease, "MARGIN_S", 0.2)
    made = Ingest(settings, tmp_path / "spool")
    yield made
    await made.engine.dispose()
    made.proxy.close()


async def held(engine: AsyncEngine) -> list[bool]:
    """The leases that hold up sending, and whether their spools hold records."""
    async with engine.connect() as connection:
        return [lease.spooled for lease in await spool_leases.held_by(connection)]


async def test_sending_goes_on_while_the_spool_is_empty_and_the_ingest_is_seen(
    ingest: Ingest, engine: AsyncEngine
) -> None:
    assert await held(engine) == []
    await ingest.lease._renew()
    assert await held(engine) == []
    await asyncio.sleep(1.1)
    assert await held(engine) == [False]
    await ingest.lease._renew()
    assert await held(engine) == []


async def test_what_is_spooled_holds_up_sending_before_it_is_acknowledged_until_it_is_published(
    ingest: Ingest, engine: AsyncEngine
) -> None:
    await ingest.lease._renew()
    await asyncio.gather(*(ingest.delivery.publish_or_spool([REFUSAL], "o") for _ in range(20)))
    assert await held(engine) == [True]
    await ingest.lease._renew()
    assert await held(engine) == [True]
    await ingest.drain()
    await ingest.lease._renew()
    assert await held(engine) == []


async def test_a_file_of_the_spool_that_cannot_be_read_holds_up_sending_until_somebody_has_looked(
    ingest: Ingest, engine: AsyncEngine
) -> None:
    """A refusal may have been in it."""
    damaged = ingest.folder / "00000001.spool.damaged"
    damaged.write_bytes(b"?")
    await ingest.lease._renew()
    assert await held(engine) == [True]
    damaged.unlink()
    await ingest.lease._renew()
    assert await held(engine) == []


async def test_without_a_database_a_refusal_is_acknowledged_once_the_lease_has_run_out(
    ingest: Ingest, engine: AsyncEngine
) -> None:
    await ingest.lease._renew()
    await ingest.cut_off()
    refusing = asyncio.create_task(ingest.delivery.publish_or_spool([REFUSAL], "o"))
    await asyncio.wait_for(ingest.delivery.publish_or_spool([VISIT], "o"), 0.5)
    while not refusing.done():
        was_held = await held(engine)
        await asyncio.sleep(0.02)
    await refusing
    assert was_held == [False]
    assert await held(engine) == [False]
    ingest.proxy.open()
    await ingest.lease._renew()
    assert await held(engine) == [True]


async def test_before_its_lease_is_taken_an_ingest_puts_refusals_off(ingest: Ingest) -> None:
    """There is nothing yet that would hold up sending."""
    await ingest.cut_off()
    with pytest.raises(Reject) as refused:
        await ingest.delivery.publish_or_spool([REFUSAL], "o")
    assert refused.value.kind == "away"
    assert ingest.spool.count == 0
    await ingest.delivery.publish_or_spool([VISIT], "o")
    assert ingest.spool.count == 1


async def test_a_renewal_that_took_long_says_nothing_any_more(
    ingest: Ingest, engine: AsyncEngine
) -> None:
    """Its connection was lost; the database works on it later."""
    await ingest.lease._renew()
    first = ingest.lease._revision
    await ingest.delivery.publish_or_spool([REFUSAL], "o")
    async with engine.begin() as connection:
        now = await spool_leases.database_time(connection)
        late = Lease(ingest.lease._instance, False, now)
        assert not await spool_leases.renew(connection, late, first)
    assert await held(engine) == [True]
    ingest.spool.close()
    last = ingest.lease._revision
    ingest.start()
    await ingest.lease._renew()
    async with engine.begin() as connection:
        assert not await spool_leases.renew(connection, late, last + 1)
    assert await held(engine) == [True]


async def test_a_renewal_under_way_does_not_hide_what_is_spooled_meanwhile(
    ingest: Ingest, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began when the spool was empty again."""
    await ingest.lease._renew()
    await ingest.delivery.publish_or_spool([REFUSAL], "o")
    await ingest.drain()
    begun, going_on, real = asyncio.Event(), asyncio.Event(), spool_leases.database_time

    async def slow(connection: AsyncConnection) -> datetime:
        begun.set()
        await going_on.wait()
        return await real(connection)

    monkeypatch.setattr(spool_leases, "database_time", slow)
    renewing = asyncio.create_task(ingest.lease._renew())
    await begun.wait()
    monkeypatch.setattr(spool_leases, "database_time", real)
    refusing = asyncio.create_task(ingest.delivery.publish_or_spool([REFUSAL], "o"))
    await asyncio.sleep(0.1)
    going_on.set()
    await asyncio.gather(renewing, refusing)
    assert await held(engine) == [True]


async def test_an_ingest_that_died_holds_up_sending_until_it_is_back(
    ingest: Ingest, engine: AsyncEngine
) -> None:
    await ingest.lease._renew()
    await ingest.delivery.publish_or_spool([REFUSAL], "o")
    ingest.spool.close()  # the process is gone
    await asyncio.sleep(1.1)
    assert await held(engine) == [True]
    ingest.start()
    await ingest.lease._renew()
    assert await held(engine) == [True]
    await ingest.drain()
    await ingest.lease._renew()
    assert await held(engine) == []


async def test_an_ingest_that_ends_in_order_gives_its_lease_up_unless_records_wait(
    ingest: Ingest, engine: AsyncEngine
) -> None:
    await ingest.lease._renew()
    await ingest.delivery.publish_or_spool([VISIT], "o")
    await ingest.lease._renew()
    await ingest.lease.close()
    assert await held(engine) == [True]
    await ingest.drain()
    await ingest.lease.close()
    await asyncio.sleep(1.1)
    assert await held(engine) == []


async def test_a_lease_that_was_forgotten_is_taken_again_by_an_ingest_that_lives(
    ingest: Ingest, engine: AsyncEngine
) -> None:
    await ingest.lease._renew()
    async with engine.begin() as connection:
        assert await spool_leases.give_up(connection, ingest.lease._instance)
    await ingest.delivery.publish_or_spool([REFUSAL], "o")
    assert await held(engine) == [True]


async def copied(ingest: Ingest, settings: Settings, folder: Path) -> Ingest:
    """An ingest on a copy of its folder."""
    shutil.copytree(ingest.folder, folder)
    return Ingest(settings, folder)


async def instances(engine: AsyncEngine) -> list[str]:
    async with engine.connect() as connection:
        return [lease.instance for lease in await spool_leases.every(connection)]


async def test_a_copied_folder_gets_a_lease_of_its_own(
    ingest: Ingest, settings: Settings, engine: AsyncEngine, tmp_path: Path
) -> None:
    """The copy's spool is empty; what waits in the other one holds up sending all the time."""
    await ingest.lease._renew()
    copy = await copied(ingest, settings, tmp_path / "copy")
    try:
        await ingest.delivery.publish_or_spool([REFUSAL], "o")
        with pytest.raises(Retry, match="its folder is a copy"):
            await copy.lease._renew()
        with pytest.raises(Reject):
            await copy.delivery.publish_or_spool([REFUSAL], "o")
        assert await held(engine) == [True]
        await ingest.lease._renew()
        await copy.lease._renew()
        assert await held(engine) == [True]
        assert sorted(await instances(engine)) == sorted(
            [ingest.lease._instance, copy.lease._instance]
        )
        name = copy.lease._instance
        copy.spool.close()
        copy.start()
        await copy.lease._renew()
        assert copy.lease._instance == name
        assert await held(engine) == [True]
        await copy.delivery.publish_or_spool([REFUSAL], "o")
        assert await held(engine) == [True, True]
    finally:
        await copy.engine.dispose()
        copy.proxy.close()


async def test_a_folder_that_was_moved_takes_up_its_lease_once_nobody_renews_it(
    ingest: Ingest, settings: Settings, engine: AsyncEngine, tmp_path: Path
) -> None:
    """And where its former process comes back after all, that one gets another."""
    await ingest.lease._renew()
    await ingest.delivery.publish_or_spool([REFUSAL], "o")
    name = ingest.lease._instance
    moved = await copied(ingest, settings, tmp_path / "moved")
    try:
        with pytest.raises(Retry):
            await moved.lease._renew()
        await asyncio.sleep(1.1)
        await moved.lease._renew()
        assert (moved.lease._instance, await held(engine)) == (name, [True])
        await ingest.lease._renew()
        assert ingest.lease._instance != name
        assert await held(engine) == [True, True]
        await moved.drain()
        await moved.lease._renew()
        await ingest.lease._renew()
        assert await held(engine) == [True]
    finally:
        await moved.engine.dispose()
        moved.proxy.close()
