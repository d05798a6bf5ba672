"""Reports on a real database: what is counted, the leads behind it, the lift of the hold-out."""

import csv
import io
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture.rules.holdout import is_held_out
from services.nurture.rules.lead import Lead
from services.scorer.api import create_app
from services.scorer.effects.lift import Plan
from services.scorer.effects.report import ArmTable, Report
from services.scorer.processing.handler import Handler
from services.scorer.queries import reports
from services.scorer.queries.lift import read_lift
from services.scorer.queries.reports import REPORTS
from services.scorer.scoring import Scoring
from services.shared.clock import DAY, from_us, to_us
from services.shared.contracts.events import (
    INTERACTIONS,
    TOUCHES,
    Interaction,
    Snapshot,
    Touch,
    TouchEvent,
    encode,
    envelope,
)
from services.shared.contracts.holdout import arm_of
from services.shared.db import rows
from services.shared.http.keys import ApiKeys, new_key, register
from services.shared.messaging.kafka import Publisher, Record
from services.shared.playbook.sections import CalendarArm, Holdout, Playbook
from services.shared.settings import Settings
from tests.support import present
from tests.support.nurture import with_parts

NOW = present.now()
RESULTS = """SELECT decided_at, sent_at, delivered_at, bounced_at, clicked_at, replied_at, moved_at,
    left_at, reason, program FROM scorer.touch_result ORDER BY lead_id, decided_at"""


class Site:
    """A scorer that takes records and answers."""

    def __init__(
        self,
        settings: Settings,
        engine: AsyncEngine,
        playbook: Playbook,
        keys: ApiKeys | None = None,
    ) -> None:
        self.scoring, self._settings = Scoring.of(playbook, present.CLOCK), settings
        self.engine, self.handler = engine, Handler(self.scoring)
        self.keys = keys or ApiKeys(engine)
        app = create_app(settings, engine, self.scoring, self.keys, dict, Publisher(settings))
        self.app = app
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page")
        self.key = new_key()

    def beside(self, playbook: Playbook) -> "Site":
        """The same scorer under another playbook."""
        other = Site(self._settings, self.engine, playbook, self.keys)
        other.key = self.key
        return other

    async def apply(self, *records: Record) -> None:
        async with self.engine.begin() as connection:
            await self.handler.apply(connection, [self.handler.decode(one) for one in records])

    async def get(self, path: str, **asked: Any) -> Any:
        answer = await self.http.get(
            path, params=asked, headers={"Authorization": f"Bearer {self.key}"}
        )
        assert answer.status_code == 200, answer.text
        return answer.json() if "json" in answer.headers["content-type"] else answer.text

    async def refused(self, path: str, **asked: Any) -> str:
        answer = await self.http.get(
            path, params=asked, headers={"Authorization": f"Bearer {self.key}"}
        )
        assert answer.status_code in {400, 422}, answer.text
        return answer.text

    async def rows(self, statement: str, **values: Any) -> list[Any]:
        async with self.engine.connect() as connection:
            return await rows(connection, statement, **values)

    async def lead(self, email: str) -> str:
        [found] = await self.rows(
            "SELECT lead_id FROM scorer.identifier WHERE value = :email", email=email
        )
        return str(found.lead_id)


@pytest.fixture
async def site(
    settings: Settings, engine: AsyncEngine, default_playbook: Playbook
) -> AsyncIterator[Site]:
    site = Site(settings, engine, default_playbook)
    await register(engine, site.key, "people", "query")
    await site.keys.load()
    yield site
    await site.http.aclose()
    await site.app.state.backend.use.write()


def happened(type_: str, email: str, days_ago: float, **more: Any) -> Record:
    at = NOW - timedelta(days=days_ago)
    data = Interaction(id=f"{type_}-{email}-{days_ago}", type=type_, email=email, **more)
    body = envelope(data, source="test", occurred_at=at, received_at=at, posted_at=0)[1]
    return Record(INTERACTIONS, 0, 0, b"", body)


def touched(touch: Touch, kind: str, days_ago: float) -> Record:
    event = TouchEvent(
        id=str(uuid.uuid4()), type=f"touch.{kind}.v1", time=NOW - timedelta(days=days_ago),
        data=touch,
    )  # fmt: skip
    return Record(TOUCHES, 0, 0, b"", encode(event))


