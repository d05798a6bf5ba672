"""Rehearsals: every rule of nurture as a property over random playbooks and people, from the files
that a rehearsal writes.
"""

import json
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.ops.__main__ import app
from services.ops.rehearsal.beside import beside
from services.ops.rehearsal.cast import Options
from services.ops.rehearsal.rehearsal import Rehearsal, rehearse
from services.shared.playbook.programs import AfterLoss, Program
from services.shared.playbook.sections import CalendarArm, Content, Playbook
from tests.support.nurture import item, with_parts
from tests.support.rehearsed import read, violations

START = datetime(2026, 3, 1, tzinfo=UTC)
RANDOM_PLAYBOOKS = 8
STAGES = ("status_quo", "awareness", "consideration", "decision", "customer")
PERSONAS = ("buyer", "practitioner")


def silent(step: str, share: float) -> None:
    """No progress."""


def some(rng: random.Random, of: Any, least: int = 1) -> list[Any]:
    return sorted(rng.sample(list(of), rng.randint(least, len(of))), key=list(of).index)


def random_content(rng: random.Random) -> list[Content]:
    items: list[Content] = []
    for number in range(rng.randint(2, 14)):
        before = [each.id for each in items]
        items.append(
            item(
                f"item-{number}",
                stages=some(rng, STAGES),
                personas=some(rng, PERSONAS, 0) if rng.random() < 0.3 else [],
                topic=rng.choice("abc"),
                angle=rng.choice(["", "", "cost", "people"]),
                channel=rng.choice(["", "", "", "email", "webhook", "call"]),
                distance=rng.choice([0, 0, 1, 1, 2, 3]),
                prerequisites=rng.sample(before, 1) if before and rng.random() < 0.3 else [],
                forms=[f"form-{number}"] if rng.random() < 0.3 else [],
                countries=["DE", "US", "GB"] if rng.random() < 0.1 else [],
                valid_until=START.date() + timedelta(days=rng.randint(0, 90))
                if rng.random() < 0.1
                else None,
            )
        )
    return items


def random_programs(rng: random.Random, items: list[Content]) -> list[Program]:
    names = [each.id for each in items]
    programs = [
        Program(
            id=f"program-{number}",
            name="P",
            goal="g",
            stages=some(rng, STAGES),
            personas=some(rng, PERSONAS, 0) if rng.random() < 0.3 else [],
            channel=rng.choice(["email", "email", "email", "webhook", "call"]),
            choice=rng.choice(["author", "learned"]),
            items=rng.sample(names, rng.randint(1, len(names))),
            exit={"done": rng.sample(names, 1) if rng.random() < 0.2 else []},
            reentry={"allowed": rng.random() < 0.8, "after_days": rng.choice([0, 3, 20])},
            pace={"least": rng.choice([0.1, 1, 3]), "usual": rng.choice([0.2, 2, 7]), "most": 30},
            silence={"slower": 2, "other": 3, "pause": rng.choice([3, 5, 50]), "days": 20},
        )
        for number in range(rng.randint(1, 3))
    ]
    asked = Program(id="asked", name="A", goal="g", trigger="request", items=names)
    return [*programs, asked] if rng.random() < 0.8 else programs


def random_playbook(default: Playbook, seed: int) -> Playbook:
    """The default one with random content, programs, limits, hold-out and policies."""
    rng = random.Random(f"playbook/{seed}")
    items = random_content(rng)
    cadence = {
        "per_week": rng.choice([1, 2, 3, 7, 20]),
        "caps": [{"days": rng.choice([1, 3, 30]), "max": rng.choice([1, 2, 5])}]
        if rng.random() < 0.5
        else [],
        "min_hours_between": rng.choice([0, 1, 20, 72]),
        "quiet_from": rng.randint(0, 23),
        "quiet_until": rng.randint(0, 23),
        "working_days": some(rng, range(7)),
        "holidays": rng.random() < 0.5,
        "on_site_minutes": rng.choice([0, 30, 300]),
    }
    loss = AfterLoss(sales=["lost"], then=rng.choice(["nothing", "wait", "education", "go_on"]))
    return with_parts(
        default,
        content=items,
        programs=random_programs(rng, items),
        cadence=type(default.cadence)(**cadence),
        holdout=default.holdout.model_copy(
            update={
                "share": rng.choice([0, 0.1, 0.5]),
                "calendar": CalendarArm(share=0.4 * (seed % 2), days=1 + seed % 5),
            }
        ),
        consent=default.consent.model_copy(update={"double_opt_in": rng.random() < 0.1}),
        sales=default.sales.model_copy(update={"pauses_account": rng.random() < 0.3}),
        after_loss=[loss],
        tracking=rng.choice(["granted", "asked"]),
    )


