"""The section `senders` of the playbook: optional, and every mistake in it reported with file, line
and remedy.
"""

import shutil
from pathlib import Path

import pytest

from services.shared.playbook.loading import FileProblem, InvalidFile, load
from services.shared.playbook.sections import Playbook
from services.shared.settings import ROOT

ENTRY = """senders:
  - id: tool
    title: A tool
    steps: [Enter it.]
    verify: {verify}
    {more}
    fields:
      type: "'x'"
      email: {email}
    sample: {sample}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the default playbook, to be spoilt."""
    return shutil.copytree(ROOT / "deploy" / "playbook", tmp_path / "playbook")


def write(
    folder: Path,
    verify: str = "key",
    more: str = "when: a",
    email: str = "a",
    sample: str = "{a: 1}",
) -> None:
    text = ENTRY.format(verify=verify, more=more, email=email, sample=sample)
    (folder / "senders.yaml").write_text(text)


def problems(folder: Path) -> list[FileProblem]:
    with pytest.raises(InvalidFile) as broken:
        load(folder)
    assert all(problem.remedy for problem in broken.value.problems)
    return broken.value.problems


def test_the_file_may_be_missing_and_touches_no_score(
    folder: Path, default_playbook: Playbook
) -> None:
    """Older playbooks load as they are."""
    (folder / "senders.yaml").unlink()
    playbook = load(folder)
    assert playbook.senders == []
    assert playbook.fold_hash == default_playbook.fold_hash
    write(folder)
    assert [sender.id for sender in load(folder).senders] == ["tool"]


def test_the_shipped_entries_are_sound(default_playbook: Playbook) -> None:
    assert [sender.id for sender in default_playbook.senders] == [
        "zoom", "livestorm", "calendly", "linkedin", "salesforce", "zapier", "standard-webhooks",
        "svix",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "line", "what"),
    [
        ({"email": '"a["'}, 9, "no JMESPath expression"),
        ({"email": "shout(a)"}, 9, "no function shout()"),
        ({"email": "hmac(a)"}, 9, "no function hmac()"),
        ({"more": 'when: "a ="'}, 6, "no JMESPath expression"),
        ({"more": "items: time()"}, 6, "time() takes 1, not 0"),
        ({"more": "challenge: {when: a, answer: hmac(a)}"}, 6, "greets nobody"),
        (
            {"more": "challenge: {when: a, answer: b(}", "verify": "query"},
            6,
            "no JMESPath expression",
        ),
        ({"more": "format: xml"}, 10, "not a sample in xml"),
        ({"more": "format: form", "sample": "[1]"}, 10, "not a form"),
        ({"sample": "text"}, 10, "not a sample in json"),
        ({"verify": "password"}, 5, "verify"),
        ({"verify": '{header: x, value: "{sig}"}'}, 5, "not the form of a signature"),
        (
            {
                "verify": '{header: x, value: "{timestamp},{signature}", signed: '
                '"{timestamp}{body}"}'
            },
            5,
            "cannot be told apart",
        ),
        ({"verify": '{header: x, signed: "{timestamp}"}'}, 5, "not a form of what is signed"),
        (
            {"verify": '{header: x, signed: "{timestamp}.{body}"}'},
            5,
            "a time that is not signed, or not sent",
        ),
        ({"verify": "{header: x, timestamp: y}"}, 5, "a time that is not signed, or not sent"),
        ({"verify": "{header: x, id: y}"}, 5, "an id that is not signed, or not sent"),
        ({"verify": "{header: x, window: 0}"}, 5, "window"),
        ({"more": "colour: red"}, 6, "colour"),
    ],
)
def test_a_mistake_has_its_line_and_a_remedy(
    folder: Path, change: dict[str, str], line: int, what: str
) -> None:
    write(folder, **change)
    found = problems(folder)
    assert any(
        what in problem.what and (problem.file, problem.line) == ("senders.yaml", line)
        for problem in found
    ), found


def test_an_id_is_given_once_and_fits_into_an_address(folder: Path) -> None:
    write(folder)
    text = (folder / "senders.yaml").read_text()
    (folder / "senders.yaml").write_text(text + text.partition("\n")[2])
    [taken] = problems(folder)
    assert (taken.line, "'tool' is taken" in taken.what) == (11, True)
    (folder / "senders.yaml").write_text(text.replace("id: tool", "id: My/Tool"))
    assert "senders.0.id" in problems(folder)[0].what
