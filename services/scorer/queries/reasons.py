"""Why a lead, in few words: a ledger's lines grouped by act, the strongest grounds for and against,
a sentence to say aloud, and the trend; all pure.
"""

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Literal, NamedTuple

import msgspec

from services.scorer.model.explanation import Ledger, Line
from services.scorer.wording import SIGNALS, ledger_note, line_in_words, title_of
from services.shared.clock import DAY, from_us
from services.shared.playbook.sections import Content

WEEK = 7 * DAY
LEAST = 0.05  # log-odds of a ground that is worth a word
MOVED = 0.2  # log-odds within a week that make a trend
FOR, AGAINST = 3, 1
NUMBERS = "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"
LATE = "people near a decision seldom do"  # of an act that speaks against them

Trend = Literal["rising", "steady", "falling", "not enough to say"]


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """Acts of one kind on one content within a week of the present, or before it; or one silence.

    `at` is the last act, or the end of the silence (µs); `delta` is log-odds, `points` that of the
    probability, times 100, both over all its acts.
    """

    text: str
    at: int
    acts: int
    content: str
    delta: float
    points: float


class Reasons(msgspec.Struct, frozen=True, kw_only=True):
    """What people read first of a lead; the grounds strongest first."""

    sentence: str
    grounds_for: list[Ground]
    grounds_against: list[Ground]
    trend: Trend


class _Key(NamedTuple):
    kind: str
    signal: str
    what: str
    is_recent: bool


def reasons(ledger: Ledger, library: Mapping[str, Content], zone: tzinfo) -> Reasons:
    """The reasons that a ledger gives, with its days in `zone`."""
    found = grounds(ledger, library, zone)
    best = sorted(found, key=lambda ground: (-ground.delta, -ground.at, ground.text))
    speaking_for = [ground for ground in best if ground.delta >= LEAST][:FOR]
    against = [ground for ground in reversed(best) if ground.delta <= -LEAST][:AGAINST]
    return Reasons(
        sentence=_sentence(ledger, speaking_for, against),
        grounds_for=speaking_for,
        grounds_against=against,
        trend=trend(ledger),
    )


def grounds(ledger: Ledger, library: Mapping[str, Content], zone: tzinfo) -> list[Ground]:
    """The lines grouped by act, each silence by itself after the act that it follows."""
    groups: dict[_Key, list[Line]] = {}
    found: list[Ground] = []
    last: Line | None = None
    for line in ledger.lines:
        if line.kind == "silence":
            found.append(_silence(line, last, library, zone))
            continue
        last = line
        what = line.content or line.content_id
        if line.kind == "attributes":
            what = line_in_words(line, library)
        is_recent = ledger.as_of - line.at < WEEK
        groups.setdefault(_Key(line.kind, line.signal, what, is_recent), []).append(line)
    return [*found, *(_acts(key, lines, library, zone) for key, lines in groups.items())]


def trend(ledger: Ledger) -> Trend:
    """Where the logit went within the last week: a silence counts by its part of that week."""
    if len(ledger.lines) < 2 or ledger.as_of - ledger.lines[0].at < WEEK:
        return "not enough to say"
    since = ledger.as_of - WEEK
    moved = sum(line.delta * _part_after(line, since) for line in ledger.lines)
    return "rising" if moved >= MOVED else "falling" if moved <= -MOVED else "steady"


def _part_after(line: Line, since: int) -> float:
    """The share of a line that lies after a moment."""
    if not line.silence:
        return float(line.at > since)
    return min(1.0, max(0.0, (line.at - since) / line.silence))


def _acts(key: _Key, lines: Sequence[Line], library: Mapping[str, Content], zone: tzinfo) -> Ground:
    newest, delta = lines[-1], sum(line.delta for line in lines)
    title = title_of(key.what, library) if key.what and key.kind != "attributes" else ""
    text = line_in_words(newest, library)
    if key.signal in SIGNALS and (title or len(lines) > 1):  # several addresses, one act
        text = SIGNALS[key.signal] + (f": “{title}”" if title else "")
    times = f" {_number(len(lines))} times" if len(lines) > 1 else ""
    when = "this week" if times and key.is_recent else f"on {_day(newest.at, zone)}"
    last = "last " if times and not key.is_recent else ""
    text += f"{times}{',' if last else ''} {last}{when}"
    if key.signal == "content_awareness" and delta <= -LEAST:
        text += f": {LATE}"
    points = sum(line.points for line in lines)
    return Ground(
        text=text, at=newest.at, acts=len(lines), content=title, delta=delta, points=points
    )


def _silence(line: Line, last: Line | None, library: Mapping[str, Content], zone: tzinfo) -> Ground:
    days = max(1, round(line.silence / DAY))
    text = f"silent for {days} day{'s' if days > 1 else ''}"
    if last:
        what = "our mail" if last.kind in ("no_open", "no_click") else "the last sign"
        text += f" since {what} of {_day(line.at - line.silence, zone)}"
        title = title_of(last.content, library) if last.content else ""
    else:
        title = ""
    return Ground(
        text=text, at=line.at, acts=0, content=title, delta=line.delta, points=line.points
    )


def _sentence(ledger: Ledger, speaking_for: Sequence[Ground], against: Sequence[Ground]) -> str:
    if ledger.ended_by:
        return ledger_note(ledger.ended_by)
    said = " and ".join(ground.text for ground in speaking_for[:2])
    if not said:
        said = "nothing speaks for a decision yet"
    but = f"; but {against[0].text}" if against else ""
    return f"{said[:1].upper()}{said[1:]}{but}."


def _number(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def _day(instant: int, zone: tzinfo) -> str:
    moment = from_us(instant).astimezone(zone)
    return f"{moment.day} {moment:%B}"
