"""Lift against the hold-out: on tables, and its guarantees on simulated trials (M2)."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from services.ops.__main__ import app
from services.scorer.effects.lift import LEAST_OUTCOMES, Plan, Sums, lift
from services.scorer.effects.power import Experiment, detectable, needed
from services.scorer.effects.units import Entered, sums_at

TRIALS, DAYS, PER_DAY = 1000, 120, 250


def counted(held_out: float, base: float, relative: float, seed: int) -> tuple[Any, Any, Any]:
    """Daily lifts of many trials without a baseline: (effects, half widths, whether an interval is
    shown), each (TRIALS, DAYS).
    """
    rng = np.random.default_rng(seed)
    treated = rng.binomial(PER_DAY, 1 - held_out, (TRIALS, DAYS))
    reached = rng.binomial(treated, base * (1 + relative))
    control = PER_DAY - treated
    reached_control = rng.binomial(control, base)
    zero = np.zeros((TRIALS, DAYS))

    def sums(n: Any, y: Any) -> Sums:
        n, y = np.cumsum(n, 1).astype(float), np.cumsum(y, 1).astype(float)
        return Sums(n, zero, y, zero, zero, y)

    arms = sums(treated, reached), sums(control, reached_control)
    found = lift(*arms, Plan())
    shown = (arms[0].y >= LEAST_OUTCOMES) & (arms[1].y >= LEAST_OUTCOMES)
    return found.effect, found.half_width, shown


@pytest.mark.parametrize("base", [0.01, 0.02, 0.05])
def test_an_effect_that_is_not_there_is_seldom_found_however_often_one_looks(base: float) -> None:
    effect, half, shown = counted(0.1, base, 0.0, seed=1)
    assert shown.any(1).mean() > 0.9
    assert ((np.abs(effect) > half) & shown).any(1).mean() <= 0.05


@pytest.mark.parametrize(("base", "relative"), [(0.02, 0.5), (0.05, 0.3), (0.05, -0.3)])
def test_the_true_effect_is_inside_at_every_look(base: float, relative: float) -> None:
    effect, half, shown = counted(0.1, base, relative, seed=2)
    missed = ((np.abs(effect - base * relative) > half) & shown).any(1).mean()
    assert missed <= 0.05


def test_the_adjusted_effect_is_that_of_a_regression_by_hand() -> None:
    rng = np.random.default_rng(3)
    treated, x = rng.random(500) < 0.8, rng.random(500)
    outcome = rng.random(500) < x / 2
    leads = Entered(treated, np.arange(500), x, outcome)
    arms = sums_at(leads, np.array([200, 500]))
    found = lift(arms.treated, arms.held_out, Plan())
    for look, n in enumerate((200, 500)):
        slope, intercept = np.polyfit(x[:n], outcome[:n].astype(float), 1)
        rest = outcome[:n] - intercept - slope * x[:n]
        share = treated[:n].mean()
        psi = np.where(treated[:n], rest / share, -rest / (1 - share))
        assert found.effect[look] == pytest.approx(psi.mean(), abs=1e-12)
        n_rho2 = n * (2 * np.log(20) + np.log(2 * np.log(20) + 1)) / 10_000
        width = psi.std() * np.sqrt(
            2 * (n_rho2 + 1) / (n * n_rho2) * np.log(20 * np.sqrt(n_rho2 + 1))
        )
        assert found.half_width[look] == pytest.approx(width)


def test_an_account_is_one_unit_with_the_means_of_its_leads_so_far() -> None:
    rng = np.random.default_rng(4)
    unit = rng.integers(0, 60, 300)
    treated = unit % 3 != 0
    x, outcome = rng.random(300), rng.random(300) < 0.4
    looks = np.array([1, 50, 299, 300])
    arms = sums_at(Entered(treated, unit, x, outcome), looks)
    for look, n in enumerate(looks):
        for of, found, reached in (
            (treated, arms.treated, arms.treated_outcomes),
            (~treated, arms.held_out, arms.held_out_outcomes),
        ):
            mine = [
                (x[:n][rows].mean(), outcome[:n][rows].mean())
                for one in np.unique(unit[:n][of[:n]])
                if (rows := unit[:n] == one).any()
            ]
            xs, ys = (np.array(values) for values in zip(*mine, strict=True)) if mine else (
                np.zeros(0), np.zeros(0))  # fmt: skip
            wanted = (len(xs), xs.sum(), ys.sum(), xs @ xs, xs @ ys, ys @ ys)
            assert [float(part[look]) for part in found] == pytest.approx(wanted)
            assert reached[look] == (ys > 0).sum()


@pytest.mark.parametrize(
    ("base", "relative", "units"),
    [
        (0.01, 0.2, 220_109), (0.01, 0.5, 36_236), (0.01, 1.0, 9_480),
        (0.05, 0.2, 42_201), (0.05, 0.5, 6_934), (0.05, 1.0, 1_806),
    ],
)  # fmt: skip
def test_leads_that_are_needed(base: float, relative: float, units: int) -> None:
    """80 % power, 5 %, two-sided, one look; looking every day costs 1.91 times as many."""
    of = Experiment(base, 0.1)
    assert needed(of, relative) == units
    assert needed(of, relative, daily=True) / units == pytest.approx(1.915, abs=0.01)
    assert detectable(of, units) == pytest.approx(relative, rel=1e-3)


def test_what_is_found_at_the_needed_size_is_found_four_times_in_five() -> None:
    base, relative = 0.05, 0.6
    effect, half, shown = counted(0.1, base, relative, seed=5)
    units = needed(Experiment(base, 0.1), relative, daily=True)
    day = min(units // PER_DAY, DAYS - 1)
    assert ((effect > half) & shown)[:, : day + 1].any(1).mean() >= 0.75


HEADER = ["id", "group", "bought", "company", "entered", "p"]


class Table:
    """A table on disk, and `ripeline lift` on it."""

    def __init__(self, folder: Path, rows: list[list[Any]]) -> None:
        self.file, self.mapping = folder / "t.csv", folder / "m.yaml"
        with self.file.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([HEADER, *rows])

    def lift(self, mapping: str, *options: str) -> list[dict[str, Any]]:
        self.mapping.write_text(mapping, "utf-8")
        result = CliRunner().invoke(
            app, ["lift", str(self.file), "--mapping", str(self.mapping), "--json", *options]
        )
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    def refusal(self, mapping: str, *options: str) -> str:
        self.mapping.write_text(mapping, "utf-8")
        result = CliRunner().invoke(
            app, ["lift", str(self.file), "--mapping", str(self.mapping), *options]
        )
        assert result.exit_code == 2, result.output
        return result.stderr


def rows(count: int, base: float, arms: list[str], seed: int = 0) -> list[list[Any]]:
    rng = np.random.default_rng(seed)
    return [
        [
            n,
            arms[int(rng.integers(len(arms)))],
            "yes" if rng.random() < base else "no",
            f"c{n // 2}.example",
            f"2026-01-{1 + n * 28 // count:02d}T08:00:00Z",
            f"{base * 2 * rng.random():.4f}",
        ]
        for n in range(count)
    ]


PLAIN = "arm: group\noutcome: bought\n"


def test_a_table_says_effect_interval_and_what_can_be_seen(tmp_path: Path) -> None:
    table = Table(tmp_path, rows(2000, 0.2, ["treated", "holdout"]))
    [found] = table.lift(PLAIN + "entered_at: entered\nbaseline: p\n")
    assert sum(found["n"].values()) == 2000
    assert set(found["n"]) == set(found["outcomes"]) == {"treated", "holdout"}
    low, high = found["interval"]
    assert low < found["effect"] < high
    assert (found["why_no_interval"], found["valid"]) == (None, "always")
    assert found["power"]["units_a_quarter"] > 5000
    assert found["power"]["detectable"] < 0.5
    assert "A/e" in found["psi"]


def test_without_twenty_outcomes_in_each_arm_there_is_no_interval(tmp_path: Path) -> None:
    table = Table(tmp_path, rows(300, 0.05, ["treated"] * 9 + ["holdout"]))
    [found] = table.lift(PLAIN)
    assert found["interval"] is None
    assert "hold-out" in found["why_no_interval"]
    assert found["effect"] is not None
    assert "next stage" in found["power"]["advice"]


def test_each_day_has_what_was_known_on_it(tmp_path: Path) -> None:
    table = Table(tmp_path, rows(1500, 0.2, ["treated", "holdout"]))
    mapping = PLAIN + "entered_at: entered\naccount: company\n"
    days = table.lift(mapping, "--daily")
    [whole] = table.lift(mapping)
    assert [day["day"] for day in days] == [f"2026-01-{n:02d}" for n in range(1, 29)]
    assert days[-1]["effect"] == whole["effect"]
    assert days[-1]["interval"] == whole["interval"]
    assert days[0]["interval"] is None
    table = Table(
        tmp_path, [row for row in rows(1500, 0.2, ["treated", "holdout"]) if row[4] < "2026-01-15"]
    )
    assert table.lift(mapping)[0]["effect"] == days[13]["effect"]


def test_several_arms_are_each_compared_with_the_hold_out(tmp_path: Path) -> None:
    table = Table(tmp_path, rows(3000, 0.2, ["Mens E-Mail", "Womens E-Mail", "No E-Mail"]))
    [found] = table.lift("arm: group\noutcome: {column: bought, equals: 'yes'}\n")
    assert set(found["arms"]) == {"Mens E-Mail", "Womens E-Mail"}
    effects = [one["effect"] for one in found["arms"].values()]
    assert min(effects) <= found["effect"] <= max(effects)


def test_a_third_arm_by_the_calendar_tells_choosing_apart_from_the_content(tmp_path: Path) -> None:
    """M7: three comparisons, each as a table of its two arms alone says it, on every day too."""
    made = rows(3000, 0.2, ["chosen", "drip", "none"])
    table = Table(tmp_path, made)
    mapping = "arm: {column: group, calendar: drip}\n" + PLAIN.partition("\n")[2]
    mapping += "entered_at: entered\naccount: company\n"
    [found] = table.lift(mapping)
    daily = table.lift(mapping, "--daily")[-1]
    assert "arms" not in found
    compared = [
        ("", "chosen", "none"), ("choosing", "chosen", "drip"), ("calendar", "drip", "none"),
    ]  # fmt: skip
    for name, treated, against in compared:
        pair = Table(tmp_path, [row for row in made if row[1] in (treated, against)])
        [alone] = pair.lift(mapping.replace("calendar: drip", f"holdout: {against}"))
        one = found[name] if name else found
        for key in ("n", "outcomes", "effect", "interval", "why_no_interval"):
            assert one[key] == alone[key], (name, key)
            assert (daily[name] if name else daily)[key] == alone[key]
        assert one["interval"]
    assert found["power"]["units"] == found["units"]


def test_an_effect_by_the_calendar_is_seldom_found_where_there_is_none() -> None:
    """M7, M2: an arm of a tenth against one of four fifths, looked at every day."""
    effect, half, shown = counted(1 / 9, 0.02, 0.0, seed=6)
    assert ((np.abs(effect) > half) & shown).any(1).mean() <= 0.05


def test_what_has_not_matured_is_left_out(tmp_path: Path) -> None:
    table = Table(tmp_path, rows(1000, 0.2, ["1.0", "0.0"]))
    [found] = table.lift(PLAIN + "entered_at: entered\nhorizon: 10\n")
    assert sum(found["n"].values()) + sum(found["skipped_rows"].values()) == 1000
    assert sum(found["skipped_rows"].values()) > 200


def test_the_order_of_day_and_month_is_that_of_the_column(tmp_path: Path) -> None:
    mapping, every = PLAIN + "entered_at: entered\nhorizon: 10\n", rows(1000, 0.2, ["1.0", "0.0"])
    plain = Table(tmp_path, every).lift(mapping)
    british = [[*row[:4], f"{row[4][8:10]}/01/2026 08:00", row[5]] for row in every]
    assert Table(tmp_path, british).lift(mapping) == plain
    unclear = [row for row in british if row[4] < "13"]
    assert "order: …" in Table(tmp_path, unclear).refusal(mapping)


def test_a_slip_of_the_pen_does_not_make_every_lead_mature(tmp_path: Path) -> None:
    mapping, every = PLAIN + "entered_at: entered\nhorizon: 10\n", rows(1000, 0.2, ["1.0", "0.0"])
    [plain] = Table(tmp_path, every).lift(mapping)
    far = [*every[0][:4], "2999-01-01T08:00:00Z", every[0][5]]
    [found] = Table(tmp_path, [*every, far]).lift(mapping)
    assert found.pop("skipped_rows")["row with a time far from all others"] == 1
    assert found == {key: value for key, value in plain.items() if key != "skipped_rows"}


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ("arm: grup\noutcome: bought\n", "Did you mean 'group'?"),
        ("arm: group\noutcom: bought\n", "Did you mean `outcome`?"),
        ("outcome: bought\n", "arm"),
        ("arm: company\noutcome: bought\n", "more than 20 values"),
        ("arm: bought\noutcome: bought\nhorizon: 3\n", "`horizon` needs `entered_at`"),
        ("arm: {column: group, calendar: treated}\noutcome: bought\n", "no arm that was nurtured"),
        ("arm: {column: group, calendar: holdout}\noutcome: bought\n", "no arm that was nurtured"),
        ("arm: {column: group, holdout: nobody}\noutcome: bought\n", "which arm was held out?"),
        (PLAIN + "entered_at: group\n", "no rows that can be read"),
    ],
)
def test_what_is_missing_comes_as_a_sentence(tmp_path: Path, mapping: str, expected: str) -> None:
    table = Table(tmp_path, rows(100, 0.2, ["treated", "holdout"]))
    assert expected in table.refusal(mapping)


def test_one_arm_no_rows_and_no_times_come_as_a_sentence(tmp_path: Path) -> None:
    assert "nothing to compare" in Table(tmp_path, rows(50, 0.2, ["control"])).refusal(PLAIN)
    assert "no rows" in Table(tmp_path, []).refusal(PLAIN)
    table = Table(tmp_path, rows(50, 0.2, ["treated", "control"]))
    assert "--daily needs `entered_at`" in table.refusal(PLAIN, "--daily")
    [found] = Table(tmp_path, rows(50, 0.0, ["treated", "control"])).lift(PLAIN)
    assert (found["interval"], found["power"]["advice"]) == (None, "No lead has the outcome.")
