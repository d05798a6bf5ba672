"""The known name that an unknown one resembles: a misspelling, another case, another ending."""

from collections.abc import Iterable
from functools import lru_cache

from rapidfuzz import fuzz, process

MAX_LENGTH = 64  # characters of a name that are compared
ALIKE = (
    78.0  # of 100; `page_view` and `page_viewed` have 95, `video_started` and `video_watched` 75
)


class Names:
    """A vocabulary."""

    def __init__(self, known: Iterable[str]) -> None:
        self.known = frozenset(known)
        choices = {plain(name): name for name in sorted(self.known)}
        self._plain, self._names = list(choices), list(choices.values())
        self._nearest = lru_cache(maxsize=4096)(self._compared)

    def __contains__(self, name: str) -> bool:
        return name in self.known

    def nearest(self, name: str) -> str:
        """The name that resembles this one most, '' where none does enough."""
        return self._nearest(name[:MAX_LENGTH])  # what is kept is bounded, whoever wrote it

    def _compared(self, name: str) -> str:
        found = process.extractOne(plain(name), self._plain, scorer=fuzz.ratio, score_cutoff=ALIKE)
        return self._names[found[2]] if found else ""


def plain(name: str) -> str:
    """A name without case and signs between its words."""
    return "".join(character for character in name.lower() if character.isalnum())
