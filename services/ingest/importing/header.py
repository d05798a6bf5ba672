"""The names of a table's columns."""

import difflib
from collections.abc import Sequence


class Header:
    """The names of a file's columns; space around a name and its case do not matter."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = [name.strip() for name in names]
        self._exact: dict[str, int] = {}
        self._folded: dict[str, int] = {}
        for number, name in enumerate(self.names):
            self._exact.setdefault(name, number)
            self._folded.setdefault(name.casefold(), number)

    def find(self, name: str) -> int | None:
        """The column's number; None where there is none."""
        name = name.strip()
        found = self._exact.get(name)
        return self._folded.get(name.casefold()) if found is None else found

    def like(self, name: str) -> str:
        """The remedy for a column that is not there."""
        near = difflib.get_close_matches(name, self.names, 1)
        return (
            f"Did you mean {near[0]!r}?"
            if near
            else f"The columns are {', '.join(map(repr, self.names[:40]))}"
        )
