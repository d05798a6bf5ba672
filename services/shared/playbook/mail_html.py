"""Layouts of mails in the playbook's folder `mails/`, MJML or HTML: rendered in a sandbox, with
inlined styles; and what is wrong with one. Pure: nothing is fetched or read.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from html.parser import HTMLParser

import css_inline
import mrml
from jinja2 import StrictUndefined, Template, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.shared.playbook import mail_text
from services.shared.playbook.contradiction import did_you_mean
from services.shared.playbook.mail_text import LINK, LeadValues, TextProblem

FOLDER, ENDINGS = "mails", (".mjml", ".html")
VARIABLES = (
    *mail_text.VARIABLES,
    "title",
    "company",
    "postal_address",
    "unsubscribe",
    "preferences",
)
MEND = f"In a layout there are {', '.join(VARIABLES)}"
SAMPLE = {
    "title": "A title", "company": "A company", "postal_address": "A street 1",
    "unsubscribe": f"{LINK}/u", "preferences": f"{LINK}/p",
}  # fmt: skip
PARTS = (
    "mj-head", "mj-attributes", "mj-all", "mj-class", "mj-breakpoint", "mj-font",
    "mj-html-attributes", "mj-selector", "mj-html-attribute", "mj-preview", "mj-style",
    "mj-title", "mj-body", "mj-accordion", "mj-accordion-element", "mj-accordion-title",
    "mj-accordion-text", "mj-button", "mj-carousel", "mj-carousel-image", "mj-column",
    "mj-divider", "mj-group", "mj-hero", "mj-image", "mj-navbar", "mj-navbar-link", "mj-raw",
    "mj-section", "mj-social", "mj-social-element", "mj-spacer", "mj-table", "mj-text",
    "mj-wrapper",
)  # fmt: skip
AT = re.compile(r"position (\d+)")
_templates = ImmutableSandboxedEnvironment(autoescape=True, undefined=StrictUndefined)
_inliner = css_inline.CSSInliner(load_remote_stylesheets=False, keep_at_rules=True)


class LayoutError(ValueError):
    """A filled-in layout is no mail; says why."""


@lru_cache(256)
def _compiled(source: str) -> Template:
    return _templates.from_string(source)


def laid_out(name: str, source: str, values: Mapping[str, object]) -> str:
    """The HTML of a layout with its values escaped. Raises jinja2's TemplateError for a value that
    is missing, LayoutError for what is no MJML.
    """
    filled = _compiled(source).render(values)
    if name.endswith(".mjml"):
        try:
            filled = mrml.to_html(filled).content
        except OSError as error:
            raise LayoutError(f"no MJML: {error}") from error
    try:
        return _inliner.inline(filled)
    except ValueError as error:
        raise LayoutError(f"its styles cannot be inlined: {error}") from error


def problems_of_layout(name: str, source: str) -> Iterable[TextProblem]:
    """Yields what is wrong with a layout: its variables, its parts, values that a lead may lack."""
    if unreadable := mail_text.syntax_problem(_compiled, source, MEND):
        yield unreadable
        return
    tree = _templates.parse(source)
    unknown = sorted(meta.find_undeclared_variables(tree) - {*VARIABLES})
    for variable in unknown:
        what, remedy = f"no variable {variable!r}", did_you_mean(variable, VARIABLES) + MEND
        yield TextProblem(what, remedy, _line_of(source, variable))
    if not unknown:
        yield from _unknown_parts(name, source)
        yield from _unrenderable(name, source)


def _unknown_parts(name: str, source: str) -> Iterable[TextProblem]:
    """MJML renders an element that it does not know as it stands, and so nothing."""
    if name.endswith(".mjml"):
        for tag, line in _Tags(source).found:
            if tag.startswith("mj-") and tag not in PARTS:
                remedy = did_you_mean(tag, PARTS) + "Use an element of MJML"
                yield TextProblem(f"no element <{tag}>", remedy, line)


def _unrenderable(name: str, source: str) -> Iterable[TextProblem]:
    for first_name in mail_text.NAMES:
        values = SAMPLE | {"first_name": first_name, "link": LINK, "lead": LeadValues({})}
        try:
            html = laid_out(name, source, values)
        except LayoutError as error:
            at = AT.search(str(error))
            line = source.count("\n", 0, int(at[1])) + 1 if at else 1
            yield TextProblem(str(error), "Mend the markup there", line)
            return
        except Exception as error:  # whatever the layout calls
            yield mail_text.unfilled(source, error, MEND)
            return
        if f'"{LINK}"' not in html:
            yield TextProblem("no {{ link }}", 'Put {{ link }} into a link\'s href="…"')
            return


class _Tags(HTMLParser):
    """The elements of a source, each with its line from 1."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[tuple[str, int]] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.append((tag, self.getpos()[0]))


def _line_of(source: str, name: str) -> int:
    lines = enumerate(source.splitlines(), 1)
    return next((number for number, line in lines if "{" in line and name in line), 1)
