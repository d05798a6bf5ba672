"""Reasons: lines in words, grouped by act, each with its day; how long they last, on what they
hang, and what came of leads like it.
"""

import math
import random
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from services.scorer.learning import alike
from services.scorer.learning.company import Rows
from services.scorer.learning.moments import Moments
from services.scorer.model.explanation import FitChange, Ledger, Line, Mail, explain
from services.scorer.model.fold import Fold
from services.scorer.model.outlook import Person, lasts_until, without_strongest
from services.scorer.model.state import Event
from services.scorer.model.window import known_of
from services.scorer.queries.lines import SELDOM, SURPRISING, Words, texts, why_of
from services.scorer.queries.reasons import Reasons, grounds, joined, reasons
from services.shared.clock import DAY, to_us
from services.shared.contracts.events import Interaction, event_uid
from services.shared.playbook.learned import Calibration
from services.shared.playbook.sections import Playbook
from tests.support.histories import history
from tests.support.learned import with_layer

NOW = to_us(datetime(2026, 5, 20, 12, tzinfo=UTC))
TOUCH = "00000000-0000-4000-8000-000000000001"


@pytest.fixture
def words(default_playbook: Playbook) -> Words:
    return Words(default_playbook.content_by_id, default_playbook.model, UTC)


@pytest.fixture(scope="module")
def fold(default_playbook: Playbook) -> Fold:
    return Fold(default_playbook)


def act(days_ago: float, delta: float, signal: str = "pricing", **more: Any) -> Line:
    at = NOW - int(days_ago * DAY)
    return Line(at=at, kind="event", signal=signal, delta=delta, points=delta, **more)


def silence(days: float, delta: float, until: float = 0) -> Line:
    at = NOW - int(until * DAY)
    return Line(at=at, kind="silence", silence=int(days * DAY), delta=delta, points=delta)


def no_click(days_ago: float) -> Line:
    at = NOW - int(days_ago * DAY)
    return Line(at=at, kind="no_click", signal="no_click", touch_id=TOUCH, delta=-0.1, points=-0.1)


def mail(days_ago: float, content: str = "") -> Mail:
    return Mail(TOUCH, NOW - int(days_ago * DAY), content)


def ledger(*lines: Line, ended_by: str = "", mails: tuple[Mail, ...] = ()) -> Ledger:
    likelihood = None if ended_by else 0.2
    return Ledger(
        likelihood, -2.0, list(lines), 0.0, NOW, "default", "model", ended_by, mails=mails
    )


def of(words: Words, *lines: Line, **more: Any) -> Reasons:
    return reasons(ledger(*lines, **more), words, "Ann Day")


def test_acts_of_a_week_are_one_ground_and_say_how_often(words: Words) -> None:
    found = of(words, *(act(day, 0.3) for day in (5, 4, 3, 2, 1)))
    [ground] = found.grounds_for
    assert ground.text == "looked at prices five times this week"
    assert ground.why == "a step usually taken near a decision"
    assert (ground.acts, ground.delta) == (5, pytest.approx(1.5))
    assert found.sentence == "Ann Day looked at prices five times this week."


def test_older_acts_are_apart_from_this_weeks_and_name_their_day(words: Words) -> None:
    lines = [act(400, 0.3), act(17, 0.3, "demo"), act(17, 0.3), act(15, 0.2), act(1, 0.3)]
    lines += [act(3, 0.1, "reply"), act(2, 0.1, "reply")]
    assert [ground.text for ground in grounds(ledger(*lines), words)] == [
        "looked at prices three times until 5 May",
        "asked for a demo on 3 May",
        "looked at prices on 19 May",
        "replied twice this week",
    ]
    [alone] = grounds(ledger(act(400, 0.3)), words)
    assert alone.text == "looked at prices on 15 April 2025"


