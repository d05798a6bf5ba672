"""Renders a touch: subject, text and HTML with the tracked link, the preferences page and the
unsubscribe link. Pure.
"""

import re
from typing import NamedTuple

from markupsafe import Markup, escape

from services.shared.contracts.events import Snapshot, Touch, keyed_hash
from services.shared.contracts.link_tokens import (
    LinkClaim,
    PixelClaim,
    PreferencesClaim,
    UnsubscribeClaim,
    sign,
)
from services.shared.playbook.mail_text import filled_in
from services.shared.playbook.sections import Playbook


class Message(NamedTuple):
    """A rendered touch, ready for any channel."""

    touch_id: str
    recipient: str
    subject: str
    text: str
    html: str
    link: str
    unsubscribe: str
    preferences: str


# what stands in a name only where a robot had us send its advert to a stranger
NOT_A_NAME = re.compile(r"[/@:]|www\.", re.IGNORECASE)
LONGEST_NAME = 60
PREFERENCES_LABEL = "Fewer mails, other topics, or a pause"
UNSUBSCRIBE_LABEL = "No more mails like this"


def render(
    playbook: Playbook, touch: Touch, snapshot: Snapshot, *, public_url: str, pepper: bytes
) -> Message:
    """The message of one touch; a broken template raises jinja2's TemplateError."""
    content, company = playbook.content_by_id[touch.content], playbook.company
    address = keyed_hash(pepper, f"email:{snapshot.email}")
    links = _Links(public_url.rstrip("/"), pepper, touch.id, content.id, address)
    first_name = _first_name(snapshot)
    subject = " ".join(filled_in(content.subject, first_name, links.content).split())
    body = filled_in(content.body, first_name, links.content).strip()
    footer = f"{company.name}, {company.postal_address}"
    return Message(
        touch_id=touch.id,
        recipient=snapshot.email,
        subject=subject,
        text=_text(body, footer, links),
        html=_html(body, content.title, footer, links, with_pixel=playbook.open_pixel),
        link=links.content,
        unsubscribe=links.unsubscribe,
        preferences=links.preferences,
    )


class _Links:
    """The addresses in one mail, each with a token of its own; `trap` is what only a scanner
    follows.
    """

    def __init__(self, base: str, pepper: bytes, touch: str, content: str, address: str) -> None:
        self.content = f"{base}/l/{sign(pepper, LinkClaim(touch, content))}"
        self.trap = f"{base}/l/{sign(pepper, LinkClaim(touch, content, trap=True))}"
        self.pixel = f"{base}/o/{sign(pepper, PixelClaim(touch))}.gif"
        self.unsubscribe = f"{base}/u/{sign(pepper, UnsubscribeClaim(touch, address))}"
        self.preferences = f"{base}/p/{sign(pepper, PreferencesClaim(touch, address))}"


def _first_name(snapshot: Snapshot) -> str:
    traits = snapshot.traits
    name = str(
        traits.get("first_name")
        or traits.get("firstName")
        or str(traits.get("name") or "").partition(" ")[0]
    )
    name = " ".join(name.split())[:LONGEST_NAME]
    return "there" if not name or NOT_A_NAME.search(name) else name


def _text(body: str, footer: str, links: _Links) -> str:
    return (
        f"{body}\n\n--\n{footer}\n{PREFERENCES_LABEL}: {links.preferences}\n"
        f"{UNSUBSCRIBE_LABEL}: {links.unsubscribe}\n"
    )


def _html(body: str, title: str, footer: str, links: _Links, *, with_pixel: bool) -> str:
    """The paragraphs, a link that nobody sees, hears or reaches by keyboard, the footer, and the
    pixel if any.
    """
    parts = [_paragraph(paragraph, title, links) for paragraph in body.split("\n\n")]
    hidden = '<a href="{}" style="display:none" aria-hidden="true" tabindex="-1"></a>'
    parts.append(Markup(hidden).format(links.trap))
    small = (
        '<p style="color:#666;font-size:small">{}<br><a href="{}">{}</a><br><a href="{}">{}</a></p>'
    )
    parts.append(
        Markup(small).format(
            footer, links.preferences, PREFERENCES_LABEL, links.unsubscribe, UNSUBSCRIBE_LABEL
        )
    )
    if with_pixel:
        parts.append(Markup('<img src="{}" alt="" width="1" height="1">').format(links.pixel))
    page = Markup("<!doctype html><html><body>{}</body></html>")
    return str(page.format(Markup("\n").join(parts)))


def _paragraph(paragraph: str, title: str, links: _Links) -> Markup:
    """The link alone in its paragraph becomes a bold one with the item's title."""
    if paragraph.strip() == links.content:
        bold = Markup('<p><a href="{}" style="font-weight:bold">{}</a></p>')
        return bold.format(links.content, title)
    lines = Markup(" ").join(escape(line) for line in paragraph.split("\n"))
    return Markup("<p>{}</p>").format(lines)
