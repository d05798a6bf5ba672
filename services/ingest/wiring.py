"""Builds the parts of ingest from its settings; opens nothing."""

from typing import NamedTuple

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ingest.api import create_app
from services.ingest.delivery import Delivery
from services.ingest.http.dependencies import Dependencies
from services.ingest.importing.facts import facts_of
from services.ingest.importing.jobs import ImportJobs
from services.ingest.mailbox.imap import MailboxAddress
from services.ingest.mailbox.reader import MailboxReader, MailHandling
from services.ingest.measuring import Measuring
from services.ingest.normalise import Normaliser
from services.ingest.registry import FORMS, MAILBOX, served, words_of
from services.ingest.senders import SenderSecrets
from services.ingest.source_stats import SourceStatistics
from services.ingest.sources.known_names import Vocabulary
from services.ingest.sources.visitors import Visitors
from services.ingest.spool import Spool
from services.ingest.spool_lease import SpoolLease
from services.shared.clock import Clock
from services.shared.contracts.identity import Cleaner
from services.shared.db import open_engine
from services.shared.http.health import Part
from services.shared.http.keys import ApiKeys
from services.shared.http.rates import RateLimits
from services.shared.messaging.kafka import BrokerWatch, Publisher
from services.shared.playbook import loading
from services.shared.settings import Settings


class Ingest(NamedTuple):
    """The parts of the service, wired and not yet opened."""

    engine: AsyncEngine
    publisher: Publisher
    broker: BrokerWatch
    spool: Spool
    lease: SpoolLease
    parts: Dependencies
    jobs: ImportJobs

    def app(self) -> FastAPI:
        """The application."""
        return create_app(self.parts, self.jobs)

    def mailbox(self) -> MailboxReader | None:
        """The reader of the mailbox of RIPELINE_IMAP_URL, if there is one."""
        parts = self.parts
        url = parts.settings.imap_url.get_secret_value()
        if not url:
            return None
        handling = MailHandling(
            parts.normaliser, parts.delivery, parts.statistics, parts.clock, parts.words
        )
        address = MailboxAddress.parse(url)
        return MailboxReader(address, parts.settings.imap_poll_s, self.engine, handling)


def wire(settings: Settings) -> Ingest:
    """Builds the parts; opens nothing but the playbook's files. Raises `InvalidFile`."""
    engine = open_engine(settings, "ingest")
    publisher, broker = Publisher(settings), BrokerWatch(settings)
    spool = Spool(settings.spool_dir, settings.spool_max_bytes)
    lease = SpoolLease(engine, spool, settings.spool_dir)
    playbook, clock = loading.load(settings.playbook), Clock.parse(settings.clock)
    pepper = settings.pepper.get_secret_value().encode()
    sources, keys, secrets = served(playbook), ApiKeys(engine), SenderSecrets(engine, pepper)
    own_crm_fields = frozenset(playbook.crm.fields)
    visitors = Visitors(playbook.machines)
    parts = Dependencies(
        settings=settings,
        engine=engine,
        playbook=playbook,
        keys=keys,
        rates=RateLimits(settings),
        secrets=secrets,
        statistics=SourceStatistics(engine, [*sources, FORMS, MAILBOX], settings.public_url),
        sources=sources,
        normaliser=Normaliser(
            Cleaner(playbook.identity),
            pepper,
            playbook.sales,
            own_crm_fields,
            visitors,
            Vocabulary.of(playbook),
        ),
        visitors=visitors,
        delivery=Delivery(publisher, spool, lease),
        measuring=Measuring(engine),
        clock=clock,
        words=words_of(playbook),
        readiness=lambda: {
            "broker": Part(broker.problem, needed=False),  # what comes meanwhile is spooled
            "broker or spool": spool.has_room,
            "keys": keys.loaded,
            "senders": secrets.loaded,
        },
    )  # fmt: skip
    folder = settings.spool_dir / "imports"
    jobs = ImportJobs(folder, facts_of(playbook), pepper, publisher, clock)
    return Ingest(engine, publisher, broker, spool, lease, parts, jobs)
