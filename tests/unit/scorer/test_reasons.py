"""Reasons: grouped by act, each with its day, and the trend of a week."""

from datetime import UTC, datetime

import pytest

from services.scorer.model.explanation import Ledger, Line
from services.scorer.queries.reasons import grounds, reasons, trend
from services.shared.clock import DAY, to_us

NOW = to_us(datetime(2026, 5, 20, 12, tzinfo=UTC))


def act(days_ago: float, delta: float, signal: str = "pricing", content: str = "") -> Line:
    at = NOW - int(days_ago * DAY)
    return Line(at=at, kind="event", signal=signal, delta=delta, points=delta, content=content)


def silence(days: float, delta: float, until: float = 0) -> Line:
    at = NOW - int(until * DAY)
    return Line(at=at, kind="silence", silence=int(days * DAY), delta=delta, points=delta)


def ledger(*lines: Line, ended_by: str = "") -> Ledger:
    likelihood = None if ended_by else 0.2
    return Ledger(likelihood, -2.0, list(lines), 0.0, NOW, "default", "model", ended_by)


def test_acts_of_a_week_are_one_ground_and_say_how_often() -> None:
    said = reasons(ledger(*(act(day, 0.3) for day in (5, 4, 3, 2, 1))), {}, UTC)
    [ground] = said.grounds_for
    assert ground.text == "looked at prices five times this week"
    assert (ground.acts, ground.delta) == (5, pytest.approx(1.5))
    assert said.sentence == "Looked at prices five times this week."


def test_older_acts_are_apart_from_this_weeks_and_name_their_day() -> None:
    texts = [ground.text for ground in grounds(ledger(act(17, 0.3), act(1, 0.3)), {}, UTC)]
    assert texts == ["looked at prices on 3 May", "looked at prices on 19 May"]


def test_three_grounds_for_and_one_against_the_strongest_first() -> None:
    lines = [act(20, 0.1, "visit"), act(19, 1.0, "demo"), act(18, 0.4), act(17, 0.6, "reply")]
    said = reasons(ledger(*lines, silence(17, -0.8), act(0, -0.1, "unsubscribe")), {}, UTC)
    assert [ground.delta for ground in said.grounds_for] == [1.0, 0.6, 0.4]
    assert [ground.text for ground in said.grounds_against] == [
        "silent for 17 days since the last sign of 3 May"
    ]
    assert said.sentence.endswith("; but silent for 17 days since the last sign of 3 May.")


def test_what_rounds_to_nothing_is_no_reason() -> None:
    said = reasons(ledger(act(1, 0.01)), {}, UTC)
    assert said.grounds_for == said.grounds_against == []
    assert said.sentence == "Nothing speaks for a decision yet."


def test_an_introduction_late_is_told_as_surprising() -> None:
    [ground] = reasons(ledger(act(1, -0.4, "content_awareness")), {}, UTC).grounds_against
    assert ground.text.endswith("on 19 May: people near a decision seldom do")


def test_after_the_outcome_nothing_is_left_to_say() -> None:
    said = reasons(ledger(act(1, 1.0), ended_by="purchase"), {}, UTC)
    assert said.sentence == "The lead bought: there is nothing left to predict."


def test_grounds_keep_every_bit_of_the_ledger() -> None:
    lines = [act(9, 0.5), silence(5, -0.2, 4), act(4, 0.3), act(3, 0.1, "visit"), silence(3, -0.1)]
    found = grounds(ledger(*lines), {}, UTC)
    assert sum(ground.delta for ground in found) == pytest.approx(sum(line.delta for line in lines))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([act(1, 1.0)], "not enough to say"),
        ([act(20, 1.0), act(1, 0.5)], "rising"),
        ([act(20, 1.0), silence(20, -0.3)], "steady"),  # a third of it within the week
        ([act(14, 1.0), silence(14, -0.5)], "falling"),
    ],
)
def test_the_trend_is_that_of_the_last_week(lines: list[Line], expected: str) -> None:
    assert trend(ledger(*lines)) == expected
