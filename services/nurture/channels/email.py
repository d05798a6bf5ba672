"""E-mail by SMTP: HTML and text, one-click unsubscribe, the touch's id as Message-ID."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime
from urllib.parse import unquote, urlsplit

import aiosmtplib

from services.nurture.channels import Bounced, OutcomeUnknown, ReceiverRefuses, ServerUnusable
from services.nurture.channels.message import Message
from services.nurture.rules.receivers import answer_of
from services.shared.dkim_signing import Signer
from services.shared.errors import Reject, Retry
from services.shared.settings import Settings
from services.shared.urls import read_sender

LONGEST_ANSWER = 200  # characters of a server's words that are kept
# answers to RCPT and DATA that speak of the login (RFC 4954)
OF_THE_LOGIN = frozenset({530, 535, 538})


class Email:
    """Sends over one SMTP server; every message on a connection of its own.

    Where the settings name a password, it goes over TLS only.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = urlsplit(settings.smtp_url.get_secret_value())
        self._sender, self._timeout = read_sender(settings.mail_from), settings.sending_timeout_s
        self._signer = Signer.of(settings)

    async def send(
        self, message: Message, at: datetime, check: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Returns once the server has taken the message. `check` is asked right before its text
        goes out, and raises Halted where it must not.

        Raises Reject or Retry for what the server says of this message, ReceiverRefuses for what it
        has against the sender, ServerUnusable for what it
        says before it knows the message, OutcomeUnknown where nobody knows whether it was taken.
        """
        try:
            raw = compose(message, self._sender, at).as_bytes()
        except (ValueError, LookupError) as error:
            raise Reject(f"no mail can be made of it: {error}") from error
        if self._signer:
            raw = await asyncio.to_thread(self._signer.signed, raw)
        client = self._client()
        try:
            async with asyncio.timeout(self._timeout) as limit:
                await self._greet(client)
                await _hand_over(client, message.recipient, raw, limit, check)
        except TimeoutError as error:
            raise ServerUnusable("the mail server did not answer in time") from error
        finally:
            client.close()

    async def _greet(self, client: aiosmtplib.SMTP) -> None:
        """Up to MAIL FROM: nothing of it speaks of the message. Raises ServerUnusable."""
        try:
            await client.connect()
            if self._url.username:
                user, password = unquote(self._url.username), unquote(self._url.password or "")
                await client.login(user, password)
            await client.mail(self._sender.addr_spec)
        except aiosmtplib.SMTPResponseException as error:
            raise ServerUnusable(_answered(error)) from error
        except OSError as error:
            raise ServerUnusable(f"the mail server is away: {type(error).__name__}") from error
        except (aiosmtplib.SMTPException, ValueError, LookupError) as error:
            raise ServerUnusable(f"the mail server is of no use: {error}") from error

    def _client(self) -> aiosmtplib.SMTP:
        implicit_tls = self._url.scheme == "smtps"
        tls_by_command = True if self._url.username and not implicit_tls else None
        return aiosmtplib.SMTP(
            hostname=self._url.hostname,
            port=self._url.port or (465 if implicit_tls else 25),
            use_tls=implicit_tls,
            start_tls=False if implicit_tls else tls_by_command,
            timeout=self._timeout,
        )


async def _hand_over(
    client: aiosmtplib.SMTP,
    recipient: str,
    raw: bytes,
    limit: asyncio.Timeout,
    check: Callable[[], Awaitable[None]] | None,
) -> None:
    """RCPT and DATA, the commands whose answers speak of the message."""
    text = _Text(client)
    try:
        await client.rcpt(recipient)
        if check:
            await check()
        await client.data(raw)
    except aiosmtplib.SMTPResponseException as error:
        if error.code in OF_THE_LOGIN:
            raise ServerUnusable(_answered(error)) from error
        if not 400 <= error.code < 600:  # no answer of SMTP
            unknown = OutcomeUnknown if text.has_begun else ServerUnusable
            raise unknown("the mail server answered what nobody understands") from error
        # its words may hold the address
        answer = answer_of(str(error.message))
        answered = f"the mail server answered {error.code} {answer.status}".rstrip()
        if answer.remedy:
            raise ReceiverRefuses(f"{answered}: {answer.remedy}") from error
        raise (Bounced(answered) if error.code >= 500 else Retry(answered)) from error
    except (ValueError, LookupError) as error:
        raise Reject(f"SMTP cannot carry it: {type(error).__name__}") from error
    except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
        if text.has_begun:
            raise OutcomeUnknown(type(error).__name__) from error
        raise ServerUnusable(f"the mail server is away: {type(error).__name__}") from error
    except asyncio.CancelledError:
        if text.has_begun and limit.expired():
            raise OutcomeUnknown("no answer in time") from None
        raise


class _Text:
    """Whether the text of a mail has begun to go out: before that nothing can have arrived."""

    def __init__(self, client: aiosmtplib.SMTP) -> None:
        self.has_begun = False
        if client.protocol:
            self._write = client.protocol.write
            client.protocol.write = self._note  # type: ignore[method-assign]

    def _note(self, data: bytes) -> None:
        self.has_begun |= not data.startswith((b"RCPT ", b"DATA\r\n"))
        self._write(data)


def _answered(error: aiosmtplib.SMTPResponseException) -> str:
    words = " ".join(str(error.message).split())[:LONGEST_ANSWER]
    return f"the mail server answered {error.code} {words}".rstrip()


class _Policy(EmailPolicy):
    """Headers of VERBATIM are neither encoded nor folded, for addresses would break by either
    (RFC 2369, 8058).
    """

    def fold_binary(self, name: str, value: str) -> bytes:
        if name in VERBATIM:
            return f"{name}: {value}{self.linesep}".encode("ascii")
        return super().fold_binary(name, value)


def compose(message: Message, sender: Address, at: datetime) -> EmailMessage:
    """The mail. Raises ValueError for what no header can hold, or what would be read as another
    address.
    """
    mail = EmailMessage(POLICY)
    mail["From"] = sender
    mail["To"] = message.recipient
    if [address.addr_spec for address in mail["To"].addresses] != [message.recipient]:
        raise ValueError("the address would be read as another one")
    mail["Subject"] = message.subject
    mail["Date"] = format_datetime(at)
    mail["Message-ID"] = f"<{message.touch_id}@{sender.domain}>"
    mail["X-Ripeline-Touch"] = message.touch_id
    for name, value in provider_headers(message.touch_id).items():
        mail[name] = value
    mail["List-Unsubscribe"] = f"<{message.unsubscribe}>"
    mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    mail.set_content(message.text)
    mail.add_alternative(message.html, subtype="html")
    return mail


def provider_headers(touch_id: str) -> dict[str, str]:
    """The headers under which SendGrid, Mailgun and Postmark repeat the touch's id in every event;
    other servers ignore them.

    Postmark keeps our Message-ID, by which a reply finds its touch, only with `X-PM-KeepID`.
    """
    touch = json.dumps({"touch_id": touch_id})
    return {
        "X-SMTPAPI": f'{{"unique_args": {touch}}}',
        "X-Mailgun-Variables": touch,
        "X-PM-Metadata-touch_id": touch_id,
        "X-PM-KeepID": "true",
    }


VERBATIM = {"List-Unsubscribe", "List-Unsubscribe-Post", "Message-ID", *provider_headers("")}
POLICY = _Policy(linesep="\r\n", max_line_length=76)  # of a blank and an encoded word (RFC 2047)
