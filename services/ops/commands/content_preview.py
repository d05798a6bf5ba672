"""An item as one lead would get it: shown, or sent to somebody else as a test, with plain links
that measure nothing; nothing is recorded of the lead.
"""

import re
import uuid
from datetime import datetime
from typing import Any, NamedTuple

from jinja2 import TemplateError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture.channels import OutcomeUnknown, ServerUnusable
from services.nurture.channels.email import Email
from services.nurture.channels.message import Message, render
from services.nurture.store.snapshots import KnownSnapshot, SnapshotStore
from services.shared.contracts.events import Touch
from services.shared.errors import Reject
from services.shared.playbook.contradiction import did_you_mean
from services.shared.playbook.sections import Content, Playbook
from services.shared.settings import Settings

BASE = "https://preview.invalid"
MEASURED = re.compile(r"https://preview\.invalid/([lopu])/[^\s\"'<>]*+")
TEST = "[Test] "
_SURVIVING = "SELECT into_lead FROM nurture.merged WHERE lead_id = :lead"


class Preview(NamedTuple):
    """An item as a lead would get it."""

    item: str
    lead: str
    product: str
    subject: str
    text: str
    html: str

    def report(self) -> dict[str, Any]:
        """As JSON has it."""
        return self._asdict()


async def preview(
    engine: AsyncEngine, playbook: Playbook, item: str, lead: uuid.UUID, product: str = ""
) -> Preview:
    """What the lead would read. Raises Reject for an item or a lead that there is not, or a text
    that cannot be rendered.
    """
    content = _item(playbook, item)
    snapshot = await _snapshot(engine, lead, product)
    message = _rendered(playbook, content, snapshot)
    return Preview(item, str(lead), snapshot.product, *message[2:5])


async def send_test(
    settings: Settings, playbook: Playbook, shown: Preview, recipient: str, at: datetime
) -> None:
    """Sends it to somebody who is not the lead, marked as a test. Raises Reject where it may not or
    cannot be sent.
    """
    if _item(playbook, shown.item).sample and not settings.smtp_is_sink:
        raise Reject(
            "the item is a sample, and the mail server is not a local sink",
            where=shown.item,
            remedy="take `sample: true` out of what you have made your own",
        )
    message = Message(
        touch_id=str(uuid.uuid4()),
        recipient=recipient,
        subject=TEST + shown.subject,
        text=f"{TEST}as lead {shown.lead} would get it\n\n{shown.text}",
        html=shown.html,
        link=_item(playbook, shown.item).url,
        unsubscribe=playbook.company.website,
        preferences=playbook.company.website,
    )
    try:
        await Email(settings).send(message, at)
    except (ServerUnusable, OutcomeUnknown) as error:
        remedy = "look at RIPELINE_SMTP_URL"
        raise Reject(f"the mail server did not take it: {error}", remedy=remedy) from error


def _item(playbook: Playbook, name: str) -> Content:
    if found := playbook.content_by_id.get(name):
        return found
    remedy = f"{did_you_mean(name, playbook.content_by_id)}`ripeline content --json` lists them"
    raise Reject(f"no item {name[:100]!r}", where="ITEM", remedy=remedy, kind="not-found")


async def _snapshot(engine: AsyncEngine, lead: uuid.UUID, product: str) -> KnownSnapshot:
    """The newest of a lead, or of the one into which it was merged; of its first product unless
    one is named.
    """
    async with engine.connect() as connection:
        merged = (await connection.execute(text(_SURVIVING), {"lead": lead})).scalar()
        stored = await SnapshotStore(connection).stored([str(merged or lead)])
    for key, row in sorted(stored.items()):
        if product in ("", key.product):
            return row.snapshot
    raise Reject(
        "nurture knows no such lead",
        where="--lead",
        remedy="name the id of a lead whose stage was announced; `GET /v1/leads` lists ids",
        kind="not-found",
    )


def _rendered(playbook: Playbook, item: Content, snapshot: KnownSnapshot) -> Message:
    """The message with plain links in the place of those that measure."""
    touch = Touch(id=str(uuid.UUID(int=0)), lead="", content=item.id, status="due")
    try:
        message = render(playbook, touch, snapshot, public_url=BASE, pepper=b"preview")
    except TemplateError as error:
        remedy = "`ripeline playbook check` says where"
        raise Reject(f"it cannot be rendered: {error}", where=item.id, remedy=remedy) from error

    def plain(found: re.Match[str]) -> str:
        kind = found[1]
        return {"l": item.url, "o": "data:,"}.get(kind, playbook.company.website)

    return message._replace(
        text=MEASURED.sub(plain, message.text), html=MEASURED.sub(plain, message.html)
    )
