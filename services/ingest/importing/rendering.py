"""Templates and static files of the import page."""

import hashlib
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from fastapi import Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.ingest.importing import columns
from services.ingest.importing.facts import Facts
from services.ingest.importing.jobs import MAX_BYTES
from services.ingest.sources.imports import MAX_DAYS
from services.ingest.tracking.pages import HEADERS as PAGE_HEADERS
from services.shared.errors import Reject
from services.shared.messaging.sending import Sending

PATH = "/import"
FOLDER = Path(__file__).parent
NOTHING_HELD = Sending()
MEDIA = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
HEADERS = PAGE_HEADERS | {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    # with less, browsers hide the origin of our own forms from us
    "Referrer-Policy": "same-origin",
}
# what holds up sending, as the page that is rendered tells it
sending_now: ContextVar[Sending] = ContextVar("sending_now", default=NOTHING_HELD)
IMMUTABLE = {"Cache-Control": "public, max-age=31536000, immutable"}


class ImportTemplates:
    """Renders the page's HTML and serves its own files; `pages` is the address of the other
    pages.
    """

    def __init__(self, facts: Facts, pages: str) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._files = {file.name: file.read_bytes() for file in (FOLDER / "static").iterdir()}
        versions = {
            name: hashlib.sha256(body).hexdigest()[:12] for name, body in self._files.items()
        }
        self._environment.globals |= {
            "asset": lambda name: f"{PATH}/static/{name}?v={versions[name]}",
            "meanings": columns.MEANINGS,
            "kinds": columns.KINDS,
            "part": columns.part,
            "max_days": MAX_DAYS,
            "megabytes": MAX_BYTES >> 20,
            "zone": facts.zone,
            "types": facts.types,
            "outcome": facts.outcome,
            "pages": pages,
            "sending_now": sending_now.get,
        }

    def page(self, name: str, status: int = 200, **values: Any) -> Response:
        """A page from its template."""
        html = self._environment.get_template(name).render(values)
        return Response(html, status, HEADERS, "text/html; charset=utf-8")

    def static(self, name: str) -> Response:
        """A static file. Raises Reject `not-found`."""
        if name not in self._files:
            raise Reject(
                "there is no such file", remedy="follow the links of the page", kind="not-found"
            )
        return Response(
            self._files[name], headers=HEADERS | IMMUTABLE, media_type=MEDIA[Path(name).suffix]
        )


def see_other(address: str) -> Response:
    """Leads a browser on after a form."""
    return Response(status_code=303, headers=HEADERS | {"Location": address})
