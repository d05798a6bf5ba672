"""The two refusals of the system; every other exception crashes and replays."""


class Reject(Exception):
    """This will never work: bury it, and tell the sender what, where and how to mend it."""

    def __init__(
        self, title: str, *, where: str = "", remedy: str = "", kind: str = "invalid"
    ) -> None:
        super().__init__(title)
        self.title = title
        self.where = where
        self.remedy = remedy
        self.kind = kind

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.title, self.remedy) if part)


class Retry(Exception):
    """Not now: a dependency is away; back off and try the same work again."""