def mail(number: int, lead: str, email: str, *, sent: bool, **more: Any) -> Touch:
    known: dict[str, Any] = {
        "program": "first-steps", "stage": "awareness", "content": "guide", "channel": "email",
        "recipient": email, "decided_at": NOW - timedelta(days=20),
    }  # fmt: skip
    return Touch(
        id=str(uuid.UUID(int=number)), lead=lead, status="sent" if sent else "due",
        sent_at=NOW - timedelta(days=20) if sent else None, **known | more,
    )  # fmt: skip


async def test_what_came_of_a_touch_is_the_same_in_any_order(site: Site) -> None:
    """Clicks of machines, and those beside one, are nobody's (M1)."""
    found = []
    for number in range(4):
        email = f"jo@firm-{number}.example"
        await site.apply(happened("page_viewed", email, 40))
        lead = await site.lead(email)
        first, again = NOW - timedelta(days=21), NOW - timedelta(days=20.5)
        due = mail(number, lead, email, sent=False, decided_at=first)
        better = mail(number, lead, email, sent=False, decided_at=again)
        sent = mail(number, lead, email, sent=True, decided_at=again)
        second = 1 / 86_400
        records = [
            touched(due, "decided", 21),
            touched(better, "decided", 20.5),
            touched(sent, "sent", 20),
            happened("email_delivered", email, 19.9, touch_id=sent.id),
            happened("email_clicked", email, 19, touch_id=sent.id, machine=True),
            happened("email_clicked", email, 19 - 5 * second, touch_id=sent.id),
            happened("email_clicked", email, 18, touch_id=sent.id),
            happened("email_replied", email, 17, touch_id=sent.id),
            happened("demo_requested", email, 16),
            happened("unsubscribed", email, 15, touch_id=sent.id),
        ]
        random.Random(number).shuffle(records)
        if number % 2:
            await site.apply(*records)
        else:
            for record in records:
                await site.apply(record)
        await site.apply(*records)  # once more
        [row] = await site.rows(f"SELECT * FROM ({RESULTS}) r LIMIT 1 OFFSET 0")
        found.append(row[:6] + row[7:])
        ago = [None if at is None else round((NOW - at) / timedelta(days=1), 2) for at in row[:8]]
        assert ago[:6] == [21, 20, 19.9, None, 18, 17]
        assert ago[7] == 15
        async with site.engine.begin() as connection:
            await connection.execute(text("TRUNCATE scorer.touch_result"))
    assert len(set(found)) == 1


async def test_a_step_forward_counts_for_the_touches_of_14_days_before(site: Site) -> None:
    email = "ann@firm.example"
    await site.apply(happened("content_downloaded", email, 60), happened("page_viewed", email, 59))
    lead = await site.lead(email)
    early = mail(1, lead, email, sent=True)
    early = Touch(**{f: getattr(early, f) for f in early.__struct_fields__} | {
        "sent_at": NOW - timedelta(days=30), "decided_at": NOW - timedelta(days=30),
    })  # fmt: skip
    late = mail(2, lead, email, sent=True)
    await site.apply(touched(early, "sent", 30), touched(late, "sent", 20))
    async with site.engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE scorer.lead_state SET announced_stage = 'awareness', stage = 'awareness' "
                "WHERE lead_id = :lead"
            ),
            {"lead": uuid.UUID(lead)},
        )
    await site.apply(happened("demo_requested", email, 10))
    by_id = {row.id.int: row for row in await site.rows("SELECT * FROM scorer.touch_result")}
    assert by_id[1].moved_at is None
    assert round((NOW - by_id[2].moved_at) / timedelta(days=1), 3) == 10
    await site.apply(touched(mail(3, lead, email, sent=True), "sent", 20))  # told late
    [told_late] = await site.rows(
        "SELECT moved_at FROM scorer.touch_result WHERE id = :id", id=uuid.UUID(int=3)
    )
    assert told_late.moved_at == by_id[2].moved_at


