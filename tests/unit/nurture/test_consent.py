"""Which permission counts, and that unknown permission is none (N6)."""

from datetime import datetime
from typing import Any

from services.nurture.rules.decision import Send
from services.shared.contracts.events import ConsentState
from services.shared.playbook.sections import Playbook
from tests.support.nurture import NOW, decided, item, lead, trigger


def given(at: datetime) -> ConsentState:
    return ConsentState("given", at)


def withdrawn(at: datetime) -> ConsentState:
    return ConsentState("withdrawn", at)


def test_unknown_permission_is_none(make: Any) -> None:
    """N6: nor is there any without an address."""
    rules = make(item("a"))
    for without in (
        lead(consent=None),
        lead(email=""),
        lead(consent=withdrawn(NOW)),
    ):
        assert decided(rules, without, trigger()).reason == "no_consent"  # type: ignore[union-attr]
    assert "2026-05-13" in decided(rules, lead(consent=withdrawn(NOW)), trigger()).why


def test_with_double_opt_in_only_a_confirmed_permission_counts(
    make: Any, default_playbook: Playbook
) -> None:
    rules = make(
        item("a"), consent=default_playbook.consent.model_copy(update={"double_opt_in": True})
    )
    assert decided(rules, lead(), trigger()).reason == "no_consent"  # type: ignore[union-attr]
    confirmed = ConsentState("given", NOW, "double_opt_in")
    assert isinstance(decided(rules, lead(consent=confirmed), trigger()), Send)
