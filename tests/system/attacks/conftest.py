"""Two running ingests to attack: one with the settings of production, one with small limits."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import new_database
from tests.support.ingest_process import IngestProcess, create_topics
from tests.support.servers import Postgres
from tests.system.attacks.limits import AGAIN_S, PATIENCE_S, PER_ADDRESS, PER_KEY


@pytest.fixture(scope="module")
def ingest(scratch: Path, postgres: Postgres, kafka: str) -> Iterator[IngestProcess]:
    """An ingest with the settings of production."""
    create_topics(kafka)
    ingest = IngestProcess(scratch / "attacked", new_database(postgres), kafka).start()
    yield ingest
    ingest.stop()


@pytest.fixture(scope="module")
def impatient(scratch: Path, postgres: Postgres, kafka: str) -> Iterator[IngestProcess]:
    """An ingest with small limits, little patience and one origin, behind a proxy."""
    create_topics(kafka)
    ingest = IngestProcess(
        scratch / "impatient",
        new_database(postgres),
        kafka,
        rate_per_key=f"{PER_KEY}/{AGAIN_S}seconds",
        rate_per_address=f"{PER_ADDRESS}/{AGAIN_S}seconds",
        header_seconds=str(PATIENCE_S),
        allowed_origins='["https://www.example.com"]',
        trusted_proxies='["127.0.0.1/32", "10.0.0.0/8"]',
        form_tokens="required",
    ).start()
    yield ingest
    ingest.stop()


@pytest.fixture
def strict(impatient: IngestProcess) -> IngestProcess:
    """The same, to somebody whom it has never seen: an address of its own."""
    number = secrets.randbelow(2**16)
    impatient.http.headers["X-Forwarded-For"] = f"198.18.{number >> 8}.{number & 255}"
    return impatient
