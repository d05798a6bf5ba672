"""What a row means under its mapping: interactions whose ids derive from what they say, or why it
cannot be taken. Pure.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from msgspec.structs import force_setattr

from services.ingest.importing.facts import Facts
from services.ingest.importing.mapping import (
    ALL,
    ANY,
    IDENTIFIERS,
    WORDS,
    Header,
    Said,
    Written,
    needed,
)
from services.ingest.importing.mapping import Consent as Rule
from services.ingest.importing.times import Cells, reader
from services.ingest.sources.contract import Item, Refused
from services.ingest.sources.segment import snake
from services.shared.clock import EPOCH
from services.shared.contracts.events import Consent, ExternalId, encode_bytes
from services.shared.errors import Reject

YES = frozenset({
    "yes", "y", "true", "t", "1", "x", "on", "ok", "ja", "oui", "si", "sí", "sim", "given",
    "granted", "subscribed", "optedin",
    "optin", "doubleoptin", "consented", "consent", "agreed", "accepted", "allowed", "permitted",
    "confirmed", "checked", "✓",
})  # fmt: skip
WITHDRAWN = frozenset({
    "unsubscribed", "unsubscribe", "optedout", "optout", "withdrawn", "revoked", "refused",
    "denied", "donotemail", "donotmail",
    "donotcontact", "blocked", "complained", "cleaned",
})  # fmt: skip
SUPPRESSED, IDENTIFIED = "consent_withdrawn", "identified"
NUMBER = re.compile(r"-?\d+(\.\d+)?")
CURRENCY = r"\s*(?:[^\W\d_]{1,3}\.?|[$€£¥])?\s*"
AMOUNT = re.compile(rf"{CURRENCY}(-?\d[\d.,\s'’]*){CURRENCY}")
FILLING = re.compile(r"[\s'’]")

Word = Callable[[Cells], str]


class Rows:
    """Reads the rows of one file. Raises `InvalidFile` where it lacks a column of the mapping."""

    def __init__(self, written: Written, header: Header, facts: Facts) -> None:
        written.check(header)
        mapping = written.mapping
        self._header, self._facts, self._mapping = header, facts, mapping
        self._names = {
            name: column
            for name in IDENTIFIERS
            if (column := self._column(getattr(mapping, name))) is not None
        }
        self._external = self._column(mapping.external_id.column) if mapping.external_id else None
        self._type = self._type_of()
        self._time = reader(mapping.time, header, facts.zone)
        self._is_dated = bool(mapping.time and mapping.time.column)
        self._words = {
            name: word for name in WORDS if (word := self._said_of(getattr(mapping, name)))
        }
        self._cost = self._said_of(mapping.cost)
        self._consents = [self._consent(rule) for rule in mapping.consent]
        self._traits = self._columns_of_traits()
        outcome = mapping.outcome
        reached = self._column(outcome.column) if outcome else None
        self._outcome = (
            None if outcome is None or reached is None else (reached, _said(outcome.equals))
        )
        self._outcome_time = (
            reader(outcome.time, header, facts.zone) if outcome and outcome.time else None
        )
        self._cleaner = facts.cleaner()
        if not self._names and self._external is None:
            raise Reject(
                "no column of the file says who it is",
                where="file",
                remedy=f"it has {header.names[:40]}",
            )

    def read(self, cells: Cells) -> tuple[Item, ...] | Refused:
        """The interactions of a row that has a cell for each column."""
        try:
            return self._read(cells)
        except Reject as reject:
            return Refused(None, reject)

    def _read(self, cells: Cells) -> tuple[Item, ...]:
        who = self._who(cells)
        at = self._time(cells)
        fields: dict[str, Any] = {
            name: value for name, word in self._words.items() if (value := word(cells))
        }
        if self._cost and (cost := self._cost(cells)):
            fields["cost"] = number(cost)
        if self._traits and (
            traits := {trait: value for trait, n in self._traits if (value := cells[n].strip())}
        ):
            fields["traits"] = traits
        kind = self._mapping.kind
        if kind == "suppressions":
            said = self._suppression()
            return (_item(SUPPRESSED, at, who, fields | {"consent": said}),)
        if self._consents and (said := self._said(cells, at)):
            fields["consent"] = said
        reached = self._outcome and _holds(cells[self._outcome[0]], self._outcome[1])
        if kind == "events":
            return (_item(self._facts.outcome if reached else self._type(cells), at, who, fields),)
        lead = _item(self._type(cells), at, who, fields)
        if not reached:
            return (lead,)
        then = self._outcome_time(cells) if self._outcome_time else None
        about: dict[str, Any] = {
            name: fields[name] for name in ("product", "source", "campaign") if name in fields
        }
        return lead, _item(self._facts.outcome, then or at, who, about)

    def _who(self, cells: Cells) -> dict[str, Any]:
        """The identifiers of a row; `lead` is an address where it is one, else a user_id."""
        who: dict[str, Any] = {
            name: value for name, n in self._names.items() if (value := cells[n].strip())
        }
        if lead := who.pop("lead", ""):
            if address := self._cleaner.address(lead):
                who.setdefault("email", address)
            elif re.search(r"\S@\S", lead):
                raise Reject(
                    "not a mail address", where="lead", remedy="write one like ann@example.com"
                )
            else:
                who.setdefault("user_id", lead)
        if (
            self._external is not None
            and self._mapping.external_id
            and (named := cells[self._external].strip())
        ):
            who["external_id"] = ExternalId(self._mapping.external_id.system, named)
        return who

    def _suppression(self) -> tuple[Consent, ...]:
        rules = self._mapping.consent or [Rule(state="withdrawn", basis="suppression list")]
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

    def _said(self, cells: Cells, at: datetime | None) -> tuple[Consent, ...]:
        return tuple(said for consent in self._consents if (said := consent(cells, at)))

    def _consent(self, rule: Rule) -> Callable[[Cells, datetime | None], Consent | None]:
        """How a row's word on a permission is read.

        A permission without a date of its own, be it the row's, is the oldest of all: it overrules
        no refusal.
        """
        column, words = self._column(rule.column) if rule.column else None, _said(rule.equals)
        dated = reader(rule.at, self._header, self._facts.zone) if rule.at else None
        basis, text = self._word(rule.basis), self._word(rule.text)

        def read(cells: Cells, at: datetime | None) -> Consent | None:
            state = rule.state if column is None else _state(cells[column], words, rule.state)
            if rule.column and (column is None or not state):
                return None
            own = dated(cells) if dated else None
            since = own or (at if self._is_dated else None) or (EPOCH if state == "given" else None)
            when = None if since == at else since
            return Consent(
                channel=rule.channel, purpose=rule.purpose, state=state, basis=basis(cells),
                text=text(cells), at=when
            )  # fmt: skip

        return read

    def _type_of(self) -> Word:
        """The type of a row: constant where the name is a type that the model knows or no column,
        else the column's value.
        """
        said = self._mapping.type
        if said is None:
            return lambda _: IDENTIFIED
        name, names = said.name, {_folded(value): type_ for value, type_ in said.names.items()}
        column = self._column(said.column or ("" if name in self._facts.types else name))
        if column is None:
            constant = snake(name or said.column)
            return lambda _: constant

        def read(cells: Cells) -> str:
            value = cells[column].strip()
            if not value:
                raise Reject("no type", where="type", remedy="say what happened in this row")
            return said.names.get(value) or names.get(_folded(value)) or snake(value)

        return read

    def _columns_of_traits(self) -> Sequence[tuple[str, int]]:
        """(trait, column); of `all`, those that nothing else uses."""
        mapping = self._mapping
        # nothing more is kept of people who want to be left alone
        if mapping.kind == "suppressions":
            return []
        if isinstance(mapping.traits, dict):
            return [
                (trait, n)
                for trait, column in mapping.traits.items()
                if (n := self._column(column)) is not None
            ]
        if mapping.traits != ALL:
            return []
        words = [word for name in (*WORDS, "cost") if (word := getattr(mapping, name))]
        said = [*(word.said for word in words), mapping.type.name if mapping.type else ""]
        said += [word for rule in mapping.consent for word in (rule.basis, rule.text)]
        used = {self._column(name) for name in (*(one.name for one in needed(mapping)), *said)}
        found: dict[str, int] = {}
        for number, name in enumerate(self._header.names):
            if name and number not in used:
                trait = snake(name)
                while trait in found:
                    trait += "_2"
                found[trait] = number
        return list(found.items())

    def _column(self, name: str) -> int | None:
        return self._header.find(name) if name else None

    def _said_of(self, word: Said | None) -> Word | None:
        """How a word of the mapping is read; None where there is none, or its column is missing."""
        if word is None or (word.column and self._column(word.column) is None):
            return None
        return (lambda _: word.constant) if word.constant else self._word(word.column or word.said)

    def _word(self, said: str) -> Word:
        """A column's value where there is such a column, else the word itself."""
        column = self._column(said)
        return (lambda _: said) if column is None else (lambda cells: cells[column].strip())


