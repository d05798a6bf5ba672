"""Imports from rows to the report, without servers: what is counted, what is sent, what happens
while a dependency is away.
"""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.importing import run
from services.ingest.importing.jobs import UploadedFile
from services.ingest.importing.lead_count import LeadCounter
from services.ingest.importing.mapping_file import load
from services.ingest.importing.rows import Rows
from services.ingest.importing.run import (
    Batch,
    DryRun,
    Import,
    ImportReport,
    Pipeline,
    RefusedRow,
)
from services.ingest.importing.table import Table
from services.ingest.normalise import Normaliser
from services.scorer.identity.rules import Graph, Node, assign
from services.shared.contracts.events import (
    CONSENTS,
    INTERACTIONS,
    decode_consent,
    decode_envelope,
    decode_interaction,
)
from services.shared.contracts.identity import Identifier, Kind
from services.shared.contracts.provenance import NEW_LEADS
from services.shared.errors import Reject, Retry
from services.shared.messaging.kafka import Outgoing
from tests.unit.ingest.importing import FACTS

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Kept:
    """A sink that keeps what comes; `away` times it is away first, and it refuses rows that hold
    `refused`.
    """

    encodes = True

    def __init__(self, away: int = 0, refused: str = "") -> None:
        self.away, self.refused = away, refused
        self.records: list[Outgoing] = []
        self.items: list[bytes] = []

    async def put(self, batch: Batch) -> list[RefusedRow]:
        if self.away:
            self.away -= 1
            raise Retry("away")
        self.records += batch.records
        self.items += [item for accepted in batch.accepted for item in accepted.items]
        return [
            RefusedRow(accepted.row, Reject("refused there"))
            for accepted in batch.accepted
            if self.refused and self.refused in accepted.row.cells
        ]


async def imported(
    path: Path, mapping: str, sink: Any, rejects: io.StringIO | None = None, **declared: Any
) -> ImportReport:
    table = Table(path)
    try:
        cleaner = FACTS.cleaner()
        rows = Rows(load(mapping, "map.yaml"), table.header, FACTS)
        normaliser = Normaliser(cleaner, b"pepper")
        pipeline = Pipeline(table, rows, normaliser, cleaner, sink, NOW)
        return await Import(pipeline, ImportReport(**declared), rejects).run()
    finally:
        table.close()


def file(folder: Path, *lines: str) -> Path:
    path = folder / "f.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


async def test_a_batch_is_what_ingest_would_have_made_of_it(tmp_path: Path) -> None:
    sink = Kept()
    path = file(tmp_path, "E,T,OK", "Ann@X.example,2026-03-04,yes")
    report = await imported(
        path, "kind: leads\nemail: E\ntime: T\nconsent: OK", sink, as_=NEW_LEADS, days=7
    )
    record, consent = sink.records
    event = decode_envelope(record.value)
    assert (record.topic, consent.topic) == (INTERACTIONS, CONSENTS)
    assert (event.source, event.flags, event.receivedat) == ("import:default", "new_leads:7", NOW)
    assert (decode_interaction(event.data).email, decode_consent(consent.value).data.state) == (
        "ann@x.example",
        "given",
    )
    assert report.as_json() == {
        "rows": 1, "accepted": 1, "rejected": 0, "leads": 1, "reasons": {}, "events": 1,
        "as": "new_leads", "days": 7,
        "dry_run": False,
    }  # fmt: skip


async def test_a_row_is_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    """The outcome of a lead that is refused does not go out alone."""
    path = file(tmp_path, "E,N,Deal", "a@x.example,\0,won", "b@x.example,n,won")
    sink = Kept()
    report = await imported(
        path, "kind: leads\nemail: E\ntraits: {n: N}\noutcome: {column: Deal, equals: won}", sink
    )
    assert (report.accepted, report.rejected, report.events, len(sink.records)) == (1, 1, 2, 2)
    assert report.reasons == {"a NUL character": 1}


