"""Renders a touch: subject, text and HTML with the tracked link, the preferences and the way out.
Pure.
"""

import re
from typing import NamedTuple

from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup, escape

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
    """A rendered touch, ready for any channel."""

    touch_id: str
    recipient: str
    subject: str
    text: str
    html: str
    link: str
    unsubscribe: str
    preferences: str


# an advert that a robot would have us send to a stranger
NO_NAME = re.compile(r"[/@:]|www\.", re.IGNORECASE)
FEWER, NO_MORE = "Fewer mails, other topics, or a pause", "No more mails like this"
_templates = SandboxedEnvironment(autoescape=False)


def render(
    playbook: Playbook, touch: Touch, snapshot: Snapshot, *, public_url: str, pepper: bytes
) -> Message:
    """The message of one touch; a broken template raises jinja2's TemplateError."""
    content = playbook.content_by_id[touch.content]
    links = _Links(
        public_url.rstrip("/"),
        pepper,
        touch.id,
        content.id,
        keyed_hash(pepper, f"email:{snapshot.email}"),
    )
    words = {"first_name": _first_name(snapshot), "link": links.content}
    subject = " ".join(_templates.from_string(content.subject).render(words).split())
    body = _templates.from_string(content.body).render(words).strip()
    company = playbook.company
    foot = f"{company.name}, {company.postal_address}"
    text = f"{body}\n\n--\n{foot}\n{FEWER}: {links.preferences}\n{NO_MORE}: {links.unsubscribe}\n"
    html = _html(body, content, foot, links, with_pixel=playbook.open_pixel)
    return Message(
        touch.id,
        snapshot.email,
        subject,
        text,
        html,
        links.content,
        links.unsubscribe,
        links.preferences,
    )


class _Links:
    """The addresses in one mail, each with a token of its own."""

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
    name = " ".join(name.split())[:60]
    return "there" if not name or NO_NAME.search(name) else name


def _html(body: str, content: Content, foot: str, links: _Links, *, with_pixel: bool) -> str:
    """Paragraphs; the link alone on its line becomes a button-like anchor with the item's title.

    After them stands a link that nobody sees, hears or reaches by keyboard: only a scanner follows
    it.
    """
    parts = []
    for paragraph in body.split("\n\n"):
        if paragraph.strip() == links.content:
            parts.append(
                Markup('<p><a href="{}" style="font-weight:bold">{}</a></p>').format(
                    links.content, content.title
                )
            )
        else:
            parts.append(
                Markup("<p>{}</p>").format(
                    Markup(" ").join(escape(line) for line in paragraph.split("\n"))
                )
            )
    parts.append(
        Markup('<a href="{}" style="display:none" aria-hidden="true" tabindex="-1"></a>').format(
            links.trap
        )
    )
    small = (
        '<p style="color:#666;font-size:small">{}<br><a href="{}">{}</a><br><a href="{}">{}</a></p>'
    )
    parts.append(Markup(small).format(foot, links.preferences, FEWER, links.unsubscribe, NO_MORE))
    if with_pixel:
        parts.append(Markup('<img src="{}" alt="" width="1" height="1">').format(links.pixel))
    return str(
        Markup("<!doctype html><html><body>{}</body></html>").format(Markup("\n").join(parts))
    )
