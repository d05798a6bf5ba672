"""What a file leaves open: a reading that is uncertain, shown in every way that is plausible, and
the key of the mapping that answers it. Pure.
"""

from collections.abc import Sequence
from typing import NamedTuple

from services.shared.errors import Reject

SHOWN_ROWS = 3
MAX_SHOWN = 160  # characters of a row


class Choice(NamedTuple):
    """One of the readings: what the mapping then says, and rows as they are read."""

    answer: str
    meaning: str
    rows: Sequence[str]


class Question(NamedTuple):
    """What is uncertain. `path` is the place in the mapping that an answer is written to, `key` and
    an answer the line of YAML.
    """

    path: tuple[int | str, ...]
    what: str
    key: str
    choices: Sequence[Choice]

    def __str__(self) -> str:
        lines = [f"{self.what}. Say which it is in the mapping:"]
        for choice in self.choices:
            meaning = f"   ({choice.meaning})" if choice.meaning else ""
            lines += ["", f"  {self.key.replace('…', choice.answer)}{meaning}"]
            lines += [f"      {row}" for row in choice.rows]
        return "\n".join(lines)


class Uncertain(Reject):
    """A file that can be read in several ways; nothing was sent."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self.questions = tuple(questions)
        first = self.questions[0]
        super().__init__(first.what, where="file", remedy=f"answer by `{first.key}` in the mapping")

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.questions))


def shown(cells: Sequence[str]) -> str:
    """A row in one short line."""
    line = " | ".join(" ".join(cell.split()) for cell in cells if cell.strip())
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1] + "…"
