"""Schemas of what is read more loosely than its types say: a null is a field left out, a consent
may be a word or a tick.
"""

from typing import Any

NULL = {"type": "null"}
LOOSE = ("Item", "EventData", "Consent")
WORD = [{"type": "string"}, {"type": "boolean"}, {"type": "number"}]


def loosen(schemas: dict[str, Any]) -> None:
    """Does so to the components of a document, in place."""
    for name in LOOSE:
        schema = schemas[name]
        for member, given in schema["properties"].items():
            if member == "consent":
                choices = _consents(given["items"])
            elif (name, member) == ("Consent", "state"):
                choices = [given, *WORD[:2]]
            else:
                choices = given.get("anyOf", [given])
            if member not in schema["required"] and NULL not in choices:
                choices = [*choices, NULL]
            if len(choices) > 1:
                schema["properties"][member] = {"anyOf": choices}


def _consents(one: dict[str, Any]) -> list[dict[str, Any]]:
    """One, several, or a word for them; of one whose state is a no the rest is not looked at."""
    single = [one, {"type": "object"}, *WORD]
    return [{"type": "array", "items": {"anyOf": single}}, *single]
