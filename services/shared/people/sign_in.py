"""What signs people in: links that work once, and sessions that can be ended."""

import hashlib
import secrets
import uuid
from datetime import datetime
from typing import Any, Literal, NamedTuple, cast

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.shared.db import rows
from services.shared.people.audit import Actor
from services.shared.people.roles import Role

Way = Literal["link", "password"]
LINK_MINUTES = 15
SESSION_DAYS = 14
MOST_LINKS, MOST_SESSIONS = 10, 50  # of a person; the oldest give way
SEEN_S = 60  # between two notes that a session was used
MAX_CLIENT = 200  # characters of a browser's name


class Session(NamedTuple):
    """A session in force and whose it is; `client` is what the browser calls itself."""

    id: uuid.UUID
    person_id: uuid.UUID
    name: str
    role: Role
    way: Way
    client: str
    began_at: datetime
    seen_at: datetime
    ends_at: datetime

    @property
    def actor(self) -> Actor:
        """The person."""
        return Actor("person", str(self.person_id), self.name, self.role)


async def make_link(connection: AsyncConnection, person: uuid.UUID) -> str:
    """A token that signs this person in once, within LINK_MINUTES; only its hash is kept."""
    token = secrets.token_urlsafe(32)
    await _run(connection, _OLD_LINKS, person=person, most=MOST_LINKS - 1)
    await _run(connection, _LINK, hash=_hash(token), person=person, minutes=LINK_MINUTES)
    return token


async def use_link(connection: AsyncConnection, token: str) -> uuid.UUID | None:
    """Whom the token signs in; it and the person's other links are used up. None for one that is
    unknown, used or too old, and for a person who is disabled.
    """
    found = await rows(connection, _USE_LINK, hash=_hash(token))
    if not found or not found[0].holds:
        return None
    person = cast(uuid.UUID, found[0].person_id)
    await _run(connection, _ALL_LINKS, person=person)
    return person


async def begin_session(
    connection: AsyncConnection, person: uuid.UUID, way: Way, client: str
) -> uuid.UUID:
    """Begins a session of this person and returns its id."""
    session = uuid.UUID(bytes=secrets.token_bytes(16))
    await _run(connection, _OLD_SESSIONS, person=person, most=MOST_SESSIONS - 1)
    await _run(
        connection, _SESSION, id=session, person=person, way=way, client=client[:MAX_CLIENT],
        days=SESSION_DAYS,
    )  # fmt: skip
    await _run(connection, _SIGNED_IN, person=person)
    return session


async def find_session(connection: AsyncConnection, session: uuid.UUID) -> Session | None:
    """The session, where it is in force and its person is not disabled; notes that it is used."""
    found = await rows(connection, f"{_SESSIONS} AND s.id = :id", id=session, seen=SEEN_S)
    if not found:
        return None
    if found[0].unseen:
        await _run(connection, _SEEN, id=session)
    return Session(*found[0][:-1])


async def sessions_of(
    connection: AsyncConnection, person: uuid.UUID | None = None
) -> list[Session]:
    """The sessions in force, of one person or of all, those used last first."""
    whose = "AND p.id = :person" if person else "AND CAST(:person AS uuid) IS NULL"
    found = await rows(
        connection, f"{_SESSIONS} {whose} ORDER BY s.seen_at DESC, s.id", person=person, seen=SEEN_S
    )
    return [Session(*row[:-1]) for row in found]


async def end_session(connection: AsyncConnection, session: uuid.UUID) -> uuid.UUID | None:
    """Ends a session; returns whose it was, or None where there is none."""
    found = await rows(
        connection, "DELETE FROM access.session WHERE id = :id RETURNING person_id", id=session
    )
    return found[0].person_id if found else None


async def end_sessions(
    connection: AsyncConnection, person: uuid.UUID, but: uuid.UUID | None = None
) -> None:
    """Ends all sessions of a person but one, and what could begin others: links."""
    await _run(connection, _OTHER_SESSIONS, person=person, but=but)
    await _run(connection, _ALL_LINKS, person=person)


def _hash(token: str) -> bytes:
    """The SHA-256 of a token, which is random and needs neither salt nor stretching."""
    return hashlib.sha256(token.encode()).digest()


async def _run(connection: AsyncConnection, statement: str, **values: Any) -> None:
    await connection.execute(text(statement), values)


_OLD_LINKS = """DELETE FROM access.sign_in_link WHERE person_id = :person AND
    (expires_at < clock_timestamp() OR hash NOT IN (SELECT hash FROM access.sign_in_link
    WHERE person_id = :person ORDER BY made_at DESC LIMIT :most))"""
_ALL_LINKS = "DELETE FROM access.sign_in_link WHERE person_id = :person"
_LINK = """INSERT INTO access.sign_in_link (hash, person_id, expires_at)
    VALUES (:hash, :person, clock_timestamp() + make_interval(mins => :minutes))"""
_USE_LINK = """DELETE FROM access.sign_in_link l USING access.person p
    WHERE l.hash = :hash AND p.id = l.person_id
    RETURNING l.person_id, l.expires_at > clock_timestamp() AND p.disabled_at IS NULL AS holds"""
_OLD_SESSIONS = """DELETE FROM access.session WHERE person_id = :person AND
    (ends_at < clock_timestamp() OR id NOT IN (SELECT id FROM access.session
    WHERE person_id = :person ORDER BY seen_at DESC LIMIT :most))"""
_OTHER_SESSIONS = (
    "DELETE FROM access.session WHERE person_id = :person AND id IS DISTINCT FROM :but"
)
_SESSION = """INSERT INTO access.session (id, person_id, way, client, began_at, ends_at)
    SELECT :id, :person, :way, :client, began, began + make_interval(days => :days)
    FROM clock_timestamp() AS began"""
_SIGNED_IN = "UPDATE access.person SET signed_in_at = clock_timestamp() WHERE id = :person"
_SEEN = "UPDATE access.session SET seen_at = clock_timestamp() WHERE id = :id"
_SESSIONS = """SELECT s.id, s.person_id, p.name, p.role, s.way, s.client, s.began_at, s.seen_at,
    s.ends_at, s.seen_at < clock_timestamp() - make_interval(secs => :seen) AS unseen
    FROM access.session s JOIN access.person p ON p.id = s.person_id
    WHERE s.ends_at > clock_timestamp() AND p.disabled_at IS NULL"""
