"""OpenAPI of the three services, as each of them serves it at /openapi.json."""

import json

from services.ingest import wiring as ingest
from services.nurture import wiring as nurture
from services.scorer import wiring as scorer
from services.shared.settings import Settings


def documents() -> dict[str, str]:
    """Each service's document as JSON, its names in alphabetical order.

    The applications are built with the default settings, whatever the environment says, and with
    the playbook of this repository; none of their parts is opened.
    """
    settings = Settings.model_construct()
    applications = {
        "ingest": ingest.wire(settings).app(),
        "scorer": scorer.wire(settings).app,
        "nurture": nurture.wire(settings).app,
    }
    return {
        service: json.dumps(app.openapi(), sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        for service, app in applications.items()
    }
