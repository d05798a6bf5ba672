"""AsyncAPI 3.0 of the four topics: schemas and examples are made from the contracts' structs."""

import inspect
import json
import types
from datetime import datetime
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec
import yaml

from services.ops.documents import examples
from services.shared.contracts.event_types import EventType
from services.shared.contracts.events import (
    CHANGES,
    CONSENTS,
    INTERACTIONS,
    TOUCHES,
    Change,
    ChangeEvent,
    ConsentChanged,
    ConsentEvent,
    HandedOver,
    HandoffEvent,
    Interaction,
    InteractionEvent,
    Touch,
    TouchEvent,
)

SCHEMAS = "#/components/schemas/"


class Topic(NamedTuple):
    """A topic, its services, and a sentence for each type of its messages; those `apart` have an
    envelope and data of their own.
    """

    name: str
    purpose: str
    key: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    envelope: type[msgspec.Struct]
    data: type[msgspec.Struct]
    messages: dict[str, str]
    apart: dict[str, tuple[type[msgspec.Struct], type[msgspec.Struct]]] = {}


TOPICS = (
    Topic(
        INTERACTIONS,
        "What people did, in one form, whatever tool reported it.",
        "HMAC-SHA256 of the event's strongest identifier, 32 hex digits",
        ("ingest", "scorer"),
        ("scorer",),
        InteractionEvent,
        Interaction,
        {"interaction.v1": "Somebody did something, or a mail tool reported what became of a mail"},
    ),
    Topic(
        CHANGES,
        "What changed about a lead, with what nurture needs to know of it.",
        "the lead's id",
        ("scorer",),
        ("nurture",),
        ChangeEvent,
        Change,
        {
            "lead.stage_changed.v1": "The published buying stage changed",
            "lead.engaged.v1": "The lead consumed content, answered, or acted in another way",
            "lead.qualified.v1": "The lead's fit qualifies it for the first time",
            "lead.sales_changed.v1": "Sales reported acceptance, loss or another status",
            "lead.merged.v1": "Other leads turned out to be the same person",
            "lead.handoff_changed.v1": "A step of the lead's hand-off to sales",
        },
    ),
    Topic(
        CONSENTS,
        "Permissions given and taken, beside the interaction that carries them, so that a refusal "
        "reaches nurture without waiting for the scorer.",
        "HMAC-SHA256 of the address or other identifier, 32 hex digits",
        ("ingest",),
        ("nurture",),
        ConsentEvent,
        ConsentChanged,
        {"consent_changed.v1": "A permission was given or withdrawn"},
    ),
    Topic(
        TOUCHES,
        "Nurture's decisions, also those not to send, and what became of them.",
        "the lead's id",
        ("nurture",),
        ("scorer",),
        TouchEvent,
        Touch,
        {
            "touch.decided.v1": "A touch was decided, or withheld with a reason",
            "touch.sent.v1": "A touch left, with what was sent",
            "touch.failed.v1": "A touch did not leave, or nobody knows whether it did",
            "touch.answered.v1": "A person said what came of a call, or nobody did in time",
            "touch.exported.v1": "Somebody went out in an audience, for another tool",
            "handoff.changed.v1": "A lead was handed over to sales, or something came of it",
        },
        {"handoff.changed.v1": (HandoffEvent, HandedOver)},
    ),
)


def document() -> str:
    """The document as YAML."""
    return yaml.dump(
        {
            "asyncapi": "3.0.0",
            "info": {
                "title": "Ripeline's topics",
                "version": "1",
                "description": "JSON with CloudEvents 1.0 attributes. Types are versioned, and "
                "within a version only added to: readers ignore members that they do not know. "
                "A message may come twice, and in any order; its id tells.",
            },
            "defaultContentType": "application/json",
            "channels": {topic.name: _channel(topic) for topic in TOPICS},
            "operations": _operations(),
            "components": {
                "messages": {
                    name: _message(topic, name, says)
                    for topic in TOPICS
                    for name, says in topic.messages.items()
                },
                "schemas": _schemas(),
            },
        },
        Dumper=_Plain,
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )


