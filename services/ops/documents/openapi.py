"""OpenAPI of the three services, as each of them serves it at /openapi.json."""

import json

from fastapi import FastAPI

from services.ingest import api as ingest
from services.ingest.delivery import Delivery
from services.ingest.importing import page
from services.ingest.importing.facts import facts_of
from services.ingest.importing.jobs import Desk
from services.ingest.normalise import Normaliser
from services.ingest.registry import FORMS, served
from services.ingest.senders import Senders
from services.ingest.source_stats import Heard
from services.ingest.spool import Spool
from services.nurture import api as nurture
from services.scorer import api as scorer
from services.scorer.scoring import Scoring
from services.shared.clock import Clock
from services.shared.contracts.identity import Cleaner
from services.shared.db import open_engine
from services.shared.http.keys import ApiKeys
from services.shared.http.rates import RateLimits
from services.shared.messaging.kafka import Publisher
from services.shared.playbook import loading
from services.shared.settings import Settings


def documents() -> dict[str, str]:
    """Each service's document as JSON, its names in alphabetical order.

    The applications are built with the default settings, whatever the environment says, and with
    the playbook of this repository; none of their parts is opened.
    """
    settings = Settings.model_construct()
    applications = {
        "ingest": _ingest(settings),
        "scorer": _scorer(settings),
        "nurture": _nurture(settings),
    }
    return {
        service: json.dumps(app.openapi(), sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        for service, app in applications.items()
    }


def _ingest(settings: Settings) -> FastAPI:
    rules, clock, pepper = loading.load(settings.playbook), Clock.parse(settings.clock), b""
    engine, publisher, rates = open_engine(settings), Publisher(settings), RateLimits(settings)
    keys, sources = ApiKeys(engine), served(rules)
    app = ingest.create_app(
        settings,
        rules,
        keys,
        rates,
        Senders(engine, pepper),
        Heard(engine, [*sources, FORMS], settings.public_url),
        sources,
        Normaliser(Cleaner(rules.identity), pepper),
        Delivery(publisher, Spool(settings.spool_dir, settings.spool_max_bytes)),
        clock,
        dict,
    )
    desk = Desk(settings.spool_dir / "imports", facts_of(rules), pepper, publisher, clock)
    page.mount(app, keys, rates, pepper, desk, clock)
    return app


def _scorer(settings: Settings) -> FastAPI:
    engine = open_engine(settings)
    scoring = Scoring.of(loading.load(settings.playbook), Clock.parse(settings.clock))
    return scorer.create_app(settings, engine, scoring, ApiKeys(engine), dict, Publisher(settings))


def _nurture(settings: Settings) -> FastAPI:
    engine = open_engine(settings)
    return nurture.create_app(settings, engine, ApiKeys(engine), dict)