def test_content_is_named_by_its_title_and_the_act_by_its_type(words: Words) -> None:
    item = next(iter(words.library.values()))
    line = act(1, 0.3, "content_awareness", type="content_downloaded", content=item.id)
    [ground] = of(words, line).grounds_for
    assert ground.text == f"downloaded “{item.title}” on 19 May"
    assert ground.content == item.title


def test_three_grounds_for_and_one_against_the_strongest_first(words: Words) -> None:
    lines = [act(20, 0.1, "visit"), act(19, 1.0, "demo"), act(18, 0.4), act(17, 0.6, "reply")]
    found = of(words, *lines, silence(17, -0.8), act(0, -0.1, "unsubscribe"))
    assert [ground.delta for ground in found.grounds_for] == [1.0, 0.6, 0.4]
    assert found.ground_against
    assert found.ground_against.text == "silent for 17 days since 3 May"
    assert found.sentence == (
        "Ann Day asked for a demo on 1 May and replied on 3 May, "
        "but has been silent for 17 days since 3 May."
    )


@pytest.mark.parametrize(
    ("lines", "mails", "text"),
    [
        ([act(17, 1.0), silence(17, -0.5)], [], "silent for 17 days since 3 May"),
        (
            [act(17, 1.0), silence(17, -0.5)],
            [mail(16.9)],
            "silent for 17 days since our mail of 3 May",
        ),
        (
            [act(30, 1.0), silence(13, -0.3, 17), no_click(17), silence(17, -0.2)],
            [mail(24)],
            "silent for 30 days since 20 April, also after our mail of 26 April",
        ),
        (
            [act(30, 1.0), silence(30, -0.5)],
            [mail(24), mail(10)],
            "silent for 30 days since 20 April, also after two mails of ours, the last of 10 May",
        ),
        (
            [act(30, 1.0), silence(20, -0.5, 10), act(10, 0.1)],
            [],
            "silent for 20 days until 10 May",
        ),
        ([silence(0.2, -0.5)], [], "silent for 5 hours since 20 May"),
    ],
)  # fmt: skip
def test_silence_is_one_ground_whatever_mails_fell_into_it(
    words: Words, lines: list[Line], mails: list[Mail], text: str
) -> None:
    found = reasons(ledger(*lines, mails=tuple(mails)), words)
    assert found.ground_against
    assert found.ground_against.text == text
    assert found.ground_against.why == "people near a decision act more often"


def test_silence_is_joined_to_the_act_that_it_follows(words: Words) -> None:
    fit = Line(at=NOW - 9 * DAY, kind="attributes", fit=FitChange(50, 60, ("Can decide",)))
    lines = [act(20, 0.3), fit, silence(11, -0.1, 9), act(9, 0.2), silence(2, -0.1, 7), no_click(7)]
    entries = joined(lines)
    assert [(entry.act, entry.quiet) for entry in entries] == [
        (lines[0], [lines[2]]),
        (fit, []),
        (lines[3], lines[4:]),
    ]


def test_what_a_restart_undid_is_no_ground_and_the_person_stays(words: Words) -> None:
    fit = Line(
        at=NOW - 50 * DAY, kind="attributes", delta=0.4, fit=FitChange(50, 60, ("Can decide",))
    )
    lost = Line(at=NOW - 20 * DAY, kind="restart", signal="restart", delta=-3.0)
    found = of(words, act(50, 2.0, "demo"), fit, lost, act(1, 0.2))
    assert [ground.text for ground in found.grounds_for] == [
        "fits well (can decide)",
        "looked at prices on 19 May",
    ]
    assert found.ground_against is None


def test_what_rounds_to_nothing_is_no_reason(words: Words) -> None:
    found = of(words, act(1, 0.01))
    assert (found.grounds_for, found.ground_against) == ([], None)
    assert found.sentence == "Ann Day: nothing speaks for a decision yet."
    found = of(words, silence(40, -0.5))
    assert found.sentence.startswith("Nothing speaks for a decision yet: Ann Day has been silent")


