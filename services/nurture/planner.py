"""What comes next for people in programs: enrolments whose moment has come are decided, one
transaction a batch.
"""

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.nurture.decided import record
from services.nurture.rules.answers import next_touch
from services.nurture.rules.enrolment import Enrolment
from services.nurture.rules.grounds import Rules
from services.nurture.rules.lead import Lead
from services.nurture.rules.steps import Step, newly_entered, step
from services.nurture.store.enrolments import EnrolmentStore, ProgramKey
from services.nurture.store.leads import LeadStore
from services.nurture.store.outcomes import OutcomeStore
from services.nurture.store.snapshots import LeadKey
from services.nurture.store.touches import Decision
from services.shared.clock import Clock
from services.shared.contracts.events import Snapshot
from services.shared.db import is_transient
from services.shared.playbook.sections import UNKNOWN
from services.shared.runtime import Heartbeat, fault_point
from services.shared.settings import Settings

log = structlog.get_logger()
BATCH = 200  # whose leads are locked meanwhile
EDITED_AT_ONCE = 5_000
LEARN_SECONDS = 600.0  # between two looks at what came of touches
TAKE_IN_SECONDS = 600.0  # between two looks at leads that no program has
FIRST = uuid.UUID(int=0)  # before the id of any lead


class Planner:
    """Decides the next touches; `notify` is called when there are some to send and publish."""

    def __init__(
        self,
        settings: Settings,
        engine: AsyncEngine,
        rules: Rules,
        clock: Clock,
        notify: Callable[[], None],
    ) -> None:
        self._engine, self._rules, self._clock, self._notify = engine, rules, clock, notify
        self._pepper = settings.pepper.get_secret_value().encode()
        self._poll_seconds = settings.poll_ms / 1000
        self._learned_at: float | None = None
        self._after, self._take_in_at = FIRST, 0.0

    async def run(self, heartbeat: Heartbeat) -> None:
        """Plans until cancelled."""
        edited = EDITED_AT_ONCE
        while True:
            heartbeat()
            taken = 0
            try:
                if edited == EDITED_AT_ONCE:
                    edited = await self.call_edited()
                await self.learn()
                taken = await self.plan()
                if time.monotonic() >= self._take_in_at:
                    await self.take_in()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("planner_waits", reason=type(error).__name__)
            # what comes one by one is taken together: one costs nearly what a batch does
            await asyncio.sleep(0 if taken >= BATCH else self._poll_seconds)

    async def call_edited(self) -> int:
        """Has some enrolments that another playbook decided decided again; returns how many."""
        async with self._engine.begin() as connection:
            return await EnrolmentStore(connection).call_edited(
                self._rules.playbook.hash, self._clock.now(), EDITED_AT_ONCE
            )

    async def take_in(self) -> int:
        """Has some leads that no program has come into those that are for them by now: the playbook
        has got another program, or more is known of them. Returns how many leads there were.
        """
        now = self._clock.now()
        async with self._engine.connect() as connection:
            found = await EnrolmentStore(connection).outside(self._after, BATCH)
            wanted = await self._entering_now(connection, found, now)
        if wanted:
            async with self._engine.begin() as connection:
                leads, names = self._leads(connection), sorted({one.lead for one in wanted})
                await leads.lock_against_merges(names, ())
                await leads.lock(names)
                entering = await self._entering_now(connection, names, now)
                await EnrolmentStore(connection).keep(entering, self._rules.playbook.hash)
        if len(found) == BATCH:
            self._after = uuid.UUID(found[-1])
        else:
            self._after, self._take_in_at = FIRST, time.monotonic() + TAKE_IN_SECONDS
        return len(found)

    async def _entering_now(
        self, connection: AsyncConnection, leads: Sequence[str], now: datetime
    ) -> list[Enrolment]:
        """Enrolments that these leads come into as they stand."""
        known = await self._leads(connection).leads((LeadKey(lead, "") for lead in leads), now)
        programs = _programs_of(await EnrolmentStore(connection).of(leads))
        return [
            one
            for key, lead in known.items()
            for one in newly_entered(self._rules, lead, key.product, programs[key.lead], now)
        ]

    def _leads(self, connection: AsyncConnection) -> LeadStore:
        return LeadStore(connection, self._pepper, self._rules.library.request_programs)

    async def learn(self) -> None:
        """Reads what came of touches, where a program's choice is learned from that."""
        library = self._rules.library
        if not any(program.choice == "learned" for program in self._rules.playbook.programs):
            return
        if self._learned_at and time.monotonic() - self._learned_at < LEARN_SECONDS:
            return
        async with self._engine.connect() as connection:
            library.evidence = await OutcomeStore(connection).evidence(self._clock.now())
        self._learned_at = time.monotonic()

    async def plan(self) -> int:
        """One batch; returns how many enrolments were due."""
        now = self._clock.now()
        async with self._engine.begin() as connection:
            store = EnrolmentStore(connection)
            chosen = await store.leads_due(now, BATCH)
            if not chosen:
                return 0
            leads = self._leads(connection)
            await leads.lock_against_merges(chosen, ())
            await leads.lock(chosen)
            due = await store.lock_due(chosen, now)
            new = await self._planned(connection, leads, due, now)
            fault_point("before_plan_commit")
        if new:
            self._notify()
        return len(due)

    async def _planned(
        self, connection: AsyncConnection, leads: LeadStore, due: Sequence[Enrolment], now: datetime
    ) -> int:
        """Decides and writes; returns how many touches are new."""
        store = EnrolmentStore(connection)
        ids = {one.lead for one in due}
        known = await leads.leads(
            (LeadKey(one.lead, one.product) for one in due), now, self._rules.account_of
        )
        everything, pending = await store.of(ids), await store.pending(ids)
        due = [*due, *self._entering(known, everything, due, now)]
        steps = [self._step(one, known, pending, now) for one in due]
        decisions = [
            Decision(next_touch(self._rules, one, done.decision, _lead(one, known), now), None)
            for one, done in zip(due, steps, strict=True)
            if done.decision
        ]
        new = await record(connection, decisions)
        await store.keep((done.enrolment for done in steps), self._rules.playbook.hash)
        return len(new)

    def _entering(
        self,
        known: Mapping[LeadKey, Lead],
        everything: Mapping[ProgramKey, Enrolment],
        due: Iterable[Enrolment],
        now: datetime,
    ) -> list[Enrolment]:
        """Further programs that these leads come into."""
        programs = _programs_of(everything)
        keys = dict.fromkeys(LeadKey(one.lead, one.product) for one in due)
        return [
            entering
            for key in keys
            if key in known
            for entering in newly_entered(
                self._rules, known[key], key.product, programs[key.lead], now
            )
        ]

    def _step(
        self,
        one: Enrolment,
        known: Mapping[LeadKey, Lead],
        pending: set[ProgramKey],
        now: datetime,
    ) -> Step:
        is_pending = ProgramKey(one.lead, one.program) in pending
        return step(self._rules, _lead(one, known), one, now, is_pending=is_pending)


def _programs_of(enrolments: Iterable[ProgramKey]) -> dict[str, set[str]]:
    """The programs in which each lead is or was."""
    programs: dict[str, set[str]] = defaultdict(set)
    for key in enrolments:
        programs[key.lead].add(key.program)
    return programs


def _lead(one: Enrolment, known: Mapping[LeadKey, Lead]) -> Lead:
    """A lead whose snapshot cannot be read is one of unknown stage."""
    return known.get(LeadKey(one.lead, one.product)) or Lead(one.lead, Snapshot(stage=UNKNOWN))
