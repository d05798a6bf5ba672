"""What is reported of a playbook whose parts do not fit together."""

from typing import NamedTuple


class Contradiction(NamedTuple):
    """Something wrong that types alone do not show: where, what, and how to mend it."""

    path: tuple[int | str, ...]  # like ("content", 3, "stages")
    what: str
    remedy: str
