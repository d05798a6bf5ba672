"""The lead's own pace: the rhythm of its answers, and what its silence says. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Literal

from services.nurture.rules.lead import Had, Lead
from services.shared.playbook.programs import Pace, Program, Silence

ANSWERS = 5  # the newest that make the rhythm
# who answers a day after a touch is offered the next one so many days after it
PER_DAY_OF_ANSWER = 3
SLOWER = 2
Tone = Literal["usual", "slower", "other", "pause"]


def rhythm(had: Sequence[Had]) -> timedelta | None:
    """How long the lead takes to answer: the median of its last answers; None before the first."""
    delays = [one.answered_at - one.sent_at for one in had if one.answered_at][-ANSWERS:]
    return timedelta(seconds=median(d.total_seconds() for d in delays)) if delays else None


def unanswered(lead: Lead) -> int:
    """How many touches went out since the lead last did or said anything."""
    last = lead.last_answer_at
    return sum(1 for one in lead.had if last is None or one.sent_at > last)


def tone(silence: Silence, count: int) -> Tone:
    """What so many unanswered touches call for."""
    if count >= silence.pause:
        return "pause"
    if count >= silence.other:
        return "other"
    return "slower" if count >= silence.slower else "usual"


def gap(pace: Pace, had: Sequence[Had]) -> timedelta:
    """Between two touches, by the lead's rhythm within the playbook's bounds."""
    taken = rhythm(had)
    days = pace.usual if taken is None else taken / timedelta(days=1) * PER_DAY_OF_ANSWER
    return timedelta(days=min(max(days, pace.least), pace.most))


def silence_over(program: Program, lead: Lead) -> datetime | None:
    """Until when unanswered touches keep the next one back; None where they do not."""
    silent = tone(program.silence, unanswered(lead))
    if silent == "usual":
        return None
    if silent == "pause":
        return lead.had[-1].sent_at + timedelta(days=program.silence.days)
    return lead.had[-1].sent_at + SLOWER * gap(program.pace, lead.had)


def next_place_at(program: Program, lead: Lead) -> datetime | None:
    """From when on the next touch of a program may come by the lead's pace; None: at once."""
    own = [one for one in lead.had if one.program == program.id]
    return own[-1].sent_at + gap(program.pace, lead.had) if own else None
