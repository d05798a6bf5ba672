"""The formats that ingest takes: one pure file each, and one entry here."""

from services.ingest.sources import canonical, cloudevents, forms, imports, segment
from services.ingest.sources.contract import Foreign, Item, Post, Refused, Reply, Secret, Source
from services.shared.playbook import Playbook

__all__ = ["FORMS", "SOURCES", "Foreign", "Item", "Post", "Refused", "Reply", "Secret", "Source", "served"]

_VISIT = {"id": "e-1", "type": "page_viewed", "anonymous_id": "a-1", "url": "https://www.example.com/pricing"}
_TOLD = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "com.example.demo_requested"}
_EVENT = {**_TOLD, "data": {"email": "ann@example.com"}}
_CALL = {"messageId": "m-1", "anonymousId": "a-1", "event": "Demo Requested", "timestamp": "2026-01-02T03:04:05Z"}

SOURCES = (
    Source("canonical", canonical.parse, ["/v1/events"], canonical.MEDIA, example=_VISIT),
    Source("cloudevents", cloudevents.parse, ["/v1/events"], cloudevents.MEDIA, example=_EVENT),
    Source(
        "import", canonical.parse, [imports.PATH], canonical.MEDIA,
        example=_VISIT, about=imports.ABOUT, scopes=["secret"], flags=imports.flags,
    ),
    Source("segment", segment.parse, segment.PATHS, answer=segment.answer, key_in=segment.write_key, example=_CALL),
)  # fmt: skip
FORMS = Source("forms", forms.parse, [forms.PATH], forms.MEDIA, example={"email": "ann@example.com", "name": "Ann"})


def served(playbook: Playbook) -> list[Source]:
    """Every source of an installation: those that all have, and those that its playbook maps."""
    return [*SOURCES]
