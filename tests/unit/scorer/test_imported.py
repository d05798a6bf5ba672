"""What the scorer tells of imports: history and new leads, and that what is live wins over both
(I3).
"""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from services.scorer.processing.announcements import Evidence, imported
from services.scorer.records import Arrival
from services.shared.contracts.events import TOUCH_SENT, Interaction


def arrival(flags: str, **fields: Any) -> Arrival:
    data = Interaction(
        id=uuid.uuid4().hex, **({"type": "demo_requested", "email": "a@b.example"} | fields)
    )
    return Arrival(
        uuid.uuid4().hex,
        1,
        "00",
        datetime(2026, 1, 1, tzinfo=UTC),
        "import:default",
        flags,
        0.0,
        data,
        "",
        [],
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
    assert imported(Evidence([arrival(one) for one in flags])) == word


def test_our_own_sends_and_machines_are_nothing_live() -> None:
    live = [arrival("", type=TOUCH_SENT), arrival("", type="email_opened", machine=True)]
    assert imported(Evidence([arrival("history"), *live])) == "history"
