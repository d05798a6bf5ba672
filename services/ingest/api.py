"""Ingest's routes: events in every format, forms, tracked links, preferences, and imports."""

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.routing import Route

from services.ingest.http import openapi
from services.ingest.http.admission import Admission, Cors, presented_key
from services.ingest.http.client_errors import ClientErrors
from services.ingest.http.dependencies import Dependencies
from services.ingest.http.events import Events, source_routes
from services.ingest.http.forms import Forms
from services.ingest.importing.facts import EXAMPLE, Facts
from services.ingest.importing.jobs import ImportJobs
from services.ingest.importing.page import ImportPage
from services.ingest.sources import jitsu, segment, segment_browser
from services.ingest.tracking import links
from services.ingest.tracking.pages import Pages
from services.ingest.tracking.tracker import EngagementTracker
from services.shared.contracts.events import encode_bytes
from services.shared.errors import Reject
from services.shared.http import web

ALLOWED_HEADERS = [
    "Authorization", "Content-Type", "Content-Encoding", "X-Retry-Count",
    *jitsu.HEADERS,
]  # fmt: skip


def create_app(parts: Dependencies, jobs: ImportJobs) -> FastAPI:
    """The application; opens nothing."""
    app = web.create("Ripeline ingest", parts.readiness, parts.rates)
    app.add_middleware(ClientErrors, paths=frozenset(segment.PATHS))
    _allow_origins(app, parts)
    admission = Admission(parts.keys, parts.settings.allowed_origins, parts.rates)
    pages = Pages(parts.playbook)
    _add_events(app, Events(parts, admission), parts)
    _add_browser_settings(app, parts)
    _add_forms(app, Forms(parts, admission, pages.thanks))
    app.include_router(links.create_router(EngagementTracker(parts, admission), pages))
    _add_import_facts(app, parts, jobs)
    app.include_router(ImportPage(parts, jobs).router())

    @app.exception_handler(Reject)
    async def refused(request: Request, error: Reject) -> Response:
        return links.refusal(request, parts.rates.limit_guessing(request, error), pages)

    openapi.describe(app, parts.sources, [segment_browser.BrowserSettings, Facts])
    return app


def _allow_origins(app: FastAPI, parts: Dependencies) -> None:
    """Lets pages of the allowed origins post."""
    app.add_middleware(
        Cors,  # type: ignore[arg-type]
        keys=parts.keys,
        allow_origins=parts.settings.allowed_origins,
        allow_methods=["POST"],
        allow_headers=ALLOWED_HEADERS,
        expose_headers=["Retry-After", "RateLimit", "RateLimit-Policy"],
        max_age=86_400,
    )


def _add_events(app: FastAPI, events: Events, parts: Dependencies) -> None:
    """The path of every source; what FastAPI does for a route costs a third of a single event, so
    FastAPI's routes only describe them, and plain ones in front of these serve.
    """
    routes = source_routes(parts.sources)
    for route in routes:
        app.add_api_route(
            route.path,
            events.receive,
            methods=["POST"],
            tags=[route.sources[0].name],
            response_model=None,
            **openapi.events(route.path, route.sources),
        )
    app.router.routes[:0] = [
        Route(route.path, events.receive, methods=route.methods) for route in routes
    ]


def _add_browser_settings(app: FastAPI, parts: Dependencies) -> None:
    @app.get(
        "/v1/projects/{key}/settings",
        tags=["segment"],
        response_model=None,
        **openapi.answer(segment_browser.BrowserSettings, segment_browser.EXAMPLE, (401, 403)),
    )
    async def browser_settings(key: str) -> Response:
        """Where a browser's analytics.js posts, for those that were given our address as
        their CDN.
        """
        parts.keys.authorize(key, "public")
        body = encode_bytes(segment_browser.browser_settings(key, parts.settings.public_url))
        return Response(
            body, headers={"Cache-Control": "public, max-age=300"}, media_type="application/json"
        )


def _add_forms(app: FastAPI, forms: Forms) -> None:
    app.add_api_route(
        "/v1/forms/{form}",
        forms.submit,
        methods=["POST"],
        tags=["forms"],
        response_model=None,
        **openapi.form(),
    )
    app.add_api_route(
        "/v1/forms/{form}/token",
        forms.token,
        tags=["forms"],
        response_model=None,
        **openapi.form_token(),
    )


def _add_import_facts(app: FastAPI, parts: Dependencies, jobs: ImportJobs) -> None:
    described = openapi.answer(Facts, msgspec.to_builtins(EXAMPLE), (401, 403, 429, 503))

    @app.get(
        "/v1/import",
        tags=["import"],
        response_model=None,
        openapi_extra={"security": [{"bearer": []}]},
        **described,
    )
    async def import_facts(request: Request) -> Response:
        """What an importer has to know of the playbook, so that a file means the same from wherever
        it is sent.
        """
        key = parts.keys.authorize(presented_key(request.headers.get("authorization")), "secret")
        parts.rates.count_key(key.id)
        return Response(encode_bytes(jobs.facts), media_type="application/json")
