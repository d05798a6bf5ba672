"""What identity resolution leaves to a person: addresses and external ids that several
users claim.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from services.scorer.identity.rules import Node, reviews
from services.shared.contracts.identity import Kind
from services.shared.db import open_engine, rows
from services.shared.settings import Settings


class OpenReview(NamedTuple):
    """An identifier, and the users that it was linked to."""

    identifier: str
    users: list[str]


async def open_reviews(settings: Settings) -> list[OpenReview]:
    """All of them, without those that a verdict has joined."""
    engine = open_engine(settings)
    try:
        async with engine.connect() as connection:
            links = await rows(connection, _LINKS, user=int(Kind.USER))
            verdicts = await rows(
                connection, "SELECT low, high, same FROM scorer.verdict ORDER BY said_at, uid"
            )
    finally:
        await engine.dispose()
    return _open(links, verdicts)


_LINKS = """SELECT l.weak, l.strong, w.kind AS weak_kind, w.value AS weak_value, s.value AS user_id
    FROM scorer.link l
    JOIN scorer.identifier w ON w.id = l.weak JOIN scorer.identifier s ON s.id = l.strong
    WHERE s.kind = :user AND l.weak IN (
        SELECT k.weak FROM scorer.link k JOIN scorer.identifier u ON u.id = k.strong
        WHERE u.kind = :user GROUP BY k.weak HAVING count(*) > 1)"""


def _open(links: Sequence[Any], verdicts: Sequence[Any]) -> list[OpenReview]:
    """From rows of `_LINKS` and of `scorer.verdict`, oldest first."""
    nodes = {
        row.weak: Node(row.weak, Kind(row.weak_kind), row.weak_value, None, None) for row in links
    }
    nodes |= {row.strong: Node(row.strong, Kind.USER, row.user_id, None, None) for row in links}
    linked: dict[int, set[int]] = {}
    for row in links:
        linked.setdefault(row.weak, set()).add(row.strong)
    latest = {(row.low, row.high): row.same for row in verdicts}
    joined = {pair for pair, same in latest.items() if same}
    return [
        OpenReview(nodes[weak].value, sorted(nodes[user].value for user in users if user in nodes))
        for weak, users in reviews(linked, nodes, joined)
    ]