def test_after_the_outcome_nothing_is_left_to_say(words: Words) -> None:
    found = of(words, act(1, 1.0), ended_by="purchase")
    assert found.sentence == "The lead bought: there is nothing left to predict."
    assert found.grounds_for == []


def test_grounds_keep_every_bit_of_the_ledger(words: Words) -> None:
    lines = [act(9, 0.5), silence(5, -0.2, 4), act(4, 0.3), act(3, 0.1, "visit"), silence(3, -0.1)]
    found = grounds(ledger(*lines), words)
    assert sum(ground.delta for ground in found) == pytest.approx(sum(line.delta for line in lines))


# -- lines in words -------------------------------------------------------------------------------


def test_every_line_says_what_and_silence_what_it_followed(words: Words) -> None:
    lines = [act(30, 1.0), silence(13, -0.3, 17), no_click(17), silence(17, -0.2)]
    assert texts(ledger(*lines, mails=(mail(24),)), words) == [
        "looked at prices",
        "silent for 7 days since our mail of 26 April",
        "did not click in our mail of 26 April in time",
        "silent for 24 days since our mail of 26 April",
    ]
    assert (
        texts(ledger(lines[0], silence(30, -0.2)), words)[1] == "silent for 30 days since 20 April"
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (act(1, 0.4), "a step usually taken near a decision"),
        (act(1, 0.4, "visit"), "a step usually taken by people who compare ways or decide"),
        (act(1, -0.4, "content_awareness"), SELDOM),
        (act(1, -0.4, "unsubscribe"), SELDOM),
        (act(1, 0.4, "unsubscribe"), SURPRISING),
        (act(1, -0.4), SURPRISING),
        (act(1, 0.4, "click"), "people near a decision click in our mails more often"),
        (no_click(1), "people near a decision click in our mails more often"),
        (silence(3, -0.2), "people near a decision act more often"),
        (silence(3, 0.2), SURPRISING),
        (Line(at=0, kind="outcome"), "the outcome has happened, so nothing is left to predict"),
        (Line(at=0, kind="restart"), "what came before it counts no more"),
        (Line(at=0, kind="machine"), "a machine's click says nothing of a person"),
        (Line(at=0, kind="attributes", fit=FitChange(50, 60, ("a", "b"))), "a; b"),
    ],
)
def test_every_line_says_why_and_a_surprising_sign_is_told(
    words: Words, line: Line, why: str
) -> None:
    assert why_of(line, words.model) == why


def test_an_introduction_late_is_told_as_surprising(words: Words) -> None:
    ground = of(words, act(1, -0.4, "content_awareness", type="page_viewed")).ground_against
    assert ground
    assert ground.text == f"viewed a page on 19 May: {SELDOM}"


def test_stages_of_another_name_are_named(words: Words) -> None:
    stages = ["cold", "cool", "warm_up", "hot"]
    model = words.model.model_copy(update={"stages": stages})
    assert why_of(act(1, 0.4), model) == "a step usually taken near the stage Hot"
    assert why_of(act(1, 0.4, "visit"), model) == "a step usually taken in Warm up or Hot"


# -- how long it lasts, and on what it hangs ------------------------------------------------------


def event(days_ago: float, type_: str) -> Event:
    data = Interaction(id=f"{type_}{days_ago}", type=type_, email="ann@firm.example")
    return Event(NOW - int(days_ago * DAY), event_uid("x", data.id), data)


def likelihood(fold: Fold, events: list[Event], at: int, person: Person) -> float:
    effects = None if person.effect is None else [person.effect]
    [view] = fold.view(fold.refold("default", [events]), [at], [person.fit], effects)
    return view.likelihood or 0.0


