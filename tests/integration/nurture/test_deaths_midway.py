"""Leads that become one or two in mid-program while processes die at every step of a delivery, of a
plan and of what is read: nobody gets an item twice, nobody is forgotten, each stands at one place
(N4, N6, N11).
"""

import json
import random
import signal
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email import message_from_bytes
from typing import Any

import pytest

from services.shared.contracts.events import ChangeEvent
from tests.integration.nurture.test_deaths import OF_MAIL, OF_WEBHOOK, Killer, another, server
from tests.integration.nurture.test_nurture import (
    NOON,
    Bench,
    bench,
    by_webhook,
    change,
)
from tests.integration.nurture.test_programs import DAY, TRACK, Killed, planner
from tests.support.sending import send_due
from tests.support.smtp_server import SmtpServer

__all__ = ["bench", "server"]
PEOPLE, DAYS = 10, 28
PEACE = range(0, 34, 2)  # days: the slowest pace is one of 30
# steps at which a process of its own dies, and those of the handler and of the planner here
INSIDE = {
    "before_commit": "services.shared.messaging.batches",
    "before_plan_commit": "services.nurture.planner",
}
STEPS = {"mail": (*OF_MAIL, "before_recovery_commit"), "webhook": (*OF_WEBHOOK,)}


class Town:
    """People who come, become one, and are found to be another, with processes that die."""

    def __init__(self, bench: Bench, server: SmtpServer, by: str, seed: int) -> None:
        self.bench, self.by, self.random = bench, by, random.Random(seed)
        self.server = server
        self.told: list[ChangeEvent] = []
        self.versions: Counter[str] = Counter()
        self.address: dict[str, str] = {}  # of each lead that there is
        self.had: defaultdict[str, set[str]] = defaultdict(set)  # by lead
        self.got: Counter[tuple[str, str]] = Counter()  # by address and item
        self.seen: set[str] = set()  # touches that arrived somewhere
        self.deaths: Counter[str] = Counter()
        self.steps = list(STEPS[by])
        self.leads = 0

    # -- what happens to people -------------------------------------------------------------------

    async def comes(self, address: str = "") -> None:
        """A lead that is new; with an address that another one had, it is found to be another."""
        self.leads += 1
        lead = str(uuid.UUID(int=self.leads))
        self.address[lead] = address or f"p@firm{self.leads}.example"
        await self.tell(change(lead=lead, email=self.address[lead], cause_at=self.bench.clock.at))

    async def becomes_one(self) -> None:
        new, old = self.random.sample(sorted(self.address), 2)
        del self.address[old]
        self.had[new] |= self.had.pop(old, set())
        await self.tell(self.change("lead.merged.v1", new, merged=(old,)))

    async def is_another(self) -> None:
        """The address of a lead is somebody else's; the former lead has none any more."""
        old = self.random.choice(sorted(self.address))
        address = self.address.pop(old)
        await self.tell(self.change("lead.engaged.v1", old, email=""))
        await self.comes(address)

    def change(self, kind: str, lead: str, **more: Any) -> ChangeEvent:
        self.versions[lead] += 1
        fields = {"email": self.address.get(lead, "")} | more
        version = 1 + self.versions[lead]
        return change(kind=kind, lead=lead, seq=0, version=version, **fields)

    async def tell(self, *events: ChangeEvent) -> None:
        self.told += events
        with self.dying("before_commit"):
            await self.bench.take(*events)
        await self.bench.take(*events)

    # -- deaths -----------------------------------------------------------------------------------

    @contextmanager
    def dying(self, step: str) -> Iterator[None]:
        """Now and then whoever comes to this step dies there."""

        def die(name: str) -> None:
            if name == step and self.random.random() < 0.5:
                self.deaths[step] += 1
                raise Killed

        with pytest.MonkeyPatch.context() as patch, suppress(Killed):
            patch.setattr(f"{INSIDE[step]}.fault_point", die)
            yield

    async def sends(self) -> None:
        """A process sends what is due, and dies at the next of the steps."""
        step = self.steps[0]
        if step == "before_recovery_commit":
            await self._run("between_sending_and_wire")
        if await self._run(step):
            self.deaths[step] += 1
            self.steps = [*self.steps[1:], step]

    async def _run(self, step: str) -> bool:
        """Whether the process has died there."""
        killer, fault, bench = Killer(step), "" if step.isupper() else step, self.bench
        bench.hook.heard = killer.heard
        code = await send_due(bench.settings, bench.playbook, bench.clock.at, fault, killer)
        bench.hook.heard = lambda step: None
        await bench.do("UPDATE nurture.touch SET sending_since = sending_since - interval '1 day'")
        return code == -signal.SIGKILL

    # -- what came of it --------------------------------------------------------------------------

    async def look(self) -> None:
        """Nobody had what has arrived since the last look."""
        for touch, address in self.arrived():
            if touch in self.seen:
                continue
            self.seen.add(touch)
            (row,) = await self.bench.ask(
                "SELECT * FROM nurture.touch WHERE id = :id", id=uuid.UUID(touch)
            )
            assert row.content not in self.had[str(row.lead_id)], row
            self.had[str(row.lead_id)].add(row.content)
            self.got[address, row.content] += 1
        assert set(self.got.values()) <= {1}

    def arrived(self) -> list[tuple[str, str]]:
        """Touches and the addresses at which they arrived; a webhook's receiver knows its id."""
        if self.by == "mail":
            mails = [message_from_bytes(mail) for mail in self.server.mails]
            assert len({mail["X-Ripeline-Touch"] for mail in mails}) == len(mails)
            return [(mail["X-Ripeline-Touch"], mail["To"]) for mail in mails]
        posts = {headers["webhook-id"]: json.loads(body) for headers, body in self.bench.hook.got}
        return [(touch, _recipient(body)) for touch, body in posts.items()]

    async def stand_at_one_place(self) -> None:
        for row in await self.bench.ask(
            "SELECT e.*, m.into_lead, t.lead_id AS whose, t.program AS of, "
            "(SELECT count(*) FROM nurture.touch p WHERE p.lead_id = e.lead_id AND p.program = "
            "e.program AND p.status IN ('due', 'sending') AND p.requested IS NOT TRUE) AS waiting "
            "FROM nurture.enrolment e LEFT JOIN nurture.merged m USING (lead_id) "
            "LEFT JOIN nurture.touch t ON t.id = e.last_touch"
        ):
            assert row.into_lead is None, row
            assert row.waiting <= 1, row
            if row.last_touch:
                assert (row.whose, row.of) == (row.lead_id, row.program)


