"""OpenAPI of the three services, as each of them serves it at /openapi.json."""

import json

from fastapi import FastAPI

from services.ingest.wiring import wire
from services.nurture import api as nurture
from services.scorer import api as scorer
from services.scorer.scoring import Scoring
from services.shared.clock import Clock
from services.shared.db import open_engine
from services.shared.http.keys import ApiKeys
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
        "ingest": wire(settings).app(),
        "scorer": _scorer(settings),
        "nurture": _nurture(settings),
    }
    return {
        service: json.dumps(app.openapi(), sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        for service, app in applications.items()
    }


def _scorer(settings: Settings) -> FastAPI:
    engine = open_engine(settings)
    scoring = Scoring.of(loading.load(settings.playbook), Clock.parse(settings.clock))
    return scorer.create_app(settings, engine, scoring, ApiKeys(engine), dict, Publisher(settings))


def _nurture(settings: Settings) -> FastAPI:
    engine = open_engine(settings)
    return nurture.create_app(settings, engine, ApiKeys(engine), dict)
