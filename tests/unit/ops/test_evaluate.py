"""`ripeline evaluate` on tables: its JSON, what it writes, what it refuses."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from services.ops.__main__ import app
from services.shared.settings import ROOT
from tests.support import tables

LEADS = "kind: leads\nlead: Lead\noutcome: {column: Converted, equals: yes}\n"
EVENTS = """kind: events
lead: who
type: what
time: when
outcome: {type: bought}
landmarks: [1, 7]
horizon: 30
folds: {by: lead, k: 2}
"""
KEYS = [
    "n", "base", "auc", "log_loss", "brier", "ece", "precision_at_10", "calibration",
    "refused_columns", "suspect_columns", "without_suspects", "baselines", "by_moment", "intervals",
    "precision_at_capacity",
]  # fmt: skip
BASELINES = ["points", "points_half_life_7", "last_activity"]
# a public table of real leads, where it lies beside the project
LOANS = ROOT.parent / "shared" / "data" / "bpi2012_loan_leads.csv"


def run(table: Path, mapping: str, *more: str) -> Result:
    path = table.with_suffix(".yaml")
    path.write_text(mapping)
    plots = ("--plots", str(table.parent))
    words = ["evaluate", str(table), "--mapping", str(path), *plots, *more]
    return CliRunner().invoke(app, words)


def figures(table: Path, mapping: str, *more: str) -> dict[str, Any]:
    shown = run(table, mapping, "--json", *more)
    assert shown.exit_code == 0, shown.output
    answer = json.loads(shown.stdout.splitlines()[-1])
    assert isinstance(answer, dict)
    return answer


def events(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    columns = zip(*rows, strict=True)
    return tables.write(path, dict(zip(("who", "what", "when"), map(list, columns), strict=True)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def test_a_table_of_leads_has_every_figure_and_names_its_leak(folder: Path) -> None:
    columns, outcome = tables.leads(1_500)
    columns["Contract"] = [f"C{n}" if won and n % 2 else "" for n, won in enumerate(outcome)]
    columns["Magazine"] = ["No"] * len(outcome)
    path = tables.write(folder / "leads.csv", columns, outcome)
    out = folder / "scored.csv"
    found = figures(path, LEADS, "--out", str(out))
    assert list(found) == KEYS
    assert found["n"] == 1_500
    assert found["base"] == pytest.approx(outcome.mean())
    assert found["auc"] > 0.7
    assert sum(part["n"] for part in found["calibration"]) == 1_500
    assert len(found["calibration"]) == 10
    [refused] = found["refused_columns"]
    assert list(refused) == ["column", "reason", "auc_alone"]
    assert refused["column"] == "Contract"
    assert found["suspect_columns"] == []
    assert found["without_suspects"]["auc"] == found["auc"]
    assert found["baselines"] == dict.fromkeys(BASELINES)
    assert found["by_moment"] == {}
    low, high = found["intervals"]["auc"]
    assert low < found["auc"] < high
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["lead", "moment", "fold", "p", "y"]
    assert sorted(row["lead"] for row in rows) == columns["Lead"]
    brier = np.mean([(float(row["p"]) - int(row["y"])) ** 2 for row in rows])
    assert found["brier"] == pytest.approx(float(brier), abs=1e-6)
    assert {row["fold"] for row in rows} == set("01234")


def test_what_is_known_at_capture_is_kept_and_suspects_are_judged_apart(folder: Path) -> None:
    columns, outcome = tables.leads(800)
    rng = np.random.default_rng(0)
    columns["Contract"] = [f"C{n}" if won and n % 2 else "" for n, won in enumerate(outcome)]
    columns["Score"] = [f"{rng.normal(2 if won else 0):.2f}" for won in outcome]
    path = tables.write(folder / "kept.csv", columns, outcome)
    found = figures(path, LEADS + "known_at_capture: Contract\n")
    assert found["refused_columns"] == []
    assert [each["column"] for each in found["suspect_columns"]] == ["Score"]
    assert found["without_suspects"]["auc"] < found["auc"]
    text = run(path, LEADS + "drop: [Score]\n").stdout
    assert "refused: Contract: filled for" in text
    assert "`known_at_capture`" in text
    for kind in ("reliability", "gain"):
        assert (folder / f"kept.{kind}.svg").read_text().startswith("<svg")


def test_a_table_of_events_is_judged_at_every_kind_of_moment(folder: Path) -> None:
    path = events(folder / "events.csv", tables.event_rows(500))
    found = figures(path, EVENTS)
    assert list(found) == KEYS
    assert set(found["by_moment"]) == {"landmark", "after_event", "random"}
    assert found["by_moment"]["landmark"]["n"] == found["n"]
    assert all(0 < found["baselines"][name] < 1 for name in BASELINES)
    assert found["auc"] > max(found["baselines"].values()) - 0.05
    later = figures(path, EVENTS.replace("by: lead, k: 2", "by: time, at: 0.6"))
    assert 0 < later["n"] < found["n"]


def test_attributes_of_events_are_known_from_the_row_that_tells_them(folder: Path) -> None:
    """A trait that comes with the outcome, or after the moment, says nothing; one that is told at
    the beginning does.
    """
    rows = tables.event_rows(400, seed=2)
    bought = {who for who, what, _ in rows if what == "bought"}
    first = {who: number for number, (who, *_) in reversed(list(enumerate(rows)))}
    columns = dict(zip(("who", "what", "when"), map(list, zip(*rows, strict=True)), strict=True))
    path = folder / "traits.csv"
    for name, told in (("late", None), ("early", first)):
        trait = [
            ("x" if who in bought else "z")
            if (number == told[who] if told else what == "bought")
            else ""
            for number, (who, what, _) in enumerate(rows)
        ]
        tables.write(path, columns | {"trait": trait})
        found = figures(path, EVENTS + "traits: {trait: trait}\n")
        assert (found["auc"] > 0.9) == (name == "early")


def test_a_drifting_stream_is_followed(folder: Path) -> None:
    """40,000 rows, labels 500 rows late."""
    path = tables.write(folder / "stream.csv", *tables.drifting(40_000))
    found = figures(path, LEADS + "folds: {by: time, online: true, label_delay: 500, at: 0.5}\n")
    assert found["n"] == found["frozen"]["n"] == 20_000
    assert found["ece"] < found["frozen"]["ece"] / 2
    assert found["log_loss"] < found["frozen"]["log_loss"]


def test_few_outcomes_are_never_worse_than_their_share(folder: Path) -> None:
    path = tables.write(folder / "few.csv", *tables.leads(2_000, seed=5))
    points = figures(path, LEADS, "--few-outcomes")["few_outcomes"]
    assert [point["outcomes"] for point in points] == [0, 30, 300]
    for point in points:
        assert point["resamples"] == 20
        assert point["log_loss"] <= point["base_log_loss"] + 0.005
    assert points[0]["log_loss"] == points[0]["base_log_loss"]
    assert points[-1]["log_loss"] < points[-1]["base_log_loss"] - 0.01


def small(folder: Path, name: str, columns: tables.Columns | None = None, n: int = 200) -> Path:
    given, outcome = tables.leads(n, seed=3, noise=0)
    outcome_as = [("yes" if each else "no") for each in outcome]
    return tables.write(
        folder / f"{name}.csv", given | {tables.CONVERTED: outcome_as} | (columns or {})
    )


@pytest.mark.parametrize(
    ("name", "columns", "said"),
    [
        ("none", {"Converted": ["no"] * 200}, "the table has no outcomes"),
        ("empty", {"Converted": [""] * 200}, "there are nothing (200)"),
        ("all", {"Converted": ["yes"] * 200}, "every lead has the outcome"),
        (
            "constant",
            {name: ["same"] * 200 for name in ("Industry", "Visits", "Employees", "Note")},
            "every column says the same in all rows",
        ),
    ],
)
def test_a_table_without_anything_to_learn_is_refused(
    folder: Path, name: str, columns: tables.Columns, said: str
) -> None:
    shown = run(small(folder, name, columns), LEADS, "--json")
    assert shown.exit_code == 2
    assert said in shown.stderr
    assert len(shown.stderr.strip().splitlines()) == 1


def test_twelve_rows_are_too_few(folder: Path) -> None:
    shown = run(small(folder, "twelve", n=12), LEADS)
    assert shown.exit_code == 2
    assert "of 12 leads have the outcome: too few" in shown.stderr
    assert "at least 10 leads with it and 10 without" in shown.stderr


def test_a_constant_column_is_passed_over_and_named(folder: Path) -> None:
    shown = run(small(folder, "one", {"Industry": ["same"] * 200}), LEADS, "--json")
    assert shown.exit_code == 0
    assert "column Industry, which says the same in every row" in shown.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("", "outcome.column: no column 'Won' in the file"),
        ("drop: [Vist]\n", "line.yaml:4: drop.0: no column 'Vist' in the file. Did you mean 'V"),
        ("known_at_capture: [Vists]\n", "known_at_capture.0: no column 'Vists' in the file. Did"),
        ("landmark: [1]\n", "line.yaml:4: landmark: no such key. Did you mean `landmarks`?"),
        ("folds: {by: lead, sed: 3}\n", "folds.sed: no such key. Did you mean `seeds`?"),
        ("folds: {by: leads}\n", "folds.by: Input should be 'lead' or 'time'. docs/learning.md"),
        ("folds: {by: lead, online: true}\n", "`online` needs `by: time`"),
    ],
)  # fmt: skip
def test_a_mapping_that_is_wrong_is_told_with_line_and_nearest(
    folder: Path, change: str, said: str
) -> None:
    path = small(folder, "line")
    shown = run(path, (LEADS + change) if change else LEADS.replace("Converted", "Won"))
    assert shown.exit_code == 2
    assert said in shown.stderr


def test_a_mapping_that_names_no_column_is_told_what_it_lacks(folder: Path) -> None:
    shown = run(small(folder, "nothing"), "kind: leads\n")
    assert shown.exit_code == 2
    assert "outcome: is missing" in shown.stderr


ROWS = tables.event_rows(80)
BACKWARDS = [(who, what, "2024-01-01" if what == "bought" else when) for who, what, when in ROWS]
UNDATED = [(who, what, "soon") for who, what, _ in ROWS]


@pytest.mark.parametrize(
    ("rows", "mapping", "said"),
    [
        (BACKWARDS, EVENTS, "no lead has an event before its outcome"),
        (
            ROWS,
            EVENTS.replace("bought", "bougt"),
            "no row has what it names; there are page_viewed",
        ),
        (UNDATED, EVENTS, "row without a readable time"),
        (ROWS, EVENTS.replace("30", "3000"), "no landmark has its horizon of 3000 days"),
        (ROWS, EVENTS.replace("time: when\n", ""), "events need the column of their `time`"),
    ],
    ids=["backwards", "type", "time", "horizon", "column"],
)
def test_events_that_cannot_be_learned_from_are_refused(
    folder: Path, rows: list[tuple[str, str, str]], mapping: str, said: str
) -> None:
    shown = run(events(folder / "refused.csv", rows), mapping, "--json")
    assert shown.exit_code == 2
    assert said in shown.stderr


def test_times_that_nobody_can_read_are_no_order(folder: Path) -> None:
    """Nothing is cut by time where no row has one, and that is said."""
    path = small(folder, "undated", {"Seen": ["soon"] * 200})
    shown = run(path, LEADS + "time: Seen\nfolds: {by: time}\n")
    assert shown.exit_code == 2
    assert "time: no row has a time that can be read in 'Seen'" in shown.stderr


def test_folds_have_as_many_outcomes_each(folder: Path) -> None:
    """What predicts nothing has the share in every fold, and ranks nobody below another."""
    columns, outcome = tables.leads(1_000, seed=1, noise=1)
    noise = {name: columns[name] for name in ("Lead", "number 0")}
    outcome[:] = False
    outcome[::5] = True
    path = tables.write(folder / "noise.csv", noise, outcome)
    found = figures(path, LEADS + "capacity: 7\n")
    assert found["auc"] == 0.5
    assert found["precision_at_capacity"]["capacity"] == 7
    assert found["precision_at_capacity"]["taken"] == 7


def test_a_time_far_from_all_others_is_passed_over(folder: Path) -> None:
    """It would move the end of the table, by which all horizons are judged."""
    rows = [*tables.event_rows(150)]
    slip = [("late", "page_viewed", "2999-01-01"), ("early", "page_viewed", "1890-01-01")]
    found = figures(events(folder / "slip.csv", [*rows, *slip]), EVENTS)
    assert found == figures(events(folder / "clean.csv", rows), EVENTS)
    shown = run(events(folder / "slip.csv", [*rows, *slip]), EVENTS, "--json")
    assert "passed over: 2 × row with a time far from all others" in shown.stderr


def test_days_before_months_are_read_as_their_column_shows(folder: Path) -> None:
    """Also those that could be read in two ways; where none shows which it is, that is asked."""
    rows = tables.event_rows(150)
    iso = [(who, what, when[:10]) for who, what, when in rows]
    day_first = [(who, what, "/".join(reversed(when[:10].split("-")))) for who, what, when in rows]
    found = figures(events(folder / "dmy.csv", day_first), EVENTS)
    assert found == figures(events(folder / "iso.csv", iso), EVENTS)
    early = [row for row in day_first if row[2] < "13"]
    shown = run(events(folder / "open.csv", early), EVENTS, "--json")
    assert shown.exit_code == 2
    assert "order: …" in shown.stderr


def test_the_order_of_rows_does_not_matter(folder: Path) -> None:
    rows = tables.event_rows(300)
    there = figures(events(folder / "there.csv", rows), EVENTS)
    back = figures(events(folder / "back.csv", rows[::-1]), EVENTS)
    assert there == back


@pytest.mark.skipif(not LOANS.exists(), reason="needs the public table of loan leads")
def test_real_loan_leads_are_ranked_well_at_once(folder: Path) -> None:
    """A fifth of BPI 2012 (van Dongen, doi 10.4121/uuid:3926db30-f712-4394-aebc-75976070e91f)."""
    with LOANS.open() as file:
        rows = [row for row in csv.reader(file) if row[0] == "CaseID" or int(row[0]) % 5 == 0]
    path = folder / "loans.csv"
    path.write_text("\n".join(map(",".join, rows)))
    mapping = EVENTS.replace("who", "CaseID").replace("what", "ActivityID")
    mapping = mapping.replace("when", "CompleteTimestamp").replace("bought", "6")
    found = figures(path, mapping.replace("[1, 7]", "[1, 3, 7, 14, 21]"))
    assert found["auc"] > 0.83
    assert found["ece"] < 0.03
    assert found["auc"] > found["baselines"]["last_activity"] + 0.03
