"""What people ask of our mails: read from the form (I4), shown on the page, obeyed by the choice
(N9).
"""

from datetime import date
from typing import Any

import pytest

from services.ingest.tracking import preferences
from services.ingest.tracking.pages import HEADERS, Pages, plain
from services.ingest.tracking.tracker import MailTokens
from services.shared.errors import Reject
from services.shared.playbook.sections import Playbook

TOPICS = ["downtime", "cost", "tools"]
TODAY = date(2027, 11, 30)
TOUCH = "11111111-1111-4111-8111-111111111111"
TOKENS = MailTokens("unsubscribe-token", "preferences-token")


@pytest.mark.parametrize(
    ("form", "traits"),
    [
        ({"topics": "cost"}, {"mail_topics": ["cost"]}),
        (
            {"topics": ["tools", "cost", "moon"], "save": "topics"},
            {"mail_topics": ["cost", "tools"]},
        ),
        ({"topics": TOPICS}, {"mail_topics": None}),
        ({"topics": "cost", "save": "all"}, {"mail_topics": None}),
        ({"pace": "weekly"}, {"mail_pace": "weekly"}),
        ({"pace": "monthly", "save": "pace"}, {"mail_pace": "monthly"}),
        ({"pace": "usual"}, {"mail_pace": None}),
        ({"pause": "1 month"}, {"mail_paused_until": "2027-12-30"}),
        ({"pause": "3 months"}, {"mail_paused_until": "2028-02-29"}),
        ({"pause": "1 month", "until": "2031-01-01"}, {"mail_paused_until": "2027-12-30"}),
        ({"pause": "until", "until": "2027-12-01"}, {"mail_paused_until": "2027-12-01"}),
        ({"pause": "none"}, {"mail_paused_until": None}),
        ({"topics": "cost", "pace": "weekly"}, {"mail_topics": ["cost"], "mail_pace": "weekly"}),
    ],
)
def test_a_form_changes_only_what_was_chosen(form: dict[str, Any], traits: dict[str, Any]) -> None:
    """All topics, the usual pace and the end of a pause lift what was chosen before."""
    assert preferences.chosen(form, TOPICS, TODAY) == traits


@pytest.mark.parametrize(
    ("form", "where"),
    [
        ({}, ""),
        ({"save": "pace"}, ""),
        ({"save": "topics"}, "topics"),
        ({"topics": "moon"}, "topics"),
        ({"topics": {"cost": 1}}, "topics"),
        ({"pace": "hourly"}, "pace"),
        ({"pause": "for good"}, "pause"),
        ({"pause": "until"}, "until"),
        ({"pause": "until", "until": "soon"}, "until"),
        ({"pause": "until", "until": "2027-11-30"}, "until"),
        ({"pause": "until", "until": "2027-02-30"}, "until"),
    ],
)
def test_what_is_unclear_is_refused_with_a_remedy(form: dict[str, Any], where: str) -> None:
    with pytest.raises(Reject) as caught:
        preferences.chosen(form, TOPICS, TODAY)
    assert (caught.value.where, caught.value.kind) == (where, "invalid")
    assert caught.value.remedy


def test_a_pause_is_a_not_now_and_the_rest_a_preference() -> None:
    """I4: typed apart, each with the choice as properties and as traits."""
    chosen = {"mail_topics": ["cost"], "mail_pace": None, "mail_paused_until": "2028-01-01"}
    pause, rest = preferences.interactions(TOUCH, chosen)
    assert (pause.type, pause.traits) == ("not_now", {"mail_paused_until": "2028-01-01"})
    assert pause.properties == {"paused_until": "2028-01-01"}
    assert (rest.type, rest.traits) == (
        "preference_set",
        {"mail_topics": ["cost"], "mail_pace": None},
    )
    assert rest.properties == {"topics": ["cost"], "pace": None}
    assert {item.touch_id for item in (pause, rest)} == {TOUCH}
    (ended,) = preferences.interactions(TOUCH, {"mail_paused_until": None})
    assert (ended.type, ended.traits) == ("preference_set", {"mail_paused_until": None})


