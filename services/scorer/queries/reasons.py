"""Why a lead, in few words: a ledger's lines grouped by act, the strongest grounds for and against,
and a sentence to say aloud; all pure.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from services.scorer.model.explanation import Ledger, Line
from services.scorer.queries.lines import (
    ACTS,
    LEAST,
    SELDOM,
    SURPRISING,
    Words,
    day_of,
    span,
    why_of,
)
from services.scorer.wording import act_of_line, ledger_note, line_in_words, title_of
from services.shared.clock import DAY

WEEK = 7 * DAY
FOR = 3
NUMBERS = "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"
QUIET = frozenset({"silence", "no_open", "no_click"})
SOMEBODY = "This lead"


class Entry(msgspec.Struct):
    """An act with what it did, and the silence after it, mails without an answer included; of
    silence before any act `act` is None.
    """

    act: Line | None
    quiet: list[Line] = []

    @property
    def began(self) -> int:
        """When the silence began (µs)."""
        return self.act.at if self.act else self.quiet[0].at - self.quiet[0].silence

    @property
    def lines(self) -> list[Line]:
        """All of its lines."""
        return [self.act, *self.quiet] if self.act else self.quiet


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """Acts of one kind on one content within a week of the present, or before it; or one silence.

    `text` says what and when, `at` is the last act, or the end of the silence (µs); `content` is a
    title; `delta` is log-odds, `points` that of the probability, times 100, both over all its acts.
    `predicate` goes on after a name.
    """

    text: str
    why: str
    at: int
    acts: int
    content: str
    delta: float
    points: float
    predicate: str = ""


class Reasons(msgspec.Struct, frozen=True, kw_only=True):
    """What people read first of a lead: at most FOR grounds for, the strongest first."""

    sentence: str
    grounds_for: list[Ground]
    ground_against: Ground | None


class _Key(NamedTuple):
    kind: str
    act: str
    content: str
    is_recent: bool


def reasons(ledger: Ledger, words: Words, subject: str = "") -> Reasons:
    """The reasons that a ledger gives, of a lead that people call `subject`."""
    if ledger.ended_by:
        return Reasons(sentence=ledger_note(ledger.ended_by), grounds_for=[], ground_against=None)
    found = grounds(ledger, words)
    best = sorted(found, key=lambda ground: (-ground.delta, -ground.at, ground.text))
    speaking_for = [ground for ground in best if ground.delta >= LEAST][:FOR]
    against = best[-1] if best and best[-1].delta <= -LEAST else None
    return Reasons(
        sentence=_sentence(subject or SOMEBODY, speaking_for, against),
        grounds_for=speaking_for,
        ground_against=against,
    )


def joined(lines: Iterable[Line]) -> list[Entry]:
    """The lines in their order, each silence at the act that it follows; every line once."""
    entries: list[Entry] = []
    act: Entry | None = None
    for line in lines:
        if line.kind not in QUIET:
            entries.append(Entry(line))
            act = entries[-1] if line.kind in ACTS else act
            continue
        if act is None:
            act = Entry(None)
            entries.append(act)
        act.quiet.append(line)
    return entries


def grounds(ledger: Ledger, words: Words) -> list[Ground]:
    """The lines of what counts still, grouped by act, each silence by itself."""
    groups: dict[_Key, list[Line]] = {}
    found: list[Ground] = []
    for entry in joined(ledger.counting):
        if entry.quiet:
            found.append(silence_of(entry, ledger, words))
        if line := entry.act:
            what = line.content or line.content_id
            act = line_in_words(line, words.library) if line.kind == "attributes" else ""
            is_recent = ledger.as_of - line.at < WEEK
            key = _Key(line.kind, act or act_of_line(line), what, is_recent)
            groups.setdefault(key, []).append(line)
    return [*found, *(_acts(key, lines, ledger.as_of, words) for key, lines in groups.items())]


def _acts(key: _Key, lines: Sequence[Line], now: int, words: Words) -> Ground:
    newest, delta = lines[-1], sum(line.delta for line in lines)
    points = sum(line.points for line in lines)
    why = why_of(msgspec.structs.replace(newest, delta=delta), words.model)
    title = title_of(key.content, words.library) if key.content else ""
    if key.kind == "attributes":
        rules = [_lower(rule) for rule in newest.fit.reasons] if newest.fit else []
        text = "fits well" if delta > 0 else "fits less"
        first = f"{text} ({rules[0]})" if rules else text
        return Ground(
            text=f"{text} ({'; '.join(rules)})" if rules else text,
            why="by what is known of the person", at=newest.at, acts=0, content="", delta=delta,
            points=points, predicate=first,
        )  # fmt: skip
    text = key.act + (f" “{title}”" if title else "")
    if len(lines) > 1:
        recent = "this week" if key.is_recent else f"until {day_of(newest.at, now, words)}"
        text += f" {_times(len(lines))} {recent}"
    else:
        text += f" on {day_of(newest.at, now, words)}"
    surprise = f": {why}" if why in (SELDOM, SURPRISING) else ""
    return Ground(
        text=text + surprise, why=why, at=newest.at, acts=len(lines), content=title, delta=delta,
        points=points, predicate=text,
    )  # fmt: skip


def silence_of(entry: Entry, ledger: Ledger, words: Words) -> Ground:
    """The silence of an entry, with the mails that it followed or that came to nothing in it."""
    began, end, now = entry.began, entry.quiet[-1].at, ledger.as_of
    sent = [mail for mail in ledger.mails if began - DAY < mail.at < end]
    content = sent[-1].content if sent else ""
    text = f"silent for {span(end - began)}"
    if end < now:
        text += f" until {day_of(end, now, words)}"
    elif len(sent) == 1 and abs(sent[0].at - began) < DAY:
        text += f" since our mail of {day_of(sent[0].at, now, words)}"
        sent = []
    else:
        text += f" since {day_of(began, now, words)}"
    if sent:
        last = day_of(sent[-1].at, now, words)
        many = f"{_number(len(sent))} mails of ours, the last of {last}"
        text += f", also after {many if len(sent) > 1 else f'our mail of {last}'}"
    delta = sum(line.delta for line in entry.quiet)
    quiet = msgspec.structs.replace(entry.quiet[-1], kind="silence", delta=delta)
    return Ground(
        text=text, why=why_of(quiet, words.model), at=end, acts=0,
        content=title_of(content, words.library) if content else "", delta=delta,
        points=sum(line.points for line in entry.quiet),
        predicate=f"{'was' if end < now else 'has been'} {text}",
    )  # fmt: skip


def _sentence(subject: str, speaking_for: Sequence[Ground], against: Ground | None) -> str:
    does = " and ".join(ground.predicate for ground in speaking_for[:2])
    if does and against:
        return f"{subject} {does}, but {against.predicate}."
    if does:
        return f"{subject} {does}."
    if against:
        return f"Nothing speaks for a decision yet: {subject} {against.predicate}."
    return f"{subject}: nothing speaks for a decision yet."


def _lower(sentence: str) -> str:
    """With a small first letter, but for words such as CRM."""
    return sentence if sentence[1:2].isupper() else sentence[:1].lower() + sentence[1:]


def _times(count: int) -> str:
    return "twice" if count == 2 else f"{_number(count)} times"


def _number(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else str(count)
