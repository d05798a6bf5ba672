"""What ingest's HTTP needs; `__main__` builds it once and passes it on."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from services.ingest.delivery import Delivery
from services.ingest.measuring import Measuring
from services.ingest.normalise import Normaliser
from services.ingest.senders import SenderSecrets
from services.ingest.source_stats import SourceStatistics
from services.ingest.sources.contract import NO_WORDS_ADDED, Source, Words
from services.ingest.sources.visitors import Visitors
from services.shared.clock import Clock
from services.shared.http.keys import ApiKeys
from services.shared.http.rates import RateLimits
from services.shared.http.web import Readiness
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings


@dataclass(frozen=True)
class Dependencies:
    """The parts of ingest that its routes use."""

    settings: Settings
    engine: AsyncEngine
    playbook: Playbook
    keys: ApiKeys
    rates: RateLimits
    secrets: SenderSecrets
    statistics: SourceStatistics
    sources: Sequence[Source]
    normaliser: Normaliser
    visitors: Visitors
    delivery: Delivery
    measuring: Measuring
    clock: Clock
    readiness: Readiness
    words: Words = NO_WORDS_ADDED

    @property
    def pepper(self) -> bytes:
        """The installation's secret, under which tokens are sealed."""
        return self.settings.pepper.get_secret_value().encode()
