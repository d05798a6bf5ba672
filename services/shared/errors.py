"""The two refusals of the system, and what has a service built again; every other exception
crashes and replays.
"""

from typing import Literal

Kind = Literal[  # docs/errors.md says of each what it means and how to mend it
    "invalid", "no-identifier", "reserved-type", "form-token", "key-form", "unreadable-mail",
    "own-mail", "not-ours", "bulk-mail", "unauthorized", "signature", "stale", "not-connected",
    "forbidden", "not-found", "method", "slow", "replayed", "conflict", "too-large", "media-type",
    "too-many", "headers", "internal", "lead-unreadable", "away", "spool-full", "spool-share",
]  # fmt: skip


class Reject(Exception):
    """This will never work: what, where, and how to mend it. The sender gets a problem document of
    this `kind`; a consumed record becomes a dead letter.
    """

    def __init__(
        self, title: str, *, where: str = "", remedy: str = "", kind: Kind = "invalid"
    ) -> None:
        super().__init__(title)
        self.title = title
        self.where = where
        self.remedy = remedy
        self.kind: Kind = kind

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.title, self.remedy) if part)


class Restart(Exception):
    """What a service was built with is out of date: it is to be stopped and built again."""


class Retry(Exception):
    """Not now: a dependency is away; wait and try the same work again."""
