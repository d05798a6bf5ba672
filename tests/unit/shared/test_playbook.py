"""The playbook's reader: every problem with its file, its line and a remedy; and how addresses find
content (I9).
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from services.shared.playbook.loading import FileProblem, InvalidFile, load
from services.shared.playbook.sections import Playbook
from services.shared.playbook.stage_model import MarkOfContent
from services.shared.playbook.urls import UrlMatcher, plain_url
from services.shared.settings import ROOT

DEFAULT = ROOT / "deploy" / "playbook"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the default playbook, to be spoilt."""
    return shutil.copytree(DEFAULT, tmp_path / "playbook")


def spoil(folder: Path, file: str, old: str, new: str) -> int:
    """Replaces a text that stands once in the file; returns the line at which the new one
    begins.
    """
    text = (folder / file).read_text()
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
    (folder / file).write_text(text.replace(old, new))
    return text[: text.index(old)].count("\n") + 1


def problems(folder: Path) -> list[FileProblem]:
    with pytest.raises(InvalidFile) as broken:
        load(folder)
    for problem in broken.value.problems:
        assert problem.remedy
        assert str(problem).startswith(f"{problem.file}:{problem.line}: ")
        assert str(problem) in str(broken.value)
    return broken.value.problems


def test_the_default_playbook_is_whole(default_playbook: Playbook) -> None:
    """20 items and more, two personas, every text written and marked as a sample, every program's
    items for its stages.
    """
    assert len(default_playbook.content) >= 20
    assert len(default_playbook.personas) == 2
    assert all(
        item.sample and len(item.body) > 200 and "{{ link }}" in item.body
        for item in default_playbook.content
    )
    used = {name for program in default_playbook.programs for name in program.items}
    assert used == set(default_playbook.content_by_id)
    for program in default_playbook.programs:
        covered = {
            stage for name in program.items for stage in default_playbook.content_by_id[name].stages
        }
        assert covered >= set(program.stages)


@pytest.mark.parametrize(
    ("file", "old", "new", "shift", "what", "remedy"),
    [
        (
            "content.yaml",
            "  - id: users-group\n",
            "  - id: users-group\n    stages_: [customer]\n",
            1,
            "stages_",
            "",
        ),
        (
            "content.yaml",
            "  - id: users-group\n",
            "  - id: onboarding-technicians\n",
            0,
            "is taken",
            "id of its own",
        ),
        (
            "programs.yaml",
            "      - users-group\n",
            "      - user-group\n",
            0,
            "no content 'user-group'",
            "existing item's id",
        ),
        (
            "programs.yaml",
            "    personas: [buyer]\n",
            "    personas: [boss]\n",
            0,
            "no persona 'boss'",
            "Declare it",
        ),
        (
            "programs.yaml",
            "    stages: [customer]\n",
            "    stages: [client]\n",
            0,
            "no stage 'client'",
            "Use one of status_quo",
        ),
        (
            "playbook.yaml",
            "  per_week: 3 ",
            "  per_week: often ",
            0,
            "cadence.per_week",
            "deploy/playbook",
        ),
        ("playbook.yaml", "  share: 0.1 ", "  share: 1.1 ", 0, "holdout.share", "deploy/playbook"),
        ("score.yaml", "  base: 50\n", "  base: [50\n", 5, "not readable", "Mend the syntax"),
        (
            "score.yaml",
            "{points: 2, group: attention, limit: 3, days: 1}",
            "{points: 2, group: x}",
            0,
            "no group 'x'",
            "groups",
        ),
        ("score.yaml", "      present: true\n", "", -1, "no condition", "one_of, matches"),
        (
            "score.yaml",
            "'\\b(chief|",
            "'\\b((chief|",
            0,
            "no regular expression",
            "Mend the expression",
        ),
        (
            "score.yaml",
            "|owner|founder|director|head)",
            "|(?<!product )owner|founder|director|head)",
            0,
            "looks around by `(?<!`",
            "ignoring",
        ),
        ("score.yaml", "'bank|insurance", "'(b)ank\\1|ins", 0, "refers back by `\\1`", "Write out"),
        ("score.yaml", "'bank|insurance", "'(b{40}){40}", 0, "too large", "at most 1000 times"),
        ("score.yaml", "'bank|insurance", "'\\bärzt|b", 0, "A to Z alone", "[^\\pL]"),
        (
            "playbook.yaml",
            "    ignoring: product owner\n",
            "    ignoring: product(?= owner)\n",
            0,
            "looks around by `(?=`",
            "ignoring",
        ),
        ("identity.yaml", "identity:\n", "identities:\n", 0, "identities", "deploy/playbook"),
        (
            "playbook.yaml",
            "  fields: {}\n",
            "  system: x\n  fields: {a: 'b['}\n",
            1,
            "no JMESPath expression",
            "Mend the expr",
        ),
        (
            "playbook.yaml",
            "  fields: {}\n",
            "  system: x\n  fields: {a: size(b)}\n",
            1,
            "no JMESPath expression",
            "Mend",
        ),
        (
            "playbook.yaml",
            "  fields: {}\n",
            "  fields: {a: stage}\n",
            -1,
            "fields without a system",
            "external ids find",
        ),
        (
            "playbook.yaml",
            "  disqualify_reasons: [",
            "  disqualify_reasons: [] # [",
            0,
            "sales.disqualify",
            "playbook",
        ),
    ],
)
def test_a_problem_has_its_file_its_line_and_a_remedy(
    folder: Path, file: str, old: str, new: str, shift: int, what: str, remedy: str
) -> None:
    line = spoil(folder, file, old, new) + shift
    found = problems(folder)
    assert found[0].file == file
    assert what in found[0].what
    assert remedy in found[0].remedy
    if what not in ("not readable", "no condition"):
        assert found[0].line == line


