"""Reads a mailbox: each new mail takes the way of a webhook, and nothing in the mailbox is marked,
moved or deleted.

How far it has been read is noted after the broker has acknowledged: a crash reads some mails twice,
and their ids make that harmless, as they do a mailbox that was moved or numbered anew.
"""

import asyncio
import base64
import imaplib
import re
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import unquote, urlsplit

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ingest.delivery import Delivery
from services.ingest.mailbox import inbound
from services.ingest.mailbox.inbound import MAILBOX
from services.ingest.normalise import Normaliser, Receipt
from services.ingest.source_stats import Heard
from services.shared.clock import Clock
from services.shared.db import is_transient, rows, value
from services.shared.errors import Reject, Retry
from services.shared.runtime import Heartbeat, fault_point
from services.shared.telemetry import ACCEPTED, MAILBOX_READ, REFUSED

log = structlog.get_logger()
T = TypeVar("T")
# whatever the server is called: a mail that moves house stays the same event
DOOR = f"{MAILBOX.door}:default"
LOCK = 7165
LOT = 20  # mails between which the place is noted
ANSWER_S = 10.0  # how long the server may take for an answer
STEP_S = 45.0  # ... and for a lot; less than the watchdog's patience
LONGEST_WAIT_S = 300.0
HERE = frozenset({"localhost", "127.0.0.1", "::1"})


