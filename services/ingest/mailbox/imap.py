"""A session with a mail server over IMAP; nothing in the mailbox is marked, moved or deleted."""

import base64
import imaplib
import re
import socket
import ssl
from contextlib import suppress
from typing import NamedTuple, Self
from urllib.parse import unquote, urlsplit

from services.ingest.mailbox.inbound import MAX_MAIL
from services.shared.errors import Reject, Retry

ANSWER_S = 10.0  # how long the server may take for an answer
BATCH = 20  # mails that are read at once
LOCALHOST = frozenset({"localhost", "127.0.0.1", "::1"})


class MailboxAddress(NamedTuple):
    """Where the mails are: `imaps` speaks TLS from the start, `imap` after STARTTLS."""

    secure: bool
    host: str
    port: int
    user: str
    password: str
    folder: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """The address of the setting. Raises Reject, which does not show the password."""
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
        """Under which its cursor is stored."""
        return f"{self.user}@{self.host}/{self.folder}"


class ImapSession:
    """A connection to the mailbox, read only; it blocks, at most `ANSWER_S` for each answer. Raises
    Retry, OSError, imaplib's error.
    """

    def __init__(self, address: MailboxAddress) -> None:
        self._imap = _connect(address)
        try:
            _sign_in(self._imap, address)
            if self._imap.select(quoted(address.folder), readonly=True)[0] != "OK":
                raise Retry("the mailbox of RIPELINE_IMAP_URL has no such folder")
            self.validity, self.next_uid = self._number("UIDVALIDITY"), self._number("UIDNEXT")
        except BaseException:
            self.abort()
            raise

    def _number(self, name: str) -> int:
        values = self._imap.response(name)[1]
        if not values or not isinstance(values[0], bytes) or not values[0].isdigit():
            raise Retry(f"the mail server does not tell its {name}")
        return int(values[0])

    def next_uids(self, first: int) -> list[int]:
        """The next mails from the number `first` on, at most a batch; numbers may have gaps of any
        width.
        """
        span = BATCH
        while first < self.next_uid:
            last = min(first + span, self.next_uid) - 1
            status, answer = self._imap.uid("SEARCH", f"UID {first}:{last}")
            if status != "OK":
                raise Retry("the mail server does not search")
            named = (int(number) for number in (answer[0] or b"").split() if number.isdigit())
            if found := sorted(uid for uid in named if first <= uid <= last):
                return found[:BATCH]
            first, span = last + 1, span * 4
        return []

    def mail(self, uid: int) -> bytes:
        """The beginning of a mail; b'' where it is gone."""
        status, answer = self._imap.uid("FETCH", str(uid), f"(BODY.PEEK[]<0.{MAX_MAIL}>)")
        if status != "OK":
            raise Retry("the mail server does not hand out a mail")
        return next((bytes(part[1]) for part in answer if isinstance(part, tuple)), b"")

    def log_out(self) -> None:
        """Ends the session in order."""
        with suppress(imaplib.IMAP4.error, OSError):
            self._imap.logout()

    def abort(self) -> None:
        """Closes the connection, whatever another thread is doing with it."""
        with suppress(OSError):  # wakes that thread
            self._imap.socket().shutdown(socket.SHUT_RDWR)
        _close(self._imap)


def quoted(folder: str) -> str:
    """A folder's name as IMAP writes it: in quotes, and in its own UTF-7 (RFC 3501, 5.1.3)."""

    def shifted(match: re.Match[str]) -> str:
        return (
            "&"
            + base64.b64encode(match[0].encode("utf-16-be")).decode().rstrip("=").replace("/", ",")
            + "-"
        )

    plain = re.sub(r"[^\x20-\x7e]+", shifted, folder.replace("&", "&-"))
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _connect(address: MailboxAddress) -> imaplib.IMAP4:
    """A connection in TLS; only this machine itself may do without."""
    context = ssl.create_default_context()
    if address.secure:
        return imaplib.IMAP4_SSL(address.host, address.port, ssl_context=context, timeout=ANSWER_S)
    imap = imaplib.IMAP4(address.host, address.port, timeout=ANSWER_S)
    try:
        if "STARTTLS" in imap.capabilities:
            imap.starttls(context)
        elif address.host not in LOCALHOST:
            imap.logout()
            raise Retry("the mail server offers no TLS: use imaps://")
    except BaseException:
        _close(imap)
        raise
    return imap


def _close(imap: imaplib.IMAP4) -> None:
    with suppress(OSError):
        imap.shutdown()


def _sign_in(imap: imaplib.IMAP4, address: MailboxAddress) -> None:
    try:
        if "AUTH=PLAIN" in imap.capabilities:
            imap.authenticate("PLAIN", lambda _: f"\0{address.user}\0{address.password}".encode())
        else:
            imap.login(address.user, address.password)
    except imaplib.IMAP4.abort:
        raise
    except (imaplib.IMAP4.error, UnicodeError):  # the older LOGIN takes ASCII only
        raise Retry("the mail server refuses the user or password of RIPELINE_IMAP_URL") from None