def checked(playbook: Playbook, options: Options) -> tuple[Rehearsal, list[str]]:
    found = rehearse(playbook, options, silent)
    return found, violations(read(found.touches), read(found.events), found.summary)


@pytest.mark.parametrize("seed", range(RANDOM_PLAYBOOKS))
def test_no_rule_is_ever_broken(default_playbook: Playbook, seed: int) -> None:
    """N1–N6, N8, N11, N12, M7."""
    playbook = random_playbook(default_playbook, seed)
    _, broken = checked(playbook, Options(25, 60, seed, START))
    assert not broken


@pytest.fixture(scope="module")
def rehearsed(default_playbook: Playbook) -> tuple[Rehearsal, list[str]]:
    return checked(default_playbook, Options(80, 90, 1, START))


def test_the_default_playbook_breaks_no_rule_and_sends(
    rehearsed: tuple[Rehearsal, list[str]],
) -> None:
    found, broken = rehearsed
    assert not broken
    touches, summary = read(found.touches), found.summary
    sent = [row for row in touches if row["decision"] == "sent"]
    assert summary["sent"] == len(sent) > 100
    assert summary["touches_per_lead"] == round(len(sent) / 80, 2)
    assert sum(summary["withheld"].values()) == len(touches) - len(sent)
    assert {row["arm"] for row in touches} == {"treated", "holdout"}
    assert any(row["announcement"] is None for row in sent), "nothing within a stage"
    assert any(row["purpose"] == "service" for row in sent)
    assert [row["at"] for row in touches] == sorted(row["at"] for row in touches)
    clicked = {row["touch"] for row in read(found.events)} - {None}
    assert clicked
    assert clicked <= {row["touch"] for row in sent}


def test_a_third_arm_gets_the_same_content_in_the_authors_order_by_the_calendar(
    default_playbook: Playbook,
) -> None:
    """M7: an item every so many days, whatever the stage; the other arms stay as they are."""
    plain = default_playbook.holdout
    holdout = plain.model_copy(update={"calendar": CalendarArm(share=0.5, days=5)})
    playbook = with_parts(default_playbook, holdout=holdout)
    options = Options(60, 60, 7, START)
    found, broken = checked(playbook, options)
    assert not broken
    rows = read(found.touches)
    without = read(rehearse(default_playbook, options, silent).touches)
    held_out = {row["lead"] for row in without if row["arm"] == "holdout"}
    assert {row["lead"] for row in rows if row["arm"] == "holdout"} == held_out
    treated = {row["lead"] for row in rows if row["arm"] == "treated"}
    assert {row["lead"] for row in without if row["arm"] == "treated"} > treated
    assert [row for row in rows if row["lead"] in treated] == [
        row for row in without if row["lead"] in treated
    ]
    order = {program.id: program.items for program in playbook.programs}
    sent: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        unasked = row["decision"] == "sent" and row["purpose"] != "service"
        if row["arm"] == "calendar" and unasked:
            sent.setdefault(row["lead"], []).append(row)
    assert sum(map(len, sent.values())) > 60
    for had in sent.values():
        places = [order[row["program"]].index(row["content"]) for row in had]
        assert places == sorted(places)
    assert any(len({row["stage"] for row in had}) > 1 for had in sent.values())


def test_the_summary_names_the_limits_and_compares(
    rehearsed: tuple[Rehearsal, list[str]],
) -> None:
    summary = rehearsed[0].summary
    assert summary["caps"] == [{"days": 7, "max": 3}]
    assert summary["quiet"] == ["22:00", "06:00"]
    assert summary["working_days"] == [1, 2, 3, 4, 5, 6, 7]
    assert (summary["holdout"], summary["simulated"]) == (0.1, True)
    compared = summary["comparison"]
    assert compared["left_alone"]["sends"] == 0
    assert compared["calendar"]["sends"] > 0
    assert compared["nurtured"]["unsubscribed"] >= compared["left_alone"]["unsubscribed"]
    assert "no forecast" in rehearsed[0].plot
    assert rehearsed[0].plot.count("<polyline") == 9


