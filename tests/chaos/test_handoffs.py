"""Hand-offs through kill -9 of real scorers, at named points and at any moment: a raised hand opens
one hand-off, an answer that had its 2xx stays, and the clock neither runs twice nor stops (H0, H1,
H2, O4).
"""

import asyncio
import os
import random
import shutil
import signal
import time
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from services.ops.commands.provision import provision
from services.ops.commands.status import read
from services.ops.commands.verify import verify
from services.ops.embedded import mail_sink as sink
from services.shared.clock import Clock
from services.shared.db import open_engine, rows
from services.shared.http.keys import new_key
from services.shared.settings import ROOT
from tests.support import present
from tests.support.ports import free_port
from tests.support.processes import Process, settings_of
from tests.support.servers import Kafka, Postgres

SESSION_MS = 6_000
POLL_S = 0.05
PATIENCE_S = 5.0  # before another hand is raised
RAISED = "SELECT id, opened_at, told_at FROM scorer.handoff WHERE kind = 'raised_hand'"
LATER = timedelta(days=12)  # beyond the end of every clock, and in another week
RESPONSE, EXPIRY = timedelta(hours=2), timedelta(days=7)
POINTS = [  # of each scorer, in its lives one after the other
    ["before_handoff_is_kept:2", "between_telling_and_note:1"],
    ["after_handoff_is_kept:1", "before_answer_is_kept:2"],
]
HANDOFF = {
    "owners": [{"email": "ana@ours.example"}, {"email": "ben@ours.example"}],
    "capacity_per_week": 1, "response_hours": {"raised_hand": 2}, "expires_days": 7,
    "business_days": False, "working_days": [0, 1, 2, 3, 4, 5, 6], "day_from": 0, "day_until": 24,
    "holidays": False, "ready_stages": ["consideration", "decision"],
}  # fmt: skip
ANSWERS: list[tuple[str, dict[str, str], str]] = [
    ("accept", {}, "accepted"), ("reject", {"reason": "wrong_owner"}, "rejected"),
    ("disqualify", {"reason": "no_need"}, "disqualified"), ("", {}, "expired"),
]  # fmt: skip


class Size:
    """How many people raise a hand at first, some of them on two devices, and how many are ready;
    and how often a scorer is killed at any moment.
    """

    def __init__(self, people: int, kills: int) -> None:
        self.people, self.joined, self.ready, self.kills = people, people // 3, 3, kills


