"""The names of a table's columns."""

import difflib
from collections.abc import Sequence

from services.shared.contracts.identity import AROUND


class Header:
    """The names of a file's columns; space and invisible marks around a name and its case do not
    matter. `hint` is the remedy where another line seems to hold the names.
    """

    def __init__(self, names: Sequence[str], hint: str = "") -> None:
        self.names = [name.strip(AROUND) for name in names]
        self.hint = hint
        self._exact: dict[str, int] = {}
        self._folded: dict[str, int] = {}
        for number, name in enumerate(self.names):
            self._exact.setdefault(name, number)
            self._folded.setdefault(name.casefold(), number)

    def find(self, name: str) -> int | None:
        """The column's number; None where there is none."""
        name = name.strip(AROUND)
        found = self._exact.get(name)
        return self._folded.get(name.casefold()) if found is None else found

    def doubled(self) -> dict[int, list[int]]:
        """The columns that have a name which stood before, by the first one of that name."""
        found: dict[int, list[int]] = {}
        for number, name in enumerate(self.names):
            first = self._exact[name]
            if name and first != number:
                found.setdefault(first, []).append(number)
        return found

    def like(self, name: str) -> str:
        """The remedy for a column that is not there."""
        near = difflib.get_close_matches(name, self.names, 1)
        return (
            f"Did you mean {near[0]!r}?"
            if near
            else f"The columns are {', '.join(map(repr, self.names[:40]))}"
        )
