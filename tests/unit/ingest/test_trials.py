"""A test of ours is marked in its flags and publishes no consent; nobody else can mark one."""

from datetime import UTC, datetime

import pytest

from services.ingest.http.request import marked
from services.ingest.normalise import Normaliser, Receipt
from services.ingest.sources.contract import InboundRequest, Item
from services.shared.contracts import trial_marks
from services.shared.contracts.events import CONSENTS, INTERACTIONS, Consent, decode_envelope
from services.shared.contracts.identity import Cleaner
from services.shared.contracts.provenance import (
    LIVE,
    Provenance,
    decode_provenance,
    encode_provenance,
)
from services.shared.errors import Reject
from services.shared.playbook.sections import Identity

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
PEPPER = b"pepper"


def taken(provenance: Provenance) -> Receipt:
    item = Item(
        id="e-1",
        type="form_submitted",
        email="ann@firm.example",
        consent=(Consent(state="given"), Consent(state="withdrawn", purpose="calls")),
    )
    receipt = Receipt("forms:default", NOW, 1.0, provenance=provenance)
    return Normaliser(Cleaner(Identity()), PEPPER).take([item], receipt)


def test_a_test_is_flagged_and_tells_nobody_of_consents() -> None:
    record, live = taken(Provenance(test=True)).records, taken(LIVE).records
    assert [each.topic for each in record] == [INTERACTIONS]
    assert {each.topic for each in live} == {INTERACTIONS, CONSENTS}
    event, other = decode_envelope(record[0].value), decode_envelope(live[0].value)
    assert (event.flags, other.flags) == ("test", "")
    assert (event.id, event.digest, event.data) == (other.id, other.digest, other.data)


def test_flags_are_read_as_they_were_written() -> None:
    for provenance in (
        Provenance(test=True),
        Provenance("new_leads", 7, True, True, ("cut",), True),
    ):
        assert decode_provenance(encode_provenance(provenance)) == provenance
    assert Provenance(test=True).import_only == LIVE


def request(mark: str | None) -> InboundRequest:
    headers = {} if mark is None else {trial_marks.HEADER: mark}
    return InboundRequest("/v1/events", b"", NOW, headers=headers)


def test_our_own_mark_holds_for_some_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = trial_marks.mark(PEPPER, 1000.0)
    assert trial_marks.is_ours(PEPPER, mark, 1000.0 + trial_marks.GOOD_FOR_S)
    assert not trial_marks.is_ours(PEPPER, mark, 1001.0 + trial_marks.GOOD_FOR_S)
    assert not trial_marks.is_ours(b"another", mark, 1000.0)
    monkeypatch.setattr("time.time", lambda: 1000.0)
    assert marked(LIVE, request(mark), PEPPER).test
    assert marked(LIVE, request(None), PEPPER) == LIVE


@pytest.mark.parametrize(
    "mark", ["", "1", "yes", ".", f"{10**12}.x", f"{'9' * 5000}.x", "²0.x", "9999999999.\xe9"]
)
def test_any_other_mark_is_refused(mark: str) -> None:
    with pytest.raises(Reject, match="not a mark of ours") as refusal:
        marked(LIVE, request(mark), PEPPER)
    assert refusal.value.kind == "forbidden"
