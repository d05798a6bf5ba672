"""URLs as rules name them, compared without scheme and tracking parameters; `*` is anything."""

import re
from collections.abc import Iterable

SCHEME = re.compile(r"[a-z][a-z0-9+.-]*+://", re.IGNORECASE)
TRACKING = re.compile(r"utm_|mc_|hsa_|_hs|pk_|(?:gclid|fbclid|msclkid|dclid|yclid|twclid|ref)$")


def plain_url(url: str) -> str:
    """A URL without scheme, `www.`, tracking parameters, fragment and trailing slash; the path in
    lower case.
    """
    bare = url.partition("#")[0]
    if scheme := SCHEME.match(bare):
        bare = bare[scheme.end() :]
    path, _, query = bare.partition("?")
    kept = [
        pair
        for pair in query.split("&")
        if pair and not TRACKING.match(pair.partition("=")[0].lower())
    ]
    path = path.removeprefix("www.").rstrip("/").lower()
    return f"{path}?{'&'.join(kept)}" if kept else path


class Glob:
    """An address in which `*` stands for anything; a query may follow it. Its texts are searched
    for one after the other, so a match takes linear time.
    """

    def __init__(self, pattern: str) -> None:
        self._first, *self._between, self._last = pattern.split("*")

    def matches(self, plain: str) -> bool:
        """Whether a URL, as `plain_url` gives it, fits."""
        if not plain.startswith(self._first):
            return False
        place = len(self._first)
        for text in self._between:
            place = plain.find(text, place)
            if place < 0:
                return False
            place += len(text)
        if not self._last or plain.find(f"{self._last}?", place) >= 0:
            return True
        return len(plain) - len(self._last) >= place and plain.endswith(self._last)


class UrlMatcher:
    """Finds the rule that a URL belongs to, from (pattern, name) pairs. A pattern without `*` goes
    before one with it; of several the first wins.
    """

    def __init__(self, patterns: Iterable[tuple[str, str]]) -> None:
        self._exact: dict[str, str] = {}
        self._globs: list[tuple[Glob, str]] = []
        for pattern, name in patterns:
            plain = plain_url(pattern)
            if "*" in plain:
                self._globs.append((Glob(plain), name))
            else:
                self._exact.setdefault(plain, name)

    def find(self, url: str) -> str | None:
        """The name of the rule, with the query of the URL or without it; None where none fits."""
        plain = plain_url(url)
        for candidate in (plain, plain.partition("?")[0]):
            if name := self._exact.get(candidate):
                return name
        return next((name for glob, name in self._globs if glob.matches(plain)), None)
