"""A touch as a message: its item rendered, with tracked links, the preferences page and the
unsubscribe link. Pure.
"""

from typing import NamedTuple

from services.nurture.channels.rendering import Links
from services.nurture.channels.rendering import render as render_item
from services.nurture.rules.calls import Call
from services.shared.contracts.events import Snapshot, Touch, keyed_hash
from services.shared.contracts.link_tokens import (
    LinkClaim,
    PixelClaim,
    PreferencesClaim,
    UnsubscribeClaim,
    sign,
)
from services.shared.playbook.sections import Content, Playbook


class Message(NamedTuple):
    """A rendered touch, ready for any channel; whether clicks and opens of it are measured; the
    call that stands for it, if any.
    """

    touch_id: str
    recipient: str
    subject: str
    text: str
    html: str
    link: str
    unsubscribe: str
    preferences: str
    clicks_tracked: bool = True
    opens_tracked: bool = False
    call: Call | None = None


def render(
    playbook: Playbook,
    touch: Touch,
    snapshot: Snapshot,
    *,
    public_url: str,
    pepper: bytes,
    tracked: bool = True,
) -> Message:
    """The message of one touch; with `tracked` False it holds plain links and no pixel.
    Raises as `rendering.render` does.
    """
    item = playbook.content_by_id[touch.content]
    address = keyed_hash(pepper, f"email:{snapshot.email}")
    base = public_url.rstrip("/")
    links = Links.plain(
        item.url,
        preferences=f"{base}/p/{sign(pepper, PreferencesClaim(touch.id, address))}",
        unsubscribe=f"{base}/u/{sign(pepper, UnsubscribeClaim(touch.id, address))}",
    )
    if tracked:
        links = _tracked(links, base, pepper, touch, item, with_pixel=playbook.open_pixel)
    rendered = render_item(playbook, item, snapshot, links)
    return Message(
        touch_id=touch.id,
        recipient=snapshot.email,
        subject=rendered.subject,
        text=rendered.text,
        html=rendered.html,
        link=links.content,
        unsubscribe=links.unsubscribe,
        preferences=links.preferences,
        clicks_tracked=tracked,
        opens_tracked=bool(links.pixel),
    )


def _tracked(
    links: Links, base: str, pepper: bytes, touch: Touch, item: Content, *, with_pixel: bool
) -> Links:
    """The same with what measures: each address with a token of its own."""
    pixel = f"{base}/o/{sign(pepper, PixelClaim(touch.id))}.gif"
    return links._replace(
        content=f"{base}/l/{sign(pepper, LinkClaim(touch.id, item.id))}",
        trap=f"{base}/l/{sign(pepper, LinkClaim(touch.id, item.id, trap=True))}",
        pixel=pixel if with_pixel else "",
    )
