"""Who is signed in to a page: a person, by a stored session that can be ended, or a key."""

import hmac
import time
import uuid

from sqlalchemy.ext.asyncio import AsyncEngine

from services.shared.http.signin import MAX_DIGITS, TICKET_S, PageSessions, SignedOut
from services.shared.people.audit import Actor
from services.shared.people.sign_in import Session, find_session

PERSON = "p-"  # begins the cookies and tickets of people; no key's id has a dash


def is_person(cookie: str) -> bool:
    """Whether a cookie or ticket is of a person; else it is of a key, which memory knows."""
    return cookie.startswith(PERSON)


class Sessions:
    """Sessions of people beside those of keys. A cookie `p-<id>.<mac>` names a stored session, so
    that who reads the database cannot make one without the pepper.
    """

    def __init__(self, keys: PageSessions, pepper: bytes, engine: AsyncEngine) -> None:
        self.keys, self._pepper, self._engine = keys, pepper, engine

    async def who(self, cookie: str) -> Actor:
        """Who is signed in by a cookie. Raises SignedOut."""
        actor, _ = await self.open(cookie)
        return actor

    async def open(self, cookie: str) -> tuple[Actor, Session | None]:
        """The same, with the session of a person; a key has none. Raises SignedOut."""
        if not is_person(cookie):
            key = self.keys.key_of(cookie)
            return Actor("key", key.id, key.name), None
        session = await self.session(cookie)
        return session.actor, session

    async def session(self, cookie: str) -> Session:
        """The session of a person's cookie. Raises SignedOut."""
        session_id = self._session_id(cookie)
        async with self._engine.begin() as connection:
            session = await find_session(connection, session_id)
        if session is None:
            raise SignedOut
        return session

    def cookie(self, session: uuid.UUID) -> str:
        """The cookie of a session that has begun."""
        return f"{PERSON}{session.hex}.{self._mac(b'session', session.hex)}"

    def ticket(self, cookie: str) -> str:
        """What takes this session to a page on another host, where it is looked up; for TICKET_S
        seconds. Raises SignedOut for a cookie that is none of ours.
        """
        if not is_person(cookie):
            return self.keys.ticket(self.keys.key_of(cookie))
        session, ends = self._session_id(cookie).hex, int(time.time()) + TICKET_S
        return f"{PERSON}{session}.{ends}.{self._mac(b'visit', f'{session}.{ends}')}"

    def redeem(self, ticket: str) -> str:
        """The cookie for a ticket. Raises SignedOut."""
        if not is_person(ticket):
            return self.keys.redeem(ticket)
        signed, _, mac = ticket.removeprefix(PERSON).rpartition(".")
        session, _, ends = signed.partition(".")
        right = hmac.compare_digest(mac.encode(), self._mac(b"visit", signed).encode())
        is_number = ends.isascii() and ends.isdecimal() and len(ends) <= MAX_DIGITS
        if not right or not is_number or not time.time() <= int(ends) <= time.time() + TICKET_S:
            raise SignedOut
        return self.cookie(uuid.UUID(hex=session))

    def _session_id(self, cookie: str) -> uuid.UUID:
        session, _, mac = cookie.removeprefix(PERSON).partition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(b"session", session).encode()):
            raise SignedOut
        return uuid.UUID(hex=session)

    def _mac(self, purpose: bytes, text: str) -> str:
        return hmac.digest(self._pepper, purpose + b"\0" + text.encode(), "sha256").hex()
