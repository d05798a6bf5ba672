"""What the nightly check finds: calibration, months, recalibration, alarms, past forecasts."""

import random
from collections import Counter

import numpy as np
import pytest

from services.scorer.learning import company, forecasting, monitor
from services.scorer.learning.episodes import Episode
from services.scorer.model.fold import Fold
from services.scorer.model.stage_filter import StageModel
from services.shared.clock import DAY
from services.shared.playbook.learned import Learned
from services.shared.playbook.sections import Playbook
from tests.support import simulated
from tests.support.histories import BASE

UNTIL = simulated.until(500)


def archive(playbook: Playbook, hazard: float = 1.0, leads: int = 400) -> list[Episode]:
    rng = np.random.default_rng(2)
    process = simulated.unlike(playbook.model, rng, spread=0.0)
    return simulated.archive(process._replace(hazard=process.hazard * hazard), leads, rng)


def trained_until(playbook: Playbook, days: float) -> Playbook:
    """The playbook under a learned model that is the cold start, learned until then."""
    learned = company.plain(playbook.model)
    until = monitor.rfc3339(monitor.from_us(simulated.until(days)))
    training = learned.training.model_copy(update={"until": until})
    update = {"training": training, "version": "base"}
    model = playbook.model.model_copy(update={"learned": learned.model_copy(update=update)})
    return playbook.with_model(model)


def test_matured_outcomes_move_the_calibration_whatever_the_order_in_which_they_came(
    default_playbook: Playbook,
) -> None:
    """The version keeps the model that it was made of, and recalibrating again changes nothing."""
    fold = Fold(trained_until(default_playbook, 30))
    found = archive(default_playbook, hazard=0.3, leads=900)
    first = monitor.check(fold, found, UNTIL, {})
    moved = first.recalibrated
    assert moved
    assert moved.learned
    assert moved.learned.parent == "base"
    assert moved.version.startswith("base+")
    assert moved.learned.calibration.intercept < 0
    again = monitor.check(Fold(default_playbook.with_model(moved)), found, UNTIL, {})
    assert again.recalibrated is None
    assert again.figures["recalibration"] == pytest.approx(first.figures["recalibration"])
    before, after = (check.figures["since_training"]["ece"] for check in (first, again))
    assert after < before
    alike = first.figures["alike"]
    assert alike["version"] == moved.version
    assert alike == again.figures["alike"]
    assert sum(outcomes for _, _, _, outcomes in alike["bands"]) > 100


def test_a_model_by_hand_and_one_without_later_outcomes_are_not_recalibrated(
    default_playbook: Playbook,
) -> None:
    found = archive(default_playbook)
    assert monitor.check(Fold(default_playbook), found, UNTIL, {}).recalibrated is None
    late = Fold(trained_until(default_playbook, 499))
    assert monitor.check(late, found, UNTIL, {}).recalibrated is None


@pytest.mark.parametrize(("hazard", "kinds"), [(1.0, []), (0.2, ["calibration"])])
def test_an_alarm_says_that_predictions_are_off(
    hazard: float, kinds: list[str], default_playbook: Playbook
) -> None:
    rng = np.random.default_rng(3)
    process = simulated.unlike(default_playbook.model, rng, spread=0.0)
    process = process._replace(hazard=process.hazard * hazard)
    found = simulated.archive(process, 900, rng, entry_days=450)
    check = monitor.check(Fold(default_playbook), found, UNTIL, {})
    alarms = [each["kind"] for each in check.figures["alarms"] if each["kind"] != "mix"]
    assert alarms == kinds


def test_an_alarm_says_that_people_act_otherwise(default_playbook: Playbook) -> None:
    stages = StageModel(default_playbook.model)
    rng = random.Random(0)

    def acts(mark: str, first: int, last: int) -> list[Episode]:
        code = np.full(5, stages.code[mark], np.int64)
        days = (sorted(rng.uniform(first, last) for _ in range(5)) for _ in range(100))
        each = (BASE + (np.array(some) * DAY).astype(np.int64) for some in days)
        return [Episode(n, int(at[0]), at, code, UNTIL, False, ()) for n, at in enumerate(each)]

    fold = Fold(default_playbook)
    same = acts("visit", 350, 470) + acts("visit", 475, 500)
    assert monitor.mix_alarms(fold, same, UNTIL) == []
    (alarm,) = monitor.mix_alarms(fold, acts("visit", 350, 470) + acts("pricing", 475, 500), UNTIL)
    assert alarm["what"].startswith(("visit made 9", "pricing made 0"))


def test_an_alarm_names_sources_that_fell_silent() -> None:
    """Not one that speaks seldom, nor one that spoke yesterday."""
    today = UNTIL // DAY
    sources = {
        "daily": Counter({today - day: 5 for day in range(4, 60)}),
        "weekly": Counter({today - day: 5 for day in range(5, 160, 7)}),
        "yesterday": Counter({today - day: 5 for day in range(1, 60)}),
        "once": Counter({today - 100: 5}),
    }
    alarms = monitor.silent_sources(sources, UNTIL)
    assert [alarm["what"] for alarm in alarms] == ["daily has been silent for 4 days"]


def test_past_forecasts_hold_what_came(default_playbook: Playbook) -> None:
    """Of leads that are as the model says; nearly all within their intervals."""
    found = archive(default_playbook, leads=900)
    past = forecasting.compared(monitor.forecasts(Fold(default_playbook), found, UNTIL))
    assert len(past) >= 8
    assert sum(each.low <= each.happened <= each.high for each in past) >= len(past) - 2
    assert forecasting.relative_error([]) == forecasting.UNPROVEN


def test_an_empty_archive_has_nothing_to_check(default_playbook: Playbook) -> None:
    figures = monitor.check(Fold(default_playbook), [], UNTIL, {}).figures
    assert (figures["matured"], figures["all"], figures["alarms"]) == (0, None, [])
    assert figures["alike"] == {"version": "", "bands": []}


def test_a_learned_model_that_says_what_the_stages_say_is_the_cold_start(
    default_playbook: Playbook,
) -> None:
    learned: Learned = company.plain(default_playbook.model)
    model = default_playbook.model.model_copy(update={"learned": learned})
    rows = company.rows_of(archive(default_playbook), 90, UNTIL, np.random.default_rng(0))
    both = [
        company.predicted(Fold(playbook), rows)
        for playbook in (default_playbook, default_playbook.with_model(model))
    ]
    assert both[1] == pytest.approx(both[0], abs=1e-9)
