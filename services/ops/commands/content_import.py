"""What a company has already becomes proposals for its library, as YAML to be confirmed."""

import json
from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from services.ingest.importing.table import Table
from services.ops.commands import sitemap
from services.shared.errors import Reject
from services.shared.playbook.proposals import LeftOut, Page, Proposal, Proposer
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings

MOST = 5_000  # pages of one import
SUFFIXES = (".csv", ".tsv", ".xlsx", ".xls", ".ods")
# names of columns for each field, in lower case
COLUMNS = {
    "url": ("url", "link", "address", "page", "loc", "adresse"),
    "title": ("title", "name", "titel", "headline", "titre"),
    "language": ("language", "lang", "locale", "sprache"),
    "stage": ("stage", "phase"),
    "persona": ("persona", "reader", "audience"),
    "topic": ("topic", "category", "theme", "thema", "tag"),
}


class Imported(NamedTuple):
    """Proposals, what was left out, how much was read, and what was not."""

    items: list[Proposal]
    left_out: list[LeftOut]
    pages: int
    not_read: list[str]

    def report(self) -> dict[str, Any]:
        """As JSON has it."""
        items = [
            item._asdict()
            | {"state": "draft"}
            | {"reasons": {name: reason._asdict() for name, reason in item.reasons.items()}}
            for item in self.items
        ]
        return {
            "items": items,
            "left_out": [page._asdict() for page in self.left_out],
            "pages": self.pages,
            "not_read": self.not_read,
        }


async def propose(place: str, playbook: Playbook, settings: Settings, limit: int) -> Imported:
    """Proposals for what a sitemap or a table names. Raises Reject or Retry."""
    if place.lower().endswith(SUFFIXES) and "://" not in place:
        pages, not_read = pages_of_table(Path(place), limit)
    else:
        read = await sitemap.read(place, settings, limit)
        pages, not_read = [Page(*entry) for entry in read.entries], read.left
    proposer = Proposer(playbook)
    found = [proposer.propose(page) for page in pages]
    return Imported(
        [each for each in found if isinstance(each, Proposal)],
        [each for each in found if isinstance(each, LeftOut)],
        len(pages),
        not_read,
    )


def pages_of_table(path: Path, limit: int) -> tuple[list[Page], list[str]]:
    """The pages of a table with a column of addresses, and what was not read of it. Raises
    Reject.
    """
    try:
        with closing(Table(path)) as table:
            return _pages(table, limit)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Reject(f"{path}: {reason}", where="CSV", remedy="name a file") from None


def _pages(table: Table, limit: int) -> tuple[list[Page], list[str]]:
    names = [name.strip().lower() for name in table.header.names]
    places = {
        field: next((names.index(name) for name in known if name in names), -1)
        for field, known in COLUMNS.items()
    }
    if places["url"] < 0:
        remedy = "name a column `url`, and one `title`"
        raise Reject("no column of addresses", where="CSV", remedy=remedy)
    pages, not_read, rows = [], [], table.rows()
    for row in islice(rows, limit):
        cells = {
            field: row.cells[place].strip()
            for field, place in places.items()
            if 0 <= place < len(row.cells)
        }
        if row.reject or not cells.get("url", "").startswith(("http://", "https://")):
            why = str(row.reject) if row.reject else "no address that begins with http"
            not_read.append(f"line {row.line}: {why}")
        else:
            pages.append(Page(**cells))
    if next(rows, None):
        not_read.append(f"more than {limit} rows: the first were taken")
    return pages, not_read


def as_yaml(found: Imported, place: str) -> str:
    """The proposals as items of `content.yaml`, each with its reasons; drafts all of them."""
    lines = [
        f"# Proposals of `ripeline content import` from {place[:200]}: {len(found.items)} items of "
        f"{found.pages} pages.",
        "# Nothing here is live. Look at each item, mend what is wrong (the reasons stand beside",
        "# it), write its mail, take `state: draft` out and move it into content.yaml; then add",
        "# its id to a program.",
        "",
        "content:" if found.items else "content: []",
    ]
    for item in found.items:
        lines += ["", *_item(item)]
    if found.left_out:
        lines += ["", "# Left out:"]
        lines += [f"#   {page.url}: {page.why}" for page in found.left_out]
    lines += [f"# Not read: {each}" for each in found.not_read]
    return "\n".join(lines) + "\n"


def _item(item: Proposal) -> Iterable[str]:
    because = {name: f"  # {reason.why}" for name, reason in item.reasons.items()}
    yield f"  - id: {_scalar(item.id)}"
    yield f"    title: {_scalar(item.title)}{because['title']}"
    yield f"    stages: [{item.stage}]{because['stage']}"
    persona = _scalar(item.persona) if item.persona else ""
    yield f"    personas: [{persona}]{because['persona']}"
    yield f"    format: {_scalar(item.format)}"
    yield f"    topic: {_scalar(item.topic)}{because['topic']}"
    yield f"    distance: {item.distance}"
    yield f"    url: {_scalar(item.url)}"
    yield f"    language: {_scalar(item.language)}{because['language']}"
    yield "    call_to_action: Reads the page"
    yield '    objective: ""  # what it should change in the reader\'s mind'
    yield "    state: draft"
    yield f"    subject: {_scalar(_plain(item.title)[:60])}"
    yield "    body: |"
    yield from ("      Hello {{ first_name }},", "", f"      {_plain(item.title)}", "")
    yield "      {{ link }}"


def _plain(title: str) -> str:
    """A title within a mail's template, of which it must be no part."""
    return " ".join(title.replace("{", "(").replace("}", ")").split()) or "-"


def _scalar(value: str) -> str:
    """A text of YAML that is read as it was written."""
    return json.dumps(value, ensure_ascii=False)
