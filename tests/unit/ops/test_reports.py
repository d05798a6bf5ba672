"""Made or born, and what sources are worth, on tables: against figures worked out one by one."""

import csv
import json
import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from typer.testing import CliRunner

from services.ops.__main__ import app
from services.scorer.reports.journeys import Journeys
from services.scorer.reports.made_or_born import made_or_born, two_peaks
from services.scorer.reports.sources import equivalence

START = datetime(2025, 1, 1)  # noqa: DTZ001 tables seldom name a zone
RATES = {"demo": 0.5, "webinar": 0.12, "fair": 0.04}
PRICES = {"demo": 90.0, "webinar": 12.5, "fair": 3.0}


class Lead(NamedTuple):
    """A lead as the test knows it; days since START."""

    name: str
    source: str
    began: float
    reached: float | None
    cost: float | None


def crowd(n: int = 3_000, span: float = 400.0, seed: int = 5) -> list[Lead]:
    """Leads that begin over `span` days; those with the outcome have it early or after months, and
    what lies after the span is not seen.
    """
    rng = np.random.default_rng(seed)
    found = []
    for number in range(n):
        source = str(rng.choice(list(RATES)))
        began = float(np.round(rng.uniform(0, span), 4))
        age = rng.exponential(2) if rng.random() < 0.4 else rng.normal(80, 15)
        at = began + float(np.round(max(age, 0.0), 4))
        reached = at if rng.random() < RATES[source] and at <= span else None
        cost = PRICES[source] if rng.random() < 0.9 else None
        found.append(Lead(f"lead-{number}", source, began, reached, cost))
    return found


def when(days: float) -> str:
    return (START + timedelta(days=days)).isoformat(sep=" ")


