"""How a row's permissions are read under the mapping's rules. Pure."""

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

from services.ingest.importing.cells import folded, matches, text_reader, values_of
from services.ingest.importing.header import Header
from services.ingest.importing.mapping import Consent as Rule
from services.ingest.importing.mapping import Mapping, Time
from services.ingest.importing.times import Cells, Read
from services.shared.clock import EPOCH
from services.shared.contracts.events import Consent

WITHDRAWN = frozenset({
    "unsubscribed", "unsubscribe", "optedout", "optout", "withdrawn", "revoked", "refused",
    "denied", "donotemail", "donotmail", "donotcontact", "blocked", "complained", "cleaned",
})  # fmt: skip

ReadConsent = Callable[[Cells, datetime | None], Consent | None]


def consent_reader(
    rule: Rule, header: Header, time_reader: Callable[[Time], Read], *, rows_are_dated: bool
) -> ReadConsent:
    """Reads a row's permission, given the row's own time; None where the row has none.

    A permission without a date of its own, be it the row's, is the oldest of all: it overrules
    no refusal.
    """
    column, values = header.find(rule.column) if rule.column else None, values_of(rule.equals)
    read_time = time_reader(rule.at) if rule.at else None
    basis, text = text_reader(rule.basis, header), text_reader(rule.text, header)

    def read(cells: Cells, at: datetime | None) -> Consent | None:
        state = rule.state if column is None else _state(cells[column], values, rule.state)
        if rule.column and (column is None or not state):
            return None
        own = read_time(cells) if read_time else None
        since = own or (at if rows_are_dated else None) or (EPOCH if state == "given" else None)
        return Consent(
            channel=rule.channel,
            purpose=rule.purpose,
            state=state,
            basis=basis(cells),
            text=text(cells),
            at=None if since == at else since,
        )

    return read


def suppression(mapping: Mapping) -> tuple[Consent, ...]:
    """The withdrawals of every row of a suppression list."""
    rules = mapping.consent or [Rule(state="withdrawn", basis="suppression list")]
    return tuple(
        Consent(
            channel=rule.channel,
            purpose=rule.purpose,
            state="withdrawn",
            basis=rule.basis,
            text=rule.text,
        )
        for rule in rules
    )


@lru_cache(maxsize=1024)
def _state(cell: str, values: frozenset[str], state: str) -> Any:
    """A cell's permission: the rule's state, an explicit refusal, or '' for none."""
    if matches(cell, values):
        return state
    return "withdrawn" if folded(cell) in WITHDRAWN else ""
