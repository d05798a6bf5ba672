"""What is reported of a playbook whose parts do not fit together."""

import difflib
from collections.abc import Iterable
from typing import NamedTuple


class Contradiction(NamedTuple):
    """Something wrong that types alone do not show: where, what, and how to mend it.

    `about` names the section of which a part is missed, '' where none is; the line is `below` so
    many lines under that of the path.
    """

    path: tuple[int | str, ...]  # like ("content", 3, "stages")
    what: str
    remedy: str
    about: str = ""
    below: int = 0


def nearest(name: object, known: Iterable[str]) -> str:
    """The known name that is most like this one; '' where none is near."""
    by_lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(str(name).lower(), by_lower, 1)
    return by_lower[found[0]] if found else ""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A question with the nearest known name, and a blank behind it; '' where none is near."""
    near = nearest(name, known)
    return f"Did you mean `{near}`? " if near else ""
