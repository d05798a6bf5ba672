"""Two running ingests to attack: one with the settings of production, one with small limits."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import raw_http
from tests.support.databases import new_database
from tests.support.ingest_process import IngestProcess, create_topics_on
from tests.support.servers import Postgres
from tests.system.attacks.limits import HEADER_SECONDS, PER_ADDRESS, PER_KEY, WINDOW_S


@pytest.fixture(scope="session")
def ingest(scratch: Path, postgres: Postgres, kafka: str) -> Iterator[IngestProcess]:
    """An ingest with the settings of production."""
    create_topics_on(kafka)
    ingest = IngestProcess(scratch / "attacked", new_database(postgres), kafka).start()
    yield ingest
    ingest.stop()


@pytest.fixture(scope="session")
def small_limits(scratch: Path, postgres: Postgres, kafka: str) -> Iterator[IngestProcess]:
    """An ingest with small limits, little patience and one origin, behind a proxy."""
    create_topics_on(kafka)
    ingest = IngestProcess(
        scratch / "small-limits",
        new_database(postgres),
        kafka,
        rate_per_key=f"{PER_KEY}/{WINDOW_S}seconds",
        rate_per_address=f"{PER_ADDRESS}/{WINDOW_S}seconds",
        header_seconds=str(HEADER_SECONDS),
        allowed_origins='["https://www.example.com"]',
        trusted_proxies='["127.0.0.1/32", "10.0.0.0/8"]',
        form_tokens="required",
    ).start()
    yield ingest
    ingest.stop()


@pytest.fixture(autouse=True)
def bare_connections() -> Iterator[None]:
    """Those of a test end with it."""
    yield
    raw_http.close_all()


@pytest.fixture
def strict(small_limits: IngestProcess) -> IngestProcess:
    """The same, for a client with an address of its own, so that no other test used up its rate."""
    number = secrets.randbelow(2**16)
    small_limits.http.headers["X-Forwarded-For"] = f"198.18.{number >> 8}.{number & 255}"
    return small_limits
