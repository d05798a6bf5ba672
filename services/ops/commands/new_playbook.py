"""A new playbook from eight answers: one of the examples, in the name of the company that asks."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import msgspec

from services.shared import urls
from services.shared.errors import Reject
from services.shared.playbook.schema import schema_name, schemas
from services.shared.settings import ROOT

SHIPPED, EXAMPLES = ROOT / "deploy" / "playbook", ROOT / "deploy" / "examples"
AS_SHIPPED = ("senders.yaml", "machines.yaml")
WEEK_HOURS = 168
MOST_PER_WEEK = 7
LONGEST = 200  # characters of an answer
MOST_TITLES = 20
SPECIAL = re.compile(r"[{}\x00-\x1f\x7f\u2028\u2029]")
FIELD = re.compile(r"( *(?:- )?\w+: )(.*)")


class Kind(NamedTuple):
    """A way to sell: the example that it begins with, and the invented company in that."""

    folder: str
    name: str
    domain: str
    persona: str


KINDS = {
    "trial": Kind("software-trial", "Rivertask", "rivertask.example", "owner"),
    "seminars": Kind(
        "consultancy-seminars", "Kestrel & Moor", "kestrel-moor.example", "finance"
    ),
    "year": Kind("machine-builder", "Ohlsen", "ohlsen-machines.example", "management"),
}  # fmt: skip


class Answers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answers, in the order of the questions."""

    company: str = "My Company"
    website: str = "https://www.my-company.example"
    address: str = "Street and number, postcode and town, country"
    timezone: str = "Europe/London"
    language: str = "en"
    sells: str = "trial"
    deciders: str = ""
    per_week: int = 2


QUESTIONS: Mapping[str, str] = {
    "company": "What is your company called?",
    "website": "Where is its website?",
    "address": "Which postal address stands in the foot of each mail?",
    "timezone": "In which time zone do you work, e.g. Europe/Berlin?",
    "language": "In which language do you write, in two letters?",
    "sells": "How do people come to buy: by a trial, by seminars, or in a year's cycle "
    "(trial, seminars, year)?",
    "deciders": "Which job titles decide about the money, with commas between? Empty for the "
    "usual ones",
    "per_week": "How many mails a week may one person get at most (1 to 7)?",
}


def read(given: Mapping[str, Any]) -> Answers:
    """The answers, checked; those that are not given have their defaults. Raises Reject."""
    unknown = sorted(set(given) - {*Answers.__struct_fields__})
    if unknown:
        raise Reject(
            f"no such answer: {unknown[0]}",
            where="answers",
            remedy=f"give some of {', '.join(Answers.__struct_fields__)}",
        )
    checked = {name: CHECKS[name](value, name) for name, value in given.items()}
    return msgspec.convert(checked, Answers)


def _line(value: Any, name: str) -> str:
    text = " ".join(str(value).split())
    if not text or len(text) > LONGEST or SPECIAL.search(str(value)):
        remedy = f"write one line of up to {LONGEST} characters, without braces"
        raise Reject("it is empty, too long or no line", where=name, remedy=remedy)
    return text


def _website(value: Any, name: str) -> str:
    try:
        url = urls.normal_http(_line(value, name))
    except ValueError as error:
        raise Reject(str(error), where=name, remedy="write https://www.example.com") from None
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _timezone(value: Any, name: str) -> str:
    try:
        return ZoneInfo(str(value).strip()).key
    except (ValueError, OSError, KeyError):
        remedy = "write a name such as Europe/Berlin"
        raise Reject(f"no time zone {str(value)[:60]!r}", where=name, remedy=remedy) from None


def _language(value: Any, name: str) -> str:
    text = str(value).strip().lower()
    if not re.fullmatch("[a-z]{2}", text):
        raise Reject(f"no language {text[:20]!r}", where=name, remedy="write two letters, e.g. de")
    return text


def _sells(value: Any, name: str) -> str:
    text = str(value).strip().lower()
    if text not in KINDS:
        raise Reject(f"{text[:20]!r} is none", where=name, remedy=f"choose {', '.join(KINDS)}")
    return text


def _deciders(value: Any, name: str) -> str:
    if not str(value).strip():
        return ""
    titles = [title.strip() for title in _line(value, name).split(",") if title.strip()]
    if not titles or len(titles) > MOST_TITLES or not all(re.search(r"\w", t) for t in titles):
        remedy = f"write up to {MOST_TITLES} titles with commas between"
        raise Reject("no titles", where=name, remedy=remedy)
    return ", ".join(titles)


def _per_week(value: Any, name: str) -> int:
    text = str(value).strip()
    if not re.fullmatch("[1-7]", text):
        raise Reject(
            f"{text[:20]!r} is no number from 1 to {MOST_PER_WEEK}",
            where=name,
            remedy=f"write a number from 1 to {MOST_PER_WEEK}",
        )
    return int(text)


