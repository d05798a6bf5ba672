"""The way of a webhook: admission, parsing, normalising, delivery, answer."""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from services.ingest.http.admission import Admission
from services.ingest.http.answers import answered
from services.ingest.http.dependencies import Dependencies
from services.ingest.http.import_log import ImportLog, is_end
from services.ingest.http.request import marked, read
from services.ingest.normalise import Receipt
from services.ingest.sources import cloudevents, imports, segment
from services.ingest.sources.contract import InboundRequest, Parsed, Secret, Source
from services.ingest.sources.reading.json import is_list
from services.shared.contracts.provenance import LIVE, Provenance
from services.shared.errors import Kind, Reject
from services.shared.http import parameters
from services.shared.http.problems import problem_response
from services.shared.runtime import fault_point
from services.shared.telemetry import REFUSED

# kinds of refusals that repeating the same body cannot mend
FINAL: frozenset[Kind] = frozenset({"invalid", "too-large", "media-type", "replayed"})
SLICE = 500  # items of a batch after which other requests have their turn
CLOUDEVENTS, SEGMENT = cloudevents.SOURCE.name, segment.SOURCE.name
IMPORT = imports.SOURCE.name


class SourceRoute(NamedTuple):
    """A path, and the sources that share it."""

    path: str
    sources: Sequence[Source]

    @property
    def methods(self) -> list[str]:
        """GET as well where a sender first asks by it who answers."""
        first = self.sources[0]
        return ["GET", "POST"] if first.handshake and first.is_greeted_by_get else ["POST"]


def source_routes(sources: Sequence[Source]) -> list[SourceRoute]:
    """The paths of all sources."""
    found: dict[str, list[Source]] = {}
    for source in sources:
        for path in source.paths:
            found.setdefault(path, []).append(source)
    return [SourceRoute(path, sharing) for path, sharing in found.items()]


class Events:
    """Receives interactions from senders who repeat what is answered with 503."""

    def __init__(self, parts: Dependencies, admission: Admission) -> None:
        self._parts, self._admission = parts, admission
        self._imports = ImportLog(parts.engine)
        self._sources = {route.path: route.sources for route in source_routes(parts.sources)}

    async def receive(self, request: Request) -> Response:
        """Takes interactions; answers once they are safe. Senders repeat after a 503."""
        inbound = await read(request, self._parts.clock, self._parts.settings.public_url)
        inbound = inbound._replace(words=self._parts.words)
        source = source_of(inbound, self._sources[inbound.path])
        if source.verify:
            return await self._receive_signed(request, inbound, source)
        return await self._receive_keyed(request, inbound, source)

    async def _receive_keyed(
        self, request: Request, inbound: InboundRequest, source: Source
    ) -> Response:
        """Interactions of a sender who brings an API key."""
        in_body = ""
        if "authorization" not in request.headers:
            in_body = source.key_in_headers(inbound) or source.key_in_body(inbound.body)
        key, spool_owner, rate_headers = self._admission.admit(request, in_body)
        if key.scope not in source.scopes:
            raise _wrong_scope(key.scope, source)
        if inbound.query and source.parameters is not None:
            parameters.check(inbound.query, source.parameters)
        is_public = key.scope == "public"
        receipt = _receipt(
            f"{source.name}:{key.name}",
            inbound,
            public=is_public,
            machine=is_public and self._is_machine(request),
            provenance=marked(source.provenance(inbound), inbound, self._parts.pepper),
        )
        is_import = source.name == IMPORT
        items = [] if is_import and is_end(inbound) else source.parse(inbound)
        await self._normalise(items, receipt)
        if is_import:
            await self._imports.note(key, inbound, len(items))
        # A page that posts with a public key is gone by the time of a second attempt: its events
        # are spooled where the broker is away.
        if is_public:
            await self._parts.delivery.publish_or_spool(receipt.records, spool_owner)
        else:
            await self._parts.delivery.publish(receipt.records)
        fault_point("between_acknowledgement_and_answer")
        answer = answered(receipt, source, self._parts.statistics)
        answer.raw_headers += rate_headers
        return answer

    def _is_machine(self, request: Request) -> bool:
        """Whether the browser that posts from a page is a crawler's."""
        address = request.client.host if request.client else ""
        return self._parts.visitors.is_machine(request.headers.get("user-agent", ""), address)

    async def _receive_signed(
        self, request: Request, inbound: InboundRequest, source: Source
    ) -> Response:
        """A webhook of a sender who signs, or its handshake."""
        secrets = self._parts.secrets.in_force(source.name)
        provenance = marked(LIVE, inbound, self._parts.pepper)
        receipt = _receipt(source.name, inbound, provenance=provenance)
        try:
            if source.handshake and (reply := source.handshake(inbound, secrets)):
                return Response(reply.body, media_type=reply.media)
            secret = _verified(source, inbound, secrets)
            receipt.source = f"{source.name}:{secret.name}"
            self._parts.rates.count_key(receipt.source)
            await self._parts.secrets.use_token(source, inbound)
            await self._normalise(source.parse(inbound), receipt)
        except Reject as error:
            return self._refused(self._parts.rates.limit_guessing(request, error), receipt, source)
        await self._parts.delivery.publish(receipt.records)
        fault_point("between_acknowledgement_and_answer")
        return answered(receipt, source, self._parts.statistics)

    def _refused(self, reject: Reject, receipt: Receipt, source: Source) -> Response:
        """The refusal of a whole webhook: in the sender's own terms where repeating is useless."""
        if reject.kind in FINAL:
            receipt.refuse_all(reject)
            return answered(receipt, source, self._parts.statistics)
        self._parts.statistics.count(source.name, 0, 1, reject.kind)
        REFUSED.labels(source.name, reject.kind).inc()
        return problem_response(reject)

    async def _normalise(self, items: Sequence[Parsed], receipt: Receipt) -> None:
        for first in range(0, len(items), SLICE):
            self._parts.normaliser.take(items[first : first + SLICE], receipt, first)
            if first + SLICE < len(items):
                await asyncio.sleep(0)


