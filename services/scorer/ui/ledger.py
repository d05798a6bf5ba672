"""The ledger as people see it: an act with the silence after it, in points, or in bars as long as
the number is not calibrated; what rounds to nothing is summed up.
"""

from collections.abc import Iterable
from datetime import datetime
from math import exp

import msgspec

from services.scorer.model.explanation import Ledger, Line
from services.scorer.queries.lines import LEAST, Words, texts, why_of
from services.scorer.queries.reasons import Entry, joined, silence_of
from services.scorer.wording import ledger_note
from services.shared.clock import from_us

NOTHING = 0.05  # points that are written as 0.0
STRENGTHS = ((1.0, "strongly"), (0.3, "clearly"), (0.0, "a little"))


class Move(msgspec.Struct, frozen=True):
    """What something did: log-odds, points, and the length of its bar, 0 to 1."""

    delta: float
    points: float
    bar: float = 0.0

    @property
    def words(self) -> str:
        """`raises it clearly`."""
        if not self.delta:
            return "changes nothing"
        strength = next(word for least, word in STRENGTHS if abs(self.delta) >= least)
        return f"{'raises' if self.delta > 0 else 'lowers'} it {strength}"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A line of people's ledger; `move` is None where it rounds to nothing, `touch` is the id of
    the touch that it answers, or ''. `follows` of silence after the act of the row before.
    """

    at: datetime
    text: str
    why: str
    kind: str
    move: Move | None
    touch: str = ""
    follows: bool = False


class LedgerView(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger for people: points that add up to `total`, of 100, None once the outcome has
    happened; `small` are lines that round to nothing, `earlier` those before the ones shown,
    `unweighed` counts older events without one.
    """

    start: float
    earlier: int
    earlier_move: Move
    rows: list[Row]
    small: int
    small_move: Move
    total: float | None
    note: str
    unweighed: int
    calibrated: bool


def ledger_view(ledger: Ledger, words: Words, limit: int | None, *, calibrated: bool) -> LedgerView:
    """The last `limit` acts of a ledger, with the silence after each."""
    entries = joined(ledger.lines)
    shown = entries[-limit:] if limit else entries
    earlier = entries[: len(entries) - len(shown)]
    text_by_line = dict(zip(map(id, ledger.lines), texts(ledger, words), strict=True))
    rows: list[Row] = []
    small: list[Line] = []
    for entry in shown:
        found, left_out = _rows(entry, text_by_line, ledger, words, calibrated=calibrated)
        rows += found
        small += left_out
    most = max((abs(row.move.delta) for row in rows if row.move), default=0.0)
    return LedgerView(
        start=100 / (1 + exp(-ledger.start)),
        earlier=len(earlier),
        earlier_move=_sum([line for entry in earlier for line in entry.lines]),
        rows=[_with_bar(row, most) for row in rows],
        small=len(small),
        small_move=_sum(small),
        total=None if ledger.likelihood is None else 100 * ledger.likelihood,
        note=ledger_note(ledger.ended_by),
        unweighed=ledger.unweighed,
        calibrated=calibrated,
    )


def _rows(
    entry: Entry, text_by_line: dict[int, str], ledger: Ledger, words: Words, *, calibrated: bool
) -> tuple[list[Row], list[Line]]:
    """The rows of an entry, and the lines that are left out of them."""
    rows: list[Row] = []
    small: list[Line] = []
    quiet = _sum(entry.quiet)
    is_silence_shown = bool(entry.quiet) and not _is_nothing(quiet, calibrated=calibrated)
    if line := entry.act:
        move = _sum([line])
        is_shown = not _is_nothing(move, calibrated=calibrated)
        if is_shown or is_silence_shown or line.kind in ("outcome", "restart"):
            rows.append(
                Row(
                    at=from_us(line.at), text=text_by_line[id(line)],
                    why="" if line.kind == "attributes" else why_of(line, words.model),
                    kind=line.kind, move=move if is_shown else None, touch=line.touch_id,
                )
            )  # fmt: skip
        if not is_shown:
            small.append(line)
    if is_silence_shown:
        rows.append(_silent(entry, quiet, ledger, words))
    else:
        small += entry.quiet
    return rows, small


def _silent(entry: Entry, quiet: Move, ledger: Ledger, words: Words) -> Row:
    ground = silence_of(entry, ledger, words)
    touch = next((line.touch_id for line in entry.quiet if line.touch_id), "")
    return Row(
        at=from_us(ground.at), text=ground.text, why=ground.why, kind="silence", move=quiet,
        touch=touch, follows=entry.act is not None,
    )  # fmt: skip


def _sum(lines: Iterable[Line]) -> Move:
    lines = list(lines)
    return Move(sum(line.delta for line in lines), sum(line.points for line in lines))


def _is_nothing(move: Move, *, calibrated: bool) -> bool:
    return abs(move.points) < NOTHING if calibrated else abs(move.delta) < LEAST


def _with_bar(row: Row, most: float) -> Row:
    if row.move is None:
        return row
    move = msgspec.structs.replace(row.move, bar=abs(row.move.delta) / (most or 1.0))
    return msgspec.structs.replace(row, move=move)
