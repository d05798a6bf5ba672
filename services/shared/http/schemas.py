"""OpenAPI documents as generators of clients read them: an object without declared members says
that it may have any, and a member of a request that may be left out has no default, for which it
would be taken to be always there.
"""

from collections.abc import Iterator
from typing import Any

EXAMPLES = frozenset({"example", "examples", "default"})
REF = "#/components/schemas/"


def mend(document: dict[str, Any]) -> None:
    """Does both to a document, in place."""
    _open_objects(document)
    schemas = document.get("components", {}).get("schemas", {})
    operations = [each for path in document["paths"].values() for each in path.values()]
    asked = _reached([each.get("requestBody") for each in operations], schemas)
    answered = _reached([each["responses"] for each in operations], schemas)
    for name in asked - answered:
        for member in schemas[name].get("properties", {}).values():
            member.pop("default", None)


def _open_objects(part: Any) -> None:
    if isinstance(part, dict) and part.get("type") == "object" and "properties" not in part:
        part.setdefault("additionalProperties", True)
    for value in _inside(part):
        _open_objects(value)


def _reached(parts: Any, schemas: dict[str, Any]) -> set[str]:
    """The names of the schemas that parts of a document refer to, also by way of others."""
    found: set[str] = set()
    waiting = list(_references(parts))
    while waiting:
        name = waiting.pop()
        if name not in found and name in schemas:
            found.add(name)
            waiting += _references(schemas[name])
    return found


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict) and str(part.get("$ref", "")).startswith(REF):
        yield part["$ref"].removeprefix(REF)
    for value in _inside(part):
        yield from _references(value)


def _inside(part: Any) -> list[Any]:
    if isinstance(part, dict):
        return [value for name, value in part.items() if name not in EXAMPLES]
    return part if isinstance(part, list) else []