def source_of(inbound: InboundRequest, candidates: Sequence[Source]) -> Source:
    """The source of a request among those of its path: by its content type, and for plain JSON by
    its shape. Raises Reject `media-type`.
    """
    batches = next((source for source in candidates if source.name == SEGMENT), None)
    if batches and len(candidates) > 1:
        if segment.is_batch(inbound):
            return batches
        candidates = [source for source in candidates if source is not batches]
    cloud = next((source for source in candidates if source.name == CLOUDEVENTS), None)
    if cloud and cloudevents.is_binary(inbound):
        return cloud
    fitting = [source for source in candidates if not source.media or inbound.media in source.media]
    if not fitting:
        known = frozenset().union(*(source.media for source in candidates))
        raise wrong_media(inbound.media, known)
    if (
        cloud
        and inbound.media in ("", "application/json")
        and b'"specversion"' in inbound.body[:4096]
    ):
        return cloud
    return fitting[0]


def wrong_media(given: str, known: frozenset[str]) -> Reject:
    """The refusal of a content type that is not among the `known`."""
    remedy = f"use one of {', '.join(sorted(known - {''}))}"
    return Reject(
        f"content type {given[:60]!r}", where="Content-Type", remedy=remedy, kind="media-type"
    )


def _receipt(
    source: str,
    inbound: InboundRequest,
    *,
    public: bool = False,
    machine: bool = False,
    provenance: Provenance = LIVE,
) -> Receipt:
    many = _has_many_items(inbound) or (
        source.startswith(f"{SEGMENT}:") and inbound.path in segment.BATCHES
    )
    return Receipt(
        source,
        inbound.received_at,
        time.time(),
        many=many,
        public=public,
        machine=machine,
        provenance=provenance,
    )


def _verified(source: Source, inbound: InboundRequest, secrets: Sequence[Secret]) -> Secret:
    """The secret with which a webhook was signed. Raises Reject."""
    if inbound.method != "POST":
        raise Reject(
            "this address is for webhooks", where="method", remedy="use POST", kind="method"
        )
    assert source.verify
    return source.verify(inbound, secrets)


def _wrong_scope(scope: str, source: Source) -> Reject:
    return Reject(
        f"a key of scope {scope!r} may not do this",
        where="Authorization",
        remedy=f"use a key of scope {' or '.join(source.scopes)}",
        kind="forbidden",
    )


def _has_many_items(inbound: InboundRequest) -> bool:
    """Whether refusals name the item's place in the body."""
    return inbound.media.endswith(("ndjson", "jsonl", "jsonlines")) or is_list(inbound.body)
