"""Real servers for all tests: PostgreSQL 18 and Apache Kafka 4.3, started once; a fresh database
for each test.
"""

import asyncio
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.clock import Clock
from services.shared.db import open_engine
from services.shared.playbook import loading
from services.shared.playbook.sections import Playbook
from services.shared.settings import ROOT, Settings
from tests.support import present
from tests.support.databases import create_database, drop_database, make_template
from tests.support.ports import free_port
from tests.support.servers import Kafka, Postgres


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the seconds that each suite took, with its set-up and tear-down."""
    seconds: dict[str, float] = defaultdict(float)
    tests: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                suite = report.nodeid.partition("::")[0].removeprefix("tests/").partition("/")[0]
                seconds[suite] += report.duration
                tests[suite] += report.when == "call"
    for suite, took in sorted(seconds.items()):
        terminalreporter.write_line(f"{suite}: {tests[suite]} tests in {took:.0f} s")


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder for servers, open to the unprivileged user that runs PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="ripeline-tests-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres(scratch: Path) -> Iterator[Postgres]:
    """PostgreSQL with a migrated template database."""
    server = Postgres(scratch / "postgres", free_port())
    server.start()
    asyncio.run(make_template(server))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def kafka(scratch: Path) -> Iterator[str]:
    """The address of a real broker; RIPELINE_TEST_KAFKA names one that runs already."""
    if given := os.environ.get("RIPELINE_TEST_KAFKA"):
        yield given
        return
    server = Kafka(scratch / "kafka", free_port())
    server.start()
    yield server.bootstrap
    server.stop()


@pytest.fixture
async def database_url(postgres: Postgres) -> AsyncIterator[str]:
    """A migrated database of this test's own."""
    url = await create_database(postgres)
    yield url
    await drop_database(postgres, url)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings of a test."""
    return Settings(
        environment="test",
        database_url=database_url,
        pepper="a pepper of the tests",
        spool_dir=tmp_path / "spool",
        smtp_is_sink=True,
    )


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """A pool on the test's database."""
    engine = open_engine(settings)
    yield engine
    await engine.dispose()


@pytest.fixture(scope="session")
def default_playbook() -> Playbook:
    """The playbook that the product brings."""
    return loading.load(ROOT / "deploy" / "playbook")


@pytest.fixture
def wall_clock() -> Clock:
    """The clock of production."""
    return present.CLOCK
