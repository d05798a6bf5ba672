"""Ingest's HTTP: events in every format, forms, tracked links, and the way out of our mails."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from msgspec.structs import asdict
from starlette.responses import RedirectResponse
from starlette.routing import Route

from services.ingest.delivery import Delivery
from services.ingest.http import form_token
from services.ingest.http import openapi as documented
from services.ingest.http import request as intake
from services.ingest.normalise import Normaliser, Receipt
from services.ingest.registry import FORMS
from services.ingest.senders import Senders
from services.ingest.source_stats import Heard
from services.ingest.sources import cloudevents, forms, segment
from services.ingest.sources.contract import Item, Post, Refused, Reply, Secret, Source
from services.ingest.sources.reading.json import is_list
from services.ingest.tracking import links as mail
from services.ingest.tracking.pages import Pages
from services.shared.clock import Clock
from services.shared.contracts.events import encode_bytes
from services.shared.errors import Reject
from services.shared.http import problems, web
from services.shared.http.keys import ApiKeys
from services.shared.http.rates import RateLimits
from services.shared.playbook.sections import Playbook
from services.shared.runtime import fault_point
from services.shared.settings import Settings
from services.shared.telemetry import ACCEPTED, REFUSED

# what repeating the same body cannot mend
USELESS = frozenset({"invalid", "too-large", "media-type", "replayed"})
SLICE = 500  # items of a batch between which others have their turn


def create_app(
    settings: Settings,
    rules: Playbook,
    keys: ApiKeys,
    rates: RateLimits,
    senders: Senders,
    heard: Heard,
    sources: Sequence[Source],
    normaliser: Normaliser,
    delivery: Delivery,
    clock: Clock,
    readiness: web.Readiness,
) -> FastAPI:
    """The application; opens nothing."""
    app = web.create("Ripeline ingest", readiness, rates)
    app.add_middleware(
        intake.Cors,  # type: ignore[arg-type]
        keys=keys,
        allow_origins=settings.allowed_origins,
        allow_methods=["POST"],
        allow_headers=["Authorization", "Content-Type", "Content-Encoding", "X-Retry-Count"],
        expose_headers=["Retry-After", "RateLimit", "RateLimit-Policy"],
        max_age=86_400,
    )
    gate = intake.Gate(keys, settings.allowed_origins, rates)
    pepper, pages = settings.pepper.get_secret_value().encode(), Pages(rules)

    async def events(request: Request) -> Response:
        """Interactions, by senders who repeat after a 503."""
        post = await intake.read(request, clock, settings.public_url)
        source = chosen(post, doors[post.path])
        if source.verify:
            return await signed(request, post, source)
        key, owner, limits = gate.admit(
            request, source.key_in(post.body) if "authorization" not in request.headers else ""
        )
        if key.scope not in source.scopes:
            remedy = f"use a key of scope {' or '.join(source.scopes)}"
            raise Reject(
                f"a key of scope {key.scope!r} may not do this",
                where="Authorization",
                remedy=remedy,
                kind="forbidden",
            )
        public, door = key.scope == "public", f"{source.door}:{key.name}"
        receipt = Receipt(
            door,
            post.received_at,
            time.time(),
            many=_is_many(post),
            public=public,
            provenance=source.provenance(post),
        )
        await take(source.parse(post), receipt)
        # Pages that post with a public key are gone by the time of a second attempt: what they say
        # is kept at once.
        await (
            delivery.keep(receipt.records, owner) if public else delivery.publish(receipt.records)
        )
        fault_point("between_acknowledgement_and_answer")
        answer = _answer(receipt, source, heard)
        answer.raw_headers += limits
        return answer

    async def signed(request: Request, post: Post, source: Source) -> Response:
        """A webhook of a sender who signs, or its first call to see who answers."""
        secrets = senders.secrets(source.door)
        receipt = Receipt(source.door, post.received_at, time.time(), many=_is_many(post))
        try:
            if source.greet and (greeting := source.greet(post, secrets)):
                return Response(greeting.body, media_type=greeting.media)
            if post.method != "POST":
                raise Reject(
                    "this address is for webhooks", where="method", remedy="use POST", kind="method"
                )
            secret = source.verify(post, secrets) if source.verify else Secret("", "")
            receipt.door = f"{source.door}:{secret.name}"
            rates.count_key(f"{source.door}:{secret.name}")
            await senders.use(source, post)
            await take(source.parse(post), receipt)
        except Reject as error:
            reject = rates.limit_guessing(request, error)
            if reject.kind in USELESS:
                receipt.refused.append((0, None, reject))
                return _answer(receipt, source, heard)
            heard.note(source.door, 0, 1, reject.kind)
            REFUSED.labels(source.door, reject.kind).inc()
            return problems.problem_response(reject)
        await delivery.publish(receipt.records)
        fault_point("between_acknowledgement_and_answer")
        return _answer(receipt, source, heard)

    async def take(items: list[Item | Refused], receipt: Receipt) -> None:
        for first in range(0, len(items), SLICE):
            normaliser.take(items[first : first + SLICE], receipt, first)
            if first + SLICE < len(items):
                await asyncio.sleep(0)

    doors: dict[str, list[Source]] = {}
    for source in sources:
        for path in source.paths:
            doors.setdefault(path, []).append(source)
    for path, served in doors.items():
        body = (
            documented.events(served[0].example)
            if path == "/v1/events"
            else documented.sent_by(served[0])
        )
        app.add_api_route(
            path,
            events,
            methods=["POST"],
            tags=[served[0].door],
            openapi_extra=body,
            response_model=None,
        )
    # What FastAPI does for a route it describes costs a third of a single event: these go the short
    # way, in front.
    app.router.routes[:0] = [
        Route(path, events, methods=["GET", "POST"] if served[0].greet else ["POST"])
        for path, served in doors.items()
    ]

    @app.get("/v1/projects/{key}/settings", tags=["segment"], response_model=None)
    async def browser_settings(key: str) -> Response:
        """Where a browser's analytics.js posts, for those that were given our address as
        their CDN.
        """
        keys.authorize(key, "public")
        body = encode_bytes(segment.browser_settings(key, settings.public_url))
        return Response(
            body, headers={"Cache-Control": "public, max-age=300"}, media_type="application/json"
        )

    @app.post(
        "/v1/forms/{form}",
        tags=["forms"],
        response_model=None,
        openapi_extra=documented.form(FORMS.example),
    )
    async def form(form: str, request: Request) -> Response:
        """A web form, with or without JavaScript; it is safe before the answer, whatever the broker
        does.
        """
        post = await intake.read(request, clock, settings.public_url)
        if post.media not in FORMS.media:
            raise _wrong_media(post.media, FORMS.media)
        found = forms.fields(post)
        key, owner, limits = gate.admit(request, forms.text(found, "_key"), in_page=True)
        then = forms.text(found, "_next")
        if then and not may_follow(then, settings.allowed_pages):
            raise Reject(
                "this page is not on the list",
                where="/_next",
                remedy="add its beginning to RIPELINE_ALLOWED_PAGES",
            )
        receipt = Receipt(f"{FORMS.door}:{key.name}", post.received_at, time.time(), many=False)
        if robot := trap(form, found):
            REFUSED.labels(FORMS.door, robot).inc()
            receipt.ids.append(uuid.uuid4().hex)
        else:
            normaliser.take([forms.submission(form, found)], receipt)
            await delivery.keep(receipt.records, owner)
        fault_point("between_spool_and_answer")
        answer = _answer(receipt, FORMS, heard)
        if answer.status_code == 200 and (then or not _wants_json(post)):
            answer = RedirectResponse(then, 303) if then else pages.thanks()
        answer.raw_headers += limits
        return answer

    def trap(form: str, found: forms.Fields) -> str:
        """The trap that a robot went into, or ''. Raises Reject for a token that does not fit."""
        if forms.text(found, "_hp"):
            return "honeypot"
        token = forms.text(found, "_token")
        if not token and settings.form_tokens == "optional":
            return ""
        return (
            "too-quick"
            if form_token.age(pepper, form, token, time.time()) < form_token.QUICKEST_S
            else ""
        )

    @app.get("/v1/forms/{form}/token", tags=["forms"], response_model=None)
    async def token(form: str, request: Request) -> Response:
        """A token for a form that is shown now: a page puts it into the field `_token`."""
        _, _, limits = gate.admit(request)
        body = encode_bytes({"token": form_token.issue(pepper, form, time.time())})
        answer = Response(
            body, headers={"Cache-Control": "no-store"}, media_type="application/json"
        )
        answer.raw_headers += limits
        return answer

    @app.exception_handler(Reject)
    async def refused(request: Request, error: Reject) -> Response:
        return mail.refusal(request, rates.limit_guessing(request, error), pages)

    app.include_router(
        mail.create_router(
            mail.Mailroom(rules, pepper, normaliser, delivery, gate, clock), pages, clock
        )
    )
    _describe(app)
    return app


def chosen(post: Post, there: Sequence[Source]) -> Source:
    """The source of a request among those of its path, by its content type, and for plain JSON by
    its shape.
    """
    if cloudevents.is_binary(post) and (
        binary := next((source for source in there if source.door == "cloudevents"), None)
    ):
        return binary
    fitting = [source for source in there if not source.media or post.media in source.media]
    if not fitting:
        raise _wrong_media(post.media, frozenset().union(*(source.media for source in there)))
    if post.media in ("", "application/json") and b'"specversion"' in post.body[:4096]:
        return next((source for source in there if source.door == "cloudevents"), fitting[0])
    return fitting[0]


def may_follow(then: str, allowed: list[str]) -> bool:
    """Whether a form may lead to this address: on an allowed host, and below the allowed path."""
    if not then.isprintable() or any(c in then for c in " \\") or "/.." in then:
        return False
    target = _split(then)
    for prefix in allowed:
        page = _split(prefix)
        same = target and page and target[:2] == page[:2] and page[0] in ("http", "https")
        if same and target and page and target[2].startswith(page[2]):
            return True
    return False


def _answer(receipt: Receipt, source: Source, heard: Heard) -> Response:
    """200 with what was accepted and what was not; where nothing was, the status that tells the
    sender to stop.

    A request that holds nothing for us is a success.
    """
    rejected = [_refusal(*refused) for refused in receipt.refused]
    for _, _, reject in receipt.refused:
        REFUSED.labels(source.door, reject.kind).inc()
    heard.note(
        source.door,
        len(receipt.ids),
        len(rejected),
        receipt.refused[-1][2].kind if rejected else "",
    )
    ACCEPTED.labels(source.door).inc(len(receipt.ids))
    if receipt.ids or not rejected or source.stop == 200:
        return _said(source, receipt.ids, rejected)
    first = receipt.refused[0][2]
    remedy = "see `rejected` for each item" if len(rejected) > 1 else first.remedy
    whole = Reject("no item was acceptable", remedy=remedy) if len(rejected) > 1 else first
    body = asdict(problems.problem_of(whole, source.stop)) | {"rejected": rejected}
    return Response(encode_bytes(body), source.stop, media_type="application/problem+json")


def _refusal(index: int | None, name: str | None, reject: Reject) -> dict[str, Any]:
    return {
        "index": index,
        "id": name,
        "problem": problems.problem_of(reject),
    }


def _said(source: Source, ids: list[str], rejected: list[dict[str, Any]]) -> Response:
    """Success, in the sender's own form where it has one."""
    said = source.answer(ids, rejected)
    if isinstance(said, Reply):
        return Response(said.body, media_type=said.media)
    return Response(encode_bytes(said), media_type="application/json")


def _is_many(post: Post) -> bool:
    return (
        post.media.endswith(("ndjson", "jsonl", "jsonlines"))
        or post.path == "/v1/batch"
        or is_list(post.body)
    )


def _split(address: str) -> tuple[str, str, str] | None:
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    return parts.scheme.lower(), parts.netloc.lower(), parts.path or "/"


def _wants_json(post: Post) -> bool:
    accept = post.headers.get("accept", "")
    return post.media == forms.JSON or ("application/json" in accept and "text/html" not in accept)


def _wrong_media(given: str, known: frozenset[str]) -> Reject:
    remedy = f"use one of {', '.join(sorted(known - {''}))}"
    return Reject(
        f"content type {given[:60]!r}", where="Content-Type", remedy=remedy, kind="media-type"
    )


def _describe(app: FastAPI) -> None:
    """Adds the ways of signing in to the OpenAPI document."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        document.setdefault("components", {})["securitySchemes"] = documented.SECURITY_SCHEMES
        return document

    app.openapi = openapi  # type: ignore[method-assign]