async def test_a_long_cell_is_cut_and_said(tmp_path: Path) -> None:
    """The lead is kept, also where the cell is longer than a table's."""
    path = file(tmp_path, "E,N", f"a@x.example,{'n' * 9000}", f"b@x.example,{'n' * 90_000}")
    sink = Kept()
    report = await imported(path, "kind: leads\nemail: E\ntraits: {n: N}", sink)
    assert (report.accepted, report.rejected) == (2, 0)
    assert report.as_json()["remarks"] == {"traits/n: a text over the limit, which was cut": 2}
    assert {decode_envelope(record.value).flags for record in sink.records} == {"cut history"}


async def test_what_is_refused_at_the_other_end_is_reported_like_the_rest(tmp_path: Path) -> None:
    path = file(tmp_path, "E", *(f"p{n}@x.example" for n in range(2_500)))
    report = await imported(path, "kind: leads\nemail: E", Kept(refused="p1700@x.example"))
    assert (report.rows, report.accepted, report.leads, report.reasons) == (
        2_500,
        2_499,
        2_499,
        {"refused there": 1},
    )
    assert report.first[0][0] == 1_702


async def test_it_waits_for_what_is_away_and_gives_up_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file(tmp_path, "E", "a@x.example")
    assert (await imported(path, "kind: leads\nemail: E", Kept(away=1))).accepted == 1
    monkeypatch.setattr(run, "RETRY_S", 0.1)
    with pytest.raises(Retry):
        await imported(path, "kind: leads\nemail: E", Kept(away=9))


async def test_rejected_rows_go_to_a_table_that_computes_nothing(tmp_path: Path) -> None:
    """Attack: a CSV formula."""
    out = io.StringIO(newline="")
    cells = ['"=1+1"', "+1", "-1", "@SUM(A1)", '"\t=1"']
    await imported(
        file(tmp_path, "E;=N", *(f"nobody;{cell}" for cell in cells)),
        "kind: leads\nemail: E",
        DryRun(),
        out,
    )
    table = list(csv.reader(io.StringIO(out.getvalue(), newline="")))
    assert table[0] == ["line", "reason", "remedy", "E", "'=N"]
    assert [row[4] for row in table[1:]] == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1"]
    assert {row[1] for row in table[1:]} == {"not a mail address"}


async def test_reasons_do_not_grow_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "MAX_REASONS", 1)
    path = file(tmp_path, "E,T", "nobody,", "a@x.example,soon", "nobody,")
    report = await imported(path, "kind: leads\nemail: E\ntime: T", DryRun())
    assert report.reasons == {"not a mail address": 2, "other reasons": 1}


_people = st.lists(
    st.lists(st.tuples(st.sampled_from([Kind.USER, Kind.EMAIL, Kind.EXTERNAL, Kind.ANONYMOUS]),
    st.sampled_from("abcde")),
             min_size=1, max_size=3, unique_by=lambda one: one[0]), max_size=14,
)  # fmt: skip


@given(rows=_people)
def test_leads_are_counted_as_the_scorer_will_tell_them_apart(
    rows: list[list[tuple[Kind, str]]],
) -> None:
    """D1, D2: linked identifiers are one person, shared ones nobody's."""
    named = [sorted(Identifier(kind, value) for kind, value in row) for row in rows]
    counter = LeadCounter()
    counter.add(named)
    assert counter.count() == _leads(named)
    counter.close()


def _leads(rows: Sequence[Sequence[Identifier]]) -> int:
    """The same by the scorer's own rules."""
    numbers = {
        one: number for number, one in enumerate(dict.fromkeys(one for row in rows for one in row))
    }
    graph = Graph(
        {number: Node(number, one.kind, one.value, None, None) for one, number in numbers.items()}
    )
    for row in rows:
        for weak in row[1:]:
            graph.links.setdefault(numbers[weak], set()).add(numbers[row[0]])
    new_leads = iter(range(1, 10_000))
    assign(graph, list(numbers.values()), lambda node: next(new_leads))  # type: ignore[arg-type,return-value]
    return len({lead for row in rows if (lead := graph.nodes[numbers[row[0]]].lead) is not None})


def test_a_file_on_the_page_shows_a_mapping_that_cannot_be_read_as_empty(tmp_path: Path) -> None:
    uploaded = UploadedFile(tmp_path, "f.csv", None)  # type: ignore[arg-type]
    for text in ("kind: [", "- a", ""):
        uploaded.text = text
        assert uploaded.mapping == {}
