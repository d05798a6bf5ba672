"""What a frozen or wrong client, a wrong database and a migration among users do to each other."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared import db, installation
from services.shared.db import is_transient, migrate, open_engine, sqlstate, value
from services.shared.errors import Reject, Retry
from services.shared.settings import Settings
from tests.support.servers import Postgres

LOCK = "SELECT pg_advisory_xact_lock(1)"


def with_settings(settings: Settings, **changed: object) -> Settings:
    """The settings, with some changed."""
    return Settings(**(settings.model_dump() | changed))


@pytest.fixture
async def hasty(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """A pool with limits of a fraction of a second."""
    limits = {"database_idle_s": 0.4, "database_lock_s": 0.3, "database_statement_s": 0.5}
    engine = open_engine(with_settings(settings, **limits), "tested")
    yield engine
    await engine.dispose()


async def test_locks_of_who_stands_still_in_a_transaction_are_free_after_a_while(
    hasty: AsyncEngine,
) -> None:
    async with hasty.connect() as frozen, hasty.connect() as other:
        await frozen.execute(text(LOCK))
        with pytest.raises(DBAPIError) as busy:
            await other.execute(text(LOCK))
        assert sqlstate(busy.value) == "55P03"
        assert is_transient(busy.value)
        await other.rollback()
        await asyncio.sleep(0.6)
        await other.execute(text(LOCK))
        with pytest.raises(DBAPIError) as ended:
            await frozen.execute(text("SELECT 1"))
        assert is_transient(ended.value)
        await frozen.invalidate()


async def test_a_statement_without_end_is_ended(hasty: AsyncEngine) -> None:
    async with hasty.connect() as connection:
        with pytest.raises(DBAPIError) as ended:
            await connection.execute(text("SELECT pg_sleep(60)"))
        assert sqlstate(ended.value) == "57014"
        assert is_transient(ended.value)
        await connection.rollback()
        await db.without_limits(connection)
        await connection.execute(text("SELECT pg_sleep(0.7)"))
        await connection.commit()
        assert await value(connection, "SHOW statement_timeout") == "500ms"


async def test_a_client_that_is_cut_off_is_looked_for(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        for setting, shown in {
            "client_connection_check_interval": "10s",
            "tcp_keepalives_idle": "30",
            "tcp_user_timeout": "60000",
            "idle_in_transaction_session_timeout": "20s",
            "lock_timeout": "10s",
            "statement_timeout": "1min",
            "jit": "off",
        }.items():
            assert await value(connection, f"SHOW {setting}") == shown


@pytest.mark.parametrize(
    ("words", "setting", "shown"),
    [
        ("sslmode=prefer", "application_name", "ripeline tested"),
        ("sslmode=disable&connect_timeout=7&keepalives=1", "application_name", "ripeline tested"),
        ("application_name=mine&client_encoding=UTF8", "application_name", "mine"),
        ("options=-c%20geqo%3Doff", "geqo", "off"),
        ("target_session_attrs=read-write", "application_name", "ripeline tested"),
    ],
)
async def test_words_of_libpq_in_the_address_mean_what_they_mean_there(
    settings: Settings, words: str, setting: str, shown: str
) -> None:
    url = f"{settings.database_url.get_secret_value()}?{words}"
    engine = open_engine(with_settings(settings, database_url=url), "tested")
    async with engine.connect() as connection:
        assert await value(connection, f"SHOW {setting}") == shown
    await engine.dispose()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("sslmode=verify-full", "root certificate file"),
        ("dbname=nowhere", "3D000"),
        ("user=nobody-here", "28"),
    ],
)
async def test_a_database_that_lets_us_not_in_is_told_in_a_sentence(
    settings: Settings, words: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    place = settings.database_url.get_secret_value().partition("@")[2]
    host, _, name = place.partition("/")
    path = "" if "dbname" in words else name
    owner = "" if "user=" in words else "ripeline@"
    url = f"postgresql://{owner}{host}/{path}?{words}"
    engine = open_engine(with_settings(settings, database_url=url))
    with pytest.raises(Reject) as refused:
        await installation.check(engine, settings)
    assert str(refused.value).startswith("RIPELINE_DATABASE_URL: ")
    assert sentence in str(refused.value)
    await engine.dispose()


# -- whose database it is -------------------------------------------------------------------------


async def test_a_database_made_with_another_pepper_is_refused(
    engine: AsyncEngine, settings: Settings
) -> None:
    await installation.check(engine, settings)
    await installation.check(engine, settings)
    with pytest.raises(Reject, match="RIPELINE_PEPPER: the database was made with another pepper"):
        await installation.check(engine, with_settings(settings, pepper="another"))
    async with engine.connect() as connection:
        noted = await value(connection, "SELECT pepper_fingerprint FROM access.installation")
    assert settings.pepper.get_secret_value().encode() not in noted
    assert len(noted) == 32


async def test_a_database_of_a_newer_version_is_refused(
    engine: AsyncEngine, settings: Settings
) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Reject, match=r"of a newer version of Ripeline \(9999\)"):
        await installation.check(engine, settings)
    with pytest.raises(Reject, match="of a newer version of Ripeline"):
        await migrate(engine)


async def test_a_database_that_is_not_migrated_yet_is_waited_for(
    postgres: Postgres, engine: AsyncEngine, settings: Settings
) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    with pytest.raises(Retry, match="of version 0001: run `ripeline provision`"):
        await installation.check(engine, settings)
    async with engine.begin() as connection:
        await connection.execute(text("DROP TABLE alembic_version"))
    with pytest.raises(Retry, match="the database is empty: run `ripeline provision`"):
        await installation.check(engine, settings)


# -- migrations among users -----------------------------------------------------------------------


def history(folder: Path, statement: str) -> Path:
    """A history of migrations of one version."""
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text((db.MIGRATIONS / "env.py").read_text())
    (folder / "versions" / "one.py").write_text(
        "from alembic import op\nrevision = 'one'\ndown_revision = None\n"
        f"def upgrade():\n    op.execute({statement!r})\n"
    )
    return folder


@pytest.fixture
async def used(engine: AsyncEngine) -> AsyncEngine:
    """A database with a table `used` and no version."""
    async with engine.begin() as connection:
        await connection.execute(text("DROP TABLE alembic_version"))
        await connection.execute(text("CREATE TABLE used (x int)"))
    return engine


async def test_a_migration_waits_aloud_for_a_lock_and_lets_others_pass_meanwhile(
    used: AsyncEngine,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each statement waits for a moment only, for whoever comes behind it waits with it."""
    monkeypatch.setattr(db, "BLOCKED_S", 0.2)
    monkeypatch.setattr(db, "DDL_LOCK_MS", 500)
    folder = history(tmp_path / "history", "ALTER TABLE used ADD COLUMN y int")
    reader = open_engine(settings, "reader")
    async with reader.connect() as holder, reader.connect() as passer:
        await holder.execute(text("SELECT * FROM used"))
        with capture_logs() as lines:
            migration = asyncio.create_task(migrate(used, folder))
            await asyncio.sleep(0.9)
        assert not migration.done()
        await asyncio.wait_for(passer.execute(text("SELECT * FROM used")), 3)
        await passer.rollback()
        await holder.commit()
        await asyncio.wait_for(migration, 10)
        await passer.execute(text("SELECT y FROM used"))
    await reader.dispose()
    waits = [line for line in lines if line["event"] == "migration_waits"]
    [blocker] = waits[0]["blocked_by"]
    assert (blocker["name"], blocker["state"]) == ("ripeline reader", "idle in transaction")


