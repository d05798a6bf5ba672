"""The mapping as a form: what each column means, chosen from a list, there and back. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from services.ingest.importing.guess import MAX_TYPES, examples
from services.ingest.importing.mapping import ALL, Header
from services.ingest.sources.segment import snake

TRAIT = "trait"
MEANINGS = {
    "": "not used",
    "email": "e-mail address",
    "lead": "address or customer number",
    "user_id": "customer number",
    "anonymous_id": "visitor id",
    "external_id": "id in the CRM",
    "type": "what happened",
    "time": "when",
    "consent": "permission to write",
    "outcome": "became an opportunity",
    "company": "company",
    "source": "source",
    "campaign": "campaign",
    "cost": "cost",
    "product": "product",
    "content_id": "content",
    "url": "address of a page",
    TRAIT: "attribute called …",
}
SIMPLE = (
    "email",
    "lead",
    "user_id",
    "anonymous_id",
    "company",
    "source",
    "campaign",
    "cost",
    "product",
    "content_id",
    "url",
)
KINDS = {
    "leads": "one row a lead",
    "events": "one row an event",
    "suppressions": "addresses not to write to",
}
MOST_TYPES = MAX_TYPES


class Choice(NamedTuple):
    """One column as the form shows it."""

    number: int
    name: str
    examples: list[str]
    meaning: str
    trait: str


def choices(
    header: Header, rows: Sequence[Sequence[str]], mapping: Mapping[str, Any]
) -> list[Choice]:
    """What the mapping says of each column, in the file's order."""
    said = {
        number: key for key in MEANINGS if (number := _number(header, mapping.get(key))) is not None
    }
    traits = mapping.get("traits")
    named = (
        {n: trait for trait, column in traits.items() if (n := header.find(column)) is not None}
        if isinstance(traits, dict)
        else {}
    )
    dropped = {header.find(column) for column in mapping.get("drop") or ()}
    found = []
    for number, name in enumerate(header.names):
        meaning, trait = said.get(number, ""), named.get(number, snake(name) if name else "")
        if not meaning and (number in named or (traits == ALL and name and number not in dropped)):
            meaning = TRAIT
        found.append(Choice(number, name, examples(rows, number), meaning, trait))
    return found


def chosen(form: Mapping[str, str], header: Header, before: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping that a filled-in form asks for; what the form cannot say stays as it was
    before.
    """
    mapping: dict[str, Any] = {"kind": form.get("kind", "leads")}
    traits: dict[str, str] = {}
    for number, name in enumerate(header.names):
        meaning = form.get(f"c{number}", "")
        if meaning == TRAIT:
            traits[form.get(f"t{number}", "").strip() or snake(name)] = name
        elif meaning in SIMPLE:
            mapping[meaning] = name
        elif meaning in MEANINGS and meaning:
            told = _with(before.get(meaning), name) | _asked(meaning, form)
            mapping[meaning] = {key: value for key, value in told.items() if value}
    if "type" in mapping:
        names = {
            value: form[key].strip() for key, value in _values(form) if form.get(key, "").strip()
        }
        mapping["type"] = {"column": mapping["type"]["column"]} | (
            {"names": names} if names else {}
        )
    elif form.get("type", "").strip():
        mapping["type"] = form["type"].strip()
    if traits and mapping["kind"] != "suppressions":
        mapping["traits"] = traits
    kept = ("as", "days", "encoding", "delimiter", "missing")
    return mapping | {key: before[key] for key in kept if before.get(key)}


def typed(
    header: Header, rows: Sequence[Sequence[str]], mapping: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """(value, type) of the column that says what happened."""
    said = mapping.get("type")
    number = _number(header, said)
    if number is None:
        return []
    names = said.get("names") or {} if isinstance(said, dict) else {}
    values = dict.fromkeys([*names, *sorted({row[number].strip() for row in rows} - {""})])
    return [(value, names.get(value) or snake(value)) for value in list(values)[:MOST_TYPES]]


def part(mapping: Mapping[str, Any], key: str, name: str) -> str:
    """What the mapping says under `key.name`, as one text; '' for nothing."""
    value = mapping.get(key)
    value = value[0] if isinstance(value, list) and value else value
    inner = value.get(name, "") if isinstance(value, dict) else ""
    return ", ".join(inner) if isinstance(inner, list) else str(inner)


def _values(form: Mapping[str, str]) -> list[tuple[str, str]]:
    """(field of the type, value) of the table of types."""
    return [
        (f"n{key[1:]}", value)
        for key, value in form.items()
        if key[:1] == "v" and key[1:].isdecimal()
    ]


def _number(header: Header, said: Any) -> int | None:
    """The column that a part of the mapping names."""
    said = said[0] if isinstance(said, list) and said else said
    name = said.get("column") if isinstance(said, dict) else said
    return header.find(name) if isinstance(name, str) and name else None


def _with(before: Any, name: str) -> dict[str, Any]:
    """What was said of a meaning, now of this column."""
    before = before[0] if isinstance(before, list) and before else before
    kept = (
        {key: value for key, value in before.items() if key != "constant"}
        if isinstance(before, dict)
        else {}
    )
    return kept | {"column": name}


def _asked(meaning: str, form: Mapping[str, str]) -> dict[str, Any]:
    """Details of a meaning that the form asks for; an empty field takes them back."""
    asked: dict[str, Any] = {}
    for key, value in form.items():
        key_of, _, name = key.partition(".")
        if key_of == meaning and name in ("format", "zone", "system", "basis"):
            asked[name] = value.strip()
        elif key_of == meaning and name == "equals":
            asked[name] = [one.strip() for one in value.split(",") if one.strip()]
    return asked
