"""Services and commands with settings that are wrong, as processes: each ends in one sentence that
names the variable and the remedy, with no traceback and no part of a secret.
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from services.shared.db import open_engine
from services.shared.settings import ROOT, Settings
from services.shared.startup import EXIT_CONFIG
from tests.support import present
from tests.support.databases import new_database
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.servers import Postgres

SERVICES = ["ingest", "scorer", "nurture"]
SECRET = "s3cret"
WRONG = [
    ({"RIPELINE_PORT": "eighty"}, "RIPELINE_PORT: input should be a valid integer"),
    (
        {"RIPELINE_DATABASE_URL": f"postgresql://u:{SECRET}@h:x/db"},
        "RIPELINE_DATABASE_URL: after postgresql:// write user:password@host:port",
    ),
    (
        {"RIPELINE_DATABASE_URL": f"postgresql://u:{SECRET}@h/db?{SECRET[0]}=1"},
        "RIPELINE_DATABASE_URL: take out s; after the ? may stand",
    ),
    ({"RIPELINE_ALLOWED_PAGES": f"['{SECRET}"}, "RIPELINE_ALLOWED_PAGES: write a, b, c"),
    ({"RIPELINE_SMTP_URL": f"http://u:{SECRET}@h"}, "RIPELINE_SMTP_URL: begin it with smtp://"),
]


def started(module: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a process says that should end at once."""
    given = {"RIPELINE_PEPPER": SECRET, "RIPELINE_PORT": str(free_port())}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT, env=present.environment() | given | variables, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def refused(done: subprocess.CompletedProcess[str], sentence: str) -> None:
    """Asserts that a service said so in its one line, as JSON, and ended."""
    assert (done.returncode, done.stdout) == (EXIT_CONFIG, ""), done.stderr
    [line] = [json.loads(line) for line in done.stderr.splitlines()]
    assert line["event"] == "not_started"
    assert sentence in line["problem"]
    assert SECRET not in done.stderr


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_a_service_with_a_wrong_setting_says_it_in_one_line(number: int) -> None:
    variables, sentence = WRONG[number]
    refused(started(f"services.{SERVICES[number % 3]}", **variables), sentence)


def test_no_service_starts_without_a_pepper() -> None:
    blank = {"RIPELINE_PEPPER": "''", "RIPELINE_ENVIRONMENT": "production", "RIPELINE_CLOCK": ""}
    refused(started("services.nurture", **blank), "RIPELINE_PEPPER: it is empty")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        *WRONG[:2],
        ({"RIPELINE_PEPPER": " ", "RIPELINE_CLOCK": ""}, "RIPELINE_PEPPER: it is empty"),
    ],
)
def test_a_command_with_a_wrong_setting_says_it_in_one_line(
    variables: dict[str, str], sentence: str
) -> None:
    given = {"RIPELINE_ENVIRONMENT": "production"} | variables
    done = started("services.ops", "provision", **given)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(sentence)
    assert len(done.stderr.splitlines()) == 1
    assert SECRET not in done.stderr


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("ripeline:{secret}@{host}/nowhere", "RIPELINE_DATABASE_URL: PostgreSQL cannot be reached"),
        ("nobody:{secret}@{host}/postgres", "RIPELINE_DATABASE_URL: PostgreSQL cannot be reached"),
    ],
)
def test_who_is_not_let_into_the_database_is_told_so(
    postgres: Postgres, place: str, sentence: str, tmp_path: Path
) -> None:
    host = postgres.url.partition("@")[2].partition("/")[0]
    url = f"postgresql://{place.format(secret=SECRET, host=host)}"
    given = {"RIPELINE_DATABASE_URL": url, "RIPELINE_SPOOL_DIR": str(tmp_path)}
    done = started("services.ingest", **given)
    assert done.returncode == EXIT_CONFIG
    assert sentence in json.loads(done.stderr.splitlines()[-1])["problem"]
    assert SECRET not in done.stderr
    told = started("services.ops", "keys", "list", **given)
    addressed, problem = told.stderr.splitlines()
    assert addressed.startswith("system: the database ")
    assert problem.startswith(sentence)


@pytest.mark.parametrize("service", ["ingest", "scorer"])
async def test_no_service_works_on_a_database_that_is_newer_or_of_other_secrets(
    postgres: Postgres, service: str, tmp_path: Path
) -> None:
    url = await asyncio.to_thread(new_database, postgres)
    given = {
        "RIPELINE_DATABASE_URL": url, "RIPELINE_SPOOL_DIR": str(tmp_path),
        "RIPELINE_KAFKA_BOOTSTRAP": f"127.0.0.1:{free_port()}",
    }  # fmt: skip
    own = Process(f"services.{service}", {**given, "RIPELINE_PEPPER": "one"}, tmp_path / "log")
    await own.start()
    engine = open_engine(Settings(database_url=url))
    async with engine.connect() as connection:
        while not (await connection.execute(text("TABLE access.installation"))).all():
            await asyncio.sleep(0.1)
            await connection.rollback()
    await own.stop()
    module = f"services.{service}"
    done = await asyncio.to_thread(started, module, **given, RIPELINE_PEPPER="two")
    assert done.returncode == EXIT_CONFIG, done.stderr
    last = json.loads(done.stderr.splitlines()[-1])
    assert "RIPELINE_PEPPER: the database was made with another pepper" in last["problem"]
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await engine.dispose()
    done = await asyncio.to_thread(started, module, **given, RIPELINE_PEPPER="one")
    assert done.returncode == EXIT_CONFIG, done.stderr
    assert "newer version of Ripeline (9999)" in json.loads(done.stderr.splitlines()[-1])["problem"]