CHECKS: Mapping[str, Callable[[Any, str], Any]] = {
    "company": _line, "address": _line, "website": _website, "timezone": _timezone,
    "language": _language, "sells": _sells,
    "deciders": _deciders, "per_week": _per_week,
}  # fmt: skip


def files(answers: Answers) -> dict[str, str]:
    """The text of each file of the new playbook by its name."""
    kind = KINDS[answers.sells]
    made = {
        path.name: _adapted(path.read_text("utf-8"), kind, answers)
        for path in sorted((EXAMPLES / kind.folder).glob("*.yaml"))
    }
    made["playbook.yaml"] = _first_file(made["playbook.yaml"], kind, answers)
    if answers.language != "en":
        made["content.yaml"] = re.sub(
            r"(?m)^(    topic: .*)$", rf"\1\n    language: {answers.language}", made["content.yaml"]
        )
    made |= {name: (SHIPPED / name).read_text("utf-8") for name in AS_SHIPPED}
    return made | {f"schema/{schema_name(file)}": text for file, text in schemas().items()}


def create(folder: Path, answers: Answers) -> list[str]:
    """Writes the playbook into a folder that is new or empty; returns its files. Raises Reject."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        remedy = "name a folder that does not exist, or an empty one"
        raise Reject(f"{folder} is not empty", where="DIR", remedy=remedy)
    made = files(answers)
    for name, text in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(made)


def _adapted(text: str, kind: Kind, answers: Answers) -> str:
    """An example's file in the name of another company."""
    domain = urlsplit(answers.website).hostname or ""
    text = text.replace("$schema=../../playbook/schema/", "$schema=schema/")
    text = re.sub(rf"https://\w+\.{re.escape(kind.domain)}", lambda _: answers.website, text)
    text = text.replace(f"[{kind.domain}]", f"[{_quoted(domain.removeprefix('www.'))}]")
    lines = (_renamed(line, kind.name, answers.company) for line in text.split("\n"))
    return "\n".join(lines)


def _renamed(line: str, old: str, new: str) -> str:
    """A line with the company's name; a value in quotes, as the name may hold any sign."""
    if old not in line:
        return line
    field = FIELD.fullmatch(line)
    if line.lstrip().startswith("#") or not field or field[2].startswith(("|", ">")):
        return line.replace(old, new)
    return field[1] + _quoted(field[2].strip('"').replace(old, new))


def _first_file(text: str, kind: Kind, answers: Answers) -> str:
    """`playbook.yaml` with the answers in their places."""
    company: Iterable[tuple[str, str]] = (
        ("name", answers.company),
        ("postal_address", answers.address),
        ("website", f"{answers.website}/"),
        ("timezone", answers.timezone),
        ("language", answers.language),
    )
    for field, value in company:
        text = _set(text, field, _quoted(value), "  ")
    gap = re.search(r"(?m)^  min_hours_between: (\d+)", text)
    hours = min(int(gap[1]) if gap else WEEK_HOURS, WEEK_HOURS // (answers.per_week + 1))
    text = _set(text, "per_week", str(answers.per_week), "  ")
    text = _set(text, "min_hours_between", str(hours), "  ")
    if answers.deciders:
        titles = "|".join(map(_pattern_of, answers.deciders.split(", ")))
        text = _set(text, "matches", _quoted(rf"(^|\PL)({titles})(\PL|$)"), "    ")
        text = re.sub(r"(?m)^    ignoring: .*\n", "", text)
    head, _, rest = text.partition("\n")
    return f"{head}\n{_INTRODUCTION.format(example=kind.folder)}\n{rest}"


def _set(text: str, field: str, value: str, indent: str) -> str:
    """The text with another value of the first such field."""
    return re.sub(
        rf"(?m)^{indent}{field}: .*$", lambda _: f"{indent}{field}: {value}", text, count=1
    )


def _pattern_of(title: str) -> str:
    return r"\s+".join(re.escape(word) for word in title.split())


def _quoted(value: str) -> str:
    """A scalar of YAML that is read as it was written."""
    return json.dumps(value, ensure_ascii=False)


_INTRODUCTION = """# Made by `ripeline playbook new` from deploy/examples/{example}. What to do next, in this order:
#   1. content.yaml: make each text your own, give each item its real `url` and `forms`, and take its `sample: true` out.
#      `ripeline content import SITEMAP` proposes items from what your site has already.
#   2. identity.yaml: your own domains and your competitors. score.yaml: your pages and forms, and who is a good customer.
#   3. programs.yaml: the items in the order in which you would tell the story.
#   4. `ripeline playbook check THIS-FOLDER` after each edit, then `ripeline up --playbook THIS-FOLDER`.
#"""  # noqa: E501
