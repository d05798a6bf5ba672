"""What /openapi.json says of routes that read their bodies and write their answers by themselves.

Schemas come from the msgspec types that read and write; pydantic is kept from the hot path.
"""

import json
import re
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, Literal

import msgspec
from fastapi import FastAPI, Response

from services.ingest.http.answers import NothingAccepted
from services.ingest.http.forms import FormToken
from services.ingest.http.loose_schemas import loosen
from services.ingest.http.webhook_consent import ASKED, ORIGIN, SENDER
from services.ingest.sources import canonical, cloudevents, forms, jitsu
from services.ingest.sources.contract import (
    Accepted,
    Body,
    Item,
    ItemProblem,
    RejectedItem,
    Reply,
    Source,
)
from services.shared.clock import EPOCH
from services.shared.contracts.events import Moment
from services.shared.http.problems import MEDIA, TYPES, Problem, refusals
from services.shared.http.schemas import mend

Kwargs = dict[str, Any]  # of FastAPI's add_api_route
REF = "#/components/schemas/{name}"
SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"basic": []}, {"key": []}]
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`rl_<id>_<secret>`"},
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "the key as user name, no password",
    },
    "key": {"type": "apiKey", "in": "query", "name": "key", "description": "public keys only"},
    "writeKey": {
        "type": "apiKey",
        "in": "header",
        "name": jitsu.KEY_HEADER,
        "description": "the key, `:` and any word",
    },
}
BODY_REFUSALS = (400, 401, 403, 408, 413, 415, 429, 503)
ANYTHING = {"description": "Whatever the sender posts"}
# Generators of clients take one content type an operation. Of another one the members are left
# open, and arrays without the type of their items: what they cannot read they pass over.
FIELDS = {
    "type": "object",
    "description": "The same fields; one that comes several times is an array",
    "additionalProperties": {"type": ["string", "number", "boolean", "null", "object", "array"]},
}
PICTURE = {200: {"description": "An invisible picture", "content": {"image/gif": {}}}}
ITEM_PROBLEM = ItemProblem(f"{TYPES}invalid", "a field is missing", "/type", "add it", 400)
ACCEPTED_EXAMPLE = {"accepted": 1, "ids": ["e-1"], "rejected": []}

SCHEMA_NAMED = re.compile(r'"#/components/schemas/([^"]+)"')


class EventData(Item, frozen=True, omit_defaults=True, kw_only=True):
    """The fields of an interaction; its type is the event's unless it has one of its own."""

    type: str = ""