def test_the_same_seed_brings_the_same_bytes_and_another_one_others(
    default_playbook: Playbook,
) -> None:
    options = Options(12, 40, 3, START)
    first, again = (rehearse(default_playbook, options, silent) for _ in range(2))
    assert first == again
    assert rehearse(default_playbook, options._replace(seed=4), silent).touches != first.touches


def test_what_breaks_a_rule_is_found(rehearsed: tuple[Rehearsal, list[str]]) -> None:
    """The check itself: each change to a sent line is a violation."""
    found = rehearsed[0]
    touches, events = read(found.touches), read(found.events)
    place = next(n for n, row in enumerate(touches) if row["program"] and row["follows"]
                 and row["decision"] == "sent")  # fmt: skip
    changes: list[dict[str, Any]] = [
        {"consent_since": None}, {"arm": "holdout"}, {"propensity": 0.0}, {"distance": 9},
        {"prerequisites": ["other"]}, {"content_stages": ["other"]}, {"purpose": "promotion"},
        {"local": touches[place]["at"].replace("T", "T23:")[:11] + "23:30:00+00:00"},
        {"belief": {"a": 0.5}}, {"decision": "withheld"}, {"sales_status": "opportunity"},
    ]  # fmt: skip
    for change in changes:
        rows = [*touches]
        rows[place] = {**touches[place], **change}
        assert violations(rows, events, found.summary), change
    doubled = [*touches[: place + 1], *touches[place:]]
    broken = violations(doubled, events, found.summary)
    assert {text.split(":")[0] for text in broken} >= {"the same again", "decided twice"}


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["rehearse", *words])


def test_the_command_writes_three_files_and_its_last_line_is_the_summary(tmp_path: Path) -> None:
    out = tmp_path / "new" / "touches.jsonl"
    found = run("--leads", "6", "--days", "20", "--json", "--out", str(out), "--progress")
    assert found.exit_code == 0, found.output
    summary = json.loads(found.stdout.splitlines()[-1])
    assert (summary["leads"], summary["days"]) == (6, 20)
    touches, events = (read((out.parent / name).read_bytes()) for name in
                       ("touches.jsonl", "events.jsonl"))  # fmt: skip
    assert not violations(touches, events, summary)
    assert (out.parent / "rehearsal.svg").read_text().startswith("<svg")
    told = [json.loads(line) for line in found.stderr.splitlines() if line.startswith("{")]
    assert told[-1]["share"] == 1.0
    assert "left alone" in run("--leads", "3", "--days", "5").stdout


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    missing = run("--playbook", str(tmp_path / "none"))
    assert (missing.exit_code, "there is no folder" in missing.stderr) == (2, True)
    (tmp_path / "playbook.yaml").write_text("company: 7\n")
    faulty = run("--playbook", str(tmp_path), "--json")
    assert faulty.exit_code == 1
    assert json.loads(faulty.stdout)["problems"]
    assert run("--leads", "0").exit_code == run("--days", "9999").exit_code == 2
    (tmp_path / "file").write_text("")
    nowhere = run("--leads", "1", "--out", str(tmp_path / "file" / "touches.jsonl"))
    assert (nowhere.exit_code, "cannot be written" in nowhere.stderr) == (2, True)


def check_many(default: Playbook, seeds: range) -> dict[int, list[str]]:
    """Broken rules by seed, of as many playbooks as are wanted."""
    found = {}
    for seed in seeds:
        _, broken = checked(random_playbook(default, seed), Options(25, 60, seed, START))
        if broken:
            found[seed] = broken
    return found


def test_work_beside_brings_its_result_or_its_error() -> None:
    here = os.getpid()
    assert beside(lambda: (os.getpid() == here, [1, 2]))() in ((False, [1, 2]), (True, [1, 2]))

    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        beside(fails)()
