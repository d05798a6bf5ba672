"""JSON Schema of the playbook's files, by which editors complete and check what is written."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from services.shared.playbook.loading import MODEL, SECTIONS
from services.shared.playbook.sections import Playbook
from services.shared.playbook.types import REQUIRED

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REFERENCE = re.compile(r'"#/\$defs/(\w+)"')
# what an editor says of fields whose names do not say it all
DESCRIPTIONS: Mapping[str, str] = {
    "Company.postal_address": "Stands in the foot of every mail, as most countries' law asks",
    "Company.timezone": "Of leads whose own is unknown, e.g. Europe/Berlin",
    "Company.language": "Of leads whose own is unknown, in two letters",
    "Content.id": "Short and for good: programs, reports and prerequisites call the item by it",
    "Content.title": "What people see",
    "Content.stages": "The buying stages it is written for",
    "Content.personas": "For whom; [] is for everybody",
    "Content.products": "For which products; [] is for all",
    "Content.format": "blog, article, video, checklist, e-book, webinar, case-study, …",
    "Content.topic": "What it is about, in one word that readers understand",
    "Content.angle": "Why, what or how it is told: by facts or by feelings",
    "Content.url": "Its page, to which {{ link }} leads",
    "Content.urls": "More addresses that are this item; * stands for anything",
    "Content.forms": "Ids of the forms behind which it is to be had",
    "Content.prerequisites": "Items that must be done first",
    "Content.call_to_action": "What completes it; who did so is never offered it again",
    "Content.subject": "Of the mail that offers it, up to sixty characters",
    "Content.body": "Paragraphs, and {{ link }} once, on a line of its own",
    "Content.language": "In two letters; a lead with another one does not get it",
    "Content.countries": "Only for leads of these; [] is for all",
    "Content.valid_until": "The last day on which it is offered",
    "Content.objective": "What it should change in the reader's mind",
    "Content.sample": "Only an example: it never leaves the local test mailbox",
    "Content.service": "The answer to something asked for; never promotion",
    "Content.state": "A draft is offered to nobody",
    "Program.id": "Short and for good: reports count by it",
    "Program.goal": "What it should bring about",
    "Program.state": "Only a live one decides and sends",
    "Program.stages": "In which stages of the lead's buying process",
    "Program.personas": "For whom; [] is for everybody",
    "Program.items": "Ids of content, in the order in which you would tell the story",
    "Persona.matches": "An expression of RE2, found anywhere in the trait, whatever the case",
    "Persona.ignoring": "What it finds is passed over",
    "Cadence.per_week": "At most so many mails to a lead in seven days, over all programs",
    "Cadence.quiet_from": "From this full hour of the lead's own time on nothing is sent",
    "Cadence.working_days": "0 is Monday, 6 is Sunday",
    "Holdout.share": "Of the companies that are never nurtured, for comparison",
}


def schemas() -> dict[str, str]:
    """The schema of each file of YAML, as JSON, by the file's name."""
    whole = Playbook.model_json_schema()
    for name, description in DESCRIPTIONS.items():
        model, _, field = name.partition(".")
        whole["$defs"][model]["properties"][field].setdefault("description", description)
    files = [file for file in dict.fromkeys(SECTIONS.values()) if file != MODEL]
    return {
        file: json.dumps(_of_file(file, whole), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        for file in files
    }


def schema_name(file: str) -> str:
    """The name of a file's schema, below `schema/` beside it."""
    return f"{file.removesuffix('.yaml')}.json"


def _of_file(file: str, whole: dict[str, Any]) -> dict[str, Any]:
    sections = [section for section, place in SECTIONS.items() if place == file]
    schema: dict[str, Any] = {
        "$schema": DIALECT,
        "title": f"Ripeline playbook: {file}",
        "type": "object",
        "additionalProperties": False,
        "properties": {section: whole["properties"][section] for section in sections},
    }
    if required := [section for section in sections if section in REQUIRED]:
        schema["required"] = required
    named = _named_by(schema, whole["$defs"])
    return schema | {"$defs": {name: whole["$defs"][name] for name in sorted(named)}}


def _named_by(schema: Any, definitions: Mapping[str, Any]) -> set[str]:
    """The definitions that a schema needs, also by way of others."""
    found: set[str] = set()
    open_: list[Any] = [schema]
    while open_:
        names: Iterable[str] = REFERENCE.findall(json.dumps(open_.pop()))
        new = {*names} - found
        found |= new
        open_ += [definitions[name] for name in new]
    return found