async def test_a_migration_that_waits_for_another_ends_in_a_sentence(
    used: AsyncEngine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "DDL_LOCK_MS", 200)
    folder = history(tmp_path / "history", "ALTER TABLE used ADD COLUMN y int")
    async with open_engine(settings, "other").connect() as other:
        await other.execute(text(f"SELECT pg_advisory_lock({db.LOCK_KEY})"))
        await other.commit()
        with pytest.raises(Reject, match="RIPELINE_MIGRATION_WAIT_S"):
            await migrate(used, folder, wait_s=1)
        await other.execute(text(f"SELECT pg_advisory_unlock({db.LOCK_KEY})"))
        await other.commit()
        await migrate(used, folder, wait_s=1)
        await other.invalidate()


async def test_several_may_migrate_at_once_and_none_is_held_to_the_limits_of_services(
    used: AsyncEngine, settings: Settings, tmp_path: Path
) -> None:
    folder = history(tmp_path / "history", "SELECT pg_sleep(0.8)")
    hasty = open_engine(with_settings(settings, database_statement_s=0.5, database_idle_s=0.5))
    await asyncio.gather(*(migrate(hasty, folder) for _ in range(3)))
    async with hasty.connect() as connection:
        assert await value(connection, "SHOW statement_timeout") == "500ms"
        assert await value(connection, "SELECT version_num FROM alembic_version") == "one"
    await hasty.dispose()
