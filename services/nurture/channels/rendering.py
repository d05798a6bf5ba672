"""Renders an item for a lead: subject, text and HTML. Pure, and the same for a mail that goes out,
a preview and a check.

    links = Links.plain(item.url, preferences="https://…/p/…", unsubscribe="https://…/u/…")
    rendered = render(playbook, item, snapshot, links)
    rendered.subject, rendered.text, rendered.html
"""

from typing import NamedTuple, Self

from markupsafe import Markup, escape

from services.shared.contracts.events import Snapshot
from services.shared.playbook.mail_html import laid_out
from services.shared.playbook.mail_text import LeadValues, filled_in, shown_value
from services.shared.playbook.sections import Content, Playbook

PREFERENCES_LABEL = "Fewer mails, other topics, or a pause"
UNSUBSCRIBE_LABEL = "No more mails like this"


class Links(NamedTuple):
    """The addresses in one mail. `trap` is what only a scanner follows, `pixel` the picture that
    tells of an open; '' leaves them out, and `content` is then the item's own page.
    """

    content: str
    preferences: str
    unsubscribe: str
    trap: str = ""
    pixel: str = ""

    @classmethod
    def plain(cls, url: str, *, preferences: str, unsubscribe: str) -> Self:
        """Links that measure nothing."""
        return cls(url, preferences, unsubscribe)


class Rendered(NamedTuple):
    """What the recipient reads; `html` is a whole document."""

    subject: str
    text: str
    html: str


def render(playbook: Playbook, item: Content, snapshot: Snapshot, links: Links) -> Rendered:
    """The mail that offers `item` to a lead with these traits, with the item's layout where it has
    one. Raises jinja2's TemplateError for a broken template and LayoutError for a broken layout;
    neither is in a playbook that passes its check.
    """
    first_name, traits = _first_name(snapshot), snapshot.traits
    subject = " ".join(filled_in(item.subject, first_name, links.content, traits).split())
    body = filled_in(item.body, first_name, links.content, traits).strip()
    html = (
        _from_layout(playbook, item, first_name, snapshot, links)
        if item.layout
        else _from_text(playbook, item, body, links)
    )
    return Rendered(subject, _text(playbook, body, links), html)


def _first_name(snapshot: Snapshot) -> str:
    traits = snapshot.traits
    name = (
        traits.get("first_name")
        or traits.get("firstName")
        or str(traits.get("name") or "").partition(" ")[0]
    )
    return shown_value(str(name or "")) or "there"


def _footer(playbook: Playbook) -> str:
    return f"{playbook.company.name}, {playbook.company.postal_address}"


def _text(playbook: Playbook, body: str, links: Links) -> str:
    return (
        f"{body}\n\n--\n{_footer(playbook)}\n{PREFERENCES_LABEL}: {links.preferences}\n"
        f"{UNSUBSCRIBE_LABEL}: {links.unsubscribe}\n"
    )


def _from_text(playbook: Playbook, item: Content, body: str, links: Links) -> str:
    """The paragraphs, then what stands at the end of every mail."""
    parts = [_paragraph(paragraph, item.title, links) for paragraph in body.split("\n\n")]
    parts += _end(playbook, links)
    page = Markup("<!doctype html><html><body>{}</body></html>")
    return str(page.format(Markup("\n").join(parts)))


def _from_layout(
    playbook: Playbook, item: Content, first_name: str, snapshot: Snapshot, links: Links
) -> str:
    """The layout; what it lacks of the end of every mail stands behind it."""
    company = playbook.company
    values = {
        "first_name": first_name, "link": links.content, "lead": LeadValues(snapshot.traits),
        "title": item.title, "company": company.name, "postal_address": company.postal_address,
        "unsubscribe": links.unsubscribe, "preferences": links.preferences,
    }  # fmt: skip
    html = laid_out(item.layout, playbook.mails[item.layout], values)
    needed = (escape(company.postal_address), f'"{links.preferences}"', f'"{links.unsubscribe}"')
    is_whole = all(each in html for each in needed)
    end = Markup("\n").join(_end(playbook, links, with_footer=not is_whole))
    before, closing, after = html.rpartition("</body>")
    return f"{before}{end}{closing}{after}" if closing else f"{html}{end}"


def _end(playbook: Playbook, links: Links, *, with_footer: bool = True) -> list[Markup]:
    """A link that nobody sees, hears or reaches by keyboard, the footer, and the pixel if any."""
    parts = []
    if links.trap:
        hidden = '<a href="{}" style="display:none" aria-hidden="true" tabindex="-1"></a>'
        parts.append(Markup(hidden).format(links.trap))
    small = (
        '<p style="color:#666;font-size:small">{}<br><a href="{}">{}</a><br><a href="{}">{}</a></p>'
    )
    if with_footer:
        parts.append(
            Markup(small).format(
                _footer(playbook), links.preferences, PREFERENCES_LABEL, links.unsubscribe,
                UNSUBSCRIBE_LABEL,
            )
        )  # fmt: skip
    if links.pixel:
        parts.append(Markup('<img src="{}" alt="" width="1" height="1">').format(links.pixel))
    return parts


def _paragraph(paragraph: str, title: str, links: Links) -> Markup:
    """The link alone in its paragraph becomes a bold one with the item's title."""
    if paragraph.strip() == links.content:
        bold = Markup('<p><a href="{}" style="font-weight:bold">{}</a></p>')
        return bold.format(links.content, title)
    lines = Markup(" ").join(escape(line) for line in paragraph.split("\n"))
    return Markup("<p>{}</p>").format(lines)
