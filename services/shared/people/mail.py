"""The mail that holds a link to sign in; sent at once, by the configured server, whatever the kill
switch says: it answers who asks for it.
"""

import asyncio
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from urllib.parse import quote, unquote, urlsplit

import aiosmtplib
import structlog

from services.shared.clock import Clock
from services.shared.dkim_signing import Signer
from services.shared.errors import Reject, Retry
from services.shared.people.sign_in import LINK_MINUTES
from services.shared.settings import Settings
from services.shared.urls import read_sender

log = structlog.get_logger()
TEXT = """Hello {name},

this link signs you in to Ripeline:

{link}

It works once, within {minutes} minutes. If you did not ask for it, do nothing: nobody is signed in
by this mail alone.
"""


def address_of(settings: Settings, token: str, to: str = "") -> str:
    """The address of a link that signs in, and then goes on at a page of ours."""
    onward = f"&to={quote(to, safe='/')}" if to not in ("", "/") else ""
    return f"{settings.page_url}/sign-in/link?token={token}{onward}"


class SignInMail:
    """Sends links over one SMTP server, every mail on a connection of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._url = urlsplit(settings.smtp_url.get_secret_value())
        self._sender = read_sender(settings.mail_from)

    async def send(self, name: str, mail: str, link: str) -> None:
        """Returns once the server has taken it. Raises Retry where it has not."""
        message = EmailMessage()
        message["From"], message["To"] = self._sender, mail
        message["Subject"] = "Your link to sign in"
        message["Date"] = format_datetime(Clock().now())
        message["Message-ID"] = make_msgid(domain=self._sender.domain)
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(TEXT.format(name=name, link=link, minutes=LINK_MINUTES), cte="8bit")
        raw = await asyncio.to_thread(self._signed, message)
        implicit = self._url.scheme == "smtps"
        try:
            await aiosmtplib.send(
                raw,
                sender=self._sender.addr_spec,
                recipients=[mail],
                hostname=self._url.hostname,
                port=self._url.port or (465 if implicit else 25),
                username=unquote(self._url.username) if self._url.username else None,
                password=unquote(self._url.password or "") if self._url.username else None,
                use_tls=implicit,
                # a password goes over TLS only
                start_tls=False if implicit else (True if self._url.username else None),
                timeout=self._settings.sending_timeout_s,
            )
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise Retry(f"the mail server did not take it: {type(error).__name__}") from error

    def _signed(self, message: EmailMessage) -> bytes:
        """The mail with DKIM where a key can be read: a link unsigned is better than none."""
        raw = message.as_bytes(policy=message.policy.clone(linesep="\r\n"))
        try:
            signer = Signer.of(self._settings)
        except Reject as error:
            log.warning("sign_in_mail_unsigned", reason=error.title)
            return raw
        return signer.signed(raw) if signer else raw
