"""`ripeline learn` on a table: the file that it writes, and what it says where there is nothing."""

import csv
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from services.ops.__main__ import app
from services.ops.commands.models import different
from services.scorer.model.fold import Fold
from services.scorer.models import misfit, read_model, written
from services.shared.clock import EPOCH
from services.shared.playbook.sections import Playbook
from tests.support import simulated, tables

MAPPING = """kind: events
lead: who
type: what
time: when
outcome: {type: won it}
"""
LEADS = "kind: leads\nlead: Lead\noutcome: {column: Converted, equals: yes}\n"


def table(folder: Path, playbook: Playbook, leads: int, outcome: str = "won it") -> Path:
    """Simulated leads whose types are marks of the model."""
    rng = np.random.default_rng(5)
    process = simulated.unlike(playbook.model, rng, spread=0.8)
    path = folder / "events.csv"
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["who", "what", "when"])
        for each in simulated.archive(process, leads, rng):
            acts = [list(playbook.model.rate)[code] for code in each.code.tolist()]
            rows = list(zip(each.at.tolist(), acts, strict=True))
            rows += [(each.end, outcome)] if each.converted else []
            for at, act in rows:
                moment = EPOCH + timedelta(microseconds=int(at))
                lines.writerow([each.lead, act, moment.isoformat()])
    return path


def learn(path: Path, *options: str, mapping: str = MAPPING) -> Any:
    plan = path.with_name("map.yaml")
    plan.write_text(mapping)
    arguments = ["learn", str(path), "--mapping", str(plan), "--no-curve", *options]
    return CliRunner().invoke(app, arguments)


