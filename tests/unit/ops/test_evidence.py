"""`ripeline evidence` on tables whose truth is known: what it says, and what it asks for."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from services.ops.__main__ import app
from services.shared.clock import EPOCH
from tests.support import tables

MAPPING = """kind: events
lead: who
type: {column: what}
time: when
traits: {title: title}
outcome: {type: opportunity_opened}
landmarks: [7, 30, 60]
horizon: 60
"""
LEADS = "kind: leads\nlead: Lead\noutcome: {column: Converted, equals: yes}\ndrop: [Note]\n"
CONSUMED = ("content_downloaded", "webinar_attended", "page_viewed")
SAID = ("email_replied", "meeting_held")


def write(path: Path, accounts: int, by_content: float, by_answers: float, seed: int = 0) -> Path:
    """Leads, three an account, whose hazard depends on how much they read and answer."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(3 * accounts):
        reads, answers = rng.normal(size=2)
        begin, title = rng.uniform(0, 120), str(rng.choice(["CTO", "Head of Sales", "Student"]))
        reached = begin + rng.exponential(270 * np.exp(-by_content * reads - by_answers * answers))
        end = min(begin + 200, reached)
        acts = [(begin, "form_submitted")]
        for rate, keen, types in ((0.05, reads, CONSUMED), (0.03, answers, SAID)):
            count = rng.poisson(rate * np.exp(0.9 * keen) * (end - begin))
            acts += [(float(rng.uniform(begin, end)), str(rng.choice(types))) for _ in range(count)]
        acts += [(reached, "opportunity_opened")] if reached <= begin + 200 else []
        rows += [(number, f"firm {number // 3}", title, what, day) for day, what in acts]
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["who", "company", "title", "what", "when"])
        for *words, day in rows:
            moment = EPOCH + np.timedelta64(int(86_400 * day), "s").item()
            lines.writerow([*words, moment.isoformat()])
    return path


def run(table: Path, mapping: str, *more: str) -> Result:
    plan = table.with_suffix(".yaml")
    plan.write_text(mapping)
    words = ["evidence", str(table), "--mapping", str(plan), "--plots", str(table.parent), *more]
    return CliRunner().invoke(app, words)


def answer(table: Path, mapping: str) -> dict[str, Any]:
    done = run(table, mapping, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def test_content_that_is_all_there_is_has_all_of_it(tmp_path: Path) -> None:
    """The other signals gain nothing surely, alone or beyond it; accounts are held out (S8)."""
    found = answer(write(tmp_path / "c.csv", 250, 0.8, 0.0), MAPPING)
    assert (found["grouped_by"], found["groups"], found["leads"]) == ("account", 250, 750)
    low, high = found["content"]["intervals"]["nats"]
    assert 0 < low < found["content"]["nats"] < high
    low, high = found["content"]["intervals"]["auc"]
    assert 0.5 < low < found["content"]["auc"] < high
    assert found["other"]["intervals"]["nats"][0] <= 0
    assert found["other_beyond_content"]["intervals"]["nats"][0] <= 0
    assert found["content_share"]["value"] > 0.85
    assert found["counted_as"]["content"] == ["content_downloaded", "webinar_attended"]
    assert {each["signal"]: each["part"] for each in found["signals"]} == {
        "content": "content", "pages": "content", "breadth": "other", "seniority": "other",
        "replies": "other", "meetings": "other", "pace": "other", "other acts": "other",
    }  # fmt: skip


def test_both_are_told_apart_and_shown_to_people(tmp_path: Path) -> None:
    """Where both matter each adds surely to the other; a sentence, tables and a plot (S8)."""
    table = write(tmp_path / "b.csv", 250, 0.5, 0.9)
    found = answer(table, MAPPING)
    for part in ("content_beyond_other", "other_beyond_content"):
        assert found[part]["intervals"]["nats"][0] > 0, part
        assert found[part]["intervals"]["auc"][0] > 0, part
    assert found["both"]["nats"] > max(found["content"]["nats"], found["other"]["nats"])
    low, high = found["content_share"]["interval"]
    assert 0 < low < found["content_share"]["value"] < high < 1
    shown = run(table, MAPPING)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("Content consumption alone has an AUC of 0.")
    drawn = (tmp_path / "b.evidence.svg").read_text()
    assert drawn.count("<rect") == 1 + 3 + len(found["signals"])


def test_columns_of_leads_are_families_too(tmp_path: Path) -> None:
    """Leads without an account are held out one by one, and a leak is left out (S8)."""
    columns, y = tables.leads(1_500, seed=3)
    columns["Sales stage"] = ["won" if each else "" for each in y]
    found = answer(tables.write(tmp_path / "leads.csv", columns, y), LEADS)
    assert found["grouped_by"] == "lead"
    assert found["counted_as"]["pages"] == ["Visits"]
    assert [each["column"] for each in found["refused_columns"]] == ["Sales stage"]
    assert found["content_share"]["value"] > 0.5
    other = answer(tmp_path / "leads.csv", LEADS + "content: [Industry]\n")
    assert other["counted_as"]["content"] == ["Industry"]


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        (MAPPING + "content: [brochure]\n", "'brochure' is neither a type nor a column"),
        (MAPPING + "account: Konto\n", "account: no column 'Konto'"),
        (MAPPING.replace("horizon: 60", "horizon: 900"), "its horizon inside the table"),
        (MAPPING.replace("what}", "what, names: {x: y}}") + "drop: [Haus]\n", "no column 'Haus'"),
        (MAPPING.replace("opportunity_opened", "sold"), "the table has no outcomes"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(tmp_path: Path, mapping: str, said: str) -> None:
    done = run(write(tmp_path / "t.csv", 30, 0.5, 0.5), mapping)
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.output


def test_where_one_side_is_missing_there_is_no_answer(tmp_path: Path) -> None:
    """Neither a table without content nor one of content alone can be compared."""
    rows = tables.event_rows(200)
    columns = dict(zip(("who", "what", "when"), map(list, zip(*rows, strict=True)), strict=True))
    plan = MAPPING.replace("traits: {title: title}\n", "").replace("opportunity_opened", "bought")
    numbered = columns | {"what": [each.replace("page_viewed", "a1") for each in columns["what"]]}
    numbered["what"] = [each.replace("pricing_viewed", "a2") for each in numbered["what"]]
    done = run(tables.write(tmp_path / "n.csv", numbered), plan)
    assert done.exit_code == 2
    assert "nothing here is known as content consumption: there are a1, a2" in done.stderr
    few = run(write(tmp_path / "few.csv", 5, 0.5, 0.5), MAPPING)
    assert few.exit_code == 2
    assert "too few" in few.stderr


def test_no_signal_is_said_to_be_none(tmp_path: Path) -> None:
    found = answer(write(tmp_path / "none.csv", 120, 0.0, 0.0), MAPPING)
    assert found["both"]["intervals"]["nats"][0] <= 0
    assert found["content_share"] is None
    assert found["answer"].startswith("Neither content nor other signals predict")
