"""`ripeline filter` against values by plain matrix exponentials, and its file (G1, S4)."""

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from services.ops.__main__ import app
from services.shared.settings import ROOT

GOLDEN = json.loads((ROOT / "tests" / "data" / "filter_golden.json").read_text())
BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
MAPPING = "kind: events\nlead: who\ntype: what\ntime: when\n"
Row = tuple[str, str, float]


def run(folder: Path, rows: list[Row], *more: str, mapping: str = MAPPING) -> Result:
    """Events given as (lead, what, days since BEGIN)."""
    with (folder / "events.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["who", "what", "when"])
        for who, what, days in rows:
            writer.writerow([who, what, (BEGIN + timedelta(days=days)).isoformat()])
    (folder / "map.yaml").write_text(mapping)
    words = [str(folder / "events.csv"), "--mapping", str(folder / "map.yaml")]
    return CliRunner().invoke(app, ["filter", *words, "--out", str(folder / "out.csv"), *more])


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "out.csv").open() as file:
        return list(csv.DictReader(file))


def test_beliefs_and_likelihoods_agree_with_matrix_exponentials(tmp_path: Path) -> None:
    steps = [(case["name"], step) for case in GOLDEN["cases"] for step in case["steps"]]
    rows = [(name, step["evidence"], step["at_days"]) for name, step in steps]
    shown = run(tmp_path, rows[::-1], "--json")
    assert shown.exit_code == 0, shown.output
    answer = json.loads(shown.stdout.splitlines()[-1])
    assert (answer["leads"], answer["events"]) == (len(GOLDEN["cases"]), len(steps))
    assert answer["unweighed"] == {}
    found = lines(tmp_path)
    assert list(found[0]) == ["lead", "at", "type", *GOLDEN["stages"], "published", "likelihood"]
    names = [case["name"] for case in GOLDEN["cases"]]
    by_lead = sorted(found, key=lambda line: names.index(line["lead"]))
    for line, (name, step) in zip(by_lead, steps, strict=True):
        assert line["lead"] == name
        belief = [float(line[stage]) for stage in GOLDEN["stages"]]
        assert belief == pytest.approx(step["belief"], abs=1e-9)
        assert float(line["likelihood"]) == pytest.approx(step["p90"], abs=1e-9)


def test_event_types_count_by_the_playbook_and_unknown_ones_are_named(tmp_path: Path) -> None:
    rows = [("a", "Page Viewed", 0.0), ("a", "Teleported", 1.0), ("a", "demo_requested", 2.0)]
    shown = run(tmp_path, rows, "--json")
    assert json.loads(shown.stdout)["unweighed"] == {"teleported": 1}
    first, second, third = lines(tmp_path)
    assert first["type"] == "page_viewed"
    assert float(second["likelihood"]) < float(first["likelihood"])
    assert third["published"] == "decision"


def test_after_the_outcome_there_is_no_likelihood(tmp_path: Path) -> None:
    rows = [("a", "page_viewed", 0.0), ("a", "signed", 1.0), ("a", "page_viewed", 2.0)]
    run(tmp_path, rows, mapping=MAPPING + "outcome: {type: signed}\n")
    assert [bool(line["likelihood"]) for line in lines(tmp_path)] == [True, False, False]
    assert lines(tmp_path)[1]["type"] == "signed"


def test_silence_between_events_is_shown_on_request(tmp_path: Path) -> None:
    rows = [("a", "visit", 0.0), ("b", "visit", 1.0), ("a", "visit", 3.5)]
    run(tmp_path, rows, "--every", "1", "--until", "2025-01-06")
    found = [(line["lead"], line["at"][:13], line["type"]) for line in lines(tmp_path)]
    assert found == [
        ("a", "2025-01-01T00", "visit"), ("a", "2025-01-02T00", ""), ("a", "2025-01-03T00", ""),
        ("a", "2025-01-04T00", ""), ("a", "2025-01-04T12", "visit"), ("a", "2025-01-05T00", ""),
        ("b", "2025-01-02T00", "visit"), ("b", "2025-01-03T00", ""), ("b", "2025-01-04T00", ""),
        ("b", "2025-01-05T00", ""),
    ]  # fmt: skip
    silent = [float(line["decision"]) for line in lines(tmp_path)[:4]]
    assert silent == sorted(silent, reverse=True)


def test_a_model_file_of_ones_own_is_used_and_a_wrong_one_named(tmp_path: Path) -> None:
    model = json.loads((ROOT / "deploy" / "playbook" / "model.json").read_text())
    model["start"] = [0.0, 0.0, 0.0, 1.0]
    own = tmp_path / "own.json"
    own.write_text(json.dumps(model))
    run(tmp_path, [("a", "nothing_known", 0.0)], "--model", str(own))
    assert float(lines(tmp_path)[0]["decision"]) == 1
    own.write_text(json.dumps(model | {"start": [1.0]}))
    shown = run(tmp_path, [("a", "visit", 0.0)], "--model", str(own))
    assert shown.exit_code == 2
    assert "start has 1 numbers for 4 stages" in shown.stderr


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        (MAPPING.replace("who", "whom"), "lead: no column 'whom' in the file. Did you mean 'who'?"),
        (MAPPING.replace("type: what\n", ""), "events need a `type`"),
        ("kind: leads\nlead: who\n", "kind: Input should be 'events'"),
    ],
)
def test_a_mapping_that_is_wrong_ends_with_2(tmp_path: Path, mapping: str, said: str) -> None:
    shown = run(tmp_path, [("a", "visit", 0.0)], mapping=mapping)
    assert shown.exit_code == 2
    assert said in shown.stderr


def test_the_human_form_tells_what_was_published(tmp_path: Path) -> None:
    shown = run(tmp_path, [("a", "demo", 0.0), ("b", "visit", 1.0), ("b", "beamed", 2.0)])
    assert "3 events of 2 leads, 3 lines" in shown.stdout
    assert "decision" in shown.stdout
    assert "says nothing to the filter: 1 × beamed" in shown.stderr
