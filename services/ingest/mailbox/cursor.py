"""How far a mailbox has been read: stored after the broker has acknowledged."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.shared.db import rows, value

LOCK = 7165  # of all mailboxes' locks; the other half is the mailbox's name


class MailboxCursor:
    """The cursor of one mailbox in the database, under its name."""

    def __init__(self, engine: AsyncEngine, name: str) -> None:
        self._engine, self._name = engine, name

    async def lock(self, connection: AsyncConnection) -> bool:
        """Whether this process alone may read until the connection's transaction ends."""
        return bool(
            await value(
                connection,
                "SELECT pg_try_advisory_xact_lock(:lock, hashtext(:name))",
                lock=LOCK,
                name=self._name,
            )
        )

    async def load(self, validity: int) -> int:
        """The number of the mail to read on from: 1 where the mailbox is new, or was renumbered
        (another UIDVALIDITY, RFC 3501).
        """
        async with self._engine.connect() as connection:
            found = await rows(
                connection,
                "SELECT validity, next_uid FROM access.mailbox WHERE name = :name",
                name=self._name,
            )
        return int(found[0].next_uid) if found and found[0].validity == validity else 1

    async def store(self, validity: int, next_uid: int) -> None:
        """Stores where to read on from."""
        async with self._engine.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO access.mailbox (name, validity, next_uid) "
                    "VALUES (:name, :validity, :next_uid) ON CONFLICT (name) DO UPDATE SET "
                    "validity = excluded.validity, next_uid = excluded.next_uid"
                ),
                {"name": self._name, "validity": validity, "next_uid": next_uid},
            )