@pytest.fixture(scope="module")
def pages(default_playbook: Playbook) -> Pages:
    return Pages(default_playbook)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"mail_topics": ["cost", "tools"]}, "about Cost and Tools."),
        ({"mail_topics": None}, "about everything."),
        ({"mail_pace": "weekly"}, "at most one mail a week."),
        ({"mail_pace": None}, "at our usual pace."),
        ({"mail_paused_until": "2030-01-31"}, "from 31 January 2030 on"),
        ({"mail_paused_until": None}, "The pause is over"),
    ],
)
def test_the_page_says_what_holds_now(pages: Pages, chosen: dict[str, Any], words: str) -> None:
    page = bytes(pages.preferences(TOKENS, chosen=chosen).body).decode()
    assert words in page
    assert "Changed your mind?" in page
    assert 'action="/u/unsubscribe-token"' in page


def test_every_topic_of_the_library_can_be_chosen_in_plain_words(
    pages: Pages, default_playbook: Playbook
) -> None:
    page = bytes(pages.preferences(TOKENS).body).decode()
    topics = preferences.topics_of(default_playbook)
    assert len(topics) == len(set(topics)) > 5
    for topic in topics:
        assert f'name="topics" value="{topic}">{plain(topic)}</label>' in page
    assert plain("total_cost-of ownership") == "Total cost of ownership"
    assert "checked" not in page


def test_the_playbooks_words_cannot_break_out_of_a_page(default_playbook: Playbook) -> None:
    """Stored script in a name, and a page that may load and post nowhere else."""
    odd = '"><script>alert(1)</script>'
    company = default_playbook.company.model_copy(
        update={"name": odd, "website": "https://x.example/"}
    )
    content = [default_playbook.content[0].model_copy(update={"topic": odd})]
    pages = Pages(default_playbook.model_copy(update={"company": company, "content": content}))
    wrong = Reject(odd, remedy=odd, kind="invalid")
    for page in (
        pages.thanks(),
        pages.unsubscribe(TOKENS),
        pages.unsubscribed(TOKENS),
        pages.preferences(TOKENS),
        pages.preferences_refused(TOKENS, wrong),
        pages.broken_link(wrong),
    ):
        assert b"<script" not in bytes(page.body)
        assert page.headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]
        assert page.headers["Cache-Control"] == "no-store"


def test_a_page_tells_its_status(pages: Pages) -> None:
    """A full spool is worth another attempt, a link that is not ours is not."""
    full, gone = (pages.broken_link(Reject("x", kind=kind)) for kind in ("spool-full", "not-found"))
    assert (full.status_code, full.headers["Retry-After"], gone.status_code) == (503, "5", 404)
    assert b"nothing has changed yet" in bytes(full.body)
    assert pages.preferences_refused(TOKENS, Reject("x")).status_code == 400


@pytest.mark.parametrize(("word", "state"), [("off", "withdrawn"), ("on", "given")])
def test_measuring_is_refused_and_allowed_by_a_button(pages: Pages, word: str, state: str) -> None:
    """N16."""
    consent = preferences.measuring({"tracking": word})
    assert consent
    assert (consent.purpose, consent.state) == ("tracking", state)
    page = bytes(pages.preferences(TOKENS, measuring=consent.state).body)
    assert (b"plain links and nothing that tells us" in page) is (word == "off")
    assert bytes(pages.preferences(TOKENS).body).count(b'name="tracking"') == 2


def test_a_form_without_a_word_on_measuring_says_nothing_of_it() -> None:
    assert preferences.measuring({"pace": "weekly"}) is None
    with pytest.raises(Reject, match="neither on nor off"):
        preferences.measuring({"tracking": "perhaps"})
