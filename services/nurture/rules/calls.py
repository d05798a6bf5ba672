"""A call that a person is asked to make: who, until when, why, and how it may begin. Pure."""

from datetime import datetime, timedelta
from typing import NamedTuple

from services.shared.contracts.events import Snapshot, Touch
from services.shared.playbook.sections import Calls, Playbook

MOST_REASONS = 3
LONGEST = 200  # characters of an assignee or a phone number


class Call(NamedTuple):
    """`due_at` is when it should be made, `expires_at` from when on it is of no use."""

    touch: str
    recipient: str
    phone: str
    assignee: str
    reasons: list[str]
    opening: str
    created_at: datetime
    due_at: datetime
    expires_at: datetime


def call_of(
    playbook: Playbook, touch: Touch, snapshot: Snapshot, text: str, link: str, now: datetime
) -> Call:
    """The call that stands for a touch; `text` is what a mail would say, with `link`."""
    calls = playbook.calls
    return Call(
        touch=touch.id,
        recipient=snapshot.email,
        phone=_trait(snapshot, "phone"),
        assignee=_assignee(calls, snapshot),
        reasons=_reasons(touch, snapshot, now),
        opening=_opening(text, link),
        created_at=now,
        due_at=now + timedelta(hours=calls.due_hours),
        expires_at=now + timedelta(days=calls.expires_days),
    )


def _assignee(calls: Calls, snapshot: Snapshot) -> str:
    return _trait(snapshot, calls.owner_trait) or calls.assignee


def _trait(snapshot: Snapshot, name: str) -> str:
    value = snapshot.traits.get(name)
    return " ".join(str(value).split())[:LONGEST] if isinstance(value, str | int) else ""


def _reasons(touch: Touch, snapshot: Snapshot, now: datetime) -> list[str]:
    """The three that say most, the strongest first."""
    stage = touch.stage or snapshot.stage
    found = [f"in {stage}, believed with {snapshot.belief.get(stage, 1.0):.0%}"]
    if snapshot.likelihood is not None:
        found.append(f"buys with a likelihood of {snapshot.likelihood:.0%}")
    if snapshot.last_act_at:
        days = max(0, (now - snapshot.last_act_at).days)
        found.append(f"acted last {f'{days} days ago' if days else 'today'}")
    found.append(f"fits with {snapshot.fit:.0f} of 100 points")
    found.append(touch.why or f"the next step of {touch.program}")
    return found[:MOST_REASONS]


def _opening(text: str, link: str) -> str:
    """The first paragraph after the greeting, without the link."""
    paragraphs = [part.strip() for part in text.partition("\n\n--\n")[0].split("\n\n")]
    spoken = [part for part in paragraphs if part and link not in part]
    return (spoken[1:] or spoken or [""])[0]
