"""Finding leads by what people know of them: an address or an id, else words of a name or company,
a phone number, or a visitor's short name.
"""

import uuid
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scorer.model.search_words import (
    SHORTEST_WORD,
    SURE,
    asked_number,
    asked_visitor,
    is_same_number,
    words_of,
)
from services.scorer.queries.repository import LeadRepository
from services.shared.contracts.events import ExternalId, Interaction
from services.shared.contracts.identity import Cleaner, Identifier, Kind
from services.shared.db import rows

MAX_QUESTION = 320  # characters: an address has no more
MOST_WORDS = 6
SHOWN = 25
CANDIDATES = 500  # that are read at most
SEARCH = f"""
SELECT l.id, l.search FROM scorer.lead l WHERE l.search IS NOT NULL AND l.merged_into IS NULL
AND array_to_tsvector(string_to_array(l.search, ' ')) @@ CAST(:question AS tsquery)
LIMIT {CANDIDATES}
"""
VISITORS = f"""
SELECT lead_id FROM scorer.identifier WHERE kind = {Kind.ANONYMOUS:d} AND lead_id IS NOT NULL
AND scorer.visitor_code(value) = :code LIMIT {CANDIDATES}
"""
# the last act of each, over all products
LATEST = f"""
SELECT lead_id FROM scorer.lead_state WHERE lead_id = ANY(:leads)
GROUP BY lead_id ORDER BY max(last_event_at) DESC, lead_id LIMIT {SHOWN}
"""


class Found(NamedTuple):
    """Leads, that of the latest act first; `more` where others answer the question as well."""

    leads: list[uuid.UUID]
    more: bool = False


class LeadSearch:
    """Looks into indexes alone, and reads no more than CANDIDATES leads."""

    def __init__(self, engine: AsyncEngine, cleaner: Cleaner) -> None:
        self._engine, self._cleaner = engine, cleaner

    async def find(self, question: str) -> Found:
        """Whom a question may mean; nobody where it is empty."""
        question = question.replace("\0", "").strip()[:MAX_QUESTION]
        async with self._engine.connect() as connection:
            if named := await self._named(connection, question):
                return Found([named])
            await connection.execute(text("SET LOCAL enable_seqscan = off"))
            code, (asked, number) = asked_visitor(question), _as_words(question)
            visitors = await rows(connection, VISITORS, code=code) if code else []
            found = await rows(connection, SEARCH, question=asked) if asked else []
            leads = {row.lead_id for row in visitors}
            leads |= {row.id for row in found if not number or _has_number(row, number)}
            latest = await rows(connection, LATEST, leads=list(leads)) if leads else []
        more = len(leads) > SHOWN or CANDIDATES in (len(found), len(visitors))
        return Found([row.lead_id for row in latest], more)

    async def _named(self, connection: AsyncConnection, question: str) -> uuid.UUID | None:
        """The lead of an address or an id."""
        repository = LeadRepository(connection)
        for identifier in self._identifiers(question):
            if found := await repository.look_up(identifier):
                return found
        try:
            return await repository.merged_or_same(uuid.UUID(question))
        except ValueError:
            return None

    def _identifiers(self, question: str) -> list[Identifier]:
        """All that the question may be as an identifier."""
        system, _, external = question.partition(":")
        readings: list[dict[str, Any]] = [
            {"email": question},
            {"user_id": question},
            {"anonymous_id": question},
            {"external_id": ExternalId(system, external)},
        ]
        return [
            identifier
            for reading in readings
            for identifier in self._cleaner.identifiers(Interaction(id="", type="", **reading))
        ]


def _as_words(question: str) -> tuple[str, str]:
    """A question as a tsquery, '' where it has nothing to look for, and the number that it is."""
    if number := asked_number(question):
        return _prefix(number[: SURE + 1]), number
    words = [] if "@" in question else words_of(question)
    words = [word for word in words if len(word) >= SHORTEST_WORD]
    return " & ".join(map(_prefix, words[:MOST_WORDS])), ""


def _prefix(word: str) -> str:
    """What finds the words that begin so, as a tsquery; words have no quotes."""
    return f"'{word}':*"


def _has_number(row: Any, number: str) -> bool:
    words = str(row.search).split(" ")
    return any(word.startswith("#") and is_same_number(word, number) for word in words)
