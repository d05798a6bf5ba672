"""What /openapi.json says of the routes that read their bodies by themselves."""

from typing import Any

from services.ingest.sources.canonical import NDJSON
from services.ingest.sources.contract import Source

_TEXT = {"type": "string"}
_OBJECT = {"type": "object"}
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "where": _TEXT,
        "detail": _TEXT,
    },
}
INTERACTION: dict[str, Any] = {
    "type": "object",
    "required": ["type"],
    "properties": {
        **dict.fromkeys(
            ("id", "user_id", "email", "anonymous_id", "product", "content_id", "touch_id"), _TEXT
        ),
        **dict.fromkeys(("url", "company", "source", "campaign"), _TEXT),
        "type": {"type": "string", "example": "demo_requested"},
        "occurred_at": {"type": "string", "format": "date-time"},
        "external_id": {
            "type": "object",
            "properties": {"system": _TEXT, "id": _TEXT},
            "required": ["system", "id"],
        },
        "cost": {"type": "number"},
        "machine": {"type": "boolean"},
        "consent": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["state"],
                "properties": {
                    **dict.fromkeys(("channel", "purpose", "basis", "text"), _TEXT),
                    "state": {"enum": ["given", "withdrawn"]},
                    "at": {"type": "string", "format": "date-time"},
                },
            },
        },
        "traits": _OBJECT,
        "properties": _OBJECT,
    },
}
_CLOUDEVENT = {
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": _TEXT,
        "source": _TEXT,
        "type": _TEXT,
        "time": {"type": "string", "format": "date-time"},
        "data": INTERACTION,
    },
}
_ANSWERS = {
    "400": "Nothing was acceptable",
    "401": "No valid key",
    "403": "The key or the origin may not do this",
    "408": "Too slow",
    "413": "Too large",
    "415": "Another content type",
    "429": "Too many; see Retry-After",
    "503": "Not now; see Retry-After",
}
_SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"basic": []}, {"key": []}]
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`rl_<id>_<secret>`"},
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "the key as user name, no password",
    },
    "key": {"type": "apiKey", "in": "query", "name": "key", "description": "public keys only"},
}


PREFERENCES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "topics": {"type": "array", "items": _TEXT},
                        "pace": {"enum": ["usual", "weekly", "monthly"]},
                        "pause": {"enum": ["1 month", "3 months", "until", "none"]},
                        "until": {"type": "string", "format": "date"},
                        "save": {"enum": ["topics", "all", "pace", "pause", "return"]},
                    },
                }
            }
        },
    }
}


def events(example: Any) -> dict[str, Any]:
    """POST /v1/events."""
    many = {"oneOf": [INTERACTION, {"type": "array", "items": INTERACTION}]}
    return _post({
        "application/json": {"schema": many, "example": example},
        "application/x-ndjson": {"schema": _TEXT},
        "application/cloudevents+json": {"schema": _CLOUDEVENT},
        "application/cloudevents-batch+json": {"schema": {"type": "array", "items": _CLOUDEVENT}},
    })  # fmt: skip


def sent_by(source: Source) -> dict[str, Any]:
    """A route of a format that its owners document; who signs brings no key."""
    media = sorted(source.media - {""}) or ["application/json"]
    whole = {"schema": _OBJECT, "example": source.example}
    described = _post({one: {"schema": _TEXT} if one in NDJSON else whole for one in media})
    return described | {"security": []} if source.verify else described


def form(example: Any) -> dict[str, Any]:
    """POST /v1/forms/{form}."""
    fields = {
        "type": "object",
        "properties": dict.fromkeys(
            ("email", "name", "consent", "_id", "_anonymous_id", "_key", "_next", "_hp", "_token"),
            _TEXT,
        ),
    }
    media = ("application/x-www-form-urlencoded", "multipart/form-data", "application/json")
    return _post({one: {"schema": fields, "example": example} for one in media})


def _post(content: dict[str, Any]) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": _PROBLEM}}
    return {
        "security": _SECURITY,
        "requestBody": {"required": True, "content": content},
        "responses": {
            code: {"description": text, "content": problem} for code, text in _ANSWERS.items()
        },
    }
