"""What is accepted otherwise than as it was written is said in the answer and kept with the event,
and harms neither its id nor the others (I4).
"""

import json
from datetime import UTC, datetime

from services.ingest.http.answers import answered
from services.ingest.normalise import Normaliser, Receipt
from services.ingest.source_stats import SourceStatistics
from services.ingest.sources import canonical
from services.ingest.sources.contract import Item, Remark, Remarked
from services.ingest.sources.remarks import MAX_REMARKS, remarked
from services.shared.contracts.events import decode_envelope
from services.shared.contracts.identity import Cleaner
from services.shared.contracts.provenance import (
    REMARK_KINDS,
    REMARK_SENTENCES,
    Provenance,
    decode_provenance,
    encode_provenance,
)
from services.shared.playbook.sections import Identity

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
NORMALISER = Normaliser(Cleaner(Identity()), b"pepper")


def item() -> Item:
    return Item(id="e-1", type="page_viewed", user_id="u-1")


def take(*items: Item | Remarked) -> Receipt:
    return NORMALISER.take(items, Receipt("canonical:default", NOW, 1.0))


def test_a_remark_changes_the_flags_and_nothing_else() -> None:
    said = [Remark("unknown-field", "/time", "time", "occurred_at"), Remark("cut", "/url")]
    found, bare = take(remarked(item(), said)), take(item())
    event, other = decode_envelope(found.records[0].value), decode_envelope(bare.records[0].value)
    assert event.flags == "cut unknown-field"
    assert (event.id, event.digest, event.data) == (other.id, other.digest, other.data)
    assert decode_provenance(event.flags).remarks == ("cut", "unknown-field")
    assert [(placed.place, placed.id) for placed in found.remarks] == [(0, "e-1")] * 2


def test_flags_are_read_as_they_were_written() -> None:
    full = Provenance("new_leads", 7, True, True, REMARK_KINDS)
    assert decode_provenance(encode_provenance(full)) == full
    assert encode_provenance(full.import_only) == "history"


def test_a_refused_item_has_no_remarks() -> None:
    receipt = take(remarked(Item(id="e-1", type="page_viewed"), [Remark("cut", "/url")]), item())
    assert len(receipt.refused) == 1
    assert not receipt.remarks


def test_what_is_shown_is_one_short_line_and_bounded_in_number() -> None:
    found = remarked(item(), [Remark("consent-word", "a\nb", "n\x00ein\u2028 " * 100)] * 2)
    assert isinstance(found, Remarked)
    (shown,) = found.remarks
    assert shown.where == "a b"
    assert len(shown.text) == 60
    assert shown.text.isprintable()
    many = remarked(item(), [Remark("cut", f"/{number}") for number in range(1_000)])
    assert isinstance(many, Remarked)
    assert len(many.remarks) == MAX_REMARKS


def test_the_answer_names_the_field_and_the_nearest_name() -> None:
    receipt = take(item(), remarked(item(), [Remark("unknown-field", "/time", "", "occurred_at")]))
    source = canonical.SOURCE
    statistics = SourceStatistics(None, [source], "http://x.example")  # type: ignore[arg-type]
    body = json.loads(answered(receipt, source, statistics).body)
    assert body["accepted"] == 2
    assert body["warnings"] == [
        {
            "index": 1,
            "id": "e-1",
            "kind": "unknown-field",
            "field": "/time",
            "text": "",
            "nearest": "occurred_at",
            "detail": "a field that has no meaning here, which was ignored; "
            "did you mean 'occurred_at'?",
        }
    ]


def test_what_is_remarked_of_cut_texts_is_as_short_and_as_few() -> None:
    """A stranger's names of fields go into a database's index and onto people's terminals."""
    long = "é" * 5_000
    fields = {str(number): {"é" * 500: {"ü" * 500: long}} for number in range(MAX_REMARKS + 5)}
    receipt = take(Item(id="e-1", type="page_viewed", user_id="u-1", properties=fields))
    assert not receipt.refused
    assert len(receipt.remarks) == MAX_REMARKS
    assert all(len(placed.remark.where) <= 60 for placed in receipt.remarks)


def test_every_kind_of_remark_has_a_sentence() -> None:
    assert set(REMARK_SENTENCES) == set(REMARK_KINDS)
