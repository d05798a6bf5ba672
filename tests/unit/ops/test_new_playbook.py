"""`ripeline playbook new`: whatever is answered, the result is sound and says what was answered."""

import json
from itertools import product
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.nurture.rules.choice import Library
from services.ops.__main__ import app as command_line
from services.ops.commands.new_playbook import KINDS, QUESTIONS, create, read
from services.ops.commands.playbook import notes, rendered
from services.shared.errors import Reject
from services.shared.playbook.loading import load
from services.shared.settings import ROOT
from tests.support.nurture import NOW

COMBINATIONS = [
    *product(KINDS, ("Acme", 'Müller & "Söhne": #1 – it\'s no'),
             ("en", "de"), ("", "Head of IT, C++ lead, Geschäftsführer (m/w)"), (1, 7))
]  # fmt: skip


@pytest.mark.parametrize(("sells", "company", "language", "deciders", "per_week"), COMBINATIONS)
def test_every_combination_of_answers_is_sound(
    tmp_path: Path, sells: str, company: str, language: str, deciders: str, per_week: int
) -> None:
    answers = read({
        "company": company, "website": "acme.example/eu/", "address": "1 Way: #2, Town",
        "timezone": "Asia/Kolkata", "language": language, "sells": sells, "deciders": deciders,
        "per_week": per_week,
    })  # fmt: skip
    create(tmp_path / "new", answers)
    playbook = load(tmp_path / "new")
    assert playbook.company.name == company
    assert playbook.company.postal_address == "1 Way: #2, Town"
    assert playbook.company.timezone == "Asia/Kolkata"
    assert {item.language for item in playbook.content} == {language}
    assert {item.url.split("/eu/")[0] for item in playbook.content} == {"https://acme.example"}
    assert playbook.cadence.per_week == per_week
    assert playbook.cadence.min_hours_between * per_week < 168
    texts = [mail.text for mail in rendered(playbook)]
    assert not any(kind.name in text for kind in KINDS.values() for text in texts)
    assert notes(playbook, NOW.date()) == []


def test_titles_that_decide_make_the_first_persona(tmp_path: Path) -> None:
    create(tmp_path, read({"deciders": "Geschäftsführer, head of IT"}))
    library = Library(load(tmp_path))
    for title, persona in (
        ("Geschäftsführer", "owner"), ("Interim Head  of IT (EMEA)", "owner"),
        ("Head of Itinerary", "planner"), ("Founder", "planner"),
    ):  # fmt: skip
        assert library.persona({"title": title}).id == persona


@pytest.mark.parametrize("folder", sorted((ROOT / "deploy" / "examples").iterdir()), ids=str)
def test_each_example_has_texts_for_each_reader_in_each_stage(folder: Path) -> None:
    playbook = load(folder)
    assert notes(playbook, NOW.date()) == []
    for stage, persona in product(playbook.stages, playbook.personas):
        items = [
            item for item in playbook.content
            if stage in item.stages and (not item.personas or persona.id in item.personas)
            and not item.service
        ]  # fmt: skip
        assert len(items) >= 2, (stage, persona.id)
        assert all(len(item.body.split()) > 60 for item in items)
        assert all(len(item.subject) <= 60 for item in items)


def test_it_asks_eight_questions_and_asks_a_wrong_answer_again(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    given = "Acme\nacme.example\n1 Way\nnowhere\nEurope/Berlin\n\nyear\n\n9\n1\n"
    done = CliRunner().invoke(command_line, ["playbook", "new", str(folder)], input=given)
    assert done.exit_code == 0, done.output
    assert len(QUESTIONS) == 8
    assert all(question in done.stderr for question in QUESTIONS.values())
    assert "no time zone 'nowhere'" in done.stderr
    playbook = load(folder)
    assert (playbook.company.name, playbook.cadence.per_week) == ("Acme", 1)


def test_scripts_give_the_answers_as_json(tmp_path: Path) -> None:
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps({"company": "Acme", "sells": "seminars"}))
    arguments = ["playbook", "new", str(tmp_path / "new"), "--answers", str(answers), "--json"]
    done = CliRunner().invoke(command_line, arguments)
    assert json.loads(done.stdout)["problems"] == []
    assert load(tmp_path / "new").company.name == "Acme"
    assert CliRunner().invoke(command_line, arguments).exit_code  # it is not empty any more


@pytest.mark.parametrize(
    ("answer", "where"),
    [
        ({"company": "a\nb {{ x }}"}, "company"),
        ({"website": "ftp://x"}, "website"),
        ({"language": "German"}, "language"),
        ({"sells": "soap"}, "sells"),
        ({"per_week": 0}, "per_week"),
        ({"companies": "x"}, "answers"),
    ],
)
def test_a_wrong_answer_is_refused_by_name(answer: dict[str, str], where: str) -> None:
    with pytest.raises(Reject, match=where):
        read(answer)
