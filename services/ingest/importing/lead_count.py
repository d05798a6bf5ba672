"""How many leads a file holds: counted exactly, by the rules of identity, in bounded memory."""

import sqlite3
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from services.shared.contracts.identity import Identifier, Kind

CACHE_KIB = 32 * 1024
# A linked identifier belongs to the one person that it is linked to, strongest kinds first; linked
# to several it stands alone, but for anonymous ids of two or three people, who share its events.
RESOLVE = """
UPDATE name SET lead = (SELECT CASE WHEN min(s.lead) = max(s.lead) THEN min(s.lead)
WHEN :anonymous AND count(DISTINCT s.lead) <= 3 THEN NULL ELSE name.id END
FROM link l JOIN name s ON s.id = l.strong WHERE l.weak = name.id)
WHERE kind = :kind AND id IN (SELECT weak FROM link)
"""


class LeadCounter:
    """A temporary database of hashed identifiers, on disk where it grows."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        for statement in (
            f"PRAGMA cache_size = -{CACHE_KIB}",
            "PRAGMA journal_mode = OFF",
            "CREATE TABLE name (id INTEGER PRIMARY KEY, kind INTEGER, lead INTEGER, acts INTEGER)",
            "CREATE TABLE link (weak INTEGER, strong INTEGER, PRIMARY KEY (weak, strong)) "
            "WITHOUT ROWID",
            "BEGIN",
        ):
            self._database.execute(statement)

    def add(self, rows: Iterable[Sequence[Identifier]]) -> None:
        """Adds the identifiers of accepted rows, strongest first."""
        acting: dict[int, int] = {}
        linked: list[tuple[int, int, int]] = []
        links: list[tuple[int, int]] = []
        for identifiers in rows:
            strongest = _hashed(identifiers[0])
            acting[strongest] = int(identifiers[0].kind)
            for identifier in identifiers[1:]:
                number = _hashed(identifier)
                linked.append((number, int(identifier.kind), number))
                links.append((number, strongest))
        self._database.executemany(
            "INSERT INTO name VALUES (?1, ?2, ?1, 1) ON CONFLICT (id) DO UPDATE SET acts = 1 "
            "WHERE acts = 0",
            acting.items(),
        )
        if links:
            self._database.executemany("INSERT OR IGNORE INTO name VALUES (?, ?, ?, 0)", linked)
            self._database.executemany("INSERT OR IGNORE INTO link VALUES (?, ?)", links)

    def count(self) -> int:
        """Distinct leads."""
        for kind in (Kind.EMAIL, Kind.EXTERNAL, Kind.ANONYMOUS):
            self._database.execute(
                RESOLVE, {"kind": int(kind), "anonymous": kind is Kind.ANONYMOUS}
            )
        found = self._database.execute(
            "SELECT count(DISTINCT lead) FROM name WHERE acts"
        ).fetchone()
        return int(found[0])

    def close(self) -> None:
        """Deletes the database."""
        self._database.close()


def _hashed(identifier: Identifier) -> int:
    return int.from_bytes(
        blake2b(f"{int(identifier.kind)}{identifier.text}".encode(), digest_size=8).digest(),
        "big",
        signed=True,
    )
