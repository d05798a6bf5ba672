"""The facts by which a lead is handed over, out of its events; and what is said of it in words."""

from collections.abc import Collection, Iterable, Sequence

from services.scorer.handoffs.grounds import FRESH, Act, Standing, Word
from services.scorer.handoffs.records import Handoff
from services.scorer.model.explanation import Ledger
from services.scorer.model.interpretation import Interpreter
from services.scorer.model.profile import day_of
from services.scorer.model.state import Event, undone
from services.scorer.wording import act_in_words, line_in_words, plain
from services.shared.clock import from_us
from services.shared.contracts.event_types import ANSWERS, ON_SITE
from services.shared.contracts.sales import STATUS_OF
from services.shared.playbook.sections import Playbook

REASONS = 3
OWN_ACTS = ON_SITE | ANSWERS
# where forms and mails have what somebody wrote
WRITTEN_IN = ("message", "question", "questions", "comment", "comments", "enquiry", "text", "notes")
LONGEST_SAID = 500
LONGEST_NOTE = 2_000


def is_own(event: Event) -> bool:
    """Whether it is an act of the person, and not of a machine."""
    return event.data.type in OWN_ACTS and not event.data.machine


def raises(section_types: Collection[str], interpreter: Interpreter, event: Event) -> bool:
    """Whether somebody asks for a person by it, and it comes in time."""
    is_late = event.received is not None and event.received - event.at > FRESH
    if is_late or event.data.machine:
        return False
    return interpreter.interpret(event.data).type in section_types


def act_of(event: Event) -> Act:
    """An event as an act."""
    return Act(event.at, event.uid, event.at if event.received is None else event.received)


def words_of(events: Iterable[Event]) -> list[Word]:
    """What sales said, in order, without what it took back."""
    events = list(events)
    taken_back = undone(events)
    return [
        _word(event)
        for event in events
        if event.data.type in STATUS_OF and event.uid not in taken_back
    ]


def _word(event: Event) -> Word:
    def text(name: str) -> str:
        return str(event.data.properties.get(name) or "")[:LONGEST_NOTE]

    return Word(
        event.at,
        event.uid,
        STATUS_OF[event.data.type],
        text("reason"),
        day_of(event.data.properties.get("until")),
        text("by"),
        text("note"),
        event.data.id,
    )


def said_of(events: Sequence[Event]) -> str:
    """What the lead wrote last, in its words; '' where it wrote nothing."""
    for event in reversed(events):
        if event.data.machine:
            continue
        for name in WRITTEN_IN:
            written = event.data.properties.get(name)
            if isinstance(written, str) and written.strip():
                return " ".join(written.split()).replace("\0", "")[:LONGEST_SAID]
    return ""


def reasons_of(
    playbook: Playbook, interpreter: Interpreter, handoff: Handoff, opener: Event | None,
    standing: Standing | None, fit: str, ledger: Ledger | None,
) -> list[str]:  # fmt: skip
    """Three reasons in words: the ground first, then what moved the likelihood most."""
    library = playbook.content_by_id
    found = [_ground(playbook, interpreter, handoff, opener, standing)]
    weights: dict[str, float] = {}
    for line in ledger.lines if ledger else ():
        if line.kind in ("event", "outcome") and line.delta > 0:
            words = plain(line_in_words(line, library))
            weights[words] = weights.get(words, 0.0) + line.delta
    largest = sorted(weights, key=lambda words: (-weights[words], words))
    found += [words for words in largest if words.casefold() not in found[0].casefold()]
    found += [fit, f"stage {plain(standing.stage)}" if standing else "stage unknown"]
    return [words.replace("\0", "") for words in dict.fromkeys(found)][:REASONS]


def _ground(
    playbook: Playbook, interpreter: Interpreter, handoff: Handoff, opener: Event | None,
    standing: Standing | None,
) -> str:  # fmt: skip
    when = f"{handoff.opener_at:%-d %B}"
    if handoff.kind == "raised_hand" and opener:
        reading = interpreter.interpret(opener.data)
        act = act_in_words(opener.data, reading, playbook.content_by_id)
        when = f"{from_us(opener.at):%-d %B}"
        return f"{act.text} on {when}"
    if handoff.kind == "reawakened":
        return f"acts again since {when}, after a long silence"
    stage = plain(standing.stage) if standing else "unknown"
    return f"qualified, and in the stage {stage}"
