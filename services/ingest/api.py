"""Ingest's HTTP: events in every format, forms, tracked links, and the way out of our mails."""

import asyncio
import re
import time
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from starlette.responses import RedirectResponse
from starlette.routing import Route

from services.ingest import documented, form_token, intake, pages
from services.ingest.delivery import Delivery
from services.ingest.heard import Heard
from services.ingest.normalise import Normaliser, Receipt, consent_records
from services.ingest.senders import Senders
from services.ingest.sources import FORMS, Item, Post, Refused, Reply, Secret, Source, forms
from services.ingest.sources.pieces import is_list
from services.shared import web
from services.shared.clock import Clock
from services.shared.errors import Reject
from services.shared.events import Consent, encode_bytes
from services.shared.keys import Keys
from services.shared.links import LinkClaim, UnsubscribeClaim, open_token
from services.shared.rates import Rates
from services.shared.runtime import fault_point
from services.shared.settings import Settings
from services.shared.telemetry import ACCEPTED, REFUSED

USELESS = frozenset({"invalid", "too-large", "media-type", "replayed"})  # what repeating the same body cannot mend
SLICE = 500  # items of a batch between which others have their turn
LINKS = "links:ripeline"  # the door of what people do with our mails
MACHINES = re.compile(
    r"bot\b|crawl|spider|slurp|preview|prefetch|facebookexternalhit|whatsapp|googleimageproxy|barracuda|mimecast|proofpoint"
    r"|safelinks|messagelabs|symantec|fireeye|forcepoint|zscaler|sophos|ironport",
    re.IGNORECASE,
)
AHEAD_OF_PEOPLE = ("purpose", "sec-purpose", "x-purpose", "x-moz")


def create_app(
    settings: Settings,
    keys: Keys,
    senders: Senders,
    heard: Heard,
    sources: Sequence[Source],
    normaliser: Normaliser,
    delivery: Delivery,
    clock: Clock,
    readiness: web.Readiness,
) -> FastAPI:
    """The application; opens nothing."""
    rates = Rates(settings)
    app = web.create("Ripeline ingest", readiness, rates)
    app.add_middleware(
        intake.Cors,  # type: ignore[arg-type]
        keys=keys,
        allow_origins=settings.allowed_origins,
        allow_methods=["POST"],
        allow_headers=["Authorization", "Content-Type", "Content-Encoding"],
        expose_headers=["Retry-After", "RateLimit", "RateLimit-Policy"],
        max_age=86_400,
    )
    gate = intake.Gate(keys, settings.allowed_origins, rates)
    pepper = settings.pepper.get_secret_value().encode()

    async def events(request: Request) -> Response:
        """Interactions, by senders who repeat after a 503."""
        post = await intake.read(request, clock, settings.public_url)
        source = chosen(post, doors[post.path])
        if source.verify:
            return await signed(request, post, source)
        key, owner, limits = gate.admit(request, source.key_in(post.body) if "authorization" not in request.headers else "")
        public = key.scope == "public"
        receipt = Receipt(f"{source.door}:{key.name}", post.received_at, time.time(), many=_is_many(post), public=public)
        await take(source.parse(post), receipt)
        # Pages that post with a public key are gone by the time of a second attempt: what they say is kept at once.
        await (delivery.keep(receipt.records, owner) if public else delivery.publish(receipt.records))
        fault_point("between_acknowledgement_and_answer")
        answer = _answer(receipt, source, heard)
        answer.raw_headers += limits
        return answer

    async def signed(request: Request, post: Post, source: Source) -> Response:
        """A webhook of a sender who signs, or its first call to see who answers."""
        secrets = senders.secrets(source.door)
        if source.greet and (greeting := source.greet(post, secrets)):
            return Response(greeting.body, media_type=greeting.media)
        if post.method != "POST":
            raise Reject("this address is for webhooks", where="method", remedy="use POST", kind="method")
        try:
            secret = source.verify(post, secrets) if source.verify else Secret("", "")
            rates.key(f"{source.door}:{secret.name}")
            await senders.use(source, post)
            receipt = Receipt(f"{source.door}:{secret.name}", post.received_at, time.time(), many=_is_many(post))
            await take(source.parse(post), receipt)
        except Reject as error:
            reject = rates.guessed(request, error)
            heard.note(source.door, 0, 1, reject.kind)
            REFUSED.labels(source.door, reject.kind).inc()
            return web.problem(reject, source.stop if reject.kind in USELESS else None)
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
        body = documented.events(served[0].example) if path == "/v1/events" else documented.sent_by(served[0])
        app.add_api_route(path, events, methods=["POST"], tags=[served[0].door], openapi_extra=body, response_model=None)
    # What FastAPI does for a route it describes costs a third of a single event: these go the short way, in front.
    app.router.routes[:0] = [
        Route(path, events, methods=["GET", "POST"] if served[0].greet else ["POST"]) for path, served in doors.items()
    ]

    @app.post("/v1/forms/{form}", tags=["forms"], response_model=None, openapi_extra=documented.form(FORMS.example))
    async def form(form: str, request: Request) -> Response:
        """A web form, with or without JavaScript; it is safe before the answer, whatever the broker does."""
        post = await intake.read(request, clock, settings.public_url)
        if post.media not in FORMS.media:
            raise _wrong_media(post.media, FORMS.media)
        found = forms.fields(post)
        key, owner, limits = gate.admit(request, forms.text(found, "_key"), in_page=True)
        then = forms.text(found, "_next")
        if then and not may_follow(then, settings.allowed_pages):
            raise Reject("this page is not on the list", where="/_next", remedy="add its beginning to RIPELINE_ALLOWED_PAGES")
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
        return "too-quick" if form_token.age(pepper, form, token, time.time()) < form_token.QUICKEST_S else ""

    @app.get("/v1/forms/{form}/token", tags=["forms"], response_model=None)
    async def token(form: str, request: Request) -> Response:
        """A token for a form that is shown now: a page puts it into the field `_token`."""
        _, _, limits = gate.admit(request)
        body = encode_bytes({"token": form_token.issue(pepper, form, time.time())})
        answer = Response(body, headers={"Cache-Control": "no-store"}, media_type="application/json")
        answer.raw_headers += limits
        return answer

    @app.head("/l/{token}", include_in_schema=False, response_model=None)
    @app.get("/l/{token}", tags=["mail"], response_model=None)
    async def follow(token: str, request: Request) -> Response:
        """A tracked link: notes the click and leads on."""
        claim = open_token(pepper, token)
        if not isinstance(claim, LinkClaim):
            raise _not_a_link()
        click = Item(
            type="email_clicked", touch_id=claim.touch_id, content_id=claim.content_id, url=claim.url, machine=is_machine(request)
        )
        receipt = normaliser.take([click], Receipt(LINKS, clock.now(), time.time()))
        try:
            await delivery.keep(receipt.records, gate.passer_by(request, LINKS))
            ACCEPTED.labels("links").inc(len(receipt.ids))
        except Reject as full:  # nobody is kept from a page because we cannot count the click
            REFUSED.labels("links", full.kind).inc()
        return RedirectResponse(claim.url, 302, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})

    @app.head("/u/{token}", include_in_schema=False, response_model=None)
    @app.get("/u/{token}", tags=["mail"], response_model=None)
    async def ask(token: str) -> Response:
        """The way out: asks, and changes nothing."""
        _leaver(token)
        return pages.leave()

    @app.post("/u/{token}", tags=["mail"], response_model=None)
    async def leave(token: str, request: Request) -> Response:
        """Unsubscribes, by the page's button or by a mail program's one click (RFC 8058)."""
        owner, claim = gate.passer_by(request, LINKS), _leaver(token)
        refusal = Consent(state="withdrawn", basis="unsubscribe link")
        receipt = Receipt(LINKS, clock.now(), time.time())
        normaliser.take([Item(type="unsubscribed", touch_id=claim.touch_id, consent=(refusal,))], receipt)
        records = receipt.records + consent_records([refusal], uuid.uuid4().hex, claim.address, receipt.received_at)
        await delivery.keep(records, owner)
        ACCEPTED.labels("links").inc(len(receipt.ids))
        return pages.left()

    def _leaver(token: str) -> UnsubscribeClaim:
        claim = open_token(pepper, token)
        if not isinstance(claim, UnsubscribeClaim):
            raise _not_a_link()
        return claim

    _describe(app)
    return app


