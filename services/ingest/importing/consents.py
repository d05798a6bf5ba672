"""How a row's permissions are read under the mapping's rules. Pure."""

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache

from services.ingest.importing.cells import text_reader
from services.ingest.importing.header import Header
from services.ingest.importing.mapping import ANY, Mapping
from services.ingest.importing.mapping import Consent as Rule
from services.ingest.importing.times import Cells, reader
from services.ingest.sources.contract import Remark
from services.ingest.sources.permissions import State, remarks_of
from services.shared.clock import EPOCH
from services.shared.contracts.consent_words import Answer, ConsentWords
from services.shared.contracts.events import Consent

ReadConsent = Callable[[Cells, datetime | None, list[Remark]], Consent | None]


def consent_reader(
    rule: Rule, header: Header, zone: str, words: ConsentWords, *, rows_are_dated: bool
) -> ReadConsent:
    """Reads a row's permission, given the row's own time; None where the row has none. Words that
    are not understood are added to the row's remarks.

    A permission without a date of its own, be it the row's, is the oldest of all: it overrules
    no refusal.
    """
    column, values = header.find(rule.column) if rule.column else None, tuple(rule.equals)
    read_time = reader(rule.at, header, zone) if rule.at else None
    basis, text = text_reader(rule.basis, header), text_reader(rule.text, header)

    def read(cells: Cells, at: datetime | None, remarks: list[Remark]) -> Consent | None:
        state: State = rule.state
        if column is not None:
            state, found = _state(cells[column], values, rule.state, words, rule.column)
            remarks += found
        if not state or (rule.column and column is None):
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
def _state(
    cell: str, values: tuple[str, ...], state: State, words: ConsentWords, column: str
) -> tuple[State, tuple[Remark, ...]]:
    """A cell's permission: the rule's state for its values (without any: a yes), an explicit
    refusal, or '' for none; and remarks on what is not understood.
    """
    reading = words.read(cell, values)
    if reading.answer is Answer.REFUSED:
        return "withdrawn", ()
    if reading.answer in (Answer.NO, Answer.BLANK):
        return "", ()
    if ANY in values or (reading.is_yes and (not values or words.is_among(cell, values))):
        return state, ()
    return "", remarks_of(reading._replace(unknown=(cell.strip(),)), column)
