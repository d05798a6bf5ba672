"""URLs as rules name them, compared without scheme and tracking parameters; `*` is anything."""

import re
from collections.abc import Iterable

TRACKING = re.compile(r"^(utm_|mc_|hsa_|_hs|pk_)|^(gclid|fbclid|msclkid|dclid|yclid|twclid|ref)$")


def plain_url(url: str) -> str:
    """A URL without scheme, `www.`, tracking parameters, fragment and trailing slash; the path in
    lower case.
    """
    bare = url.partition("#")[0]
    bare = re.sub(r"^[a-z][a-z0-9+.-]*://", "", bare, flags=re.I)
    path, _, query = bare.partition("?")
    kept = [
        pair
        for pair in query.split("&")
        if pair and not TRACKING.search(pair.partition("=")[0].lower())
    ]
    path = path.removeprefix("www.").rstrip("/").lower()
    return f"{path}?{'&'.join(kept)}" if kept else path


class UrlMatcher:
    """Finds the rule that a URL belongs to, from (pattern, name) pairs. A pattern without `*` goes
    before one with it; of several the first wins.
    """

    def __init__(self, patterns: Iterable[tuple[str, str]]) -> None:
        self._exact: dict[str, str] = {}
        self._globs: list[tuple[re.Pattern[str], str]] = []
        for pattern, name in patterns:
            plain = plain_url(pattern)
            if "*" in plain:
                self._globs.append(
                    (re.compile(".*".join(map(re.escape, plain.split("*"))) + r"(\?.*)?"), name)
                )
            else:
                self._exact.setdefault(plain, name)

    def find(self, url: str) -> str | None:
        """The name of the rule, with the query of the URL or without it; None where none fits."""
        plain = plain_url(url)
        for candidate in (plain, plain.partition("?")[0]):
            if name := self._exact.get(candidate):
                return name
        return next((name for regex, name in self._globs if regex.fullmatch(plain)), None)
