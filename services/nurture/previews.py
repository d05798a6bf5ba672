"""Items as leads would get them: rendered with plain links that measure nothing, sent to somebody
else as a test; nothing is recorded of the lead.
"""

import uuid
from datetime import datetime
from typing import Any, NamedTuple

from jinja2 import TemplateError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture.channels import Bounced, OutcomeUnknown, ReceiverRefuses, ServerUnusable
from services.nurture.channels.email import Email
from services.nurture.channels.message import Message
from services.nurture.channels.rendering import Links, Rendered, render
from services.nurture.store.snapshots import SnapshotStore
from services.shared.contracts.events import Snapshot
from services.shared.errors import Reject, Retry
from services.shared.people.audit import Actor, record
from services.shared.playbook.contradiction import did_you_mean
from services.shared.playbook.mail_html import LayoutError
from services.shared.playbook.sections import Content, Playbook
from services.shared.settings import Settings
from services.shared.urls import read_sender

TEST = "[Test] "
ADDRESS = "a test goes to you: write your own address, like me@example.com"
_SURVIVING = "SELECT into_lead FROM nurture.merged WHERE lead_id = :lead"


class Preview(NamedTuple):
    """An item as a lead would get it; `to` is the lead's address, '' where it has none."""

    item: str
    lead: str
    product: str
    to: str
    subject: str
    text: str
    html: str

    def report(self) -> dict[str, Any]:
        """As JSON has it."""
        return self._asdict()


def as_the_lead_reads_it(playbook: Playbook, item: Content, snapshot: Snapshot) -> Rendered:
    """The mail with plain links; those of preferences lead to the company's page. Raises Reject for
    what cannot be rendered.
    """
    site = playbook.company.website
    try:
        return render(
            playbook, item, snapshot, Links.plain(item.url, preferences=site, unsubscribe=site)
        )
    except (TemplateError, LayoutError) as error:
        remedy = "`ripeline playbook check` says where"
        raise Reject(f"it cannot be rendered: {error}", where=item.id, remedy=remedy) from error


async def preview(
    engine: AsyncEngine, playbook: Playbook, item: str, lead: uuid.UUID, product: str = ""
) -> Preview:
    """What the lead would read. Raises Reject for an item or a lead that there is not, or a text
    that cannot be rendered.
    """
    content = item_of(playbook, item)
    snapshot = await _snapshot(engine, lead, product)
    read = as_the_lead_reads_it(playbook, content, snapshot)
    return Preview(item, str(lead), snapshot.product, snapshot.email, *read)


async def send_test(
    settings: Settings,
    engine: AsyncEngine,
    playbook: Playbook,
    shown: Preview,
    recipient: str,
    at: datetime,
    actor: Actor,
) -> None:
    """Sends it to somebody who is not the lead, marked as a test, and records who asked for it.
    Raises Reject where it may not or cannot be sent.
    """
    item, recipient = item_of(playbook, shown.item), _recipient(shown, recipient)
    if item.sample and not settings.smtp_is_sink:
        raise Reject(
            "the item is a sample, and the mail server is not a local sink",
            where=shown.item,
            remedy="take `sample: true` out of what you have made your own",
        )
    async with engine.begin() as connection:
        details = {"lead": shown.lead, "to_domain": recipient.rpartition("@")[2]}
        await record(connection, actor, "send-test", f"content {item.id}", details)
    message = Message(
        touch_id=str(uuid.uuid4()),
        recipient=recipient,
        subject=TEST + shown.subject,
        text=f"{TEST}as lead {shown.lead} would get it\n\n{shown.text}",
        html=shown.html,
        link=item.url,
        unsubscribe=playbook.company.website,
        preferences=playbook.company.website,
    )
    try:
        await Email(settings).send(message, at)
    except Bounced as error:
        raise Reject(f"the receiver refuses it: {error}", where="to", remedy=ADDRESS) from error
    except (ServerUnusable, OutcomeUnknown, ReceiverRefuses, Retry) as error:
        raise Reject(
            f"the mail server did not take it: {error}", remedy="look at RIPELINE_SMTP_URL",
            kind="away",
        ) from error  # fmt: skip


def _recipient(shown: Preview, given: str) -> str:
    """The address of who gets the test. Raises Reject for what is none, and for the lead's own."""
    try:
        address = read_sender(given).addr_spec
    except ValueError:
        raise Reject("no mail address", where="to", remedy=ADDRESS) from None
    if address.lower() == shown.to.lower():
        raise Reject("this is the lead's own address", where="to", remedy=ADDRESS)
    return address


def item_of(playbook: Playbook, name: str) -> Content:
    """The item of this id. Raises Reject `not-found`."""
    if found := playbook.content_by_id.get(name):
        return found
    remedy = f"{did_you_mean(name, playbook.content_by_id)}`ripeline content --json` lists them"
    raise Reject(f"no item {name[:100]!r}", where="item", remedy=remedy, kind="not-found")


async def _snapshot(engine: AsyncEngine, lead: uuid.UUID, product: str) -> Snapshot:
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
        where="lead",
        remedy="name the id of a lead whose stage was announced; `GET /v1/leads` lists ids",
        kind="not-found",
    )
