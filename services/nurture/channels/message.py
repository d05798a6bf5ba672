"""Renders a touch: subject, text and HTML with the tracked link and the way out. Pure."""

from typing import NamedTuple

from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup, escape

from services.shared.events import Snapshot, Touch, keyed_hash
from services.shared.links import LinkClaim, UnsubscribeClaim, sign
from services.shared.playbook import Content, Playbook


class Message(NamedTuple):
    """A rendered touch, ready for any channel."""

    touch_id: str
    recipient: str
    subject: str
    text: str
    html: str
    link: str
    unsubscribe: str


_templates = SandboxedEnvironment(autoescape=False)


def render(playbook: Playbook, touch: Touch, snapshot: Snapshot, *, public_url: str, pepper: bytes) -> Message:
    """The message of one touch; a broken template raises jinja2's TemplateError."""
    content = playbook.content_by_id[touch.content]
    base = public_url.rstrip("/")
    link = f"{base}/l/{sign(pepper, LinkClaim(touch.id, content.id, content.url))}"
    address = keyed_hash(pepper, f"email:{snapshot.email}")
    unsubscribe = f"{base}/u/{sign(pepper, UnsubscribeClaim(touch.id, address))}"
    words = {"first_name": _first_name(snapshot), "link": link}
    subject = " ".join(_templates.from_string(content.subject).render(words).split())
    body = _templates.from_string(content.body).render(words).strip()
    company = playbook.company
    foot = f"{company.name}, {company.postal_address}"
    text = f"{body}\n\n--\n{foot}\nNo more mails like this: {unsubscribe}\n"
    return Message(touch.id, snapshot.email, subject, text, _html(body, link, content, foot, unsubscribe), link, unsubscribe)


def _first_name(snapshot: Snapshot) -> str:
    traits = snapshot.traits
    name = str(traits.get("first_name") or traits.get("firstName") or str(traits.get("name") or "").partition(" ")[0])
    return " ".join(name.split())[:60] or "there"


def _html(body: str, link: str, content: Content, foot: str, unsubscribe: str) -> str:
    """Paragraphs; the link alone on its line becomes a button-like anchor with the item's title."""
    parts = []
    for paragraph in body.split("\n\n"):
        if paragraph.strip() == link:
            parts.append(Markup('<p><a href="{}" style="font-weight:bold">{}</a></p>').format(link, content.title))
        else:
            parts.append(Markup("<p>{}</p>").format(Markup(" ").join(escape(line) for line in paragraph.split("\n"))))
    small = Markup('<p style="color:#666;font-size:small">{}<br><a href="{}">No more mails like this</a></p>')
    page = Markup("<!doctype html><html><body>{}{}</body></html>").format(
        Markup("\n").join(parts), small.format(foot, unsubscribe)
    )
    return str(page)
