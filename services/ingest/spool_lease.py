"""Tells nurture whether this ingest's spool is empty, and makes sure that no mail goes past a
refusal that waits in it.
"""

import asyncio
import os
import socket
import time
from pathlib import Path

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.ingest.spool import Spool
from services.ingest.spool_files import DAMAGED, sync_folder
from services.shared.db import is_transient
from services.shared.errors import Reject, Retry
from services.shared.messaging import spool_leases
from services.shared.messaging.spool_leases import LEASE_S, Lease
from services.shared.runtime import Heartbeat, refresh_every_second

log = structlog.get_logger()
ATTEMPT_S = 2.0  # the longest wait for the database
RETRY_S = 0.2
MARGIN_S = 1.0  # by which the database's clock may be slow, or set back, within a lease
NAME_FILE = "instance"  # in the spool's folder: whoever takes up the spool takes up its lease


class SpoolLease:
    """The lease of a spool; `folder` is the spool's, opened before."""

    def __init__(self, engine: AsyncEngine, spool: Spool, folder: Path) -> None:
        self._engine, self._spool, self._folder = engine, spool, folder
        self._instance = ""
        self._writing = asyncio.Lock()
        self._revision = 0
        self._is_declared = False  # the database says that records wait here
        self._trusted_until = 0.0  # until then the spool may count as empty, if not declared

    def open(self) -> None:
        """Reads the name under which the spool is known, or gives it one."""
        path = self._folder / NAME_FILE
        self._instance = path.read_text().strip() if path.exists() else ""
        if not self._instance:
            self._instance = spool_leases.new_instance(socket.gethostname())
            with path.open("w") as file:
                file.write(self._instance)
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self._folder)

    async def run(self, heartbeat: Heartbeat) -> None:
        """Renews the lease about every second until cancelled."""
        await refresh_every_second(self._renew, heartbeat, "spool_lease_waits")

    def check(self) -> None:
        """Raises Reject `away` before the lease was ever taken: nothing would hold up sending."""
        if not self._revision:
            raise Reject(
                "broker and database are away",
                remedy="send it again after the seconds in Retry-After",
                kind="away",
            )

    async def declare(self) -> None:
        """Returns once nothing is sent past what is in the spool: the database says that records
        wait, or is away from us and the lease has run out; or the spool is empty again.
        """
        while self._spool.count and not self._is_declared:
            try:
                async with self._writing:
                    if not self._is_declared:
                        await self._write(spooled=True)
            except Retry:
                if time.monotonic() > self._trusted_until:
                    return
                await asyncio.sleep(RETRY_S)

    async def close(self) -> None:
        """Gives the lease up where the spool is empty."""
        if self._holds_some() or not self._revision:
            return
        try:
            async with asyncio.timeout(ATTEMPT_S), self._engine.begin() as connection:
                await spool_leases.give_up(connection, self._instance)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("spool_lease_stays", instance=self._instance, reason=type(error).__name__)

    async def _renew(self) -> None:
        async with self._writing:
            await self._write(spooled=self._holds_some())

    def _holds_some(self) -> bool:
        """Whether a refusal may lie here: in what waits, or in a file that not all was read of."""
        return self._spool.count > 0 or any(self._folder.glob(f"*{DAMAGED}"))

    async def _write(self, *, spooled: bool) -> None:
        """Writes the lease. Raises Retry while the database is away or not migrated."""
        if not spooled:
            self._is_declared = False  # before anything else can be spooled
        try:
            async with asyncio.timeout(ATTEMPT_S), self._engine.begin() as connection:
                # The time comes first: however late the rest takes effect, the lease ends by it.
                lease = Lease(self._instance, spooled, await spool_leases.database_time(connection))
                if not spooled:
                    self._trusted_until = time.monotonic() + LEASE_S + MARGIN_S
                revision = await self._save(connection, lease)
        except Exception as error:
            if is_transient(error):
                raise Retry("the database is away") from error
            if "access.ingest_lease" in str(error):
                raise Retry("the database is not migrated yet: run `ripeline provision`") from error
            raise
        self._revision, self._is_declared = revision, spooled

    async def _save(self, connection: AsyncConnection, lease: Lease) -> int:
        """Renews the lease, or takes it where this process has none or it was forgotten; returns
        its revision.
        """
        revision = self._revision + 1
        self._revision = revision if self._revision else 0  # never the same for two attempts
        if self._revision and await spool_leases.renew(connection, lease, revision):
            return revision
        return await spool_leases.take(connection, lease)