class InteractionCloudEvent(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A CloudEvent 1.0 whose data are the fields of an interaction, as an object or as JSON in a
    text; or in base64.
    """

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    time: Moment | None = None
    data: EventData | str | None = None
    data_base64: str | None = None


class FormSubmission(msgspec.Struct, omit_defaults=True):
    """A filled-in form; every further field is a trait."""

    email: str = ""
    name: str = ""
    company: str = ""
    consent: str = ""
    consent_text: str = ""
    utm_source: str = ""
    utm_campaign: str = ""
    id: str = msgspec.field(default="", name="_id")
    anonymous_id: str = msgspec.field(default="", name="_anonymous_id")
    key: str = msgspec.field(default="", name="_key")
    next: str = msgspec.field(default="", name="_next")
    honeypot: str = msgspec.field(default="", name="_hp")
    token: str = msgspec.field(default="", name="_token")


class PreferencesForm(msgspec.Struct, omit_defaults=True):
    """What a person chose on the page of preferences."""

    topics: list[str] = []
    pace: Literal["usual", "weekly", "monthly"] | None = None
    pause: Literal["1 month", "3 months", "until", "none"] | None = None
    until: date | None = None
    tracking: Literal["on", "off"] | None = None
    save: Literal["topics", "all", "pace", "pause", "return"] | None = None


def events(path: str, sources: Sequence[Source]) -> Kwargs:
    """A path that the sources share; who signs brings no key."""
    first = sources[0]
    media = _media(path, sources)
    if any(source.name == cloudevents.SOURCE.name for source in sources):
        media |= _cloudevents()
    responses = refusals(*BODY_REFUSALS)
    if first.stop_status != 200:
        responses[first.stop_status] = _nothing_accepted(first.stop_status)
    extra = {
        "requestBody": {"required": True, "content": media},
        "security": _security(first),
    }
    return {
        "response_class": Response,
        "responses": responses | {200: _success(sources)},
        "openapi_extra": extra,
    }


def first_call(source: Source) -> Kwargs:
    """The call by which a sender looks who answers."""
    success = {200: {"description": "What the sender wants to hear", "content": {"text/plain": {}}}}
    extra: dict[str, Any] = {"security": []}
    return {
        "response_class": Response,
        "name": f"{source.name}_first_call",
        "description": "The call by which the sender looks who answers.",
        "responses": refusals(401, 405, 413) | success,
        "openapi_extra": extra,
    }


def webhook_consent() -> Kwargs:
    """The question whether webhooks may come."""
    host = {"type": "string", "pattern": f"^{SENDER.pattern}$"}
    parameters = [
        {"name": ORIGIN, "in": "header", "required": True, "schema": host},
        {"name": f"{ASKED}Rate", "in": "header", "schema": {"type": "string"}},
        {"name": f"{ASKED}Callback", "in": "header", "schema": {"type": "string"}},
    ]
    given = {
        name: {"schema": {"type": "string"}, "description": description}
        for name, description in (
            ("WebHook-Allowed-Origin", "the sender that asks"),
            ("WebHook-Allowed-Rate", "requests a minute, or `*`"),
        )
    }
    success = {200: {"description": "The sender may post", "headers": given}}
    extra = {"parameters": parameters, "security": []}
    described = {"responses": refusals(400) | success, "openapi_extra": extra}
    return described | {"response_class": Response}


def form() -> Kwargs:
    """A filled-in form."""
    content = {"schema": _schema(FormSubmission), "example": forms.SOURCE.example}
    same = {"schema": FIELDS, "example": forms.SOURCE.example}
    media = {forms.URLENCODED: content, "multipart/form-data": same, forms.JSON: same}
    page: dict[str, Any] = {
        "description": "Accepted: an answer for scripts, a page for people",
        "content": _json(Accepted, ACCEPTED_EXAMPLE) | {"text/html": {}},
    }
    responses = refusals(*BODY_REFUSALS) | {
        200: page,
        303: {"description": "Accepted; goes on to the page that `_next` names"},
    }
    extra = {"requestBody": {"required": True, "content": media}}
    return {"responses": responses, "openapi_extra": extra | {"security": SECURITY}}


def form_token() -> Kwargs:
    """The token of a form."""
    described = answer(
        FormToken, {"token": "AAABnbX6Fn8xkQ3bR0hXo0fYk7m1gS5L"}, (400, 401, 403, 429)
    )
    return described | {"openapi_extra": {"security": SECURITY}}


def answer(model: type[msgspec.Struct], example: object, codes: Iterable[int]) -> Kwargs:
    """A route that answers JSON of this type, or one of these refusals."""
    success = {"description": _summary(model), "content": _json(model, example)}
    return {"responses": refusals(*codes) | {200: success}}


def preferences() -> Kwargs:
    """What a person chose, answered by the page."""
    content = {"schema": _schema(PreferencesForm), "example": {"pace": "weekly"}}
    extra = {"requestBody": {"required": True, "content": {forms.URLENCODED: content}}}
    return {"responses": refusals(400, 404, 413, 429, 503), "openapi_extra": extra}


def describe(app: FastAPI, sources: Sequence[Source], types: Iterable[Any]) -> None:
    """Adds to the document the schemas of the msgspec types (those of the sources, and `types`) and
    the ways of signing in; takes out answers of FastAPI's that no route of ours gives.
    """
    plain = app.openapi
    bodies = [source.body for source in sources if source.body]
    bodies += [body.type for source in sources for body in source.bodies.values()]
    given = [source.answer([], []) for source in sources]
    answers = [type(answer) for answer in given if not isinstance(answer, Reply)]
    own = (
        Problem,
        NothingAccepted,
        Accepted,
        FormSubmission,
        PreferencesForm,
        InteractionCloudEvent,
    )
    _, schemas = msgspec.json.schema_components(
        dict.fromkeys([*own, FormToken, *bodies, *answers, *types]), ref_template=REF
    )

    schemas["FormSubmission"]["additionalProperties"] = True
    loosen(schemas)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema:
            return app.openapi_schema
        document = plain()
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(schemas)
        components["securitySchemes"] = SECURITY_SCHEMES
        mend(document)
        _drop_validation_errors(document)
        _drop_unnamed(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _drop_unnamed(document: dict[str, Any]) -> None:
    """Takes out schemas that nothing refers to, until all are named."""
    schemas = document["components"]["schemas"]
    while unnamed := schemas.keys() - set(SCHEMA_NAMED.findall(json.dumps(document))):
        for name in unnamed:
            del schemas[name]


def _security(source: Source) -> list[dict[str, list[str]]]:
    if source.verify:
        return []
    return [*SECURITY, {"writeKey": []}] if source.name == jitsu.SOURCE.name else SECURITY


def _media(path: str, sources: Sequence[Source]) -> dict[str, Any]:
    """The bodies of all sources of a path, by content type; two of one type are alternatives."""
    media: dict[str, Any] = {}
    for source in sources:
        for kind, content in _bodies(source, path).items():
            before = media.get(kind)
            schema = {"anyOf": [before["schema"], content["schema"]]} if before else None
            media[kind] = before | {"schema": schema} if before else content
    return media


def _bodies(source: Source, path: str) -> dict[str, Any]:
    """The bodies that a source reads at a path, by content type."""
    body = source.bodies.get(path) or Body(source.body, source.example)
    if body.type is str:
        return {"text/plain": {"schema": {"type": "string"}, "example": body.example}}
    plain = {"type": "string"} if isinstance(body.example, str) else ANYTHING
    content = {"schema": _schema(body.type) if body.type else plain, "example": body.example}
    first, *others = sorted(source.media - {""} - canonical.NDJSON) or [_sample_media(source)]
    same = {"schema": FIELDS, "example": body.example}
    lines = {
        kind: {"schema": {"type": "string"}} for kind in sorted(source.media & canonical.NDJSON)
    }
    return {first: content} | dict.fromkeys(others, same) | lines


def _cloudevents() -> dict[str, Any]:
    """The bodies where CloudEvents come as well, which plain JSON may also be."""
    own, example = canonical.SOURCE.example, cloudevents.SOURCE.example
    kinds = [Item, list[Item], InteractionCloudEvent, list[InteractionCloudEvent]]
    one_or_more = {"anyOf": [_schema(InteractionCloudEvent), {"type": "array"}]}
    return {
        forms.JSON: {"schema": _any_of(*kinds), "example": own},
        "application/cloudevents+json": {"schema": one_or_more, "example": example},
        "application/cloudevents-batch+json": {"schema": {"type": "array"}, "example": [example]},
    }


def _sample_media(source: Source) -> str:
    """The content type of a source that takes any."""
    return source.sample("ann@example.com", EPOCH).media if source.sample else forms.JSON


def _success(sources: Sequence[Source]) -> dict[str, Any]:
    """The answers of all sources of a path; the example is the first one's."""
    answer = sources[0].answer(["e-1"], [])
    if isinstance(answer, Reply):
        example = {"example": answer.body.decode()}
        return {
            "description": "Accepted, in the sender's terms",
            "content": {answer.media: example},
        }
    models = dict.fromkeys(type(source.answer([], [])) for source in sources)
    content = {"schema": _any_of(*models), "example": msgspec.to_builtins(answer)}
    return {"description": _summary(type(answer)), "content": {"application/json": content}}


def _nothing_accepted(status: int) -> dict[str, Any]:
    """The answer by which a source stops its sender: one problem, or one for each item."""
    example = NothingAccepted(
        f"{TYPES}invalid",
        "a field is missing",
        "/type",
        "add it",
        status,
        [RejectedItem(0, "e-1", ITEM_PROBLEM)],
    )
    content = {
        "schema": _any_of(NothingAccepted, Problem),
        "example": msgspec.to_builtins(example),
    }
    return {"description": "Nothing was acceptable", "content": {MEDIA: content}}


def _json(model: type[msgspec.Struct], example: object) -> dict[str, Any]:
    return {"application/json": {"schema": _schema(model), "example": example}}


def _schema(model: Any) -> dict[str, Any]:
    """A reference to the type's schema among the components."""
    (schema,), _ = msgspec.json.schema_components([model], ref_template=REF)
    return schema


def _any_of(*models: Any) -> dict[str, Any]:
    return (
        {"anyOf": [_schema(model) for model in models]} if len(models) > 1 else _schema(models[0])
    )


def _summary(model: type[msgspec.Struct]) -> str:
    return (model.__doc__ or "").partition("\n")[0].rstrip(".")


def _drop_validation_errors(document: dict[str, Any]) -> None:
    """Our parameters are texts, which are always valid: FastAPI's 422 is never answered."""
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