def test_all_problems_are_reported_at_once(folder: Path) -> None:
    lines = [
        spoil(folder, "programs.yaml", "      - users-group\n", "      - nothing-such\n"),
        spoil(folder, "programs.yaml", "      - case-study-foundry\n", "      - nor-this\n"),
        spoil(
            folder,
            "content.yaml",
            "    prerequisites: [case-study-foundry]\n",
            "    prerequisites: [nor-that]\n",
        ),
    ]
    assert sorted((problem.file, problem.line) for problem in problems(folder)) == sorted(
        [("programs.yaml", lines[0]), ("programs.yaml", lines[1]), ("content.yaml", lines[2])]
    )


def test_a_loop_of_prerequisites_is_told_once_and_whole(folder: Path) -> None:
    """A loop of three, and an item that needs itself; what merely leads into a loop is no
    problem.
    """
    spoil(
        folder,
        "content.yaml",
        "    prerequisites: [case-study-foundry]\n",
        "    prerequisites: [offer-cost-worksheet]\n",
    )
    for item, needs in (
        ("whitepaper-four-kinds", "article-two-page-requirements"),
        ("article-two-page-requirements", "video-planning-board"),
        ("webinar-first-ninety-days", "whitepaper-four-kinds"),
    ):
        spoil(
            folder,
            "content.yaml",
            f"  - id: {item}\n",
            f"  - id: {item}\n    prerequisites: [{needs}]\n",
        )
    found = problems(folder)
    loops = {problem.what.rpartition(": ")[2] for problem in found}
    assert loops == {
        "whitepaper-four-kinds -> article-two-page-requirements -> video-planning-board -> "
        "whitepaper-four-kinds",
        "offer-cost-worksheet -> offer-cost-worksheet",
    }
    text = (folder / "content.yaml").read_text().splitlines()
    assert all("prerequisites" in text[problem.line - 1] for problem in found)


def test_a_missing_file_and_one_of_another_kind_are_reported(folder: Path) -> None:
    (folder / "programs.yaml").unlink()
    (folder / "score.yaml").write_text("- just\n- a list\n")
    found = {problem.file: problem for problem in problems(folder)}
    assert "missing" in found["programs.yaml"].what
    assert "not a mapping" in found["score.yaml"].what


