"""What the library covers: items by stage, persona and topic, gaps, and what is too much. Pure."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import NamedTuple

from services.shared.playbook.sections import Content, Playbook

ENOUGH = 3  # items for a reader in a stage: fewer leave nothing to choose
OVERLOADED = 4  # more items on one topic than this for one reader in one stage
AHEAD = timedelta(days=14)


class Cell(NamedTuple):
    """The ids of the items on a topic for a persona in a stage."""

    stage: str
    persona: str
    topic: str
    items: list[str]


class Gap(NamedTuple):
    """A reader in a stage for whom there is less than enough in a language."""

    stage: str
    persona: str
    language: str
    items: int
    needed: int
    why: str


class Overload(NamedTuple):
    """More on one topic than a reader in a stage can want."""

    stage: str
    persona: str
    topic: str
    items: list[str]
    why: str


class Ending(NamedTuple):
    """An item whose last day is past or near."""

    item: str
    valid_until: date
    ended: bool


class Coverage(NamedTuple):
    """The matrix of a library on a day; `unused` are ids of items in no live program."""

    stages: list[str]
    personas: list[str]
    topics: list[str]
    languages: list[str]
    cells: list[Cell]
    gaps: list[Gap]
    overload: list[Overload]
    ending: list[Ending]
    unused: list[str]


def coverage(playbook: Playbook, today: date) -> Coverage:
    """What can be offered on that day: no drafts, no answers to requests, nothing that ended."""
    items = [
        item
        for item in playbook.live_content
        if not item.service and (item.valid_until is None or item.valid_until >= today)
    ]
    personas = [persona.id for persona in playbook.personas]
    topics = list(dict.fromkeys(item.topic for item in items))
    languages = list(dict.fromkeys(
        [playbook.company.language.lower()[:2], *(item.language.lower()[:2] for item in items)]
    ))  # fmt: skip
    cells = [
        Cell(stage, persona, topic, [i.id for i in _for(items, stage, persona) if i.topic == topic])
        for stage in playbook.stages
        for persona in personas
        for topic in topics
    ]
    return Coverage(
        playbook.stages, personas, topics, languages, cells,
        gaps=list(_gaps(playbook, items, languages)),
        overload=[
            Overload(*cell, f"{len(cell.items)} items on {cell.topic}: most are never reached")
            for cell in cells
            if len(cell.items) > OVERLOADED
        ],
        ending=[
            Ending(item.id, item.valid_until, item.valid_until < today)
            for item in playbook.live_content
            if item.valid_until and item.valid_until < today + AHEAD
        ],
        unused=_unused(playbook, items),
    )  # fmt: skip


def _for(items: Iterable[Content], stage: str, persona: str) -> list[Content]:
    return [
        item
        for item in items
        if stage in item.stages and (not item.personas or persona in item.personas)
    ]


def _gaps(playbook: Playbook, items: list[Content], languages: list[str]) -> Iterable[Gap]:
    for language in languages:
        spoken = [item for item in items if item.language.lower()[:2] == language]
        for stage in playbook.stages:
            for persona in playbook.personas:
                count = len(_for(spoken, stage, persona.id))
                if count < ENOUGH:
                    why = f"{count or 'no'} {'item' if count == 1 else 'items'} in {language}"
                    yield Gap(stage, persona.id, language, count, ENOUGH, f"{why}, {ENOUGH} needed")


def _unused(playbook: Playbook, items: list[Content]) -> list[str]:
    used = {
        name
        for program in playbook.programs
        if program.state == "live"
        for name in (*program.items, *program.answers.values())
    }
    return [item.id for item in items if item.id not in used]