class Address(NamedTuple):
    """Where the mail is: `imaps` speaks TLS from the start, `imap` after STARTTLS."""

    secure: bool
    host: str
    port: int
    user: str
    password: str
    folder: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """The address of the setting. Raises Reject, which does not tell the password."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host, port = "", None
        if not host or not parts.username or parts.scheme not in ("imap", "imaps"):
            remedy = "write imaps://user:password@host/FOLDER, with %40 for an @ in the user's name"
            raise Reject("not the address of a mailbox", where="RIPELINE_IMAP_URL", remedy=remedy)
        secure = parts.scheme == "imaps"
        user, password = unquote(parts.username), unquote(parts.password or "")
        return cls(
            secure,
            host,
            port or (993 if secure else 143),
            user,
            password,
            unquote(parts.path.strip("/")) or "INBOX",
        )

    @property
    def name(self) -> str:
        """Under which its place is noted."""
        return f"{self.user}@{self.host}/{self.folder}"


class Session:
    """A look into the mailbox; it blocks, at most `ANSWER_S` for each answer. Raises Retry,
    OSError, imaplib's error.
    """

    def __init__(self, address: Address) -> None:
        self._imap = _connect(address)
        try:
            _sign_in(self._imap, address)
            if self._imap.select(quoted(address.folder), readonly=True)[0] != "OK":
                raise Retry("the mailbox of RIPELINE_IMAP_URL has no such folder")
            self.validity, self.next_uid = self._told("UIDVALIDITY"), self._told("UIDNEXT")
        except BaseException:
            self.cut()
            raise

    def _told(self, what: str) -> int:
        said = self._imap.response(what)[1]
        if not said or not isinstance(said[0], bytes) or not said[0].isdigit():
            raise Retry(f"the mail server does not tell its {what}")
        return int(said[0])

    def new(self, first: int) -> list[int]:
        """The next mails from the number `first` on, at most a lot; numbers may have gaps of any
        width.
        """
        span = LOT
        while first < self.next_uid:
            last = min(first + span, self.next_uid) - 1
            status, answer = self._imap.uid("SEARCH", f"UID {first}:{last}")
            if status != "OK":
                raise Retry("the mail server does not search")
            named = (int(number) for number in (answer[0] or b"").split() if number.isdigit())
            if found := sorted(uid for uid in named if first <= uid <= last):
                return found[:LOT]
            first, span = last + 1, span * 4
        return []

    def mail(self, uid: int) -> bytes:
        """The beginning of a mail; b'' where it is gone."""
        status, answer = self._imap.uid("FETCH", str(uid), f"(BODY.PEEK[]<0.{inbound.MAX_MAIL}>)")
        if status != "OK":
            raise Retry("the mail server does not hand out a mail")
        return next((bytes(part[1]) for part in answer if isinstance(part, tuple)), b"")

    def leave(self) -> None:
        """Says goodbye; all that was wanted has been had."""
        with suppress(imaplib.IMAP4.error, OSError):
            self._imap.logout()

    def cut(self) -> None:
        """Ends whatever the connection is at, from another thread."""
        with suppress(OSError):
            self._imap.socket().shutdown(socket.SHUT_RDWR)


class Mailbox:
    """Looks every `poll_s` seconds; of several processes one at a time."""

    def __init__(
        self,
        address: Address,
        poll_s: float,
        engine: AsyncEngine,
        normaliser: Normaliser,
        delivery: Delivery,
        heard: Heard,
        clock: Clock,
    ) -> None:
        self._address, self._poll_s, self._engine = address, poll_s, engine
        self._normaliser, self._delivery, self._heard, self._clock = (
            normaliser,
            delivery,
            heard,
            clock,
        )

    async def watch(self, heartbeat: Heartbeat) -> None:
        """Looks until cancelled; while the server, the broker or the database is away it waits
        longer each time.
        """
        wait, told = self._poll_s, ""
        while True:
            try:
                await self.look(heartbeat)
                wait, told = self._poll_s, ""
            except Exception as error:
                if not (isinstance(error, Retry | imaplib.IMAP4.error) or is_transient(error)):
                    raise
                reason = str(error) if isinstance(error, Retry) else type(error).__name__
                if reason != told:
                    log.warning("mailbox_waits", reason=reason)
                wait, told = min(wait * 2, max(LONGEST_WAIT_S, self._poll_s)), reason
            await _rest(wait, heartbeat)

    async def look(self, heartbeat: Heartbeat) -> None:
        """Reads what is new, unless another process is at it."""
        async with self._engine.begin() as turn:
            if not await value(
                turn,
                "SELECT pg_try_advisory_xact_lock(:lock, hashtext(:name))",
                lock=LOCK,
                name=self._address.name,
            ):
                heartbeat()
                return
            session = await _step(heartbeat, Session, self._address)
            try:
                await self._read(session, heartbeat)
                await _step(heartbeat, session.leave)
            finally:
                session.cut()
        MAILBOX_READ.set_to_current_time()

    async def _read(self, session: Session, heartbeat: Heartbeat) -> None:
        first = await self._place(session.validity)
        while uids := await _step(heartbeat, session.new, first):
            read = await _step(heartbeat, self._mails, session, uids)
            await self._delivery.publish([record for receipt in read for record in receipt.records])
            fault_point("between_publish_and_uid")
            first = uids[len(read) - 1] + 1
            await self._note(session.validity, first)
            self._count(uids, read)

    def _mails(self, session: Session, uids: Sequence[int]) -> list[Receipt]:
        """A receipt for each mail, of a slow server for the first ones only; runs in a thread of
        its own.
        """
        receipts: list[Receipt] = []
        enough = time.monotonic() + STEP_S / 2
        for uid in uids:
            if receipts and time.monotonic() > enough:
                break
            now = self._clock.now()
            receipt = Receipt(DOOR, now, time.time(), many=False)
            if raw := session.mail(uid):
                self._normaliser.take(inbound.read(raw, now), receipt)
            receipts.append(receipt)
        return receipts

    def _count(self, uids: Sequence[int], read: Sequence[Receipt]) -> None:
        for uid, receipt in zip(uids, read, strict=False):
            ACCEPTED.labels(MAILBOX.door).inc(len(receipt.ids))
            for _, _, reject in receipt.refused:
                REFUSED.labels(MAILBOX.door, reject.kind).inc()
                log.info("mail_refused", uid=uid, kind=reject.kind)
            if receipt.ids or receipt.refused:
                kind = receipt.refused[-1][2].kind if receipt.refused else ""
                self._heard.note(MAILBOX.door, len(receipt.ids), len(receipt.refused), kind)

    async def _place(self, validity: int) -> int:
        """The number to read on from: the first where the mailbox is new, or numbered anew."""
        async with self._engine.connect() as connection:
            found = await rows(
                connection,
                "SELECT validity, next_uid FROM access.mailbox WHERE name = :name",
                name=self._address.name,
            )
        return int(found[0].next_uid) if found and found[0].validity == validity else 1

    async def _note(self, validity: int, next_uid: int) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO access.mailbox (name, validity, next_uid) VALUES (:name, "
                    ":validity, :next_uid) "
                    "ON CONFLICT (name) DO UPDATE SET validity = excluded.validity, next_uid = "
                    "excluded.next_uid"
                ),
                {"name": self._address.name, "validity": validity, "next_uid": next_uid},
            )


def quoted(folder: str) -> str:
    """A folder's name as IMAP wants it: in quotes, and in its own UTF-7 (RFC 3501, 5.1.3)."""

    def shifted(match: re.Match[str]) -> str:
        return (
            "&"
            + base64.b64encode(match[0].encode("utf-16-be")).decode().rstrip("=").replace("/", ",")
            + "-"
        )

    plain = re.sub(r"[^\x20-\x7e]+", shifted, folder.replace("&", "&-"))
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _connect(address: Address) -> imaplib.IMAP4:
    """A connection in TLS; only this machine itself may do without."""
    context = ssl.create_default_context()
    if address.secure:
        return imaplib.IMAP4_SSL(address.host, address.port, ssl_context=context, timeout=ANSWER_S)
    imap = imaplib.IMAP4(address.host, address.port, timeout=ANSWER_S)
    if "STARTTLS" in imap.capabilities:
        imap.starttls(context)
    elif address.host not in HERE:
        imap.logout()
        raise Retry("the mail server offers no TLS: use imaps://")
    return imap


def _sign_in(imap: imaplib.IMAP4, address: Address) -> None:
    try:
        if "AUTH=PLAIN" in imap.capabilities:
            imap.authenticate("PLAIN", lambda _: f"\0{address.user}\0{address.password}".encode())
        else:
            imap.login(address.user, address.password)
    except imaplib.IMAP4.abort:
        raise
    except (imaplib.IMAP4.error, UnicodeError):  # the older LOGIN takes ASCII only
        raise Retry("the mail server refuses the user or password of RIPELINE_IMAP_URL") from None


async def _step(heartbeat: Heartbeat, work: Callable[..., T], *given: Any) -> T:
    """Does blocking work in a thread, within its time."""
    heartbeat()
    async with asyncio.timeout(STEP_S):
        return await asyncio.to_thread(work, *given)


async def _rest(seconds: float, heartbeat: Heartbeat) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        heartbeat()
        await asyncio.sleep(min(left, 5.0))