def test_a_table_gives_a_model_that_the_filter_takes(
    tmp_path: Path, default_playbook: Playbook
) -> None:
    """Its stages keep their names, and its evidence is told (S7)."""
    path, out = table(tmp_path, default_playbook, 500), tmp_path / "model.json"
    done = learn(path, "--out", str(out), "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["replaced"] is False
    assert said["better"] is (said["against_running"]["low"] > 0)
    model = read_model(out.read_text())
    assert model.version == said["version"]
    assert model.stages == default_playbook.model.stages
    assert any(each.path.startswith("rate.") for each in different(default_playbook.model, model))
    assert different(model, read_model(written(model))) == []
    beliefs = tmp_path / "beliefs.csv"
    plan = str(path.with_name("map.yaml"))
    filtered = CliRunner().invoke(
        app, ["filter", str(path), "--mapping", plan, "--model", str(out), "--out", str(beliefs)]
    )
    assert filtered.exit_code == 0, filtered.output
    lines = list(csv.DictReader(beliefs.read_text().splitlines()))
    assert all(abs(sum(float(line[stage]) for stage in model.stages) - 1) < 1e-9 for line in lines)
    assert learn(path).exit_code == 0


def test_types_that_no_playbook_knows_are_learned_as_states_without_names(
    tmp_path: Path, default_playbook: Playbook
) -> None:
    """The file is one that the filter takes; it is compared with the share of outcomes (S7)."""
    path, out = table(tmp_path, default_playbook, 500), tmp_path / "model.json"
    for mark in default_playbook.model.rate:
        path.write_text(path.read_text().replace(f",{mark},", f",act {len(mark)} {mark[0]},"))
    done = learn(path, "--out", str(out), "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["better"]
    found = said["evidence"]
    assert found["learned"]["log_loss"] < found["share"]["log_loss"]
    assert found["learned"]["ece"] < 0.05
    model = read_model(out.read_text())
    assert model.stages[0] == "state_1"
    assert all(mark.startswith("act") for mark in model.rate)
    beliefs, plan = tmp_path / "beliefs.csv", str(path.with_name("map.yaml"))
    filtered = CliRunner().invoke(
        app, ["filter", str(path), "--mapping", plan, "--model", str(out), "--out", str(beliefs)]
    )
    assert filtered.exit_code == 0, filtered.output


def test_traits_of_a_table_of_events_are_attributes_but_for_what_knows_the_outcome(
    tmp_path: Path, default_playbook: Playbook
) -> None:
    """Of each row on what its lead is; numbers as people write them; the filter reads them (S7)."""
    rows = list(csv.reader(table(tmp_path, default_playbook, 500).read_text().splitlines()))
    won = {who for who, what, _ in rows if what == "won it"}
    keen = {who for who, *_ in rows if who in won or int(who, 36) % 4 == 0}
    path, said = tmp_path / "events.csv", set[str]()
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow([*rows[0], "Employees", "Deal"])
        for who, what, when in rows[1:]:
            size = "NA" if who in said else f"{4 if who in keen else 1},{int(who) % 900 + 100}"
            lines.writerow([who, what, when, size, "D-1" if who in won else ""])
            said.add(who)
    out = tmp_path / "model.json"
    done = learn(path, "--out", str(out), "--json", mapping=MAPPING + "traits: all\n")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout.splitlines()[-1])
    assert [each["column"] for each in answer["evidence"]["refused_columns"]] == ["Deal"]
    fold = Fold(default_playbook.with_model(read_model(out.read_text())))
    high, low = [fold.estimate.effect({"Employees": size}) for size in ("4,500", 1_500)]
    assert high > low + 0.3
    beliefs, plan = tmp_path / "beliefs.csv", str(path.with_name("map.yaml"))
    words = ["--mapping", plan, "--model", str(out), "--out", str(beliefs)]
    assert CliRunner().invoke(app, ["filter", str(path), *words]).exit_code == 0
    lines_ = list(csv.DictReader(beliefs.read_text().splitlines()))
    mean = [
        np.mean([float(x["likelihood"]) for x in lines_ if x["likelihood"] and (x["lead"] in some)])
        for some in (keen, {who for who, *_ in rows} - keen)
    ]
    assert mean[0] > mean[1]


@pytest.mark.parametrize(
    ("leads", "outcome", "mapping", "code", "why"),
    [
        (12, "won it", MAPPING, 0, "12 leads have done anything"),
        (60, "something else", MAPPING, 0, "no lead has reached the outcome"),
        (60, "won it", MAPPING.replace("who", "whom"), 2, "whom"),
    ],
)  # fmt: skip
def test_what_a_table_lacks_is_said_in_a_sentence(
    leads: int, outcome: str, mapping: str, code: int, why: str, tmp_path: Path,
    default_playbook: Playbook,
) -> None:  # fmt: skip
    done = learn(table(tmp_path, default_playbook, leads, outcome), mapping=mapping)
    assert done.exit_code == code, done.output
    assert why in done.output


def test_a_table_of_leads_gives_weights_of_attributes(
    tmp_path: Path, default_playbook: Playbook
) -> None:
    """Beside the playbook's stages; a column that knows the outcome is refused, by name (S7)."""
    columns, outcome = tables.leads(1_500, seed=4)
    columns["Sales stage"] = ["won" if each else "" for each in outcome]
    path, out = tables.write(tmp_path / "leads.csv", columns, outcome), tmp_path / "model.json"
    done = learn(path, "--json", "--out", str(out), mapping=LEADS)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["better"]
    assert said["evidence"]["gain"]["low"] > 0
    assert said["evidence"]["learned"]["auc"] > 0.7
    assert [each["column"] for each in said["evidence"]["refused_columns"]] == ["Sales stage"]
    model = read_model(out.read_text())
    assert misfit(default_playbook, model) == ""
    cold, own = Fold(default_playbook), Fold(default_playbook.with_model(model))
    keen, other = {"Industry": "Software", "Visits": 6}, {"Industry": "Retail", "Visits": "1"}
    assert own.estimate.effect(keen) > 1 + own.estimate.effect(other)
    assert cold.estimate.effect(keen) == cold.estimate.effect(other)
    again = learn(path, "--json", mapping=LEADS)
    assert json.loads(again.stdout.splitlines()[-1])["version"] == said["version"]


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (("Lead", "Note"), "no column says the same of enough leads"),
        (("Lead",), "the table has no attributes"),
    ],
)
def test_leads_of_which_nothing_is_known_are_refused(
    tmp_path: Path, kept: tuple[str, ...], said: str
) -> None:
    columns, outcome = tables.leads(200, seed=4)
    own = {name: columns[name] for name in kept}
    done = learn(tables.write(tmp_path / "leads.csv", own, outcome), mapping=LEADS)
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_table_without_a_mapping_asks_for_one(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["learn", str(tmp_path / "events.csv")])
    assert done.exit_code == 2
    assert "--mapping" in done.output
