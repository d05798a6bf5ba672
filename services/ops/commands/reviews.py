"""What identity resolution leaves to a person: addresses and external ids that several
users claim.
"""

from typing import Any

from services.scorer.identity.rules import Node, reviews
from services.shared.contracts.identity import Kind
from services.shared.db import open_engine, rows
from services.shared.settings import Settings


async def open_reviews(settings: Settings) -> list[dict[str, Any]]:
    """`[{"identifier", "users"}]`, without those that a verdict has joined."""
    engine = open_engine(settings)
    try:
        async with engine.connect() as connection:
            found = await rows(
                connection,
                "SELECT l.weak, l.strong, w.kind AS weak_kind, w.value AS weak_value, s.value "
                "AS user_id FROM scorer.link l "
                "JOIN scorer.identifier w ON w.id = l.weak JOIN scorer.identifier s ON s.id = "
                "l.strong "
                "WHERE s.kind = :user AND l.weak IN (SELECT k.weak FROM scorer.link k "
                "JOIN scorer.identifier u ON u.id = k.strong WHERE u.kind = :user GROUP BY "
                "k.weak HAVING count(*) > 1)",
                user=int(Kind.USER),
            )
            verdicts = await rows(
                connection, "SELECT low, high, same FROM scorer.verdict ORDER BY said_at, uid"
            )
    finally:
        await engine.dispose()
    nodes = {
        row.weak: Node(row.weak, Kind(row.weak_kind), row.weak_value, None, None) for row in found
    }
    nodes |= {row.strong: Node(row.strong, Kind.USER, row.user_id, None, None) for row in found}
    links: dict[int, set[int]] = {}
    for row in found:
        links.setdefault(row.weak, set()).add(row.strong)
    last = {(row.low, row.high): row.same for row in verdicts}
    same = {pair for pair, joined in last.items() if joined}
    return [
        {
            "identifier": nodes[weak].value,
            "users": sorted(nodes[user].value for user in users if user in nodes),
        }
        for weak, users in reviews(links, nodes, same)
    ]
