"""Tokens of forms: they say when a form was shown, and fit no other."""

import pytest

from services.ingest.http.form_token import LONGEST_S, age, issue
from services.shared.errors import Reject

PEPPER, NOW = b"pepper", 1_790_000_000.25


def test_a_token_tells_how_long_ago_its_form_was_shown() -> None:
    token = issue(PEPPER, "demo", NOW)
    assert age(PEPPER, "demo", token, NOW + 12.5) == pytest.approx(12.5)
    assert age(PEPPER, "demo", token, NOW + LONGEST_S) == pytest.approx(LONGEST_S)
    assert age(PEPPER, "demo", token, NOW - 1) < 0
    assert token.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize("cut", range(33))
def test_no_part_of_a_token_is_one(cut: int) -> None:
    token = issue(PEPPER, "demo", NOW)
    assert len(token) > 31
    with pytest.raises(Reject) as refused:
        age(PEPPER, "demo", token[:cut] if cut < len(token) else token + "A", NOW + 5)
    assert (refused.value.kind, refused.value.where) == ("form-token", "/_token")


def test_another_form_another_pepper_and_another_day_are_refused() -> None:
    token = issue(PEPPER, "demo", NOW)
    for pepper, form, now in (
        (PEPPER, "contact", NOW),
        (b"other", "demo", NOW),
        (PEPPER, "demo", NOW + LONGEST_S + 1),
    ):
        with pytest.raises(Reject) as refused:
            age(pepper, form, token, now)
        assert refused.value.kind == "form-token"
        assert refused.value.remedy
