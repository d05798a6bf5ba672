"""What the tests of imports share: the facts of a playbook, and rows read under a mapping."""

from pathlib import Path
from typing import Any

from services.ingest.importing.facts import Facts
from services.ingest.importing.header import Header
from services.ingest.importing.mapping_file import load
from services.ingest.importing.rows import Rows
from services.ingest.sources.contract import Item, Refused, Remarked
from services.ingest.sources.remarks import plain

DATA = Path(__file__).parents[2] / "data" / "imports"
FACTS = Facts(
    zone="Europe/Berlin",
    types=["event_attended", "identified", "opportunity_opened", "page_viewed"],
    outcome="opportunity_opened",
    junk=["null", "guest", "n/a"],
    role_mailboxes=["info"],
    free_mail_domains=["mail.example"],
)


def rows_of(mapping: str, *header: str) -> Rows:
    return Rows(load(mapping, "map.yaml"), Header(header), FACTS)


def items(mapping: str, **cells: str) -> tuple[Item, ...]:
    """The interactions of one row, given as column: cell; `_` in a column's name stands for a
    space.
    """
    found = read(mapping, **cells)
    assert not isinstance(found, Refused), found.reject
    return tuple(map(plain, found))


def read(mapping: str, **cells: Any) -> tuple[Item | Remarked, ...] | Refused:
    return rows_of(mapping, *(name.replace("_", " ") for name in cells)).read(list(cells.values()))
