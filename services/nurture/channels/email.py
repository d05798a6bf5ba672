"""E-mail by SMTP: HTML and text, one-click unsubscribe, the touch's id as Message-ID."""

import json
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from urllib.parse import unquote, urlsplit

import aiosmtplib

from services.nurture.channels import OutcomeUnknown
from services.nurture.channels.message import Message
from services.shared.errors import Reject, Retry
from services.shared.settings import Settings


class Email:
    """Sends over one SMTP server; every message on a connection of its own."""

    def __init__(self, settings: Settings) -> None:
        self._url = urlsplit(settings.smtp_url.get_secret_value())
        self._sender, self._timeout = settings.mail_from, settings.sending_timeout_s

    async def send(self, message: Message, at: datetime) -> None:
        """Returns once the server has taken the message."""
        try:
            raw = compose(message, self._sender, at).as_bytes()
        except (ValueError, LookupError) as error:
            raise Reject(f"no mail can be made of it: {error}") from error
        client, has_begun = self._client(), False
        try:
            await client.connect()
            if self._url.username:
                await client.login(unquote(self._url.username), unquote(self._url.password or ""))
            await client.mail(parseaddr(self._sender)[1])
            await client.rcpt(message.recipient)
            has_begun = True
            await client.data(raw)
        except aiosmtplib.SMTPResponseException as error:
            answered = f"the mail server answered {error.code}"
            raise (Reject(answered) if error.code >= 500 else Retry(answered)) from error
        except (ValueError, LookupError) as error:
            raise Reject(f"SMTP cannot carry it: {type(error).__name__}") from error
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            if has_begun:
                raise OutcomeUnknown(type(error).__name__) from error
            raise Retry(f"the mail server is away: {type(error).__name__}") from error
        finally:
            client.close()

    def _client(self) -> aiosmtplib.SMTP:
        implicit_tls = self._url.scheme == "smtps"
        return aiosmtplib.SMTP(
            hostname=self._url.hostname,
            port=self._url.port or (465 if implicit_tls else 25),
            use_tls=implicit_tls,
            timeout=self._timeout,
        )


def compose(message: Message, sender: str, at: datetime) -> EmailMessage:
    """The mail. Raises ValueError for what no header can hold, or what would be read as another
    address.
    """
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = message.recipient
    if [address.addr_spec for address in mail["To"].addresses] != [message.recipient]:
        raise ValueError("the address would be read as another one")
    mail["Subject"] = message.subject
    mail["Date"] = format_datetime(at)
    mail["Message-ID"] = (
        f"<{message.touch_id}@{parseaddr(sender)[1].rpartition('@')[2] or 'localhost'}>"
    )
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
