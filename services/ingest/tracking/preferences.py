"""What a person chooses on the page of preferences: topics, pace, pause; read from the form.
Pure.
"""

from calendar import monthrange
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Literal

from services.ingest.sources.contract import Item
from services.ingest.sources.forms import Fields, text
from services.shared.contracts.consent import DOUBLE_OPT_IN, TRACKING
from services.shared.contracts.events import Consent
from services.shared.contracts.preferences import GAPS, PACE, PAUSED_UNTIL, TOPICS, USUAL
from services.shared.errors import Reject
from services.shared.playbook.sections import Playbook

MONTHS = {"1 month": 1, "3 months": 3}

Chosen = Mapping[str, Any]  # values of traits by name, of those alone that the form names


def topics_of(playbook: Playbook) -> list[str]:
    """The topics that mails may be about, in the library's order."""
    return list(dict.fromkeys(item.topic for item in playbook.live_content if not item.service))


def measuring(found: Fields) -> Consent | None:
    """The permission to measure clicks and opens that a form gives or takes by `tracking`, `on` or
    `off`; None where it says nothing of it. Raises Reject for another word.
    """
    word = text(found, "tracking")
    if not word:
        return None
    if word not in ("on", "off"):
        raise Reject("neither on nor off", where="tracking", remedy="press one of the two buttons")
    state: Literal["given", "withdrawn"] = "given" if word == "on" else "withdrawn"
    basis = DOUBLE_OPT_IN if word == "on" else "preferences page"
    return Consent(purpose=TRACKING, state=state, basis=basis, text=f"Measuring {word}")


def chosen(found: Fields, topics: Sequence[str], today: date) -> Chosen:
    """What a form chooses: `topics` (several, or `save` = all), `pace`, `pause` with `until`; None
    as a value takes an earlier choice back.

    Raises Reject where that is nothing, or unclear.
    """
    traits: dict[str, Any] = {}
    if text(found, "save") == "all":
        traits[TOPICS] = None
    elif "topics" in found or text(found, "save") == "topics":
        traits[TOPICS] = _topics(found.get("topics"), topics)
    if pace := text(found, "pace"):
        if pace != USUAL and pace not in GAPS:
            raise Reject(
                "we do not know this pace", where="pace", remedy="choose one of those shown"
            )
        traits[PACE] = None if pace == USUAL else pace
    if pause := text(found, "pause"):
        traits[PAUSED_UNTIL] = _until(pause, text(found, "until"), today)
    if not traits:
        raise Reject("nothing was chosen", remedy="choose first, then save")
    return traits


def interactions(touch_id: str, traits: Chosen) -> list[Item]:
    """The same as interactions: a `not_now` where somebody asks for a pause, else a
    `preference_set` (I4).
    """
    pause = {name: value for name, value in traits.items() if name == PAUSED_UNTIL and value}
    rest = {name: value for name, value in traits.items() if name not in pause}
    return [
        Item(
            type=type_,
            touch_id=touch_id,
            traits=part,
            properties={_property(name): value for name, value in part.items()},
        )
        for type_, part in (("not_now", pause), ("preference_set", rest))
        if part
    ]


def _topics(given: object, topics: Sequence[str]) -> list[str] | None:
    """The topics ticked; None where that is all of them, so that new ones are among them too."""
    ticked = [topic for topic in topics if topic in (given if isinstance(given, list) else [given])]
    if not ticked:
        raise Reject(
            "no topic is ticked",
            where="topics",
            remedy="tick at least one, or unsubscribe by the button below",
        )
    return None if len(ticked) == len(topics) else ticked


def _until(pause: str, day: str, today: date) -> str | None:
    """The day from which mails may come again, ISO; None ends a pause."""
    if pause == "none":
        return None
    if months := MONTHS.get(pause):
        return _months_later(today, months).isoformat()
    if pause != "until":
        raise Reject("we do not know this pause", where="pause", remedy="choose one of those shown")
    try:
        until = date.fromisoformat(day)
    except ValueError:
        raise Reject(
            "this is no date",
            where="until",
            remedy="write it as year-month-day, such as 2030-01-31",
        ) from None
    if until <= today:
        raise Reject("this day is not in the future", where="until", remedy="choose a later one")
    return until.isoformat()


def _months_later(day: date, months: int) -> date:
    """The same day some months later, or the last of that month."""
    years, month = divmod(day.month - 1 + months, 12)
    year = day.year + years
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def _property(trait: str) -> str:
    return trait.removeprefix("mail_")
