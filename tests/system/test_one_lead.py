"""One lead by HTTP alone: from an anonymous page view to its touch, and out again."""

import math
import re
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import pytest

from tests.support import present
from tests.support.running_system import System, body_of, wait_until

BOTTLING = "case-study-bottling"  # the first item for somebody who asks for a demo


class Story:
    """A lead that visited, asked for a demo in a form, and has its mail."""

    def __init__(self, system: System) -> None:
        self.system, self.email = system, system.address()
        self.cookie = f"cookie-{self.email}"
        self.visits = [
            system.post_event(
                type="page_viewed",
                anonymous_id=self.cookie,
                url="https://www.millwarden.example/",
                occurred_at=at,
            )
            for at in (present.ago(hours=30), present.ago(hours=4))
        ]
        self.anonymous_lead = system.wait_for_lead(2, anonymous_id=self.cookie)["id"]
        fields = {
            "email": self.email, "name": "Ann Ames", "timezone": present.midday_zone(),
            "consent": "yes",
            "consent_text": "Write to me.", "_anonymous_id": self.cookie,
        }  # fmt: skip
        answer = system.http.post(
            f"{system.ingest}/v1/forms/demo", params={"key": system.keys["public"]}, data=fields
        )
        assert answer.status_code == 200, answer.text
        self.id = system.wait_for_lead(3, email=self.email)["id"]
        self.touch = wait_until(lambda: next(iter(system.touches(self.id, status="sent")), None))
        self.mail = wait_until(lambda: system.mails(self.email, self.touch["id"]))[0]

    def link(self, kind: str) -> str:
        """The tracked link (`l`) or the way out (`u`) of the mail."""
        found = re.search(
            rf"{re.escape(self.system.ingest)}/{kind}/[\w-]+",
            body_of(self.mail),
        )
        assert found
        return found[0]


@pytest.fixture(scope="module")
def story(system: System) -> Story:
    return Story(system)


def test_the_visits_of_a_stranger_belong_to_the_lead_that_it_became(story: Story) -> None:
    """D1, I1: and the anonymous lead's id leads on to it."""
    lead = story.system.query(f"/v1/leads/{story.id}")
    assert lead["events_counted"] >= 3
    assert lead["identifiers"]["email"] == [story.email]
    assert lead["identifiers"]["anonymous_id"] == [story.cookie]
    assert lead["traits"]["name"] == "Ann Ames"
    assert story.anonymous_lead != story.id
    for path in ("", "/explain", "/timeline"):
        url = f"{story.system.scorer}/v1/leads/{story.anonymous_lead}{path}?limit=5"
        moved = story.system.http.get(url, headers=story.system.key("query"))
        assert moved.status_code == 308
        assert moved.headers["location"] == f"/v1/leads/{story.id}{path}?limit=5"


def test_the_lead_has_a_belief_a_stage_and_a_likelihood(story: Story) -> None:
    """G1, G3, S1: a demo request moves the published stage at once."""
    lead = story.system.query(f"/v1/leads/{story.id}")
    assert lead["stage"] == "decision"
    assert lead["product"] == "default"
    assert sum(lead["belief"].values()) == pytest.approx(1, abs=1e-9)
    assert max(lead["belief"], key=lead["belief"].__getitem__) == "decision"
    assert lead["confidence"] == pytest.approx(lead["belief"]["decision"], abs=1e-9)
    assert 0 < lead["likelihood"] < 1
    assert lead["calibrated"] is False
    assert lead["fit"]["grade"] in "ABCD"
    assert lead["engagement"] > 0
    assert lead["next_review_at"] > lead["as_of"]


def test_the_ledger_sums_to_the_likelihood(story: Story) -> None:
    """S5: start + the deltas = its logit, to 1e-9, and every line of an event names it."""
    at = present.ago(seconds=0)
    ledger = story.system.query(f"/v1/leads/{story.id}/explain", at=at)
    total = ledger["start"] + math.fsum(line["delta"] for line in ledger["lines"])
    odds = math.log(ledger["likelihood"] / (1 - ledger["likelihood"]))
    assert total == pytest.approx(odds, abs=1e-9)
    assert ledger["sum"] == pytest.approx(total, abs=1e-9)
    assert ledger["likelihood"] == story.system.query(f"/v1/leads/{story.id}", at=at)["likelihood"]
    named = {line["event_id"] for line in ledger["lines"]}
    assert set(story.visits) <= named
    assert all(
        line["text"] and {"at", "kind", "delta", "points"} <= line.keys()
        for line in ledger["lines"]
    )