def number(text: str) -> float:
    """An amount as people write it: `12.50`, `12,50 €`, `1.234,50`. Raises Reject, also for
    `1,234`, which is two things.
    """
    amount = AMOUNT.fullmatch(text)
    plain = FILLING.sub("", amount[1]) if amount else ""
    point, comma = plain.rfind("."), plain.rfind(",")
    if point >= 0 and comma >= 0:
        plain = plain.replace("." if comma > point else ",", "").replace(",", ".")
    elif comma >= 0 and (plain.count(",") > 1 or len(plain) - comma != 4):
        plain = plain.replace(",", "." if plain.count(",") == 1 else "")
    if NUMBER.fullmatch(plain):
        return float(plain)
    raise Reject("not a number", where="cost", remedy="write it as 1234.50")


def _item(
    type_: str, at: datetime | None, who: Mapping[str, Any], fields: Mapping[str, Any]
) -> Item:
    """An interaction under the hash of what it says."""
    item = Item(type=type_, occurred_at=at, **who, **fields)
    force_setattr(item, "id", hashlib.blake2b(encode_bytes(item), digest_size=16).hexdigest())
    return item


def _folded(text: str) -> str:
    return re.sub(r"[\s_-]+", "", text).casefold()


def _said(equals: Sequence[str]) -> frozenset[str]:
    return frozenset(map(_folded, equals)) or YES


@lru_cache(maxsize=1024)
def _holds(cell: str, words: frozenset[str]) -> bool:
    said = _folded(cell)
    return said in words or (ANY in words and said != "")


@lru_cache(maxsize=1024)
def _state(cell: str, words: frozenset[str], state: str) -> Any:
    """What a cell says of a permission: the rule's word, an explicit refusal, or '' for nothing."""
    if _holds(cell, words):
        return state
    return "withdrawn" if _folded(cell) in WITHDRAWN else ""
