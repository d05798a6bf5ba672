"""Layouts of mails, MJML and HTML: what the check finds before a lead does, what a lead's values
can do in one, and what stands in every mail (N6).
"""

import re
import shutil
from pathlib import Path

import pytest

from services.nurture.channels.message import Message, render
from services.shared.contracts.events import Snapshot, Touch
from services.shared.playbook.loading import InvalidFile, load
from services.shared.playbook.mail_html import problems_of_layout
from services.shared.playbook.sections import Playbook
from services.shared.settings import ROOT

ITEM = "blog-stop-nobody-writes-down"
TOUCH = Touch(id="11111111-1111-4111-8111-111111111111", lead="l", status="sending", content=ITEM)
MJML = """<mjml>
  <mj-head><mj-style inline="inline">.big { font-size: 21px }</mj-style></mj-head>
  <mj-body><mj-section><mj-column>
    <mj-text><p class="big">Hello {{ first_name }} of {{ lead.company | default("your company") }}</p></mj-text>
    <mj-button href="{{ link }}">{{ title }}</mj-button>
  </mj-column></mj-section></mj-body>
</mjml>
"""  # noqa: E501
HTML = """<!doctype html><html><head><style>a { color: #123456 }</style>
<link rel="stylesheet" href="http://127.0.0.1:9/never.css"></head>
<body><p>Hello {{ first_name }}</p><a href="{{ link }}">{{ title }}</a>
<p>{{ company }}, {{ postal_address }} <a href="{{ preferences }}">Fewer</a>
<a href="{{ unsubscribe }}">None</a></p></body></html>
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the default playbook whose first item names the layout of the test."""
    copy = tmp_path / "playbook"
    shutil.copytree(ROOT / "deploy" / "playbook", copy)
    (copy / "mails").mkdir(exist_ok=True)
    return copy


def with_layout(folder: Path, source: str, name: str = "plain.mjml") -> Playbook:
    (folder / "mails" / name).write_text(source)
    content = folder / "content.yaml"
    content.write_text(
        content.read_text().replace(f"id: {ITEM}\n", f"id: {ITEM}\n    layout: {name}\n", 1)
    )
    return load(folder)


def made(playbook: Playbook, *, tracked: bool = True, **traits: str) -> Message:
    reader = Snapshot(stage="awareness", email="ada@acme.example", traits=traits)
    url = "https://m.millwarden.example"
    return render(playbook, TOUCH, reader, public_url=url, pepper=b"p", tracked=tracked)


def test_mjml_becomes_html_with_inlined_styles_beside_the_text(folder: Path) -> None:
    message = made(with_layout(folder, MJML), first_name="Ada", company="Acme")
    assert "Hello Ada of Acme" in message.html
    assert "<mj-" not in message.html
    assert re.search(r'<p class="big" style="[^"]*font-size: 21px', message.html)
    assert f'"{message.link}"' in message.html
    assert "The stop nobody writes down" in message.html
    # text as before, and the end of every mail behind the layout
    assert message.link in message.text
    assert message.html.count(f'"{message.unsubscribe}"') == 1
    assert message.html.index(message.unsubscribe) < message.html.index("</body>")


def test_html_with_its_own_end_gets_no_other_and_nothing_is_fetched(folder: Path) -> None:
    message = made(with_layout(folder, HTML, "own.html"))
    assert message.html.count(f'"{message.unsubscribe}"') == 1
    assert 'style="color: #123456;"' in message.html
    assert "never.css" not in message.html
    assert 'style="display:none"' in message.html  # the scanners' link stands in it too


def test_what_a_lead_calls_itself_is_no_markup_and_no_template(folder: Path) -> None:
    name = "{{ link }}<mj-raw><b>"
    playbook = with_layout(folder, MJML)
    message = made(playbook, first_name="<i>Ada", company=name)
    assert "&lt;i&gt;Ada" in message.html
    assert "<b>" not in message.html
    assert "{{ link }}" in message.html
    advert = made(playbook, company="Win at www.evil.example")
    assert "your company" in advert.html
    assert "evil" not in advert.html + advert.text


@pytest.mark.parametrize("source", [MJML, HTML])
def test_who_refused_tracking_gets_plain_links(folder: Path, source: str) -> None:
    """N16."""
    name = "plain.mjml" if source is MJML else "own.html"
    playbook = with_layout(folder, source, name).model_copy(update={"open_pixel": True})
    message = made(playbook, tracked=False)
    assert message.link == playbook.content_by_id[ITEM].url
    assert "/l/" not in message.html + message.text
    assert "/o/" not in message.html
    assert (message.clicks_tracked, message.opens_tracked) == (False, False)
    assert made(playbook).opens_tracked


PROBLEMS = {
    "a trait that a lead may lack": (
        '{{ lead.company | default("your company") }}', "{{ lead.company }}", 4, "'company'"
    ),
    "an unknown variable": ("{{ title }}", "{{ titel }}", 5, "no variable 'titel'"),
    "no link": ('href="{{ link }}"', 'href="https://x.example"', 1, "no {{ link }}"),
    "a broken template": ("{{ first_name }}", "{{ first_name }", 4, "not readable"),
    "no XML": ("</p></mj-text>", "</mj-text>", 1, "no MJML"),
    "an unknown element": ("mj-button", "mj-buton", 5, "no element <mj-buton>"),
    "a way out of the sandbox": ("{{ title }}", "{{ title.__class__ }}", 1, "cannot be rendered"),
}  # fmt: skip


@pytest.mark.parametrize("case", PROBLEMS)
def test_what_would_fail_in_an_inbox_fails_at_the_check(case: str) -> None:
    old, new, line, what = PROBLEMS[case]
    assert old in MJML
    (found, *_) = list(problems_of_layout("a.mjml", MJML.replace(old, new)))
    assert (found.line, what in found.what) == (line, True), found
    assert found.remedy


def test_a_problem_names_the_layouts_file_and_line(folder: Path) -> None:
    with pytest.raises(InvalidFile) as told:
        with_layout(folder, MJML.replace("{{ title }}", "{{ titel }}"))
    (problem,) = told.value.problems
    assert (problem.file, problem.line) == ("mails/plain.mjml", 5)


def test_a_layout_that_is_not_there_is_told(folder: Path) -> None:
    (folder / "mails" / "plain.mjml").write_text(MJML)
    with pytest.raises(InvalidFile) as told:
        with_layout(folder, HTML, "other.txt")
    (problem,) = told.value.problems
    assert "no file 'other.txt'" in problem.what


@pytest.mark.parametrize("field", ["subject", "body"])
def test_a_trait_in_the_text_part_needs_a_word_for_those_who_lack_it(
    folder: Path, field: str
) -> None:
    content = folder / "content.yaml"
    old = {"subject": "The four-minute stop", "body": "A sensor is dusty"}[field]
    plain = content.read_text()
    content.write_text(plain.replace(old, old + " at {{ lead.company }}", 1))
    with pytest.raises(InvalidFile) as told:
        load(folder)
    (problem,) = told.value.problems
    assert "'company'" in problem.what
    assert "default(" in problem.remedy
    content.write_text(plain.replace(old, old + " at {{ lead.company | default('home') }}", 1))
    playbook = load(folder)
    shown = made(playbook, company="Acme")
    assert "at Acme" in (shown.subject if field == "subject" else shown.text)
