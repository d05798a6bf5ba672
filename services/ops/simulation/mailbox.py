"""The mails that simulated people got: read from the mail sink's folder, and answered over HTTP."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Literal

import aiohttp

from services.ops.simulation.people import Person
from services.ops.simulation.posting import Done, IngestClient

# without it ingest takes the reader for a machine
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
LINK = re.compile(r"https?://[^\s\"'<>()]+/l/[^\s\"'<>()]+")


@dataclass(frozen=True)
class Mail:
    """A mail that came: its touch, its reader's address, and the links to follow or to leave by,
    '' where it has none.
    """

    touch_id: str
    recipient: str
    link: str
    unsubscribe: str


@dataclass(frozen=True)
class MailResponse:
    """What a person is about to do with a mail."""

    person: int
    action: Literal["follow", "leave"]
    link: str


class Mailbox:
    """The folder of the mail sink."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: set[str] = set()

    def new(self) -> Iterator[Mail]:
        """Mails that were not read before, the oldest first."""
        for name in sorted(path.name for path in self._folder.glob("*.eml")):
            if name not in self._read:
                self._read.add(name)
                yield _mail(read_mail(self._folder / name), name)


async def respond(client: IngestClient, person: Person, response: MailResponse, day: float) -> str:
    """Follows the tracked link, or unsubscribes with one click; returns the address of the page
    behind a link, '' where there is none. A person who gets no page does not try again.
    """
    try:
        if response.action == "leave":
            await _unsubscribe(client, person, response.link, day)
            return ""
        async with (
            client.at_once,
            client.http.get(response.link, headers=BROWSER, allow_redirects=False) as answer,
        ):
            target = answer.headers.get("Location", "")
    except (aiohttp.ClientError, TimeoutError):
        return ""
    if target:
        client.tally.clicks += 1
        client.tally.done[person.index].append(Done(day, "email_clicked"))
    return target


async def _unsubscribe(client: IngestClient, person: Person, link: str, day: float) -> None:
    data = {"List-Unsubscribe": "One-Click"}
    async with client.at_once, client.http.post(link, data=data) as answer:
        if answer.status < 300:
            client.tally.unsubscribed += 1
            person.unsubscribed_at = day
            client.tally.done[person.index].append(Done(day, "unsubscribed"))


def read_mail(path: Path) -> EmailMessage:
    """A stored mail."""
    return message_from_bytes(path.read_bytes(), policy=policy.default)


def text_of(mail: EmailMessage) -> str:
    """The plain part of a mail, else its HTML."""
    body = mail.get_body(("plain", "html"))
    return str(body.get_content()) if body else ""


def _mail(mail: EmailMessage, file_name: str) -> Mail:
    link = LINK.search(text_of(mail))
    return Mail(
        touch_id=str(mail.get("Message-ID", file_name)).strip("<> ").partition("@")[0],
        recipient=str(mail.get("To", "")).strip("<> ").rpartition("<")[2].lower(),
        link=link[0] if link else "",
        unsubscribe=str(mail.get("List-Unsubscribe", "")).partition("<")[2].partition(">")[0],
    )
