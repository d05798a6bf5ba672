"""Reads rows under a mapping: interactions whose ids derive from their content, or why a row cannot
be taken. Pure.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec.structs import force_setattr

from services.ingest.importing.cells import (
    ReadText,
    folded,
    matches,
    number,
    text_reader,
    values_of,
)
from services.ingest.importing.consents import consent_reader, suppression
from services.ingest.importing.facts import Facts
from services.ingest.importing.header import Header
from services.ingest.importing.mapping import ALL, IDENTIFIERS, VALUES, Value, needed
from services.ingest.importing.mapping_file import MappingFile
from services.ingest.importing.times import Cells, reader
from services.ingest.sources.contract import Item, Refused, Remark, Remarked
from services.ingest.sources.remarks import remarked
from services.ingest.sources.segment_calls import snake
from services.shared.contracts.events import Consent, ExternalId, encode_bytes
from services.shared.errors import Reject

SUPPRESSED, IDENTIFIED = "consent_withdrawn", "identified"


class Rows:
    """Reads the rows of one file. Raises `InvalidFile` where it lacks a column of the mapping."""

    def __init__(self, plan: MappingFile, header: Header, facts: Facts) -> None:
        plan.check(header)
        mapping = plan.mapping
        self._header, self._facts, self._mapping = header, facts, mapping
        self._cleaner = facts.cleaner()
        self._identifiers = {
            name: column
            for name in IDENTIFIERS
            if (column := self._column(getattr(mapping, name))) is not None
        }
        self._external = self._column(mapping.external_id.column) if mapping.external_id else None
        if not self._identifiers and self._external is None:
            raise Reject(
                "no column of the file says who it is",
                where="file",
                remedy=f"it has {header.names[:40]}",
            )
        self._type = self._type_reader()
        self._time = reader(mapping.time, header, facts.zone)
        self._values = {
            name: read for name in VALUES if (read := self._value_reader(getattr(mapping, name)))
        }
        self._cost = self._value_reader(mapping.cost)
        is_dated = bool(mapping.time and mapping.time.column)
        self._consents = [
            consent_reader(rule, header, facts.zone, facts.words(), rows_are_dated=is_dated)
            for rule in mapping.consent
        ]
        self._traits = self._trait_columns()
        self._read_outcome_columns()

    def read(self, cells: Cells) -> tuple[Item | Remarked, ...] | Refused:
        """The interactions of a row that has a cell for each column."""
        try:
            return self._read(cells)
        except Reject as reject:
            return Refused(None, reject)

    def _read(self, cells: Cells) -> tuple[Item | Remarked, ...]:
        who = self._who(cells)
        at = self._time(cells)
        fields = self._fields(cells)
        kind = self._mapping.kind
        if kind == "suppressions":
            consents = suppression(self._mapping)
            return (_item(SUPPRESSED, at, who, fields | {"consent": consents}),)
        remarks: list[Remark] = []
        if self._consents and (found := self._given(cells, at, remarks)):
            fields["consent"] = found
        reached = self._has_outcome(cells)
        if kind == "events":
            type_ = self._facts.outcome if reached else self._type(cells)
            return (remarked(_item(type_, at, who, fields), remarks),)
        lead = remarked(_item(self._type(cells), at, who, fields), remarks)
        return (lead, self._outcome(cells, at, who, fields)) if reached else (lead,)

    def _fields(self, cells: Cells) -> dict[str, Any]:
        """Fields of the interaction that stand in columns or are constant."""
        fields: dict[str, Any] = {
            name: value for name, read in self._values.items() if (value := read(cells))
        }
        if self._cost and (cost := self._cost(cells)):
            fields["cost"] = number(cost)
        if self._traits and (
            traits := {trait: value for trait, n in self._traits if (value := cells[n].strip())}
        ):
            fields["traits"] = traits
        return fields

    def _who(self, cells: Cells) -> dict[str, Any]:
        """The identifiers of a row; `lead` is an address where it has an @, else a user_id."""
        who: dict[str, Any] = {
            name: value for name, n in self._identifiers.items() if (value := cells[n].strip())
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
            and (external := cells[self._external].strip())
        ):
            who["external_id"] = ExternalId(self._mapping.external_id.system, external)
        return who

    def _given(
        self, cells: Cells, at: datetime | None, remarks: list[Remark]
    ) -> tuple[Consent, ...]:
        return tuple(found for read in self._consents if (found := read(cells, at, remarks)))

    # -- the outcome ------------------------------------------------------------------------------

    def _read_outcome_columns(self) -> None:
        rule = self._mapping.outcome
        self._outcome_column = self._column(rule.column) if rule else None
        self._outcome_values = values_of(rule.equals) if rule else frozenset[str]()
        self._outcome_time = (
            reader(rule.time, self._header, self._facts.zone) if rule and rule.time else None
        )

    def _has_outcome(self, cells: Cells) -> bool:
        column = self._outcome_column
        return column is not None and matches(cells[column], self._outcome_values)

    def _outcome(
        self,
        cells: Cells,
        at: datetime | None,
        who: Mapping[str, Any],
        fields: Mapping[str, Any],
    ) -> Item:
        """The interaction by which a lead's row reports the outcome."""
        own_time = self._outcome_time(cells) if self._outcome_time else None
        origin = {
            name: fields[name] for name in ("product", "source", "campaign") if name in fields
        }
        return _item(self._facts.outcome, own_time or at, who, origin)

    # -- how values are read ----------------------------------------------------------------------

    def _type_reader(self) -> ReadText:
        """Reads the type of a row: constant where the name is a type that the model knows or no
        column, else the column's value.
        """
        rule = self._mapping.type
        if rule is None:
            return lambda _: IDENTIFIED
        name, names = rule.name, {folded(value): type_ for value, type_ in rule.names.items()}
        column = self._column(rule.column or ("" if name in self._facts.types else name))
        if column is None:
            constant = snake(name or rule.column)
            return lambda _: constant

        def read(cells: Cells) -> str:
            value = cells[column].strip()
            if not value:
                raise Reject("no type", where="type", remedy="say what happened in this row")
            return rule.names.get(value) or names.get(folded(value)) or snake(value)

        return read

    def _value_reader(self, value: Value | None) -> ReadText | None:
        """Reads a value of the mapping; None where there is none, or its column is missing."""
        if value is None or (value.column and self._column(value.column) is None):
            return None
        if value.constant:
            return lambda _: value.constant
        return text_reader(value.column or value.text, self._header)

    def _trait_columns(self) -> Sequence[tuple[str, int]]:
        """(trait, column); of `all`, those that nothing else uses."""
        mapping = self._mapping
        # nothing more is kept of people who want no mails
        if mapping.kind == "suppressions":
            return []
        if isinstance(mapping.traits, dict):
            return [
                (trait, n)
                for trait, column in mapping.traits.items()
                if (n := self._column(column)) is not None
            ]
        return self._unused_columns() if mapping.traits == ALL else []

    def _unused_columns(self) -> list[tuple[str, int]]:
        """(trait, column) of the columns that the mapping uses for nothing else."""
        mapping = self._mapping
        values = [value for name in (*VALUES, "cost") if (value := getattr(mapping, name))]
        texts = [*(value.text for value in values), mapping.type.name if mapping.type else ""]
        texts += [text for rule in mapping.consent for text in (rule.basis, rule.text)]
        named = (needed_column.name for needed_column in needed(mapping))
        used = {self._column(name) for name in (*named, *texts)}
        found: dict[str, int] = {}
        same: Counter[str] = Counter()
        for column, name in enumerate(self._header.names):
            if name and column not in used:
                trait = name = snake(name)
                while trait in found:
                    same[name] += 1
                    trait = f"{name}_{same[name] + 1}"
                found[trait] = column
        return list(found.items())

    def _column(self, name: str) -> int | None:
        return self._header.find(name) if name else None


def _item(
    type_: str, at: datetime | None, who: Mapping[str, Any], fields: Mapping[str, Any]
) -> Item:
    """An interaction whose id is the hash of its content."""
    item = Item(type=type_, occurred_at=at, **who, **fields)
    force_setattr(item, "id", hashlib.blake2b(encode_bytes(item), digest_size=16).hexdigest())
    return item
