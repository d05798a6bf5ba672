"""The lines of a ledger in plain words: what and when, and why it counts so, by the model's own
rates.
"""

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import NamedTuple

from services.scorer.model.explanation import Ledger, Line
from services.scorer.wording import count_of, line_in_words, plain
from services.shared.clock import DAY, from_us, local_time
from services.shared.playbook.sections import Content
from services.shared.playbook.stage_model import Model

LEAST = 0.05  # log-odds of a line that is worth a word
ACTS = frozenset({"event", "outcome", "restart"})  # kinds of lines that silence follows
USUAL = 0.5  # of the highest rate: in a stage of such a rate an act is usual
# what people of a stage do; other stages are named
PEOPLE: Mapping[str, str] = {
    "status_quo": "see no need yet",
    "awareness": "see the problem",
    "consideration": "compare ways",
    "decision": "decide",
}
SELDOM = "people near a decision seldom do"
SURPRISING = "surprising: in the learned model it speaks the other way than by itself"
ANSWERS: Mapping[str, str] = {
    "open": "people near a decision open our mails more often",
    "click": "people near a decision click in our mails more often",
}


class Words(NamedTuple):
    """What lines are put into words with: titles, the model, and the zone of their days."""

    library: Mapping[str, Content]
    model: Model
    zone: tzinfo


def texts(ledger: Ledger, words: Words) -> list[str]:
    """What each line of the ledger says; silence with what it followed."""
    mails = {mail.touch_id: mail for mail in ledger.mails}
    sent = [mail.at for mail in ledger.mails]
    found = []
    act: int | None = None
    for line in ledger.lines:
        text = line_in_words(line, words.library)
        if line.kind == "silence":
            began = line.at - line.silence if act is None else act
            mail = max((at for at in sent if began <= at < line.at), default=None)
            since, what = (began, "") if mail is None else (mail, "our mail of ")
            day = day_of(since, ledger.as_of, words)
            text = f"silent for {span(line.at - since)} since {what}{day}"
        elif line.kind in ("no_open", "no_click") and (known := mails.get(line.touch_id)):
            text = text.replace("our mail", f"our mail of {day_of(known.at, ledger.as_of, words)}")
        elif line.kind in ACTS:
            act = line.at
        found.append(text)
    return found


def span(lasted: int) -> str:
    """A span (µs) as people say it: `12 days`, `5 hours`."""
    days = round(lasted / DAY)
    return count_of(days, "day") if days else count_of(max(1, round(24 * lasted / DAY)), "hour")


def day_of(instant: int, now: int, words: Words) -> str:
    """A day as people say it: `3 May`, with its year where that is another than the present's."""
    moment, present = (local_time(from_us(at), words.zone) for at in (instant, now))
    return f"{moment.day} {moment:%B}" + (f" {moment.year}" if moment.year != present.year else "")


def why_of(line: Line, model: Model) -> str:
    """Why a line raises or lowers the likelihood; a surprising sign is named as such."""
    match line.kind:
        case "silence":
            expected = "people near a decision act more often"
            return expected if line.delta <= LEAST else SURPRISING
        case "no_open" | "no_click":
            return ANSWERS[line.signal.removeprefix("no_")] if line.delta <= LEAST else SURPRISING
        case "outcome":
            return "the outcome has happened, so nothing is left to predict"
        case "restart":
            return "what came before it counts no more"
        case "machine":
            return "a machine's click says nothing of a person"
        case "attributes":
            return "; ".join(line.fit.reasons) if line.fit else ""
        case "event":
            return _why_of_act(line, model)


def _why_of_act(line: Line, model: Model) -> str:
    if line.signal in model.given_send:
        return ANSWERS.get(line.signal, "") if line.delta >= -LEAST else SURPRISING
    rates = model.rate.get(line.signal)
    if rates is None:
        return ""
    if line.delta >= LEAST and rates[-1] < rates[0]:
        return SURPRISING
    if line.delta > -LEAST:
        return usual(line.signal, model)
    return SELDOM if rates[-1] < max(rates) else SURPRISING


def usual(mark: str, model: Model) -> str:
    """Who usually makes a mark, by its rates."""
    rates = model.rate[mark]
    stages = [
        stage for stage, rate in zip(model.stages, rates, strict=True) if rate >= USUAL * max(rates)
    ]
    if len(stages) == len(model.stages):
        return "people in every stage do so"
    near = stages == model.stages[-1:]
    return f"a step usually taken {f'near {_near(stages[0])}' if near else _by(stages)}"


def _near(stage: str) -> str:
    return "a decision" if stage == "decision" else f"the stage {plain(stage)}"


def _by(stages: Sequence[str]) -> str:
    if all(stage in PEOPLE for stage in stages):
        return "by people who " + _either([PEOPLE[stage] for stage in stages])
    return f"in {_either([plain(stage) for stage in stages])}"


def _either(words: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