class Sales:
    """An ingest, two scorers, and people who answer over HTTP."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kafka = Kafka(folder / "kafka", free_port())
        self.postgres = Postgres(folder / "postgres", free_port())
        self.keys = {scope: new_key() for scope in ("secret", "query")}
        self.answered: dict[str, str] = {}  # by hand-off, what had its 2xx
        self.later = timedelta()  # by which the scorers' clock is ahead
        self.people = 0  # that raise a hand

    async def start(self) -> None:
        await asyncio.gather(
            asyncio.to_thread(self.kafka.start), asyncio.to_thread(self.postgres.start)
        )
        self.mail = await sink.serve(self.folder / "mail")
        self.variables = self._variables()
        self.settings = settings_of(self.variables)
        await provision(self.settings)
        self.engine = open_engine(self.settings)
        self.ingest = Process("services.ingest", self.variables, self.folder / "ingest.log")
        self.scorers = [
            Process("services.scorer", self.variables, self.folder / f"scorer-{n}.log", *faults)
            for n, faults in enumerate(POINTS)
        ]
        for process in (self.ingest, *self.scorers):
            await process.start()
        await asyncio.gather(*(process.ready() for process in (self.ingest, *self.scorers)))

    def _variables(self) -> dict[str, str]:
        playbook = self.folder / "playbook"
        shutil.copytree(ROOT / "deploy" / "playbook", playbook)
        for file, part, section in (
            ("playbook.yaml", "handoff", HANDOFF), ("score.yaml", "fit", {"base": 70}),
        ):  # fmt: skip
            known = yaml.safe_load((playbook / file).read_text("utf-8"))
            (playbook / file).write_text(yaml.safe_dump(known | {part: section}), "utf-8")
        return {
            "RIPELINE_ENVIRONMENT": "test",
            "RIPELINE_CLOCK": str(present.CLOCK),
            "RIPELINE_PLAYBOOK": str(playbook),
            "RIPELINE_DATABASE_URL": self.postgres.url,
            "RIPELINE_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "RIPELINE_KAFKA_SESSION_TIMEOUT_MS": str(SESSION_MS),
            "RIPELINE_KAFKA_PARTITIONS": "4",
            "RIPELINE_SENDING_TIMEOUT_S": "1",
            "RIPELINE_PEPPER": "chaos",
            "RIPELINE_SMTP_URL": f"smtp://{sink.address(self.mail)}",
            "RIPELINE_SMTP_IS_SINK": "true",
            "RIPELINE_SPOOL_DIR": str(self.folder / "spool"),
            **{f"RIPELINE_{scope.upper()}_KEY": key for scope, key in self.keys.items()},
        }

    async def stop(self) -> None:
        await asyncio.gather(*(process.stop() for process in (self.ingest, *self.scorers)))
        await self.engine.dispose()
        self.mail.close()
        await asyncio.to_thread(self.kafka.stop)
        self.postgres.stop()

    async def rows(self, statement: str, **values: Any) -> list[Any]:
        async with self.engine.connect() as connection:
            return await rows(connection, statement, **values)

    # -- people ------------------------------------------------------------------------------------

    async def post(self, *events: dict[str, Any]) -> None:
        body = [{"id": uuid.uuid4().hex, **event} for event in events]
        headers = {"Authorization": f"Bearer {self.keys['secret']}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.post(f"{self.ingest.url}/v1/events", json=body) as answer,
        ):
            assert answer.status == 200, await answer.text()

    async def raise_hands(self, size: Size, people: range) -> None:
        """Some ask twice, first as somebody unknown."""
        for n in people:
            if n < size.joined:
                await self.post({"type": "demo_requested", "anonymous_id": f"device-{n}"})
            await self.raise_hand(n)

    async def raise_hand(self, n: int) -> None:
        await self.post({"type": "demo_requested", "email": address(n)})

    async def look_at_prices(self, size: Size) -> None:
        """Some become ready, and raise no hand."""
        for n in range(size.ready):
            looks = [
                {"type": "pricing_viewed", "email": f"ready{n}@other{n}.example",
                 "occurred_at": present.ago(hours=1 + hour)}
                for hour in range(8)
            ]  # fmt: skip
            await self.post(*looks)

    async def join(self, size: Size) -> None:
        """The unknown ones turn out to be people who are known."""
        for n in range(size.joined):
            event = {"type": "page_viewed", "email": address(n), "anonymous_id": f"device-{n}"}
            await self.post(event)

    # -- salespeople -------------------------------------------------------------------------------

    async def ask(self, method: str, path: str, **asked: Any) -> tuple[int, Any]:
        """What any of the scorers answers, asked until one does."""
        headers = {"Authorization": f"Bearer {self.keys['query']}"}
        give_up = time.monotonic() + 60
        turn = 0
        async with aiohttp.ClientSession(headers=headers) as http:
            while time.monotonic() < give_up:
                turn += 1
                url = f"{self.scorers[turn % 2].url}/v1/handoffs{path}"
                try:
                    async with http.request(
                        method, url, timeout=aiohttp.ClientTimeout(10), **asked
                    ) as answer:
                        if answer.status < 500:
                            return answer.status, await answer.json()
                except (aiohttp.ClientError, TimeoutError):
                    pass
                await asyncio.sleep(0.1)
        raise AssertionError("\n".join(scorer.tail() for scorer in self.scorers))

    async def listed(self) -> list[dict[str, Any]]:
        asked = {"status": "open", "limit": "500"}
        status, found = await self.ask("GET", "", params=asked)
        assert status == 200, found
        return list(found["handoffs"])

    async def answer(self) -> None:
        """Each in its turn gets one of the answers, or none; again where none came back. Of people
        who turn out to be one, what was said of one is said of the other.
        """
        left: set[str] = set()
        give_up = time.monotonic() + 120
        while not await self._is_done({*left, *self.answered}):
            assert time.monotonic() < give_up, (len(self.answered), len(left), self.logs())
            for one in await self.listed():
                place = len(self.answered) + len(left)
                if one["kind"] != "raised_hand" or one["id"] in {*left, *self.answered}:
                    continue
                what, said, status = ANSWERS[place % len(ANSWERS)]
                if not what:
                    left.add(one["id"])
                    continue
                path = f"/{one['id']}/{what}"
                code, body = await self.ask("POST", path, json={"by": "ana", **said})
                if code == 409:
                    await self._is_joined(one["id"], body)
                    continue
                assert code == 200, body
                self.answered[one["id"]] = status
            await asyncio.sleep(POLL_S)

    async def _is_joined(self, id: str, refused: dict[str, Any]) -> None:
        """Whether an answer was refused because another had been given for the same person."""
        _, shown = await self.ask("GET", f"/{id}")
        if shown["superseded_by"]:
            assert shown["superseded_by"] in refused["title"], (shown, refused)
            _, shown = await self.ask("GET", f"/{shown['superseded_by']}")
        assert shown["status"] in self.answered.values(), (shown, refused)
        alike = await self.rows(
            "SELECT id FROM scorer.handoff WHERE lead_id = :lead", lead=uuid.UUID(shown["lead"])
        )
        assert {str(one.id) for one in alike} & {*self.answered}, (shown, refused)

    async def _is_done(self, handled: set[str]) -> bool:
        """Whether the scorers have died, each of the people has a hand-off, and each of these was
        handled.
        """
        found, waits = await told(self), any(scorer.is_to_die for scorer in self.scorers)
        raised = len({one.lead_id for one in found if not one.merged_into})
        return (
            not waits
            and raised == self.people
            and all(
                not one.merged_into and (one.status != "open" or str(one.id) in handled)
                for one in found
            )
        )

    # -- death -------------------------------------------------------------------------------------

    async def died(self) -> None:
        """Waits until the scorers have died at all their points. More hands are raised meanwhile:
        what the one has not come to the other may have done.
        """
        give_up, another = time.monotonic() + 90, time.monotonic() + PATIENCE_S
        while any(scorer.is_to_die for scorer in self.scorers):
            assert time.monotonic() < give_up, self.logs()
            if time.monotonic() > another and not self.later:
                await self.raise_hand(self.people)
                self.people, another = self.people + 1, time.monotonic() + PATIENCE_S
            await asyncio.sleep(POLL_S)

    async def dies_later(self, scorer: Process, point: str) -> None:
        """Kills a scorer, which then lives at the later time, and dies once more at a point."""
        ahead = Clock(ahead=present.CLOCK.ahead + LATER.total_seconds())
        scorer.arm(point, RIPELINE_CLOCK=str(ahead))
        await self.died()
        await scorer.ready()

    async def are_ready(self) -> None:
        await asyncio.gather(*(scorer.ready() for scorer in self.scorers))

    async def kill(self, rng: random.Random, times: int) -> None:
        """One of the scorers, at any moment."""
        for _ in range(times):
            await asyncio.sleep(rng.uniform(0.2, 1.5))
            rng.choice(self.scorers).signal(signal.SIGKILL)

    def logs(self) -> str:
        return "\n".join(scorer.tail() for scorer in self.scorers)

    async def idle(self) -> None:
        """Waits until nothing is left to do, several times in a row."""
        calm, give_up = 0, time.monotonic() + 90
        while calm < 5:
            assert time.monotonic() < give_up, self.logs()
            [due] = await self.rows(
                "SELECT (SELECT count(*) FROM scorer.handoff_due WHERE due_at <= :now) + "
                "(SELECT count(*) FROM scorer.handoff WHERE next_at <= :now) + "
                "(SELECT count(*) FROM scorer.handoff_notice WHERE due_at IS NOT NULL) + "
                "(SELECT count(*) FROM scorer.outbox) AS count",
                now=present.now() + self.later,
            )
            lag = (await read(self.settings)).lag["scorer"]
            calm = 0 if due.count or lag else calm + 1
            await asyncio.sleep(POLL_S)


def address(n: int) -> str:
    return f"hand{n}@firm{n}.example"


@pytest.fixture
async def sales(scratch: Path) -> AsyncIterator[Sales]:
    folder = scratch / f"handoffs-{uuid.uuid4().hex[:6]}"
    folder.mkdir()
    os.chmod(folder, 0o755)
    sales = Sales(folder)
    try:
        await sales.start()
        yield sales
    finally:
        await sales.stop()


async def goes_through_kills(sales: Sales, size: Size) -> None:
    rng, half = random.Random(5), size.people // 2
    sales.people = size.people
    await sales.raise_hands(size, range(half))
    await asyncio.gather(sales.answer(), _goes_on(sales, size, range(half, size.people)))
    await sales.kill(rng, size.kills)
    await sales.are_ready()
    await sales.idle()
    before = await told(sales)
    sales.later = LATER
    # one after the other: what is over is over for the first alone
    await sales.dies_later(sales.scorers[1], "before_handoff_is_kept:1")
    await sales.dies_later(sales.scorers[0], "before_room_is_given:1")
    await sales.are_ready()
    await sales.idle()
    await holds(sales, size, before)


async def _goes_on(sales: Sales, size: Size, people: range) -> None:
    """More ask, and some turn out to be one, while scorers die and people answer."""
    await sales.raise_hands(size, people)
    await sales.join(size)
    await sales.look_at_prices(size)
    await sales.died()


async def told(sales: Sales) -> list[Any]:
    return await sales.rows(
        "SELECT h.*, l.merged_into FROM scorer.handoff h JOIN scorer.lead l ON l.id = h.lead_id "
        "WHERE h.kind = 'raised_hand' AND h.status <> 'superseded' ORDER BY h.id"
    )


async def holds(sales: Sales, size: Size, before: list[Any]) -> None:
    found = await told(sales)
    assert [one.id for one in found] == [one.id for one in before]
    # each person has one, or was answered as each of those who turned out to be one
    by_lead: dict[Any, list[Any]] = {}
    for one in found:
        assert not one.merged_into
        by_lead.setdefault(one.lead_id, []).append(one)
    assert len(by_lead) == sales.people
    several = [own for own in by_lead.values() if len(own) > 1]
    assert len(several) <= size.joined
    chains = await _chains(sales)
    for own in by_lead.values():
        given = {str(id) for one in own for id in chains[one.id]} & {*sales.answered}
        ended = {one.status for one in own}
        # no answer is lost, and what had none has expired
        assert ended == ({sales.answered[id] for id in given} or {"expired"}), (ended, given)
        assert len(own) == 1 or ended != {"expired"}
    raised = await sales.rows(RAISED)
    opened, told_of = ({row.id: row[n] for row in raised} for n in (1, 2))
    for one, was in zip(found, before, strict=True):
        # the clock is that of the first opening
        first = min(opened[id] for id in chains[one.id] if opened[id])
        assert (one.opened_at, one.expires_at) == (first, first + EXPIRY)
        assert was.respond_by == first + RESPONSE
        # somebody was told, of it or of the one whose place it has taken
        assert [id for id in chains[one.id] if told_of[id]]
        lent = len(chains[one.id]) > 1
        await _steps_hold(sales, one, lent=lent, alone=len(by_lead[one.lead_id]) == 1)
    # the week takes one more, the likeliest
    ready = await sales.rows("SELECT status FROM scorer.handoff WHERE kind = 'ready'")
    assert sorted(one.status for one in ready) == ["next", "next", "open"]
    # each answer is one fact about its lead
    [facts] = await sales.rows(
        "SELECT count(*) AS count FROM scorer.event WHERE body LIKE '%\"sales_%'"
    )
    ended = {one.lead_id for one in found if one.status != "expired"}
    assert len(ended) <= facts.count <= len(sales.answered)
    mails = [
        message_from_bytes(file.read_bytes()) for file in (sales.folder / "mail").glob("*.eml")
    ]
    notices = await sales.rows("SELECT id, sent_at FROM scorer.handoff_notice")
    ids = {str(mail["Message-ID"]).strip("<>").partition("@")[0] for mail in mails}
    assert ids == {str(one.id) for one in notices if one.sent_at}
    assert (await read(sales.settings)).dead_letters == 0
    assert (await verify(sales.settings, lambda _: None)).mismatches == []


async def _chains(sales: Sales) -> dict[Any, list[Any]]:
    """By hand-off those whose place it has taken in the end, with itself."""
    found = await sales.rows("SELECT id, superseded_by FROM scorer.handoff")
    after = {one.id: one.superseded_by for one in found}
    chains: dict[Any, list[Any]] = {}
    for id in after:
        last = id
        while after[last]:
            last = after[last]
        chains.setdefault(last, []).append(id)
    return chains


async def _steps_hold(sales: Sales, one: Any, *, lent: bool, alone: bool) -> None:
    steps = await sales.rows(
        "SELECT what, at FROM scorer.handoff_step WHERE handoff_id = :id ORDER BY step", id=one.id
    )
    what = [step.what for step in steps]
    ended = one.status
    assert what.count(ended) == 1, what
    assert what.count("opened") == 1 or (lent and "opened" not in what), what
    others = {status for _, _, status in ANSWERS} - {ended}
    assert not others & {*what} or not alone, what
    at = next(step.at for step in steps if step.what == ended)
    assert at >= one.expires_at if ended == "expired" else at < one.expires_at


@pytest.mark.long
async def test_hand_offs_hold_through_kills_of_scorers(sales: Sales) -> None:
    await goes_through_kills(sales, Size(12, 1))


@pytest.mark.long
async def test_many_hand_offs_hold_through_many_kills_of_scorers(sales: Sales) -> None:
    await goes_through_kills(sales, Size(150, 30))