def chosen(post: Post, there: Sequence[Source]) -> Source:
    """The source of a request among those of its path, by its content type, and for plain JSON by its shape."""
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


def is_machine(request: Request) -> bool:
    """Whether a program follows the link: a scanner, a preview, a prefetch; those that name themselves, or look first."""
    ahead = any("pre" in request.headers.get(name, "").lower() for name in AHEAD_OF_PEOPLE)
    return request.method == "HEAD" or ahead or bool(MACHINES.search(request.headers.get("user-agent", "")))


def _answer(receipt: Receipt, source: Source, heard: Heard) -> Response:
    """200 with what was accepted and what was not; where nothing was, the status that tells the sender to stop.

    A request that holds nothing for us is a success.
    """
    rejected = [
        {"index": index, "id": name, "problem": web.problem_of(reject) | {"status": web.STATUS.get(reject.kind, 400)}}
        for index, name, reject in receipt.refused
    ]
    for _, _, reject in receipt.refused:
        REFUSED.labels(source.door, reject.kind).inc()
    heard.note(source.door, len(receipt.ids), len(rejected), receipt.refused[-1][2].kind if rejected else "")
    ACCEPTED.labels(source.door).inc(len(receipt.ids))
    if receipt.ids or not rejected or source.stop == 200:
        said = source.answer(receipt.ids, rejected)
        if isinstance(said, Reply):
            return Response(said.body, media_type=said.media)
        return Response(encode_bytes(said), media_type="application/json")
    first = receipt.refused[0][2]
    remedy = "see `rejected` for each item" if len(rejected) > 1 else first.remedy
    whole = Reject("no item was acceptable", remedy=remedy) if len(rejected) > 1 else first
    body = web.problem_of(whole) | {"status": source.stop, "rejected": rejected}
    return Response(encode_bytes(body), source.stop, media_type="application/problem+json")


def _is_many(post: Post) -> bool:
    return post.media.endswith(("ndjson", "jsonl", "jsonlines")) or post.path == "/v1/batch" or is_list(post.body)


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
    return Reject(f"content type {given[:60]!r}", where="Content-Type", remedy=remedy, kind="media-type")


def _not_a_link() -> Reject:
    remedy = "use the link as it stood in the mail"
    return Reject("this link is for something else", where="token", remedy=remedy, kind="not-found")


def _describe(app: FastAPI) -> None:
    """Adds the ways of signing in to the OpenAPI document."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        document.setdefault("components", {})["securitySchemes"] = documented.SECURITY_SCHEMES
        return document

    app.openapi = openapi  # type: ignore[method-assign]
