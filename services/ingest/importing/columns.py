"""The mapping as a form, and the form as a mapping: what each column means. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from services.ingest.importing.guess import MAX_TYPES, examples
from services.ingest.importing.header import Header
from services.ingest.importing.mapping import ALL, READING
from services.ingest.sources.segment_calls import snake

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


class ColumnChoice(NamedTuple):
    """One column as the form shows it."""

    number: int
    name: str
    examples: list[str]
    meaning: str
    trait: str


def choices(
    header: Header, rows: Sequence[Sequence[str]], mapping: Mapping[str, Any]
) -> list[ColumnChoice]:
    """The meaning of each column under the mapping, in the file's order."""
    meanings = {
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
        meaning, trait = meanings.get(number, ""), named.get(number, snake(name) if name else "")
        if not meaning and (number in named or (traits == ALL and name and number not in dropped)):
            meaning = TRAIT
        found.append(ColumnChoice(number, name, examples(rows, number), meaning, trait))
    return found


def chosen(form: Mapping[str, str], header: Header, before: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping that a filled-in form asks for; what the form has no field for stays as it was
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
            details = _with_column(before.get(meaning), name) | _details(meaning, form)
            mapping[meaning] = {key: value for key, value in details.items() if value}
    if type_ := _type(mapping.get("type"), form):
        mapping["type"] = type_
    if traits and mapping["kind"] != "suppressions":
        mapping["traits"] = traits
    kept = ("as", "days", "missing", *READING)
    return mapping | {key: before[key] for key in kept if before.get(key)}


def _type(column: Mapping[str, Any] | None, form: Mapping[str, str]) -> Any:
    """The mapping's `type`: a column with the names of its values, or one name for all rows."""
    if column is None:
        return form.get("type", "").strip()
    names = {value: form[key].strip() for key, value in _values(form) if form.get(key, "").strip()}
    return {"column": column["column"]} | ({"names": names} if names else {})


def typed(
    header: Header, rows: Sequence[Sequence[str]], mapping: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """(value, type) of the column with the types of events."""
    rule = mapping.get("type")
    number = _number(header, rule)
    if number is None:
        return []
    names = rule.get("names") or {} if isinstance(rule, dict) else {}
    values = dict.fromkeys([*names, *sorted({row[number].strip() for row in rows} - {""})])
    return [(value, names.get(value) or snake(value)) for value in list(values)[:MOST_TYPES]]


def part(mapping: Mapping[str, Any], key: str, name: str) -> str:
    """The mapping's value under `key.name`, as one text; '' for none."""
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


def _number(header: Header, rule: Any) -> int | None:
    """The column that a part of the mapping names."""
    rule = rule[0] if isinstance(rule, list) and rule else rule
    name = rule.get("column") if isinstance(rule, dict) else rule
    return header.find(name) if isinstance(name, str) and name else None


def _with_column(before: Any, name: str) -> dict[str, Any]:
    """The earlier details of a meaning, now for this column."""
    before = before[0] if isinstance(before, list) and before else before
    kept = (
        {key: value for key, value in before.items() if key != "constant"}
        if isinstance(before, dict)
        else {}
    )
    return kept | {"column": name}


def _details(meaning: str, form: Mapping[str, str]) -> dict[str, Any]:
    """Details of a meaning that the form asks for; an empty field takes them back."""
    details: dict[str, Any] = {}
    for key, value in form.items():
        key_of, _, name = key.partition(".")
        if key_of == meaning and name in ("format", "zone", "system", "basis"):
            details[name] = value.strip()
        elif key_of == meaning and name == "equals":
            details[name] = [word.strip() for word in value.split(",") if word.strip()]
    return details
