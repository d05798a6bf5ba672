"""One more sender for ingest under test: the scheme of Standard Webhooks, signed and verified by
its library.
"""

import base64
import json
import os
import uuid
from collections.abc import Sequence
from datetime import datetime

from standardwebhooks import Webhook, WebhookVerificationError

from services.ingest.registry import served
from services.ingest.sources import canonical
from services.ingest.sources.contract import InboundRequest, Sample, Secret, Source
from services.ingest.sources.reading.signatures import fitting, fresh
from services.shared.playbook.sections import Playbook
from tests.support import present


def _verify(request: InboundRequest, secrets: Sequence[Secret]) -> Secret:
    now = present.by_machine(request.received_at)  # the library below knows no other clock
    fresh(request.headers.get("webhook-timestamp", ""), now, "webhook-timestamp")

    def fits(value: str) -> bool:
        try:
            Webhook(value).verify(request.body, dict(request.headers))
        except (WebhookVerificationError, ValueError):
            return False
        return True

    return fitting(secrets, fits, "webhook-signature")


def _sample(address: str, now: datetime) -> Sample:
    interaction = {
        "id": uuid.uuid4().hex,
        "type": "demo_requested",
        "email": address,
        "occurred_at": now.isoformat(),
    }
    return Sample(json.dumps(interaction).encode(), "application/json")


def _sign(sample: Sample, secret: str, _: str, now: datetime) -> Sample:
    name, now = f"msg.{uuid.uuid4().hex}", present.by_machine(now)  # the library verifies by it
    signature = Webhook(secret).sign(name, now, sample.body.decode())
    headers = {
        "webhook-id": name,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
    return sample._replace(headers=headers)


def _new_secret() -> tuple[str, str]:
    value = "whsec_" + base64.b64encode(os.urandom(24)).decode()
    return value, value


STANDARD_WEBHOOKS = Source(
    "standard", canonical.parse, ("/v1/hooks/standard",), verify=_verify, sample=_sample,
    sign=_sign, new_secret=_new_secret
)  # fmt: skip


def all_sources(playbook: Playbook) -> list[Source]:
    """What the product serves, and this one."""
    return [*served(playbook), STANDARD_WEBHOOKS]


def signing_sources(playbook: Playbook) -> list[Source]:
    """Every sender that signs and can be imitated."""
    return [
        source
        for source in all_sources(playbook)
        if source.verify and source.sample and source.sign and source.new_secret
    ]
