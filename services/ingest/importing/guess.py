"""A first mapping for a file that came without one: from the names of its columns and a few
examples. Pure.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any

import yaml

from services.ingest.importing.header import Header
from services.ingest.importing.times import AMBIGUOUS, parse
from services.ingest.sources.segment_calls import snake
from services.shared.errors import Reject

ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


def _compiled(patterns: Mapping[str, str]) -> dict[str, re.Pattern[str]]:
    return {name: re.compile(pattern) for name, pattern in patterns.items()}


NAMED = _compiled({
    "email": r"e_?mail(_?address)?|mail|work_email|email_1",
    "user_id": r"(user|customer|contact|case|lead|member)_?id|caseid|uuid",
    "type": r"(event|activity|action)(_?(type|name|id))?|type|what",
    "time": r"(created?|event|sign_?up|registration|registered|order|opt_?in|complete)"
    r"_?(at|on|date|time|timestamp)"
    r"|date|time|timestamp|when|created|completetimestamp|\w+_(at|on)",
    "consent": r"(email_|marketing_)?(consent|opt_?in|opted_in|permission|subscribed)"
    r"|newsletter|gdpr(_consent)?",
    "company": r"company(_name)?|organi[sz]ation|account(_name)?|firm|employer",
    "source": r"(lead_|original_|utm_)?source|channel",
    "campaign": r"(utm_)?campaign(_name)?",
    "cost": r"cost|price_per_lead",
    "external_id": r"record_id|salesforce_id|hubspot_id|external_id|crm_id|leid",
})  # fmt: skip
TRAITS = _compiled({
    "title": r"(job_?)?title|position|role_title|jobtitle",
    "first_name": r"first_?name|given_?name|fname|vorname",
    "last_name": r"last_?name|surname|family_?name|lname|nachname",
    "phone": r"(work_|mobile_)?(tele)?phone(_number)?|mobile",
    "company_size": r"company_size|employees|number_of_employees|no_of_employees|headcount",
    "industry": r"industry|sector",
    "country": r"country(_region)?|land", "language": r"(preferred_)?language",
    "timezone": r"time_?zone",
})  # fmt: skip
SUPPRESSION = re.compile(r"suppress|unsubscri|do.?not|opt.?out|bounce|cleaned", re.IGNORECASE)
EXAMPLES = 5
MAX_TYPES = 50  # a column of more different values names no types


def guess(
    header: Header, rows: Sequence[Sequence[str]], file: str = "", types: Iterable[str] = ()
) -> dict[str, Any]:
    """A mapping, as it would stand in YAML; each column is used once. `rows` are examples, `types`
    those that are known.
    """
    free = {number: snake(name) for number, name in enumerate(header.names) if name}
    found = _by_name(header, rows, free)
    if "email" not in found and (address := _addresses(header, rows, free)):
        found["email"] = address
    mapping: dict[str, Any] = {"kind": _kind(header, found, rows, file)}
    if not found.keys() & {"email", "user_id", "external_id"} and free:
        first = next(iter(free))
        found = {"lead": header.names[first]} | found
        del free[first]
    if mapping["kind"] == "suppressions":
        return mapping | _suppression(header, found)
    if mapping["kind"] == "leads" and (type_ := found.pop("type", "")):
        free[header.names.index(type_)] = snake(type_)
    mapping |= found
    if mapping["kind"] == "events":
        names = _names(header, found["type"], rows, set(types))
        mapping["type"] = {"column": found["type"], "names": names}
    traits = {_trait(name): header.names[n] for n, name in free.items() if any(examples(rows, n))}
    return mapping | ({"traits": traits} if traits else {})


def _by_name(header: Header, rows: Sequence[Sequence[str]], free: dict[int, str]) -> dict[str, str]:
    """The column of each meaning that a name promises and the examples bear out; takes them out of
    the `free` ones.
    """
    found: dict[str, str] = {}
    for key, pattern in NAMED.items():
        fitting = [
            n
            for n, name in free.items()
            if pattern.fullmatch(name) and _fits(key, examples(rows, n))
        ]
        if fitting and header.find(header.names[fitting[0]]) == fitting[0]:
            found[key] = header.names[fitting[0]]
            del free[fitting[0]]
    return found


def _addresses(header: Header, rows: Sequence[Sequence[str]], free: dict[int, str]) -> str:
    """The first free column whose examples are mail addresses, taken out of the `free` ones; '' for
    none.
    """
    for n in free:
        values = examples(rows, n)
        if values and all(map(ADDRESS.fullmatch, values)) and header.find(header.names[n]) == n:
            del free[n]
            return header.names[n]
    return ""


def _suppression(header: Header, found: Mapping[str, str]) -> dict[str, str]:
    """Who is suppressed, and since when."""
    who = found.get("email") or found.get("lead")
    column = {"email": who} if who else {"lead": header.names[0]}
    return column | ({"time": found["time"]} if "time" in found else {})


def examples(rows: Sequence[Sequence[str]], column: int) -> list[str]:
    """A few different values of a column."""
    return list(dict.fromkeys(row[column].strip() for row in rows if row[column].strip()))[
        :EXAMPLES
    ]


def written(mapping: Mapping[str, Any]) -> str:
    """The mapping as YAML."""
    return yaml.safe_dump(dict(mapping), sort_keys=False, allow_unicode=True, width=120)


def _kind(
    header: Header, found: Mapping[str, str], rows: Sequence[Sequence[str]], file: str
) -> str:
    if SUPPRESSION.search(file):
        return "suppressions"
    if "type" in found and "time" in found:
        column = header.names.index(found["type"])
        return "events" if len({row[column] for row in rows}) <= MAX_TYPES else "leads"
    return "leads"


def _names(
    header: Header, column: str, rows: Sequence[Sequence[str]], types: set[str]
) -> dict[str, str]:
    """A type for each value of the type's column; people correct those that the model does not
    know.
    """
    number = header.names.index(column)
    values = sorted({row[number].strip() for row in rows} - {""})
    return {
        value: snake(value) for value in values if snake(value) in types or len(values) <= MAX_TYPES
    }


def _trait(name: str) -> str:
    return next((trait for trait, pattern in TRAITS.items() if pattern.fullmatch(name)), name)


def _fits(key: str, values: Sequence[str]) -> bool:
    """Whether the examples may be what the column's name promises."""
    if key == "email":
        return all("@" in value for value in values)
    if key == "time":
        return bool(values) and all(map(_is_time, values))
    return True


def _is_time(text: str) -> bool:
    try:
        parse(text, UTC)
    except Reject as reject:
        return reject.title == AMBIGUOUS
    return True
