"""Plain words for people: who a lead is, what it did, what was decided about it and why."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from services.scorer.model.explanation import FitChange, Line
from services.scorer.model.interpretation import Interpretation
from services.scorer.model.search_words import visitor_code
from services.shared.clock import DAY
from services.shared.contracts.event_types import EventType
from services.shared.contracts.events import Cause, Interaction, Touch
from services.shared.contracts.identity import OURS, Identifier, Kind
from services.shared.contracts.touch_reasons import REASON_SENTENCES, STATUS_SENTENCES
from services.shared.playbook.sections import UNKNOWN, Content


class Threshold(NamedTuple):
    """A word for numbers of at least so much."""

    name: str
    least: float


# of the likelihood, shown until it is calibrated
BANDS = Threshold("high", 0.25), Threshold("some", 0.1), Threshold("low", 0.0)
# of the confidence
SURENESS = Threshold("sure", 0.8), Threshold("fairly sure", 0.6), Threshold("not sure", 0.0)
LONGEST = 120
RELATIVE_FOR = timedelta(days=30)

# of the model file, and what the windows of touches and outcomes add
SIGNALS: Mapping[str, str] = {
    "visit": "visited the site",
    "content_awareness": "took in content for people who see the problem",
    "content_consideration": "took in content for people who compare ways",
    "content_decision": "took in content for deciding",
    "webinar": "attended a webinar or event",
    "pricing": "looked at prices",
    "enquiry": "enquired",
    "demo": "asked for a demo",
    "reply": "replied",
    "conversation": "talked with us",
    "unsubscribe": "unsubscribed or complained",
    "open": "opened our mail",
    "no_open": "did not open our mail in time",
    "click": "clicked in our mail",
    "no_click": "did not click in our mail in time",
    "outcome": "became an opportunity",
    "purchase": "bought",
    "restart": "the opportunity ended, the process starts again",
    "rejection": "was sent back by sales, the process starts again",
    "refund": "got its money back, the process starts again",
}
# what pages, forms and answers to mails make of an act, whatever its type
SAID_BY_SIGNAL = frozenset({"pricing", "demo", "enquiry", "open", "click"})
SCANNED = "our mail was clicked, but a machine clicked in it within seconds"
TYPES: Mapping[str, str] = {type_.value: type_.phrase for type_ in EventType}
CAUSES: Mapping[Cause, str] = {
    "": "",
    "event": "after an act of its own",
    "silence": "after silence",
    "late_evidence": "when older news arrived",
    "merge": "when two histories were joined",
    "model": "under a new model or playbook",
}


def band(likelihood: float | None) -> str:
    """low, some or high; '' where there is nothing left to predict."""
    return "" if likelihood is None else _word_for(likelihood, BANDS)


def chance(likelihood: float | None, *, calibrated: bool) -> str:
    """What people read of a likelihood: a band until it is calibrated on the company's own
    outcomes.
    """
    if likelihood is None:
        return "settled"
    return f"{100 * likelihood:.0f} %" if calibrated else band(likelihood)


def sureness(confidence: float) -> str:
    """How sure the belief is of its best stage."""
    return _word_for(confidence, SURENESS)


def _word_for(number: float, thresholds: Iterable[Threshold]) -> str:
    return next(threshold.name for threshold in thresholds if number >= threshold.least)


def plain(name: str) -> str:
    """A name of the playbook as people write it: `status_quo` is Status quo."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def count_of(number: int, thing: str, things: str = "") -> str:
    """`1 event`, `1234 events`; `things` where the plural is another one."""
    return f"{number} {thing if number == 1 else things or f'{thing}s'}"


def ago(moment: datetime, now: datetime) -> str:
    """How long before or after `now` a moment is: `2 h ago`, `in 3 days`; '' from a month on, where
    the date says more.
    """
    ahead, span = moment > now, abs(now - moment)
    if span >= RELATIVE_FOR:
        return ""
    if span < timedelta(minutes=1):
        return "in a moment" if ahead else "just now"
    hours, days = span // timedelta(hours=1), span.days
    words = (
        count_of(days, "day") if days else f"{hours} h" if hours else f"{span.seconds // 60} min"
    )
    return f"in {words}" if ahead else f"{words} ago"


def day_in_words(day: date, today: date) -> str:
    """`Friday, 12 June`, with its year where that is another one."""
    return f"{day:%A}, {day.day} {day:%B}{f' {day.year}' if day.year != today.year else ''}"


def on_day(day: date, today: date) -> str:
    """`today`, `tomorrow`, `on Friday, 12 June`."""
    near = {0: "today", 1: "tomorrow"}
    return near.get((day - today).days, f"on {day_in_words(day, today)}")


def signed(points: float) -> str:
    """+1.2, −0.4 or 0.0, with a true minus."""
    text = f"{points:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\N{MINUS SIGN}")


class LeadName(NamedTuple):
    """What people call a lead, and what tells it apart from others of that name, or ''."""

    name: str
    detail: str


