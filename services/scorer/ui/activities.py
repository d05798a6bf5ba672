"""What happened, one line each, in plain words: for the stream of all leads and one lead's
timeline.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from services.scorer.model.interpretation import Interpretation
from services.scorer.model.state import Event
from services.scorer.ui.contacts import message_of, phones_of
from services.scorer.ui.repository import StoredAnnouncement, StoredTouch
from services.scorer.wording import (
    act_in_words,
    short,
    stage_change_in_words,
    touch_in_words,
)
from services.shared.clock import from_us, rfc3339
from services.shared.playbook.sections import Content

MOST = 100  # properties of an event that are shown


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """One line. `tone` is a stage or a touch's status, '' for an event; `note` says why an event
    weighs nothing, `touch` is a touch's id. With a `message` come the addresses and numbers that
    were given with it; `properties` are all that an event says, by name.
    """

    key: str
    at: datetime
    kind: Literal["event", "announcement", "touch"]
    text: str
    tone: str = ""
    note: str = ""
    touch: str = ""
    lead: uuid.UUID | None = None
    lead_name: str = ""
    message: str = ""
    emails: list[str] = []
    phones: list[str] = []
    properties: list[tuple[str, str]] = []


def of_announcement(announcement: StoredAnnouncement, lead_name: str = "") -> Activity:
    """A change of stage."""
    return Activity(
        key=str(announcement.id),
        at=announcement.at,
        kind="announcement",
        text=stage_change_in_words(announcement.from_stage, announcement.stage, announcement.cause),
        tone=announcement.stage,
        lead=announcement.lead,
        lead_name=lead_name,
    )


def of_touch(
    stored: StoredTouch,
    library: Mapping[str, Content],
    lead_name: str = "",
    *,
    reasoned: bool = True,
) -> Activity:
    """A decision, or what became of it; without its reason where that stands elsewhere."""
    touch = stored.touch
    return Activity(
        key=f"{touch.id}-{touch.status}",
        at=stored.at,
        kind="touch",
        text=touch_in_words(touch, library, reasoned=reasoned),
        tone=touch.status,
        touch=touch.id,
        lead=stored.lead,
        lead_name=lead_name,
    )


def of_event(event: Event, reading: Interpretation, library: Mapping[str, Content]) -> Activity:
    """An act of the lead."""
    act = act_in_words(event.data, reading, library)
    states = dict.fromkeys(consent.state for consent in event.data.consent)
    text = f"{act.text}: permission {' and '.join(states)}" if states else act.text
    message = message_of(event.data)
    return Activity(
        key=event.uid,
        at=from_us(event.at),
        kind="event",
        text=text,
        note=act.weightless,
        message=message,
        emails=[event.data.email] if message and event.data.email else [],
        phones=phones_of(event.data.traits) if message else [],
        properties=properties_of(event, reading),
    )


def properties_of(event: Event, reading: Interpretation) -> list[tuple[str, str]]:
    """What an event says, by name, and as what it is read; values of one line each."""
    data = event.data
    external = f"{data.external_id.system} {data.external_id.id}" if data.external_id else ""
    named: list[tuple[str, Any]] = [
        ("type", data.type), ("read as", reading.signal or reading.touch_part), ("id", data.id),
        ("happened at", rfc3339(from_us(event.at))),
        ("received at", rfc3339(from_us(event.received)) if event.received else ""),
        ("content", reading.content or data.content_id), ("url", data.url),
        ("touch", data.touch_id), ("product", data.product), ("source", data.source),
        ("campaign", data.campaign), ("cost", data.cost), ("e-mail", data.email),
        ("user id", data.user_id), ("visitor id", data.anonymous_id), ("external id", external),
        ("company", data.company), ("machine", "yes" if data.machine else ""),
    ]  # fmt: skip
    named += [
        (f"consent, {consent.channel} {consent.purpose}", consent.state) for consent in data.consent
    ]
    named += [(f"trait {name}", _text(value)) for name, value in data.traits.items()]
    named += [(name, _text(value)) for name, value in data.properties.items()]
    return [(short(name), short(value)) for name, value in named if value not in ("", None)][:MOST]


def _text(value: Any) -> str:
    """A value as its sender wrote it, structures as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
