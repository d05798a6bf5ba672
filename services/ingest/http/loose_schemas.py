"""Schemas of what is read more loosely than its types say: a null is a field left out, a consent
may be a word or a tick, and of Segment's calls what cannot be read is left out.
"""

from typing import Any

NULL = {"type": "null"}
OUR_OWN = ("Item", "EventData", "Consent")
SEGMENT = ("SegmentCall", "SegmentBatch", "Context")
WORD = [{"type": "string"}, {"type": "boolean"}, {"type": "number"}]


def loosen(schemas: dict[str, Any]) -> None:
    """Does so to the components of a document, in place."""
    for name in OUR_OWN:
        members = schemas[name]["properties"]
        for member, given in members.items():
            choices = _choices(f"{name}.{member}", given)
            if member not in schemas[name]["required"] and NULL not in choices:
                choices = [*choices, NULL]
            members[member] = {"anyOf": choices} if len(choices) > 1 else given
    for name in SEGMENT:
        members = schemas[name]["properties"]
        for member in members.keys() - {"batch"}:
            members[member] = {"description": f"{_types(members[member])}; else it is left out"}


def _choices(place: str, given: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas of a member of ours. A consent may be one, several, or a word for them; of one
    whose state is a no the rest is not looked at.
    """
    if place == "Consent.state":
        return [given, *WORD[:2]]
    if place.endswith(".consent"):
        single = [given["items"], {"type": "object"}, *WORD]
        several = {"anyOf": [*single, {"type": "array", "items": {}}, NULL]}
        return [{"type": "array", "items": several}, *single]
    return list(given.get("anyOf", [given]))


def _types(given: dict[str, Any]) -> str:
    """What is expected, in words."""
    found = [each.get("type", "object") for each in given.get("anyOf", [given])]
    return " or ".join(each for each in found if each != "null")
