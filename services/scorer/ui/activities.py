"""What happened, one line each, in plain words: for the stream of all leads and one lead's
timeline.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec

from services.scorer.model.interpretation import Interpretation
from services.scorer.model.state import Event
from services.scorer.ui.contacts import message_of, phones_of
from services.scorer.ui.repository import StoredAnnouncement, StoredTouch
from services.scorer.wording import (
    act_in_words,
    stage_change_in_words,
    touch_in_words,
)
from services.shared.clock import from_us
from services.shared.playbook.sections import Content


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """One line. `tone` is a stage or a touch's status, '' for an event; `note` says why an event
    weighs nothing, `touch` is a touch's id. With a `message` come the addresses and numbers that
    were given with it.
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
    )
