"""Tells nurture whether this ingest's spool is empty, and makes sure that no mail goes past a
refusal that waits in it.
"""

import asyncio
import os
import socket
import time
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.ingest.spool import Spool
from services.ingest.spool_files import DAMAGED, sync_folder
from services.shared.db import is_transient
from services.shared.errors import Reject, Retry
from services.shared.messaging import spool_leases
from services.shared.messaging.spool_leases import LEASE_S, Held, Lease
from services.shared.runtime import Heartbeat, refresh_every_second

log = structlog.get_logger()
ATTEMPT_S = 2.0  # the longest wait for the database
RETRY_S = 0.2
MARGIN_S = 1.0  # by which the database's clock may be slow, or set back, within a lease
NAME_FILE = "instance"  # in the spool's folder: whoever takes up the spool takes up its lease
LOCK_FILE = "lock"  # of the spool: while it is locked, no other process has this folder
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SpoolLease:
    """The lease of a spool; `folder` is the spool's, opened before.

    A copy of a folder brings the name of its lease along. So a lease is taken up at once only where
    the name was written into this very folder; elsewhere once nobody renews it. Where somebody
    does, the folder is a copy, and its spool gets a lease of its own.
    """

    def __init__(self, engine: AsyncEngine, spool: Spool, folder: Path) -> None:
        self._engine, self._spool, self._folder = engine, spool, folder
        self._instance = ""
        self._is_named_here = False  # so that whoever held the lease is gone
        self._last_seen: datetime | None = None  # a renewal that may be another process's
        self._writing = asyncio.Lock()
        self._revision = 0
        self._is_declared = False  # the database says that records wait here
        self._trusted_until = 0.0  # until then the spool may count as empty, if not declared

    def open(self) -> None:
        """Reads the name under which the spool is known, or gives it one."""
        path = self._folder / NAME_FILE
        name, _, named_in = path.read_text().strip().partition("\n") if path.exists() else ("",) * 3
        if name:
            self._instance, self._is_named_here = name, named_in == _identity(self._folder) != ""
        else:
            self._name(spool_leases.new_instance(socket.gethostname()))

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

    def _name(self, name: str) -> None:
        """Writes the name of the lease, with the identity of the folder."""
        path, new = self._folder / NAME_FILE, self._folder / f"{NAME_FILE}.new"
        with new.open("w") as file:
            file.write(f"{name}\n{_identity(self._folder)}")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        sync_folder(self._folder)
        self._instance, self._is_named_here = name, True

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
        its revision. Raises Retry while another process may have it.
        """
        if self._revision:
            self._revision += 1  # never the same for two attempts
            if await spool_leases.renew(connection, lease, self._revision):
                return self._revision
        known = await spool_leases.find(connection, self._instance)
        if known and (self._revision or await self._is_anothers(connection, known)):
            self._rename()
            known, lease = None, lease._replace(instance=self._instance)
        revision = await spool_leases.take(connection, lease, known.revision if known else None)
        if revision is None:
            raise Retry("another process took the lease of this spool")
        if not self._is_named_here:
            self._name(self._instance)
        return revision

    async def _is_anothers(self, connection: AsyncConnection, known: Held) -> bool:
        """Whether a living process renews this lease. Raises Retry while one may."""
        if self._is_named_here:
            return False
        now = await spool_leases.database_time(connection)
        if known.renewed_at <= now - timedelta(seconds=LEASE_S):
            return False
        if self._last_seen in (None, known.renewed_at):
            self._last_seen = known.renewed_at
            raise Retry("the lease of this spool may be another process's: its folder is a copy")
        return True

    def _rename(self) -> None:
        """Gives this spool a lease of its own."""
        before = self._instance
        self._name(spool_leases.new_instance(socket.gethostname()))
        self._revision, self._is_declared = 0, False
        log.warning(
            "spool_was_copied",
            instance=before,
            now=self._instance,
            reason="another process renews the lease of that name",
            remedy="give each ingest a folder of its own; records in both go out once",
        )


def _identity(folder: Path) -> str:
    """What tells this folder from its copies while the machine runs; '' where nothing does."""
    if not BOOT_ID.exists():
        return ""
    lock = (folder / LOCK_FILE).stat()
    return f"{BOOT_ID.read_text().strip()} {lock.st_dev} {lock.st_ino}"
