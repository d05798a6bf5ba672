"""Plain mails to the company's own people, which no kill switch and no permission holds up."""

import asyncio
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import unquote, urlsplit

import aiosmtplib
import structlog

from services.shared.dkim_signing import Signer
from services.shared.errors import Reject, Retry
from services.shared.settings import Settings
from services.shared.urls import read_sender

log = structlog.get_logger()


class StaffMail:
    """Sends over one SMTP server, every mail on a connection of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._url = urlsplit(settings.smtp_url.get_secret_value())
        self._sender = read_sender(settings.mail_from)

    async def send(
        self, message_id: str, recipient: str, subject: str, text: str, at: datetime
    ) -> None:
        """Returns once the server has taken it; a mail that is sent again has the same Message-ID.
        Raises Reject where no mail can be made of it, Retry where the server has not taken it.
        """
        try:
            raw = await asyncio.to_thread(self._composed, message_id, recipient, subject, text, at)
        except (ValueError, LookupError) as error:
            raise Reject(f"no mail can be made of it: {error}") from error
        implicit = self._url.scheme == "smtps"
        user = unquote(self._url.username) if self._url.username else None
        try:
            await aiosmtplib.send(
                raw,
                sender=self._sender.addr_spec,
                recipients=[recipient],
                hostname=self._url.hostname,
                port=self._url.port or (465 if implicit else 25),
                username=user,
                password=unquote(self._url.password or "") if user else None,
                use_tls=implicit,
                start_tls=False if implicit else (True if user else None),  # a password over TLS
                timeout=self._settings.sending_timeout_s,
            )
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise Retry(f"the mail server did not take it: {type(error).__name__}") from error

    def _composed(
        self, message_id: str, recipient: str, subject: str, text: str, at: datetime
    ) -> bytes:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = self._sender, recipient, subject
        if [address.addr_spec for address in mail["To"].addresses] != [recipient]:
            raise ValueError("the address would be read as another one")
        mail["Date"] = format_datetime(at)
        mail["Message-ID"] = f"<{message_id}@{self._sender.domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(text, cte="8bit")
        return self._signed(mail.as_bytes(policy=mail.policy.clone(linesep="\r\n")))

    def _signed(self, raw: bytes) -> bytes:
        """The mail with DKIM where a key can be read: a mail unsigned is better than none."""
        try:
            signer = Signer.of(self._settings)
        except Reject as error:
            log.warning("staff_mail_unsigned", reason=error.title)
            return raw
        return signer.signed(raw) if signer else raw