def table_of_leads(folder: Path, leads: list[Lead]) -> list[str]:
    with (folder / "leads.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["Lead", "Since", "From", "Spent", "Won", "Won on"])
        for lead in leads:
            won = ("yes", when(lead.reached)) if lead.reached is not None else ("no", "")
            cost = "" if lead.cost is None else f"{lead.cost:.2f} €"
            out.writerow([lead.name, when(lead.began), lead.source, cost, *won])
    (folder / "leads.yaml").write_text(
        "kind: leads\nlead: Lead\ntime: Since\nsource: From\ncost: Spent\n"
        "outcome: {column: Won, time: Won on}\n"
    )
    return [str(folder / "leads.csv"), "--mapping", str(folder / "leads.yaml")]


def table_of_events(folder: Path, leads: list[Lead], seed: int = 6) -> list[str]:
    """Rows in no order; the source stands in a later event as well, where it is another."""
    rng = np.random.default_rng(seed)
    rows = []
    for lead in leads:
        cost = "" if lead.cost is None else str(lead.cost / 2)
        rows.append([lead.name, "visit", when(lead.began), lead.source, cost])
        rows.append([lead.name, "visit", when(lead.began + 0.01), "other", cost])
        if lead.reached is not None:
            rows.append([lead.name, "Bought it", when(max(lead.reached, lead.began)), "", ""])
            rows.append([lead.name, "Bought it", when(lead.reached + 3), "", ""])
    with (folder / "events.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["who", "what", "at", "from", "spent"])
        out.writerows(rows[number] for number in rng.permutation(len(rows)))
    (folder / "events.yaml").write_text(
        "kind: events\nlead: who\ntype: what\ntime: at\nsource: from\ncost: spent\n"
        "outcome: {type: bought_it}\n"
    )
    return [str(folder / "events.csv"), "--mapping", str(folder / "events.yaml")]


def report(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["report", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def refusal(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["report", *arguments])
    assert done.exit_code == 2, done.output
    return done.output


@pytest.mark.parametrize("write", [table_of_leads, table_of_events])
def test_shares_and_histogram_are_those_counted_one_by_one(write: Any, tmp_path: Path) -> None:
    """M3: of leads that are known for 180 days, outcomes within them; younger ones do not count."""
    leads = crowd()
    found = report("made-or-born", *write(tmp_path, leads))
    moments = [m for lead in leads for m in (lead.began, lead.reached) if m is not None]
    if write is table_of_events:
        moments += [lead.began + 0.01 for lead in leads]
        moments += [lead.reached + 3 for lead in leads if lead.reached is not None]
    until = max(moments)
    old = [lead for lead in leads if lead.began <= until - 180]
    ages = [lead.reached - lead.began for lead in old if lead.reached is not None]
    ages = [age for age in ages if age <= 180]
    assert found["follow_up_days"] == 180
    assert (found["leads"], found["too_young"]) == (len(old), len(leads) - len(old))
    assert found["outcomes"] == len(ages)
    assert found["within_7_days"]["found"] == sum(age <= 7 for age in ages)
    assert found["within_7_days"]["share"] == sum(age <= 7 for age in ages) / len(ages)
    assert found["after_60_days"]["share"] == sum(age > 60 for age in ages) / len(ages)
    assert found["median_age_days"] == pytest.approx(float(np.median(ages)), abs=1e-4)
    for bar in found["histogram"]:
        low = -1.0 if bar["low"] == 0 else bar["low"]
        assert bar["outcomes"] == sum(low < age <= bar["high"] for age in ages)
    assert sum(bar["outcomes"] for bar in found["histogram"]) == len(ages)
    every = [lead.reached - lead.began for lead in leads if lead.reached is not None]
    assert found["as_counted"]["within_7_days"]["found"] == sum(age <= 7 for age in every)
    assert found["as_counted"]["outcomes"] == len(every)
    assert found["two_peaks"]["answer"] == "yes"
    early, late = found["two_peaks"]["days"]
    assert early < 5 < 60 < late < 100
    low, high = found["within_7_days"]["interval"]
    assert low < 0.4 < high


@pytest.mark.parametrize("write", [table_of_leads, table_of_events])
def test_what_a_source_is_worth_is_counted_one_by_one(write: Any, tmp_path: Path) -> None:
    """M4: outcomes within 90 days of leads that are known for so long, by first source, and what
    they cost.
    """
    leads = crowd()
    found = report("sources", *write(tmp_path, leads))
    last = max(max(lead.began, lead.reached or 0) for lead in leads)
    if write is table_of_events:
        last = max(
            max(lead.began + 0.01, -1 if lead.reached is None else lead.reached + 3)
            for lead in leads
        )
    old = [lead for lead in leads if lead.began <= last - 90]
    assert (found["days"], found["reference"], found["leads"]) == (90, "demo", len(old))
    assert [one["source"] for one in found["sources"]] == ["demo", "webinar", "fair"]
    rate = {}
    for one in found["sources"]:
        own = [lead for lead in old if lead.source == one["source"]]
        reached = [
            lead for lead in own if lead.reached is not None and lead.reached - lead.began <= 90
        ]
        paid = [lead.cost for lead in own if lead.cost is not None]
        rate[one["source"]] = len(reached) / len(own)
        assert (one["leads"], one["outcomes"], one["with_cost"]) == (
            len(own), len(reached), len(paid),
        )  # fmt: skip
        assert one["rate"] == rate[one["source"]]
        assert one["cost_per_lead"] == pytest.approx(sum(paid) / len(paid))
        assert one["cost_per_outcome"] == pytest.approx(one["cost_per_lead"] / one["rate"])
        low, high = one["cost_per_outcome_interval"]
        assert low < one["cost_per_outcome"] < high
    for one in found["sources"][1:]:
        ratio = rate["demo"] / rate[one["source"]]
        assert one["leads_for_one"] == pytest.approx(ratio)
        # Katz, 1978: the interval of a ratio of two shares by its logarithm
        first, other = found["sources"][0], one
        error = math.sqrt(
            1 / first["outcomes"] - 1 / first["leads"] + 1 / other["outcomes"] - 1 / other["leads"]
        )
        low, high = one["leads_for_one_interval"]
        assert low == pytest.approx(ratio * math.exp(-1.96 * error), rel=0.08)
        assert high == pytest.approx(ratio * math.exp(1.96 * error), rel=0.08)
        assert f"leads of {one['source']} ≈ 1 of demo" in one["says"]


def test_the_interval_of_a_ratio_holds_the_true_one() -> None:
    """In about 95 of 100 tables, also where a source has few outcomes."""
    rng = np.random.default_rng(8)
    held = 0
    for _ in range(300):
        source = np.repeat([0, 1], [400, 400])
        reached = rng.random(800) < np.array([0.2, 0.05])[source]
        journeys = Journeys(
            np.zeros(800), np.where(reached, 1.0, np.nan), source, ["a", "b"],
            np.full(800, np.nan), 100.0,
        )  # fmt: skip
        [worth] = [one for one in equivalence(journeys, reference="a").sources if one.source == "b"]
        assert worth.leads_for_one_interval
        held += worth.leads_for_one_interval[0] <= 4 <= worth.leads_for_one_interval[1]
    assert held >= 275


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [("exponential", 0, 2), ("lognormal", 0, 2), ("days", 0, 2), ("two", 20, 20)],
)
def test_the_test_of_peaks_may_say_no(kind: str, least: int, most: int) -> None:
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        ages = {
            "exponential": rng.exponential(20, 400),
            "lognormal": rng.lognormal(3, 0.8, 400),
            "days": np.floor(rng.exponential(12, 400)),
            "two": np.r_[rng.exponential(1, 200), rng.normal(90, 12, 200)],
        }[kind]
        found += two_peaks(np.sort(ages)).answer == "yes"
    assert least <= found <= most


def test_little_says_that_it_is_little() -> None:
    few = Journeys(
        np.zeros(40), np.r_[np.ones(10), np.full(30, np.nan)], np.zeros(40, np.int64), ["x"],
        np.full(40, np.nan), 30.0,
    )  # fmt: skip
    found = made_or_born(few)
    assert (found.follow_up_days, found.two_peaks.answer) == (30, "too few")
    assert found.after_60_days is None
    assert "cannot be told" in " ".join(found.says)
    assert found.within_7_days
    assert found.within_7_days.share == 1
    nobody = equivalence(few)
    assert (nobody.leads, nobody.too_young, nobody.sources) == (0, 40, [])
    assert "says nothing yet" in nobody.says[0]
    shorter = equivalence(few, 20)
    assert [one.cost_per_outcome for one in shorter.sources] == [None]


def test_an_outcome_as_the_first_sign_has_the_age_0(tmp_path: Path) -> None:
    lines = [f"{n},bought,2025-01-0{1 + n % 9}" for n in range(60)]
    (tmp_path / "t.csv").write_text("who,what,at\n" + "\n".join([*lines, "z,visit,2025-09-01"]))
    (tmp_path / "m.yaml").write_text(
        "kind: events\nlead: who\ntype: what\ntime: at\noutcome: {type: bought}\n"
    )
    found = report("made-or-born", str(tmp_path / "t.csv"), "--mapping", str(tmp_path / "m.yaml"))
    assert (found["outcomes"], found["began_with_the_outcome"]) == (60, 60)
    assert found["histogram"][0] == {"low": 0, "high": 1, "outcomes": 60}


@pytest.mark.parametrize("write", [table_of_leads, table_of_events])
def test_a_slip_of_the_pen_moves_nothing(write: Any, tmp_path: Path) -> None:
    """A date of 2999 would make every lead old enough to count, one of 1890 a lead of 130 years."""
    arguments = write(tmp_path, crowd(300))
    without = report("made-or-born", *arguments)
    with Path(arguments[0]).open("a") as file:
        if write is table_of_leads:
            file.write("x,2999-01-01,fair,,no,\ny,2025-02-01,fair,,yes,2999-01-01\n")
        else:
            file.write("x,visit,2999-01-01,fair,\ny,visit,1890-01-01,fair,\n")
    assert report("made-or-born", *arguments) == without
    shown = CliRunner().invoke(app, ["report", "made-or-born", *arguments])
    assert "passed over: 2 × row with a time far from all others" in shown.stderr


def test_lines_before_the_header_are_passed_over(tmp_path: Path) -> None:
    arguments = table_of_leads(tmp_path, crowd(300))
    plain = report("made-or-born", *arguments)
    table, mapping = Path(arguments[0]), Path(arguments[2])
    table.write_text(f"Export of May;made by hand\n\n{table.read_text()}")
    mapping.write_text(mapping.read_text() + "skip_lines: 2\n")
    assert report("made-or-born", *arguments) == plain
    done = CliRunner().invoke(app, ["evaluate", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["n"] == 300


MAPPING = "kind: leads\nlead: Lead\ntime: Since\nsource: From\noutcome: {column: Won, time: On}\n"


@pytest.mark.parametrize(
    ("mapping", "table", "said"),
    [
        (MAPPING.replace("time: Since\n", ""), "", "when each lead began"),
        (MAPPING.replace(", time: On", ""), "", "when the outcome came"),
        (MAPPING.replace("source: From\n", ""), "", "which source each lead has"),
        (MAPPING.replace("Since", "Sinse"), "", "Sinse"),
        (MAPPING, "a,soon,x,no,\n", "no rows that can be read"),
        (MAPPING, "a,2025-01-01,x,no,\nb,2025-01-02,x,no,\n", "no outcomes"),
        (MAPPING, "a,2025-01-05,x,yes,2025-01-01\n", "outcome before the lead began"),
    ],
)
def test_what_a_table_lacks_is_said(mapping: str, table: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Lead,Since,From,Won,On\n" + table)
    (tmp_path / "m.yaml").write_text(mapping)
    where = str(tmp_path / "t.csv"), "--mapping", str(tmp_path / "m.yaml")
    assert said in " ".join(refusal("sources", *where).split())


def test_a_mapping_needs_its_table_and_a_table_its_mapping(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n")
    assert "--mapping is missing" in refusal("made-or-born", str(tmp_path / "t.csv"))
    assert "name the table" in refusal("sources", "--mapping", "m.yaml")