def _channel(topic: Topic) -> dict[str, Any]:
    return {
        "address": topic.name,
        "description": topic.purpose,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in topic.messages},
    }


def _operations() -> dict[str, Any]:
    """Who writes a topic and who reads it; together they are the application of this document."""
    found = {}
    for topic in TOPICS:
        channel = {"$ref": f"#/channels/{topic.name}"}
        for action, services in (("send", topic.writers), ("receive", topic.readers)):
            for service in services:
                found[f"{service}.{action}.{topic.name}"] = {
                    "action": action,
                    "channel": channel,
                    "tags": [{"name": service}],
                }
    return found


def _message(topic: Topic, name: str, says: str) -> dict[str, Any]:
    key = {"type": "string", "description": topic.key}
    return {
        "name": name,
        "title": name,
        "summary": says,
        "contentType": "application/json",
        "bindings": {"kafka": {"key": key, "bindingVersion": "0.5.0"}},
        "payload": _envelope(topic, name),
        "examples": [{"payload": json.loads(examples.BY_TYPE[name])}],
    }


def _envelope(topic: Topic, name: str) -> dict[str, Any]:
    """The schema of a whole message: what `encode` puts in front, then the struct's own fields."""
    envelope, data = topic.apart.get(name, (topic.envelope, topic.data))
    schema = _described(envelope, _components([envelope])[envelope.__name__])
    attributes: dict[str, Any] = {
        "specversion": {"const": "1.0"},
        "datacontenttype": {"const": "application/json"},
    }
    schema["properties"] = attributes | schema["properties"]
    schema["properties"]["type"] = {"const": name}
    schema["properties"]["data"] = {"$ref": f"{SCHEMAS}{data.__name__}"}
    schema["required"] = list(schema["properties"])  # an envelope leaves nothing out
    return schema


def _schemas() -> dict[str, Any]:
    """The data of the messages and what they consist of."""
    data = [
        each
        for topic in TOPICS
        for each in (topic.data, *(apart for _, apart in topic.apart.values()))
    ]
    structs = {struct.__name__: struct for each in data for struct in _nested(each)}
    components = _components(data)
    schemas = {name: _described(structs[name], components[name]) for name in sorted(components)}
    schemas[Interaction.__name__]["properties"]["type"] = _event_types()
    return schemas


def _event_types() -> dict[str, Any]:
    """The known types with what each says, and any other text."""
    known = [{"const": type_.value, "description": type_.phrase} for type_ in EventType]
    other = {
        "type": "string",
        "description": "any other is stored, and weighs nothing until the playbook gives it a mark",
    }
    return {"anyOf": [*known, other]}


def _components(structs: list[type[msgspec.Struct]]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components(structs, ref_template=f"{SCHEMAS}{{name}}")
    return dict(components)


def _nested(struct: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """A struct and those in its fields."""
    return [struct] + [
        found
        for hint in get_type_hints(struct).values()
        for part in _parts(hint)
        if isinstance(part, type) and issubclass(part, msgspec.Struct)
        for found in _nested(part)
    ]


def _parts(hint: Any) -> list[Any]:
    """What a type consists of: of `tuple[Consent, ...]` the tuple's items, of a union its members.

    >>> _parts(datetime | None)
    [<class 'datetime.datetime'>, <class 'NoneType'>]
    """
    return [part for inner in get_args(hint) for part in _parts(inner)] or [hint]


def _described(struct: type[msgspec.Struct], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with the docstring on one line, and its times named as such (RFC 3339)."""
    schema["description"] = " ".join(inspect.getdoc(struct).split())  # type: ignore[union-attr]
    for name, hint in get_type_hints(struct).items():
        if hint is datetime:
            schema["properties"][name]["format"] = "date-time"
        elif isinstance(hint, types.UnionType) and datetime in get_args(hint):
            schema["properties"][name]["anyOf"][0]["format"] = "date-time"
    return schema


class _Plain(yaml.SafeDumper):
    """Writes equal values out instead of referring to the first of them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
