"""Locks of leads against merges, until the end of a transaction.

They are taken before any lock of a row. Keys are few, as a batch may name thousands of leads and
PostgreSQL has room for some thousand locks; leads of one key wait for each other's merges.
"""

from collections.abc import Set as AbstractSet

from sqlalchemy.ext.asyncio import AsyncConnection

from services.shared.db import parsed

LOCK = 7166  # of all these locks; the other half is the lead's key
KEYS = 256


async def lock_against_merges(
    connection: AsyncConnection, leads: AbstractSet[str], merging: AbstractSet[str]
) -> None:
    """Waits for merges of these leads that others have begun; those that are `merging` here are
    locked for everybody else.
    """
    exclusive = {_key(lead) for lead in merging}
    keys = sorted({_key(lead) for lead in leads} | exclusive)
    await connection.execute(
        parsed(
            """SELECT CASE WHEN exclusive THEN pg_advisory_xact_lock(:lock, key)
                ELSE pg_advisory_xact_lock_shared(:lock, key) END
            FROM unnest(CAST(:keys AS int[]), CAST(:exclusive AS boolean[])) AS k(key, exclusive)"""
        ),
        {"lock": LOCK, "keys": keys, "exclusive": [key in exclusive for key in keys]},
    )


def _key(lead: str) -> int:
    return int(lead[-2:], 16) % KEYS
