"""Call today on a real database, in process: groups, what an answer does, undoing, what is next."""

import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.handoffs import daily
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from tests.support.handoffs import HandoffBench, SetClock, demo, playbook_with, prices

ODD = "<script>alert(1)</script>"
OWNERS = [{"email": "ana@ours.example", "name": "Ana"}]


class Site(HandoffBench):
    """The bench with somebody signed in to the page."""

    async def page(self, owner: str = "all") -> str:
        answer = await self.http.get("/today", params={"owner": owner})
        assert answer.status_code == 200, answer.text
        return answer.text

    async def groups(self) -> dict[str, list[str]]:
        """By title of a group the ids of its hand-offs, as they are listed."""
        parts = re.split(r'<section aria-labelledby="group-', await self.page())[1:]
        found = {}
        for part in parts:
            title = re.search(r'class="day">(.*?) <span', part)
            assert title
            found[title[1]] = re.findall(r'id="call-([0-9a-f-]{36})"', part)
        return found

    async def post(self, handoff: str, answer: str, **more: str) -> int:
        form = {"handoff": handoff, "answer": answer, "to": "/today?owner=all", **more}
        done = await self.http.post("/today", data=form)
        assert done.status_code != 303 or done.headers["location"] == "/today?owner=all"
        await self.settle()
        return done.status_code

    async def raised(self, **more: Any) -> str:
        """Somebody asks for a demo: the id of the hand-off."""
        lead = f"{uuid.uuid4().hex[:8]}@{uuid.uuid4().hex[:8]}.example"
        known = {each["id"] for each in await self.listed()}
        await self.happened(demo(lead, **more))
        (new,) = {each["id"] for each in await self.listed()} - known
        return str(new)


@pytest.fixture
async def site(
    settings: Settings, engine: AsyncEngine, default_playbook: Playbook
) -> AsyncIterator[Site]:
    site = Site(settings, engine, playbook_with(default_playbook, owners=OWNERS))
    await site.open()
    signed_in = await site.http.get("/sign-in", params={"key": site._key})
    assert signed_in.status_code == 303
    yield site
    await site.http.aclose()


async def test_who_is_to_be_called_stands_grouped_by_reason(site: Site) -> None:
    """U2, H0, H1."""
    again, today = await site.raised(), await site.raised()
    await site.answered(again, "not-reached", until="2026-06-10")
    await site.answered(today, "not-reached", until="2026-06-11")
    later = await site.raised()
    await site.answered(later, "not-reached", until="2026-06-15")
    await site.until(SetClock.at.replace(day=11))
    await site.happened(*prices("ready@firm.example", times=8))
    raised = await site.raised(
        traits={"name": f"Ann {ODD}", "phone": "+49 151 2345678"},
        properties={"message": f"Can it do two plants? {ODD}"},
    )
    (ready,) = [each["id"] for each in await site.listed() if each["kind"] == "ready"]
    assert await site.groups() == {
        "Raised a hand": [raised],
        "Ready": [ready],
        "Not reached yet": [again],
        "Follow-ups of today": [today],
    }
    text = await site.page()
    for part in (
        'href="tel:+491512345678"', 'href="mailto:', "Can it do two plants? &lt;script&gt;",
        "not enough to say", "in 2 h", f'id="later-{later}"', "on Monday, 15 June",
    ):  # fmt: skip
        assert part in text, part
    assert ODD not in text
    assert "Nobody to call right now" in await site.page("ben@ours.example")


@pytest.mark.parametrize(
    ("answer", "more", "status", "says"),
    [
        ("accept", {}, "accepted", "accepted"),
        ("meeting", {"until": "2026-06-12"}, "accepted", "meeting on Friday, 12 June"),
        ("disqualify", {"reason": "no_budget"}, "disqualified", "disqualified, No budget"),
        (
            "return",
            {"until": "2026-09-01"},
            "returned",
            "given back, again on Tuesday, 1 September",
        ),
        ("not-reached", {}, "open", "not reached, again tomorrow"),
    ],
)
async def test_what_is_handled_leaves_the_list_and_comes_back_within_ten_minutes(
    site: Site, answer: str, more: dict[str, str], status: str, says: str
) -> None:
    """U2."""
    handoff = await site.raised()
    for _ in range(2):  # the second time is the same answer
        assert await site.post(handoff, answer, **more) == 303
    found = await site.only()
    assert found["status"] == status
    text = await site.page()
    assert await site.groups() == {}
    handled = text.partition(f'id="handled-{handoff}"')[2].partition("</li>")[0]
    assert says in " ".join(re.sub(r"<[^>]+>", "", handled).split())
    assert ">Undo</button>" in handled
    await site.passes(minutes=9)
    assert await site.post(handoff, "undo") == 303
    assert await site.groups() == {"Raised a hand": [handoff]}
    assert await site.post(handoff, answer, **more) == 303
    await site.passes(minutes=11)
    assert ">Undo</button>" not in await site.page()
    assert await site.post(handoff, "undo") == 409


async def test_what_cannot_be_is_said_and_changes_nothing(site: Site) -> None:
    handoff = await site.raised()
    before = await site.only()
    for answer, more, status in (
        ("disqualify", {}, 400), ("disqualify", {"reason": "whim"}, 400), ("note", {}, 400),
        ("meeting", {"until": "2020-01-01"}, 400), ("undo", {}, 409), ("sing", {}, 404),
    ):  # fmt: skip
        assert await site.post(handoff, answer, **more) == status
    assert await site.post(str(uuid.uuid4()), "accept") == 404
    assert await site.only() == before
    assert await site.post(handoff, "note", note=f"call Ben {ODD}\0") == 303
    text = await site.page()
    assert "Note: call Ben &lt;script&gt;" in text
    assert ODD not in text


async def test_nothing_to_do_is_said_with_what_comes_next(site: Site) -> None:
    """U2."""
    text = await site.page()
    assert "Nobody to call right now" in text
    assert "the page updates itself" in text
    handoff = await site.raised(traits={"name": "Ann Lee"})
    await site.post(handoff, "meeting", until="2026-06-12")
    text = await site.page()
    assert "all of them are handled" in text
    assert f'id="later-{handoff}"' in text
    await site.until(SetClock.at.replace(day=12))
    assert "meeting today" in await site.page()
    await site.until(SetClock.at.replace(day=13))
    assert f'id="later-{handoff}"' not in await site.page()


async def test_the_trend_is_that_of_a_week(site: Site) -> None:
    """Somebody who looked at prices long ago, and does so again."""
    await site.happened(*prices("rise@firm.example", times=2))
    await site.until(SetClock.at.replace(day=23))
    await site.happened(*prices("rise@firm.example", times=8), demo("rise@firm.example"))
    assert "↗ rising" in await site.page()


async def test_a_day_that_sales_named_is_a_follow_up(site: Site) -> None:
    """H3."""
    handoff = await site.raised()
    await site.post(handoff, "return", until="2026-06-12")
    await site.until(SetClock.at.replace(day=12))
    (again,) = [each["id"] for each in await site.listed(status="open")]
    assert await site.groups() == {"Follow-ups of today": [again]}
    assert "Sales wanted them again today." in await site.page()


async def test_no_group_is_crowded_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daily, "MOST_DUE", 3)
    for _ in range(3):
        await site.raised()
    await site.happened(*prices("ready@firm.example", times=8))
    found = await site.groups()
    assert {group: len(ids) for group, ids in found.items()} == {"Raised a hand": 2, "Ready": 1}
    assert "1 more follow" in await site.page()