def test_the_past_can_be_asked_for(story: Story) -> None:
    """G4: before the form there were only visits, before these nothing."""
    first, second = (item["at"] for item in story.system.timeline(story.id)[:2])
    then = story.system.query(f"/v1/leads/{story.id}", at=first)
    assert then["events_counted"] == 1
    assert then["as_of"] == first
    assert then["stage"] != "decision"
    assert then["likelihood"] < story.system.query(f"/v1/leads/{story.id}")["likelihood"]
    later = story.system.query(
        f"/v1/leads/{story.id}",
        at=(datetime.fromisoformat(second) + timedelta(hours=1)).isoformat(),
    )
    assert later["events_counted"] == 2
    before = f"{story.system.scorer}/v1/leads/{story.id}?at=2020-01-01T00:00:00Z"
    assert story.system.http.get(before, headers=story.system.key("query")).status_code == 404


def test_the_touch_suits_the_stage_and_went_out_once(story: Story) -> None:
    """N1, N5, N11: it waited until the lead had left the site, no longer."""
    touches = story.system.touches(story.id)
    sent = [touch for touch in touches if touch["status"] == "sent"]
    assert [touch["id"] for touch in sent] == [story.touch["id"]]
    assert len({(touch["announcement"], touch["program"]) for touch in touches}) == len(touches)
    touch = story.touch
    assert (touch["content"], touch["channel"], touch["program"]) == (
        BOTTLING,
        "email",
        "practitioner-track",
    )
    assert touch["decided_at"] < touch["due_at"] <= touch["sent_at"]
    announced = {
        item["id"]: item
        for item in story.system.timeline(story.id)
        if item["kind"] == "announcement"
    }
    assert announced[touch["announcement"]]["stage"] == "decision"
    assert announced[touch["announcement"]]["cause"] in ("event", "merge")


def test_the_mail_can_be_left_by_one_click(story: Story) -> None:
    """N12: RFC 8058's headers, text and HTML, our postal address, the touch's own id."""
    mail = story.mail
    assert mail["List-Unsubscribe"] == f"<{story.link('u')}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail["X-Ripeline-Touch"] == story.touch["id"]
    assert mail["Subject"]
    text, html = (body_of(mail, kind) for kind in ("plain", "html"))
    assert "Ann" in text
    for body in (text, html):
        assert "Sampleford" in body
        assert story.link("l") in body
        assert story.link("u") in body
    assert len(story.system.mails(story.email, story.touch["id"])) == 1


def test_a_click_leads_to_the_page_and_is_part_of_the_story(story: Story) -> None:
    """I7: the click answers the touch; a scanner's look at the same link weighs nothing (I5)."""
    system, page = story.system, story.system.playbook.content_by_id[BOTTLING].url
    followed = system.http.get(
        story.link("l"), headers={"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}
    )
    assert (followed.status_code, followed.headers["location"]) == (302, page)
    scanned = system.http.get(story.link("l"), headers={"User-Agent": "Barracuda Sentinel"})
    assert (scanned.status_code, scanned.headers["location"]) == (302, page)

    def clicks() -> list[dict[str, object]]:
        found = [item for item in system.timeline(story.id) if item.get("type") == "email_clicked"]
        return found if len(found) == 2 else []

    human, machine = sorted(wait_until(clicks), key=lambda item: bool(item["machine"]))
    assert (human["machine"], machine["machine"]) == (False, True)
    assert {human["touch_id"], machine["touch_id"]} == {story.touch["id"]}
    assert human["content_id"] == BOTTLING
    kinds = {item["kind"] for item in system.timeline(story.id)}
    assert kinds == {"event", "announcement", "touch"}
    for token in (
        "x",
        story.link("u").rpartition("/")[2],
        story.link("l").rpartition("/")[2].swapcase(),
    ):
        bent = system.http.get(f"{system.ingest}/l/{token}")
        assert bent.status_code == 404
        assert bent.headers["content-type"] == "application/problem+json"


def test_who_leaves_gets_no_more_mail(story: Story) -> None:
    """N6: opening the way out changes nothing, its button withdraws, and the next change of stage
    is withheld.
    """
    system, way_out = story.system, story.link("u")
    page = system.http.get(way_out)
    assert page.status_code == 200
    assert '<form method="post">' in page.text
    assert system.http.head(way_out).status_code == 200
    states = {item["state"] for item in system.query(f"/v1/leads/{story.id}")["consent"]}
    assert states == {"given"}
    assert urlsplit(way_out).netloc == urlsplit(system.ingest).netloc
    left = system.http.post(way_out, data={"List-Unsubscribe": "One-Click"})
    assert left.status_code == 200

    def withdrawn() -> bool:
        lead = system.query(f"/v1/leads/{story.id}")
        return "withdrawn" in {item["state"] for item in lead["consent"]}

    wait_until(withdrawn)
    system.post_event(type="purchased", email=story.email)
    wait_until(lambda: system.query(f"/v1/leads/{story.id}")["stage"] == "customer")
    touch = wait_until(
        lambda: next(
            (touch for touch in system.touches(story.id) if touch["stage"] == "customer"), None
        )
    )
    assert (touch["status"], touch["reason"]) == ("withheld", "no_consent")
    assert touch["content"] is None
    assert not system.mails(story.email, touch["id"])