async def fill(site: Site, n: int = 120, seed: int = 3) -> list[dict[str, Any]]:
    """Touches of many leads in many states, as rows that the test knows as well."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(n):
        decided = NOW - timedelta(days=float(rng.uniform(1, 90)))
        sent = decided if rng.random() < 0.7 else None

        def later(chance: float, sent: Any = sent) -> Any:
            hit = sent is not None and rng.random() < chance
            return sent + timedelta(days=float(rng.uniform(0, 10))) if hit else None

        made.append(
            {
                "id": uuid.UUID(int=number + 1), "lead_id": uuid.UUID(int=number % 50 + 1),
                "product": "default", "program": f"p{number % 3}", "stage": f"s{number % 2}",
                "content": f"c{number % 5}", "channel": "webhook" if number % 4 == 0 else "email",
                "reason": "holdout" if sent is None and number % 2 else "", "requested": False,
                "decided_at": decided, "sent_at": sent,
                "delivered_at": later(0.8) if number % 4 else None, "bounced_at": later(0.05),
                "clicked_at": later(0.3), "replied_at": later(0.1), "moved_at": later(0.4),
                "left_at": later(0.05),
            }
        )  # fmt: skip
    columns = ", ".join(made[0])
    async with site.engine.begin() as connection:
        await connection.execute(
            text(
                f"INSERT INTO scorer.touch_result ({columns}) VALUES "
                f"({', '.join(f':{name}' for name in made[0])})"
            ),
            made,
        )
        for number in range(50):
            await connection.execute(
                text("INSERT INTO scorer.lead (id, profile) VALUES (:id, '')"),
                {"id": uuid.UUID(int=number + 1)},
            )
    return made


def counted(made: Sequence[dict[str, Any]], figure: str) -> int:
    held = {"decided": lambda row: True, "held_out": lambda row: row["reason"] == "holdout"}
    return sum(held.get(figure, lambda row: row[f"{figure}_at"] is not None)(row) for row in made)


FIGURES = ("decided", "held_out", "sent", "delivered", "bounced", "clicked", "replied", "moved",
           "left")  # fmt: skip


async def test_every_number_is_right_and_opens_what_it_counts(site: Site) -> None:
    """By program, stage, item and channel; counted one by one (M1)."""
    made = await fill(site)
    for report, name in (("progression", "touches"), ("content", "items"), ("content", "places")):
        found = await site.get(f"/v1/reports/{report}")
        [table] = [each for each in found["tables"] if each["name"] == name]
        keys = [column["name"] for column in table["columns"] if column["kind"] == "key"]
        assert sum(row["decided"] for row in table["rows"]) == len(made)
        for place, row in enumerate(table["rows"]):
            own = [each for each in made if all(each[key] == row[key] for key in keys)]
            for figure in FIGURES:
                if figure == "delivered" and row["channel"] == "webhook":
                    assert row[figure] is None
                else:
                    assert row[figure] == counted(own, figure)
            followed = [
                each for each in own
                if each["sent_at"] and each["sent_at"] <= NOW - timedelta(days=14)
            ]  # fmt: skip
            share = counted(followed, "moved") / len(followed) if len(followed) >= 20 else None
            assert row["moved_share"] == (share and round(share, 4))
            if place % 7:
                continue
            figure = FIGURES[place % len(FIGURES)]
            asked = {"table": name, "figure": figure} | {key: row[key] for key in keys}
            opened = await site.get(f"/v1/reports/{report}/leads", limit=1000, **asked)
            assert len(opened["leads"]) == counted(own, figure)
        assert any("Nobody reports deliveries of webhook" in note for note in table["notes"])
        lines = list(
            csv.DictReader(io.StringIO(await site.get(f"/v1/reports/{report}/csv", table=name)))
        )
        assert [int(line["sent"]) for line in lines] == [row["sent"] for row in table["rows"]]


async def test_a_list_behind_a_number_has_pages_and_a_window(site: Site) -> None:
    made = await fill(site)
    seen, cursor = [], ""
    while True:
        page = await site.get(
            "/v1/reports/progression/leads", table="touches", figure="sent", limit=17,
            cursor=cursor,
        )  # fmt: skip
        seen += [one["id"] for one in page["leads"]]
        if not (cursor := page["next"] or ""):
            break
    assert len(seen) == len(set(seen)) == counted(made, "sent")
    since = NOW - timedelta(days=30)
    found = await site.get("/v1/reports/content", since=since.isoformat())
    recent = [row for row in made if row["decided_at"] >= since]
    assert sum(row["decided"] for row in found["tables"][0]["rows"]) == len(recent)


@pytest.mark.parametrize("report", REPORTS)
async def test_every_report_names_the_hold_out_and_says_when_it_says_nothing(
    site: Site, report: str
) -> None:
    found = await site.get(f"/v1/reports/{report}")
    assert found["holdout"]["share"] == site.scoring.playbook.holdout.share
    assert "held out for good" in found["holdout"]["says"]
    assert any("says nothing" in sentence for sentence in found["says"])
    for table in found["tables"]:
        assert table["rows"] == []


async def test_what_a_report_does_not_have_is_said(site: Site) -> None:
    asked = {"table": "touches", "figure": "sent"}
    path = "/v1/reports/progression/leads"
    assert "no table" in await site.refused(path, **asked | {"table": "nothing"})
    assert "no figure" in await site.refused(path, **asked | {"figure": "lead_id"})
    assert "no key" in await site.refused(path, **asked, week="2026-01-01")
    assert "cursor" in await site.refused(path, **asked, cursor="abc")
    assert "no table" in await site.refused("/v1/reports/pool/csv", table="nothing")
    assert "report" in await site.refused("/v1/reports/everything")
    assert "program" in await site.refused(path, **asked, program="a\0b")
    for since in ("2026-11-02T03:10:00", "20", "0001-01-01"):
        assert "since" in await site.refused("/v1/reports/content", since=since)
        assert "since" in await site.refused(path, **asked, since=since)


async def test_the_draw_is_the_one_by_which_nurture_holds_out(site: Site) -> None:
    """M2: the account decides, and reports know the arm of every lead."""
    emails = [f"p{n}@firm-{n % 40}.example" for n in range(80)] + ["a@gmail.com", "b@gmail.com"]
    await site.apply(*(happened("demo_requested", email, 3) for email in emails))
    holdout, cleaner = site.scoring.playbook.holdout, site.scoring.cleaner
    accounts: dict[str, set[int]] = {}
    held = 0
    for email in emails:
        lead = await site.lead(email)
        [row] = await site.rows(
            "SELECT account, draw FROM scorer.lead WHERE id = :id", id=uuid.UUID(lead)
        )
        known = Lead(lead, Snapshot(stage="decision", email=email))
        assert (row.draw < holdout.share) == is_held_out(known, holdout, cleaner)
        held += row.draw < holdout.share
        domain = email.rpartition("@")[2]
        accounts.setdefault(email if domain == "gmail.com" else domain, set()).add(row.account)
    assert all(len(numbers) == 1 for numbers in accounts.values())
    assert len(set.union(*accounts.values())) == len(accounts)
    found = await site.get("/v1/reports/holdout")
    assert found["holdout"]["leads"] == held > 0


async def enter(site: Site, n: int, share: float) -> list[dict[str, Any]]:
    """Leads that entered over half a year, in accounts of two, with outcomes."""
    rng = np.random.default_rng(9)
    made = []
    for number in range(n):
        draw = float(np.random.default_rng(number // 2).random())
        entered = to_us(NOW) - int(rng.uniform(1, 200) * DAY)
        reached = entered + int(rng.uniform(1, 150) * DAY) if rng.random() < 0.3 else None
        made.append(
            {
                "id": uuid.UUID(int=number + 1), "draw": draw, "account": number // 2,
                "likelihood": float(rng.random()), "entered": from_us(entered),
                "reached": reached if reached and reached < to_us(NOW) else None,
                "held": draw < share,
            }
        )  # fmt: skip
    async with site.engine.begin() as connection:
        for statement in (
            "INSERT INTO scorer.lead (id, profile, draw, account) "
            "VALUES (:id, '', :draw, :account)",
            "INSERT INTO scorer.announcement (id, lead_id, product, seq, from_stage, stage, cause, "
            "cause_at, likelihood, fold_hash, announced_at) VALUES (:id, :id, 'default', 1, "
            "'unknown', 'awareness', 'event', :entered, :likelihood, '', :entered)",
            "INSERT INTO scorer.entry VALUES (:id, :entered, :id)",
        ):
            names = [name for name in made[0] if f":{name}" in statement]
            await connection.execute(
                text(statement), [{name: row[name] for name in names} for row in made]
            )
        for row in made:
            if row["reached"] is not None:
                uid = uuid.uuid4()
                await connection.execute(
                    text(
                        "INSERT INTO scorer.event (uid, lead_id, anchor, weaker, occurred_at, "
                        "received_at, source, digest, body) "
                        "VALUES (:uid, :id, 0, '{}', :at, now(), "
                        "'crm', '', '{\"id\":\"x\"}')"
                    ),
                    {"uid": uid, "id": row["id"], "at": row["reached"]},
                )
                await connection.execute(
                    text("INSERT INTO scorer.milestone VALUES (:uid, 'opportunity_opened')"),
                    {"uid": uid},
                )
    return made


async def test_the_lift_of_the_system_is_that_of_the_same_leads_as_a_table(site: Site) -> None:
    """M2: by intention to treat, of leads whose horizon is over, by account, in order of entry."""
    share, horizon = site.scoring.playbook.holdout.share, site.scoring.playbook.model.horizon_days
    made = await enter(site, 3_000, share)
    async with site.engine.connect() as connection:
        live = await read_lift(connection, site.scoring)
    found = live.whole("opportunity_opened")
    old = [
        row for row in made if (present.now() - row["entered"]).total_seconds() >= horizon * 86_400
    ]
    old.sort(key=lambda row: (row["entered"], row["id"]))
    outcome = [
        row["reached"] is not None
        and (row["reached"] - to_us(row["entered"])) / DAY <= horizon
        for row in old
    ]  # fmt: skip
    table = ArmTable(
        ["nurtured", "hold-out"], {1}, np.array([row["held"] for row in old], np.int64),
        np.array([row["account"] for row in old]),
        np.array([to_us(row["entered"]) / DAY for row in old]),
        np.array([row["likelihood"] for row in old]), np.array(outcome), {},  # type: ignore[arg-type]
    )  # fmt: skip
    expected = Report(table, Plan()).whole()
    for key in ("n", "outcomes", "units", "effect", "interval", "why_no_interval", "power"):
        assert found[key] == expected[key], key
    assert found["n"]["hold-out"] == sum(row["held"] for row in old)
    assert found["interval"] is not None
    assert sum(found["skipped_rows"].values()) == len(made) - len(old)
    assert live.daily()[-1]["effect"] == found["effect"]
    assert "possible in both arms" in found["counts"]
    answer = await site.get("/v1/reports/holdout")
    assert answer["lift"]["effect"] == found["effect"]
    arms, effects = answer["tables"]
    first = effects["rows"][0]
    assert (first["comparison"], first["by"]) == ("nurturing against nothing", "all leads")
    assert [first["low"], first["high"]] == found["interval"]
    assert first["n_against"] == found["n"]["hold-out"]
    among = [row for row in effects["rows"] if row["by"] == "days known at entry"]
    assert sum(row["n"] for row in among) == found["n"]["nurtured"]
    by_arm = {row["arm"]: row for row in arms["rows"]}
    assert by_arm["hold-out"]["leads"] == sum(row["held"] for row in made)


async def test_without_enough_outcomes_there_is_no_interval_and_it_is_said_why(site: Site) -> None:
    await enter(site, 60, site.scoring.playbook.holdout.share)
    lift = (await site.get("/v1/reports/holdout"))["lift"]
    assert lift["interval"] is None
    assert "an interval needs 20" in lift["why_no_interval"]
    assert "next stage" in lift["power"]["advice"]


async def test_a_third_arm_is_reported_against_both_others(site: Site) -> None:
    """M7: by the draw that nurture takes, with effects by source and age, as JSON, page and CSV."""
    holdout = Holdout(share=0.3, calendar=CalendarArm(share=0.3, days=5))
    playbook = with_parts(site.scoring.playbook, holdout=holdout)
    site = site.beside(playbook)
    made = await enter(site, 2_000, 0.3)
    arms = Counter(arm_of(row["draw"], 0.3, 0.3) for row in made)
    found = await site.get("/v1/reports/holdout")
    assert "5 days" in found["holdout"]["says"]
    by_arm = {row["arm"]: row["leads"] for row in found["tables"][0]["rows"]}
    assert by_arm == {
        "nurtured": arms["treated"], "hold-out": arms["holdout"], "calendar": arms["calendar"],
    }  # fmt: skip
    asked = {"table": "arms", "figure": "leads", "arm": "calendar", "limit": 1000}
    opened = await site.get("/v1/reports/holdout/leads", **asked)
    assert len(opened["leads"]) == arms["calendar"]
    lift = found["lift"]
    assert {*lift["n"]} == {"nurtured", "hold-out"}
    assert {*lift["choosing"]["n"]} == {"nurtured", "calendar"}
    assert {*lift["calendar"]["n"]} == {"calendar", "hold-out"}
    assert lift["choosing"]["n"]["calendar"] == lift["calendar"]["n"]["calendar"]
    assert lift["choosing"]["interval"]
    assert lift["choosing"]["by_source"]
    assert (
        sum(one["n"]["calendar"] for one in lift["choosing"]["by_age_at_entry"].values())
        == (lift["choosing"]["n"]["calendar"])
    )
    effects = found["tables"][1]["rows"]
    assert [row["comparison"] for row in effects if row["by"] == "all leads"] == [
        "nurturing against nothing", "nurturing against the calendar",
        "the calendar against nothing",
    ]  # fmt: skip
    table = await site.get("/v1/reports/holdout/csv", table="effects")
    assert len(table.splitlines()) == len(effects) + 1


async def test_nobody_yet_is_an_answer(site: Site) -> None:
    lift = (await site.get("/v1/reports/holdout"))["lift"]
    assert (lift["interval"], lift["effect"], lift["units"]) == (None, None, 0)
    assert "says nothing" in lift["power"]["advice"]
    ages = await site.get("/v1/reports/made-or-born")
    assert (ages["outcomes"], ages["two_peaks"]["answer"]) == (0, "too few")
    assert (await site.get("/v1/reports/sources"))["sources"] == []


async def test_journeys_of_the_system_begin_with_the_first_event_and_its_source(site: Site) -> None:
    """M3, M4: outcomes, sources and costs are those of the events."""
    records = []
    for number in range(30):
        email = f"p{number}@firm-{number}.example"
        source = "demo" if number % 3 == 0 else "webinar"
        records += [
            happened("page_viewed", email, 200 + number, source=source, cost=2.5),
            happened("page_viewed", email, 150, source="other", cost=1.0),
        ]
        if number % 2:
            records.append(happened("opportunity_opened", email, 190 - number))
    await site.apply(*records)
    ages = await site.get("/v1/reports/made-or-born")
    assert (ages["follow_up_days"], ages["leads"], ages["outcomes"]) == (180, 30, 15)
    assert ages["median_age_days"] == pytest.approx(
        np.median([10 + 2 * n for n in range(1, 30, 2)])
    )
    worth = await site.get("/v1/reports/sources", days=30)
    by_source = {one["source"]: one for one in worth["sources"]}
    assert (by_source["demo"]["leads"], by_source["webinar"]["leads"]) == (10, 20)
    within = [n for n in range(1, 30, 2) if 10 + 2 * n <= 30]
    assert by_source["demo"]["outcomes"] == len([n for n in within if n % 3 == 0])
    assert by_source["webinar"]["outcomes"] == len([n for n in within if n % 3])
    assert by_source["demo"]["cost_per_lead"] == 3.5


async def test_the_pool_counts_who_a_strict_rule_would_let_go(site: Site) -> None:
    """M5: leads in reach beside those that qualify first, and whose the outcomes are."""
    await site.apply(
        *(happened("demo_requested", f"p{n}@firm-{n}.example", 5) for n in range(6)),
        happened("opportunity_opened", "p1@firm-1.example", 2),
    )
    found = await site.get("/v1/reports/pool")
    pool, outcomes, funnel = found["tables"]
    total = {
        key: sum(row[key] for row in pool["rows"]) for key in ("in_reach", "qualified", "let_go")
    }
    assert total["in_reach"] == 6 == total["qualified"] + total["let_go"]
    assert outcomes["rows"][0]["outcomes"] == 1
    assert sum(row["entered"] for row in funnel["rows"]) == 6
    assert sum(row["outcome"] for row in funnel["rows"]) == 1
    opened = await site.get("/v1/reports/pool/leads", table="funnel", figure="outcome")
    assert [one["lead"] for one in opened["leads"]] == [await site.lead("p1@firm-1.example")]


async def test_queries_and_what_sales_reports_are_counted(site: Site) -> None:
    """M6: how much is asked of the API by which key, and what sales reports, by week."""
    await site.apply(
        happened("demo_requested", "jo@firm.example", 5),
        happened("sales_accepted", "jo@firm.example", 4),
        happened("sales_disqualified", "jo@firm.example", 3, properties={"reason": "no_need"}),
    )
    for _ in range(3):
        await site.get("/v1/leads")
    await site.app.state.backend.use.write()
    found = await site.get("/v1/reports/handoffs")
    by_name = {table["name"]: table["rows"] for table in found["tables"]}
    assert sum(row["queries"] for row in by_name["queries"]) >= 3
    assert {row["key"] for row in by_name["queries"]} == {"people"}
    assert sum(row["answers"] for row in by_name["answers"]) == 2
    assert sum(row["accepted"] for row in by_name["answers"]) == 1
    later = await site.get("/v1/reports/handoffs", until="2020-01-01T00:00:00Z")
    for table in later["tables"]:
        assert table["rows"] == [], table["name"]
    refused = await site.refused("/v1/reports/handoffs/leads", table="queries", figure="queries")
    assert "no table" in refused


async def test_a_table_that_is_cut_off_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(site)
    monkeypatch.setattr(reports, "MOST_ROWS", 1)
    found = await site.get("/v1/reports/content")
    for table in found["tables"]:
        assert "Only the first" in table["notes"][0]
        assert len(table["rows"]) == 1


async def test_the_page_shows_every_report_and_opens_its_numbers(site: Site) -> None:
    await fill(site)
    assert (await site.http.get("/reports")).status_code == 303
    assert (await site.http.get("/sign-in", params={"key": site.key})).status_code == 303
    page = (await site.http.get("/reports")).text
    for title in ("Progression", "Content", "Hand-offs", "Cause: what nurturing changes", "Pool"):
        assert title in page
    assert "No interval yet" in page
    link = page.split('href="/reports/progression/leads?', 1)[1].split('"')[0].replace("&amp;", "&")
    leads = await site.http.get(f"/reports/progression/leads?{link}")
    assert leads.status_code == 200
    assert "/leads/" in leads.text
    table = await site.http.get("/reports/content/csv?table=items")
    assert table.headers["content-disposition"].endswith('"content-items.csv"')
    assert table.text.startswith("content,channel,decided")
    for path in ("/reports/made-or-born", "/reports/sources"):
        answer = await site.http.get(path)
        assert answer.status_code == 200
        assert "says nothing yet" in answer.text
    assert (await site.http.get("/reports/everything/csv")).status_code == 404


async def test_hand_offs_are_counted_by_kind_and_owner(site: Site) -> None:
    """H1: opened, accepted, converted, expired, and the median hours to the first response."""
    hours = [1.0, 3.0, 8.0, None]
    async with site.engine.begin() as connection:
        for number, after in enumerate(hours):
            opened = NOW - timedelta(days=5)
            await connection.execute(
                text(
                    "INSERT INTO scorer.handoff (id, lead_id, product, kind, status, owner, "
                    "opener, opener_at, detected_at, opened_at, responded_at, converted_at) "
                    "VALUES (:id, :id, 'default', 'ready', :status, :owner, :id, :at, :at, :at, "
                    ":responded, :converted)"
                ),
                {
                    "id": uuid.UUID(int=number + 1), "at": opened,
                    "status": "expired" if after is None else "accepted",
                    "owner": "ann@firm.example" if number % 2 else "",
                    "responded": None if after is None else opened + timedelta(hours=after),
                    "converted": opened + timedelta(days=1) if number == 0 else None,
                },
            )  # fmt: skip
        await connection.execute(
            text(
                "INSERT INTO access.audit (actor_kind, actor_id, actor, action, subject, details) "
                "VALUES ('person', 'x', 'Ann', 'pause', 'lead x', '{}')"
            )
        )
    found = await site.get("/v1/reports/handoffs")
    by_name = {table["name"]: table["rows"] for table in found["tables"]}
    [kind] = by_name["handoffs"]
    assert (kind["kind"], kind["opened"], kind["responded"]) == ("ready", 4, 3)
    assert (kind["accepted"], kind["converted"], kind["expired"]) == (3, 1, 1)
    assert kind["median_hours"] == 3.0
    assert {row["owner"]: row["opened"] for row in by_name["owners"]} == {
        "ann@firm.example": 2, "nobody": 2,
    }  # fmt: skip
    assert [row["action"] for row in by_name["overrides"]] == ["pause"]
    opened = await site.get(
        "/v1/reports/handoffs/leads", table="owners", figure="expired", owner="ann@firm.example"
    )
    assert [one["id"] for one in opened["leads"]] == [str(uuid.UUID(int=4))]