def change_model(folder: Path, change: Callable[[dict[str, object]], None]) -> list[FileProblem]:
    model = json.loads((folder / "model.json").read_text())
    change(model)
    (folder / "model.json").write_text(json.dumps(model, indent=1))
    return problems(folder)


def test_a_model_that_contradicts_itself_is_reported(folder: Path) -> None:
    found = change_model(folder, lambda model: model.update(hazard=[0.1]))
    assert [problem.file for problem in found] == ["model.json"]
    assert "hazard has 1 numbers for 4 stages" in found[0].what


def test_a_type_with_a_mark_without_rates_is_reported(folder: Path) -> None:
    found = change_model(folder, lambda model: model["mark_of_type"].update(page_viewed="stroll"))  # type: ignore[attr-defined]
    line = next(
        n
        for n, text in enumerate((folder / "model.json").read_text().splitlines(), 1)
        if '"stroll"' in text
    )
    assert [(problem.file, problem.line) for problem in found] == [("model.json", line)]
    assert "no mark 'stroll'" in found[0].what


def test_a_playbook_without_sales_and_crm_has_reasons_and_writes_nothing_back(folder: Path) -> None:
    text = (folder / "playbook.yaml").read_text()
    (folder / "playbook.yaml").write_text(text[: text.index("\nsales:")])
    read = load(folder)
    assert "no_budget" in read.sales.disqualify_reasons
    assert read.crm.fields == {}


def test_only_what_the_fold_reads_is_in_its_hash(folder: Path, default_playbook: Playbook) -> None:
    spoil(folder, "playbook.yaml", "  per_week: 3 ", "  per_week: 2 ")
    spoil(
        folder,
        "programs.yaml",
        "    name: From firefighting to planned work\n",
        "    name: Another name\n",
    )
    assert load(folder).fold_hash == default_playbook.fold_hash
    spoil(
        folder,
        "score.yaml",
        "{points: 2, group: attention, limit: 3, days: 1}",
        "{points: 3, group: attention}",
    )
    assert load(folder).fold_hash != default_playbook.fold_hash


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("https://www.Firm.example/Blog/One/?utm_source=x&gclid=1#top", "firm.example/blog/one"),
        ("http://firm.example/blog/one", "firm.example/blog/one"),
        ("firm.example/search?q=a&utm_medium=b&page=2", "firm.example/search?q=a&page=2"),
        ("https://firm.example", "firm.example"),
        ("https://firm.example/?ref=home", "firm.example"),
    ],
)
def test_an_address_is_compared_without_what_does_not_matter(url: str, plain: str) -> None:
    """I9."""
    assert plain_url(url) == plain


def test_addresses_find_content_exactly_or_by_pattern(default_playbook: Playbook) -> None:
    book = UrlMatcher(
        [
            ("https://x.example/a", "a"),
            ("*/files/a*.pdf", "a"),
            ("*/files/*", "rest"),
            ("https://x.example/a", "late"),
        ]
    )
    found = {url: book.find(url) for url in (
        "http://www.x.example/a/?utm_campaign=z", "https://cdn.example/files/a-2.pdf?v=3",
        "https://cdn.example/files/b.pdf",
        "https://x.example/a/b", "",
    )}  # fmt: skip
    assert list(found.values()) == ["a", "a", "rest", None, None]
    pages = UrlMatcher(
        (url, item.id) for item in default_playbook.content for url in (item.url, *item.urls)
    )
    assert all(
        pages.find(f"{item.url}?utm_source=mail") == item.id for item in default_playbook.content
    )


def test_an_older_model_file_whose_rules_by_content_are_sentences_is_read_alike(
    folder: Path,
) -> None:
    file, now = folder / "model.json", load(folder)
    older = json.loads(file.read_text())
    sentence = "by the content's latest stage"
    older["mark_of_type"] |= {
        "form_submitted": f"{sentence}, else visit",
        "content_downloaded": sentence,
        "video_watched": sentence,
    }
    file.write_text(json.dumps(older))
    assert load(folder).model == now.model
    assert load(folder).fold_hash == now.fold_hash
    assert now.model.mark_of_type["form_submitted"] == MarkOfContent(
        by_content=True, otherwise="visit"
    )
