"""E-mail by SMTP: HTML and text, one-click unsubscribe, the touch's id as Message-ID."""

import json
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from urllib.parse import unquote, urlsplit

import aiosmtplib

from services.nurture.channels import Uncertain
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
        url, begun = self._url, False
        implicit = url.scheme == "smtps"
        client = aiosmtplib.SMTP(
            hostname=url.hostname,
            port=url.port or (465 if implicit else 25),
            use_tls=implicit,
            timeout=self._timeout,
        )
        try:
            await client.connect()
            if url.username:
                await client.login(unquote(url.username), unquote(url.password or ""))
            await client.mail(parseaddr(self._sender)[1])
            await client.rcpt(message.recipient)
            begun = True
            await client.data(raw)
        except aiosmtplib.SMTPResponseException as error:
            refused = f"the mail server said {error.code}"
            raise (Reject(refused) if error.code >= 500 else Retry(refused)) from error
        except (ValueError, LookupError) as error:
            raise Reject(f"the mail program cannot say it: {type(error).__name__}") from error
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            if begun:
                raise Uncertain(type(error).__name__) from error
            raise Retry(f"the mail server is away: {type(error).__name__}") from error
        finally:
            client.close()


def compose(message: Message, sender: str, at: datetime) -> EmailMessage:
    """The mail. Raises ValueError for what no header can hold, or what would be read as another
    address.
    """
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = message.recipient
    if [one.addr_spec for one in mail["To"].addresses] != [message.recipient]:
        raise ValueError("the address would be read as another one")
    mail["Subject"] = message.subject
    mail["Date"] = format_datetime(at)
    mail["Message-ID"] = (
        f"<{message.touch_id}@{parseaddr(sender)[1].rpartition('@')[2] or 'localhost'}>"
    )
    mail["X-Ripeline-Touch"] = message.touch_id
    for name, value in carried(message.touch_id).items():
        mail[name] = value
    mail["List-Unsubscribe"] = f"<{message.unsubscribe}>"
    mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    mail.set_content(message.text)
    mail.add_alternative(message.html, subtype="html")
    return mail


def carried(touch_id: str) -> dict[str, str]:
    """The headers under which SendGrid, Mailgun and Postmark give the touch back with every event;
    for others they mean nothing.

    Postmark keeps our Message-ID, by which an answer finds its touch, only when told to.
    """
    touch = json.dumps({"touch_id": touch_id})
    return {
        "X-SMTPAPI": f'{{"unique_args": {touch}}}',
        "X-Mailgun-Variables": touch,
        "X-PM-Metadata-touch_id": touch_id,
        "X-PM-KeepID": "true",
    }
