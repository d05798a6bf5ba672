"""What `playbook check` finds beyond problems: how every mail reads, and what is worth a look."""

import re
import uuid
from collections.abc import Iterable
from datetime import date
from typing import NamedTuple

from services.nurture.channels.message import render
from services.shared.contracts.events import Snapshot, Touch
from services.shared.playbook.patterns import Pattern
from services.shared.playbook.programs import Program
from services.shared.playbook.sections import Content, Persona, Playbook

READER = {"first_name": "Ada", "name": "Ada Example"}
WORDS = re.compile(r"\w+(?: \w+)*")


class RenderedMail(NamedTuple):
    """A mail as a sample lead of a persona would get it."""

    content: str
    persona: str
    subject: str
    text: str


def rendered(playbook: Playbook) -> list[RenderedMail]:
    """Every item for a sample lead of each persona that it is for."""
    return [
        _mail(playbook, item, persona)
        for item in playbook.content
        for persona in playbook.personas
        if not item.personas or persona.id in item.personas
    ]


def _mail(playbook: Playbook, item: Content, persona: Persona) -> RenderedMail:
    touch = Touch(id=str(uuid.UUID(int=0)), lead="", content=item.id, status="due")
    traits = READER | ({persona.trait: sample_trait(persona)} if persona.trait else {})
    snapshot = Snapshot(stage=item.stages[0], email="ada@example.com", traits=traits)
    website = playbook.company.website
    message = render(playbook, touch, snapshot, public_url=website, pepper=b"sample")
    return RenderedMail(item.id, persona.id, message.subject, message.text)


def sample_trait(persona: Persona) -> str:
    """A value that makes somebody this persona, where one is found among the expression's words;
    else ''.
    """
    pattern = Pattern(persona.matches, persona.ignoring)
    plain = re.sub(r"\\[a-zA-Z]", " ", persona.matches)
    return next((word for word in WORDS.findall(plain) if pattern.is_in(word)), "")


def notes(playbook: Playbook, today: date) -> list[str]:
    """What is no mistake, and may be none of the author's wishes."""
    return [*_expired(playbook, today), *_offered_to_nobody(playbook), *_overlaps(playbook)]


def _expired(playbook: Playbook, today: date) -> Iterable[str]:
    for item in playbook.content:
        if item.valid_until and item.valid_until < today:
            yield f"{item.id} is offered no more: valid until {item.valid_until}"


def _live(playbook: Playbook) -> list[Program]:
    return [each for each in playbook.programs if (each.state, each.trigger) == ("live", "stage")]


def _offered_to_nobody(playbook: Playbook) -> Iterable[str]:
    for program in _live(playbook):
        for item in (playbook.content_by_id[name] for name in program.items):
            personas = set(program.personas), set(item.personas)
            if not set(item.stages) & set(program.stages):
                why = f"is for {', '.join(item.stages)}"
            elif all(personas) and not personas[0] & personas[1]:
                why = f"is for {', '.join(item.personas)}"
            elif item.products and program.product not in item.products:
                why = f"is for {', '.join(item.products)}"
            elif item.service:
                why = "is an answer to a request"
            else:
                continue
            yield f"{program.id} offers {item.id} to nobody: it {why}"


def _overlaps(playbook: Playbook) -> Iterable[str]:
    programs = _live(playbook)
    for place, one in enumerate(programs):
        for other in programs[place + 1 :]:
            stages = [stage for stage in one.stages if stage in other.stages]
            everybody = not one.personas or not other.personas
            same_reader = everybody or set(one.personas) & set(other.personas)
            if stages and same_reader and one.product == other.product:
                yield (
                    f"{one.id} and {other.id} both cover {', '.join(stages)}: "
                    "one stage change brings two mails"
                )
