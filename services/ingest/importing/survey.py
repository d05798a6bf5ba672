"""What the whole of a column says of how it writes its times: the order of day and month, and
whether its numbers are a spreadsheet's days. Pure.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC

from services.ingest.importing.header import Header
from services.ingest.importing.mapping import Mapping, Step, Time, dated
from services.ingest.importing.questions import SHOWN_ROWS, Choice, Question
from services.ingest.importing.times import (
    DMY,
    EITHER,
    MDY,
    PLAIN,
    Manner,
    is_serial,
    order_of,
    parse,
)

SERIAL, OTHER = "serial", "other"
MEANINGS = {DMY: "the day first", MDY: "the month first"}


class _Column:
    """What was seen in one column of times."""

    def __init__(self, time: Time, where: tuple[Step, ...]) -> None:
        self.time, self.where = time, where
        self.seen: Counter[str] = Counter()
        self.examples: dict[str, dict[str, None]] = {}

    def add(self, text: str) -> None:
        kind = order_of(text) or (SERIAL if is_serial(text) else OTHER)
        self.seen[kind] += 1
        if len(examples := self.examples.setdefault(kind, {})) < SHOWN_ROWS:
            examples[text] = None

    @property
    def manner(self) -> Manner:
        seen = self.seen
        if set(seen) == {SERIAL}:
            return Manner(serial=True)
        if self.time.order or bool(seen[DMY]) == bool(seen[MDY]):
            return Manner(self.time.order)
        return Manner(DMY if seen[DMY] else MDY)

    @property
    def is_open(self) -> bool:
        """Whether nothing in the column decides how most of it is to be read."""
        seen = self.seen
        decided = self.time.order or seen[DMY] or seen[MDY]
        return not decided and 2 * seen[EITHER] >= seen.total() > 0

    def question(self) -> Question:
        texts = list(self.examples[EITHER])
        choices = [
            Choice(order, meaning, [f"{text} is {_day(text, order)}" for text in texts])
            for order, meaning in MEANINGS.items()
        ]
        name = self.time.column
        key = f"{_dotted(self.where)}: {{column: {name}, order: …}}"
        return Question((*self.where, "order"), f"{name!r}: {EVERY}", key, choices)

    def note(self) -> str:
        """What was decided, '' where nothing had to be."""
        name, manner = self.time.column, self.manner
        if manner.serial:
            text = next(iter(self.examples[SERIAL]))
            day = parse(text, UTC, manner=manner).date()
            return f"{name!r}: numbers are read as a spreadsheet's days, {text} as {day}"
        if self.seen[EITHER] and manner.order and not self.time.order:
            text = next(iter(self.examples[manner.order]))
            return f"{name!r}: dates are read with {MEANINGS[manner.order]}, as {text} shows"
        return ""


EVERY = "dates whose day and month can be read in two ways, and none shows which"


class Survey:
    """Goes over all rows before any of them is read."""

    def __init__(self, mapping: Mapping, header: Header) -> None:
        self._columns: dict[int, _Column] = {}
        for time, where in dated(mapping):
            number = header.find(time.column)
            if number is not None and not time.format:
                self._columns.setdefault(number, _Column(time, where))

    @property
    def is_needed(self) -> bool:
        """Whether there is a column to be looked at."""
        return bool(self._columns)

    def add(self, cells: Sequence[str]) -> None:
        """Takes a row of as many cells as there are columns."""
        for number, column in self._columns.items():
            if text := cells[number].strip():
                column.add(text)

    def manners(self) -> dict[int, Manner]:
        """How each column writes its times."""
        found = {number: column.manner for number, column in self._columns.items()}
        return {number: manner for number, manner in found.items() if manner != PLAIN}

    def questions(self) -> list[Question]:
        """What no row decides."""
        return [column.question() for column in self._columns.values() if column.is_open]

    def notes(self) -> dict[str, int]:
        """What the columns decided, and for how many rows."""
        return {
            note: column.seen.total()
            for column in self._columns.values()
            if (note := column.note())
        }


def _day(text: str, order: str) -> str:
    moment = parse(text, UTC, manner=Manner(order))
    return f"{moment.day} {moment:%B %Y}"


def _dotted(where: Sequence[Step]) -> str:
    return ".".join(map(str, where))