def name_of(traits: Mapping[str, Any], identifiers: Iterable[Identifier]) -> LeadName:
    """The best name there is, down to a visitor's short id; of a kind the first identifier."""
    known: dict[Kind, str] = {}
    for identifier in identifiers:
        if not identifier.system.startswith(OURS):
            known.setdefault(identifier.kind, f"{identifier.system} {identifier.value}".strip())
    parts = [short(traits.get(part)) for part in ("first_name", "last_name")]
    person = short(traits.get("name")) or " ".join(part for part in parts if part)
    mail = known.get(Kind.EMAIL) or known.get(Kind.ROLE) or ""
    name = person or mail or known.get(Kind.USER, "") or _nameless(known)
    company = short(traits.get("company"))
    return LeadName(name, " · ".join(part for part in (mail, company) if part and part != name))


def _nameless(known: Mapping[Kind, str]) -> str:
    if external := known.get(Kind.EXTERNAL):
        return external
    return visitor_name(known[Kind.ANONYMOUS]) if Kind.ANONYMOUS in known else "Nameless lead"


def visitor_name(anonymous_id: str) -> str:
    """A visitor's short name: `Visitor 3f9a2c`."""
    return f"Visitor {visitor_code(anonymous_id)}"


def short(value: Any) -> str:
    """A trait's value as one line of at most LONGEST characters."""
    text = " ".join(str(value).split()) if value is not None else ""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def title_of(content: str, library: Mapping[str, Content]) -> str:
    """A content's title, or its id where the playbook no longer has it."""
    item = library.get(content)
    return item.title if item else content


class Act(NamedTuple):
    """What a lead did, and why it weighs nothing, or ''."""

    text: str
    weightless: str


def act_in_words(data: Interaction, reading: Interpretation, library: Mapping[str, Content]) -> Act:
    """An event, as the model reads it."""
    text = _phrase(data, reading)
    if reading.content:
        text += f": “{title_of(reading.content, library)}”"
    elif data.url:
        text += f": {short(data.url.partition('?')[0])}"
    if data.machine:
        return Act(text, "a machine did it, so it weighs nothing")
    return Act(text, "" if reading.weighs else "weighs nothing")


def _phrase(data: Interaction, reading: Interpretation) -> str:
    """By the part in a touch, or by the signal where a page or form makes more of an act; else by
    the type.
    """
    if reading.signal in SAID_BY_SIGNAL:
        return SIGNALS[reading.signal]
    if reading.touch_part in SIGNALS:
        return SIGNALS[reading.touch_part]
    type_ = reading.type if reading.type in TYPES else data.type
    return TYPES.get(type_) or SIGNALS.get(reading.signal) or _spaced(type_)


def stage_change_in_words(before: str, stage: str, cause: Cause) -> str:
    """An announcement: from where to where, and why."""
    change = f"seen in {plain(stage)}" if before == UNKNOWN else f"{plain(before)} → {plain(stage)}"
    return f"{change}, {CAUSES[cause]}"


def touch_in_words(touch: Touch, library: Mapping[str, Content], *, reasoned: bool = True) -> str:
    """A touch's content, status and, where `reasoned`, its reason."""
    what = f"“{title_of(touch.content, library)}”" if touch.content else "No touch"
    reason = reason_in_words(touch.reason)
    if not reasoned:
        return f"{what} {STATUS_SENTENCES[touch.status]}" if touch.content else what
    if touch.status == "withheld":
        return f"{what}{' not sent' if touch.content else ''}: {reason or 'withheld'}"
    return f"{what} {STATUS_SENTENCES[touch.status]}{f': {reason}' if reason else ''}"


def why_in_words(touch: Touch) -> str:
    """The one sentence that says most of why a touch is as it is; '' where nothing is to be said.

    What is withheld or failed says it in its own words, of which the reason is the class.
    """
    if touch.why and touch.status in ("withheld", "failed", "unknown"):
        return touch.why
    return reason_in_words(touch.reason)


def reason_in_words(reason: str) -> str:
    """Why a touch was decided so, or why it failed."""
    return REASON_SENTENCES.get(reason, _spaced(reason))


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def line_in_words(line: Line, library: Mapping[str, Content]) -> str:
    """A ledger line as people read it: a content by its title, else the address."""
    match line.kind:
        case "silence":
            return f"{_days(line.silence)} without a sign"
        case "machine":
            return SCANNED
        case "attributes":
            return _fit_text(line.fit) if line.fit else ""
    text = act_of_line(line)
    if content := line.content or line.content_id:
        return f"{text}: “{title_of(content, library)}”"
    return f"{text} ({line.url.partition('?')[0][:LONGEST]})" if line.url else text


def act_of_line(line: Line) -> str:
    """What somebody did, by the type of the event where that says more than the signal."""
    if line.kind == "event" and line.signal not in SAID_BY_SIGNAL and line.type in TYPES:
        return TYPES[line.type]
    return SIGNALS.get(line.signal) or _spaced(line.type or line.signal)


def _fit_text(change: FitChange) -> str:
    why = "; ".join(change.reasons) or "no rule holds"
    if change.before == change.after:
        return f"known of the person: {why}"
    return f"fit {change.before:g} → {change.after:g}: {why}"


def _days(span: int) -> str:
    days = span / DAY
    return f"{days:.1f} days" if days >= 1 else f"{days * 24:.1f} hours"


def ledger_note(ended_by: str) -> str:
    """Why a lead has no likelihood, by the signal that ended it; '' where none did."""
    if not ended_by:
        return ""
    return f"The lead {SIGNALS[ended_by]}: there is nothing left to predict."