@pytest.mark.parametrize("learned", [False, True])
def test_the_best_before_day_is_the_first_on_which_silence_takes_it_below(
    default_playbook: Playbook, learned: bool
) -> None:
    """S9, against a look at every day."""
    fold = Fold(with_layer(default_playbook) if learned else default_playbook)
    person = Person(62.0, 0.4 if learned else None)
    events = [event(3, "pricing_viewed"), event(2, "demo_requested"), event(1, "email_replied")]
    [state] = fold.refold("default", [events])
    daily = [likelihood(fold, events, NOW + day * DAY, person) for day in range(366)]
    for threshold in np.linspace(min(daily), max(daily), 9):
        day = next((day for day in range(1, 366) if daily[day] < threshold), None)
        until = lasts_until(fold, state, NOW, person, float(threshold))
        assert until == (None if day is None else NOW + day * DAY)
    assert lasts_until(fold, state, NOW, person, 0.0) is None


@pytest.mark.parametrize("seed", range(40))
def test_fragility_is_the_likelihood_of_the_same_set_without_its_strongest_event(
    fold: Fold, seed: int
) -> None:
    events = {}
    for each in history(random.Random(seed), people=1, length=12):
        uid = event_uid("x", each.data.id)
        events.setdefault(uid, Event(each.at, uid, each.data))
    order = sorted(events.values(), key=lambda event: (event.at, event.uid))
    now = order[-1].at + 2 * DAY
    known = explain(fold, "default", known_of(order), now)
    found = without_strongest(fold, known, order, Person(50.0, None))
    raised = [line for line in known.counting if line.kind == "event" and line.delta > 0]
    if known.likelihood is None or not raised:
        assert not (found and not raised)
        return
    assert found
    assert found.line.delta == max(line.delta for line in raised)
    others = [event for event in order if event.uid != found.line.uid]
    [view] = fold.view(fold.refold("default", [others]), [now], [50.0])
    assert found.likelihood == view.likelihood


def test_a_single_event_leaves_where_everybody_starts(fold: Fold) -> None:
    events = [event(2, "demo_requested")]
    known = explain(fold, "default", known_of(events), NOW)
    found = without_strongest(fold, known, events, Person(50.0, None))
    assert found
    assert found.likelihood == pytest.approx(1 / (1 + math.exp(-known.start)))


# -- leads like it --------------------------------------------------------------------------------


def matured(lead: list[int], at: list[float], outcome: list[bool]) -> Rows:
    whole = np.arange(len(lead))
    when = Moments(
        whole, np.array(at), np.zeros(len(lead)), np.ones(len(lead), np.int64),
        np.array(outcome), np.zeros(len(lead), np.int64),
    )  # fmt: skip

    class Of:
        def __init__(self, lead: int) -> None:
            self.lead = lead

    return Rows([Of(each) for each in lead], when, [])  # type: ignore[misc]


def test_a_lead_counts_once_in_a_band_by_its_first_moment_there() -> None:
    rows = matured([1, 1, 1, 2, 3], [9.0, 5.0, 1.0, 2.0, 3.0], [True, False, False, True, False])
    p = np.array([0.12, 0.11, 0.4, 0.14, 0.26])
    found = [tuple(band) for band in alike.counted(rows, np.log(p / (1 - p))) if band.leads]
    assert found == [(0.1, 0.15, 2, 1), (0.25, 0.35, 1, 0), (0.35, 0.5, 1, 0)]


def test_the_band_of_a_likelihood_holds_it() -> None:
    every = {
        "bands": [list(band) for band in alike.counted(matured([1], [1.0], [True]), np.zeros(1))]
    }
    for p in (0.0, 0.0049, 0.005, 0.1, 0.149, 0.7, 1.0):
        band = alike.band_of(every, p)
        assert band.low <= p <= band.high
    assert alike.band_of(every, 0.5).leads == 1


def test_recalibration_moves_intercept_and_slope_alone() -> None:
    before = Calibration(a=0.9, b=1.1, intercept=0.2, slope=0.8)
    after = before.model_copy(update={"intercept": -0.1, "slope": 1.2})
    z = np.array([-3.0, 0.0, 1.5])
    moved = alike.recalibrated(z, before, after)
    assert moved == pytest.approx(-0.1 + 1.2 * (z - 0.2) / 0.8)
