"""`ripeline playbook check`: everything that is wrong at once, with line and remedy; and every mail
as its readers get it.
"""

import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.ops.__main__ import app as command_line
from services.ops.commands.playbook import notes, rendered
from services.shared.playbook.loading import InvalidFile, load
from services.shared.playbook.mail_text import problems_of_body, problems_of_subject
from services.shared.playbook.sections import Playbook
from services.shared.settings import ROOT

# a text that stands once in a file, what takes its place; and of what is found: how many lines
# below the first of them, a part of what, a part of the remedy
FAULTS = [
    ("content.yaml", "Before the coffee is through", "{{ firstname }}", 0,
     "no variable 'firstname'", "Did you mean `first_name`"),
    ("content.yaml", "      {{ link }}\n\n      Six minutes, no", "      Six minutes, no", -10,
     "no {{ link }}", "line of its own"),
    ("content.yaml", "It takes five minutes to read", "{{ link }}\n\n      It takes", 0,
     "stands in it 2 times", "Keep one"),
    ("content.yaml", "stages: [status_quo]\n", "stages: [statusquo]\n", 0,
     "no stage 'statusquo'", "Did you mean `status_quo`"),
    ("content.yaml", "    call_to_action: Downloads the sheet\n",
     "    call_to_action: Downloads the sheet\n    subjects: x\n", 1,
     "no such field", "Did you mean `subject`"),
    ("programs.yaml", "      - users-group\n", "      - user-group\n", 0,
     "no content 'user-group'", "Did you mean `users-group`"),
    ("programs.yaml", "    goal: New customers", "    name: Twice\n    goal: New customers",
     0, "'name' stands twice, also in line", "Take one"),
    ("programs.yaml", "    personas: [buyer]\n", "    personas: [byer]\n", 0,
     "no persona 'byer'", "Did you mean `buyer`"),
    ("playbook.yaml", "  working_days: [0, 1, 2, 3, 4, 5, 6]\n", "  working_days: [1, 2, 7]\n", 0,
     "no day 7", "0 (Monday) to 6"),
    ("playbook.yaml", "    ignoring: product owner\n", "    ignoring: (a)\\1+\n", 0,
     "refers back by `\\1`", "Write out"),
    ("playbook.yaml", "  min_hours_between: 20 ", "  min_hour_between: 20 ", 0,
     "no such field", "Did you mean `min_hours_between`"),
    ("score.yaml", "      present: true\n", "      at_least: 9\n      at_most: 3\n", 0,
     "never holds: at least 9 and at most 3", "Exchange"),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the default playbook, to be spoilt."""
    return shutil.copytree(ROOT / "deploy" / "playbook", tmp_path / "playbook")


def check(*arguments: str, code: int = 0) -> Any:
    """What the command says as JSON."""
    done = CliRunner().invoke(command_line, ["playbook", "check", *arguments, "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def test_twelve_faults_are_twelve_findings(folder: Path) -> None:
    for file, old, new, *_ in FAULTS:
        text = (folder / file).read_text()
        assert text.count(old) == 1, old
        (folder / file).write_text(text.replace(old, new))
    expected = set()
    for file, _, new, shift, *_ in FAULTS:
        text = (folder / file).read_text()
        expected.add((file, text[: text.index(new)].count("\n") + 1 + shift))
    found = check(str(folder), code=1)["problems"]
    for _, _, _, _, what, remedy in FAULTS:
        [one] = [each for each in found if what in each["what"] and remedy in each["remedy"]]
        found.remove(one)
        place = one["file"], one["line"]
        assert place in expected, (one, expected)
        expected.remove(place)
    assert found == []
    with pytest.raises(InvalidFile) as broken:
        load(folder)
    assert broken.value.in_short().endswith(" (11 more)")
    assert "\n" not in broken.value.in_short()


def test_a_file_that_cannot_be_read_hides_nothing_of_the_others(folder: Path) -> None:
    (folder / "playbook.yaml").write_text("company: [\n")
    programs = folder / "programs.yaml"
    programs.write_text(programs.read_text().replace("      - users-group\n", "      - none\n"))
    score = folder / "score.yaml"
    score.write_text(score.read_text().replace("  base: 50\n", "  bass: 50\n"))
    found = [(each["file"], each["what"]) for each in check(str(folder), code=1)["problems"]]
    assert [file for file, _ in found] == ["playbook.yaml", "score.yaml", "programs.yaml"]
    assert "no content 'none'" in found[2][1]


def test_of_a_broken_model_only_the_model_is_told(folder: Path) -> None:
    model = json.loads((folder / "model.json").read_text())
    model["stages"] = "four"
    (folder / "model.json").write_text(json.dumps(model))
    assert {each["file"] for each in check(str(folder), code=1)["problems"]} == {"model.json"}


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("Hello\n\n{{ link }}\n", ""),
        ("Hello {{ first_name }}{% if first_name == 'Ada' %}!{% endif %}\n\n{{ link }}", ""),
        ("Hello", "no {{ link }}"),
        ("Read {{ link }}", "shares its line"),
        ("{{ link }}\n{{ link }}", "2 times"),
        ("{% if first_name == 'Ada' %}{{ link }}{% endif %}", "no {{ link }}"),
        ("{{ link", "not readable"),
        ("{{ link | shout }}", "not readable"),
        ("{% if first_name %}{{ link }}", "not readable"),
        ("{{ company }} {{ link }}", "no variable 'company'"),
        ("{{ first_name / 0 }}\n{{ link }}", "cannot be rendered"),
    ],
)
def test_a_body_has_its_variables_and_its_link_once(body: str, what: str) -> None:
    found = [problem.what for problem in problems_of_body(body)]
    assert len(found) == bool(what)
    assert what in "".join(found)


@pytest.mark.parametrize(
    ("subject", "what"),
    [
        ("For {{ first_name }}", ""),
        ("See {{ link }}", "in a subject"),
        (" ", "empty"),
        ("{{ name }}", "no variable"),
    ],
)
def test_a_subject_has_no_link(subject: str, what: str) -> None:
    found = [problem.what for problem in problems_of_subject(subject)]
    assert len(found) == bool(what)
    assert what in "".join(found)


def test_every_item_is_rendered_for_each_of_its_personas(default_playbook: Playbook) -> None:
    mails = rendered(default_playbook)
    wanted = {
        (item.id, persona.id)
        for item in default_playbook.content
        for persona in default_playbook.personas
        if not item.personas or persona.id in item.personas
    }
    assert {(mail.content, mail.persona) for mail in mails} == wanted
    assert all(" Ada," in mail.text and "{{" not in mail.text for mail in mails)
    shown = CliRunner().invoke(command_line, ["playbook", "check", "--show"])
    assert shown.exit_code == 0
    assert all(f"Subject: {mail.subject}\n" in shown.stdout for mail in mails)


def test_what_may_be_no_wish_is_noted_and_no_fault(folder: Path) -> None:
    for file, old, new in (
        (
            "content.yaml",
            "  - id: users-group\n",
            "  - id: users-group\n    valid_until: 2020-1-1\n",
        ),
        ("programs.yaml", "      - users-group\n", "      - offer-six-week-pilot\n"),
        ("programs.yaml", "    personas: [buyer]\n", "    personas: []\n"),
    ):
        text = (folder / file).read_text()
        (folder / file).write_text(text.replace(old, new.replace("2020-1-1", "2020-01-01")))
    found = "\n".join(notes(load(folder), date(2026, 1, 1)))
    assert "users-group is offered no more: valid until 2020-01-01" in found
    assert "customer-onboarding offers offer-six-week-pilot to nobody: it is for decision" in found
    assert "practitioner-track and buyer-track both cover status_quo" in found
    assert check(str(folder))["problems"] == []