def _recipient(body: dict[str, Any]) -> str:
    found: str = body["data"]["recipient"]
    return found


@pytest.fixture(
    params=[
        ("mail", 1),
        ("webhook", 2),
        pytest.param(("mail", 3), marks=pytest.mark.long),
        pytest.param(("webhook", 4), marks=pytest.mark.long),
    ]
)
def town(bench: Bench, server: SmtpServer, request: pytest.FixtureRequest) -> Town:
    by, seed = request.param
    if by == "webhook":
        bench.use(by_webhook(bench.playbook))
    return Town(bench, server, by, seed)


async def test_through_deaths_merges_and_splits_nobody_gets_an_item_twice_or_is_forgotten(
    town: Town,
) -> None:
    """N4, N6, N11."""
    bench, chance = town.bench, town.random.random
    for half_day in range(2 * DAYS):
        bench.at(NOON + half_day * DAY / 2)
        if half_day % 3 == 0 and half_day < 3 * PEOPLE:
            await town.comes()
        with town.dying("before_plan_commit"):
            await planner(bench).plan()
        await planner(bench).plan()
        due = await bench.ask(
            "SELECT 1 FROM nurture.touch WHERE status = 'due' AND due_at <= :now",
            now=bench.clock.at,
        )
        if due:
            await town.sends()
            await town.look()
        if due and half_day > 6 and len(town.address) > 4:
            await (town.becomes_one() if chance() < 0.5 else town.is_another())
        if chance() < 0.1:
            await bench.take(*town.told, *reversed(town.told))
        await another(bench)
        await town.look()
    for step in PEACE:  # in peace, after news of everybody
        bench.at(NOON + (DAYS + step) * DAY)
        if step == 0:
            acted = {"last_act_at": bench.clock.at}
            await town.tell(
                *(town.change("lead.engaged.v1", lead, **acted) for lead in sorted(town.address))
            )
        await planner(bench).plan()
        await another(bench)
        await planner(bench).plan()
        await town.look()
    await town.stand_at_one_place()
    assert {*STEPS[town.by], *INSIDE} <= {*town.deaths}, "every step was died at"
    left = await bench.ask(
        "SELECT * FROM nurture.touch WHERE status NOT IN ('sent', 'unknown', 'withheld') "
        "AND due_at < :now",
        now=bench.clock.at - DAY,
    )
    assert left == []
    for lead in town.address:
        (one,) = await bench.ask(
            "SELECT * FROM nurture.enrolment WHERE lead_id = :lead AND program = :program",
            lead=uuid.UUID(lead), program=TRACK,
        )  # fmt: skip
        last = await bench.ask(
            "SELECT max(sent_at) AS at FROM nurture.touch WHERE lead_id = :lead "
            "AND status = 'sent'",
            lead=uuid.UUID(lead),
        )
        is_led_on = last[0].at and last[0].at >= NOON + DAYS * DAY
        assert is_led_on or one.reason == "nothing_suitable", (one, last)
