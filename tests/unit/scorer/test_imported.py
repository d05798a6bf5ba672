"""What the scorer tells of imports: history and new leads, and that what is live wins over both
(I3).
"""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from services.scorer.processing.announcements import Evidence, imported
from services.scorer.records import IncomingEvent
from services.shared.contracts.event_types import TOUCH_SENT
from services.shared.contracts.events import Interaction
from services.shared.contracts.provenance import (
    Provenance,
    decode_provenance,
    encode_provenance,
)


def incoming(flags: str, **fields: Any) -> IncomingEvent:
    data = Interaction(
        id=uuid.uuid4().hex, **({"type": "demo_requested", "email": "a@b.example"} | fields)
    )
    received_at = datetime(2026, 1, 1, tzinfo=UTC)
    return IncomingEvent(
        uid=uuid.uuid4().hex,
        at=1,
        digest="00",
        received_at=received_at,
        source="import:default",
        provenance=decode_provenance(flags),
        posted_at=0.0,
        data=data,
        body="",
        identifiers=[],
    )


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ([], ""), (["history"], "history"), (["history", "old history"], "history"),
        (["new_leads:7", "history"], "new_leads:7"),
        (["new_leads:7", "new_leads:14"], "new_leads:14"), (["history", ""], ""), (["new_leads:7",
        "clamped"], ""),
        (["old new_leads:7"], "history"),
    ],
)  # fmt: skip
def test_a_live_event_wins_over_an_import_and_new_leads_over_history(
    flags: list[str], word: str
) -> None:
    evidence = Evidence([incoming(one) for one in flags])
    assert encode_provenance(imported(evidence)) == word


def test_our_own_sends_and_machines_are_nothing_live() -> None:
    live = [incoming("", type=TOUCH_SENT), incoming("", type="email_opened", machine=True)]
    assert imported(Evidence([incoming("history"), *live])) == Provenance("history")
