"""Drives simulated people as the clock goes: posts what they do, late and twice, and has them
answer their mail.
"""

import asyncio
import heapq
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from services.ops.simulation.mailbox import Mail, Mailbox, MailResponse, respond
from services.ops.simulation.people import MINUTE, Act, Person, answer_to_mail
from services.ops.simulation.population import make_person
from services.ops.simulation.posting import IngestClient, Message, Run
from services.ops.simulation.sessions import given_consent, session
from services.ops.simulation.world import World

TICK_S = 0.05
BATCH = 400
SINGLES = 0.4  # share of canonical events that are posted one by one while they are few
LIVE_VISIT_S = 2.0  # mean pause between visits once the clock is the wall clock
HEAD_START = 5  # minutes of visits more than those after which nobody is written to
MACHINE_OPENS = 0.1


class Traffic:
    """The people of a world, who post to one ingest and read one mailbox."""

    def __init__(
        self,
        client: IngestClient,
        run: Run,
        world: World,
        people: Sequence[Person],
        mailbox: Mailbox,
    ) -> None:
        self.people = list(people)
        self._client, self._run, self._world, self._mailbox = client, run, world, mailbox
        self._rng = random.Random(f"{run.seed}/traffic")
        self._by_email = {person.email: person for person in self.people}
        self._order = count()
        # by day, then by the order of planning
        self._planned: list[tuple[float, int, Message | MailResponse]] = []
        self._extra_acts: Counter[int] = Counter()
        self._next_visit: float | None = None  # once the clock is the wall clock
        for person in self.people:
            self._plan(person.acts)

    async def run(self, days: float | None) -> None:
        """Sends what is due until day `days`, then all the rest at once; without `days`, on
        and on.
        """
        while days is None or self._run.day() < days:
            now = self._run.day()
            if days is None and not self._run.clock.compressed:
                self._visits(now)
            await self._send(list(self._due(now)))
            self._read_mail(self._run.day())
            await asyncio.sleep(TICK_S)
        rest = [what for _, _, what in sorted(self._planned) if isinstance(what, Message)]
        self._planned.clear()
        await self._send(rest)

    def _plan(self, acts: Iterable[Act]) -> None:
        for act in acts:
            self._push(act.sent, Message(act))
            for again in act.copies:
                self._push(again, Message(act, is_copy=True))

    def _push(self, day: float, what: Message | MailResponse) -> None:
        heapq.heappush(self._planned, (day, next(self._order), what))

    def _due(self, now: float) -> Iterator[Message | MailResponse]:
        while self._planned and self._planned[0][0] <= now:
            yield heapq.heappop(self._planned)[2]

    def _visits(self, now: float) -> None:
        """The visits until now, since the last ones. They begin before the clock became the wall
        clock, by the time for which nobody is written to after a visit: so mails go out from then
        on, and not only that much later.
        """
        if self._next_visit is None:
            self._next_visit = now - (self._world.on_site_minutes + HEAD_START) * MINUTE
        while self._next_visit <= now:
            self._visit(self._next_visit)
            self._next_visit += self._rng.expovariate(1 / LIVE_VISIT_S) / 86_400

    def _visit(self, at: float) -> None:
        """Somebody new comes by, or somebody known comes back."""
        if self._rng.random() < 0.5:
            person = make_person(
                self._world, self._run.seed, len(self.people), at + 30, first_visit=at
            )
            self.people.append(person)
            self._by_email[person.email] = person
            acts: Iterable[Act] = person.acts
        else:
            person = self._rng.choice(self.people)
            acts = self._with_ids(person, session(self._world, person, at))
        now = self._run.day()
        self._plan(reported_later(person, act) if act.sent < now - MINUTE else act for act in acts)

    def _with_ids(self, person: Person, acts: Iterable[Act]) -> Iterator[Act]:
        """Acts beyond a person's own plan, with ids of their own."""
        for act in acts:
            self._extra_acts[person.index] += 1
            number = self._extra_acts[person.index]
            yield replace(act, id=f"{person.index:05d}-x{number:04d}")

    async def _send(self, due: Sequence[Message | MailResponse]) -> None:
        single: list[Any] = []
        events: list[Message] = []
        segment: list[Message] = []
        for what in due:
            if isinstance(what, MailResponse):
                single.append(self._respond(what))
            elif what.act.endpoint == "form":
                single.append(self._client.post_form(what.act))
            elif what.act.endpoint == "segment":
                segment.append(what)
            elif len(due) < BATCH and self._rng.random() < SINGLES:
                single.append(self._client.post_events([what]))
            else:
                events.append(what)
        async with asyncio.TaskGroup() as group:
            for request in single:
                group.create_task(request)
            for batch in _batches(events):
                group.create_task(self._client.post_events(batch))
            for batch in _batches(segment):
                group.create_task(self._client.post_segment(batch))

    def _read_mail(self, now: float) -> None:
        """Plans what people do with the mails that came."""
        for mail in self._mailbox.new():
            self._client.tally.mails[mail.touch_id] += 1
            if person := self._by_email.get(mail.recipient):
                self._plan_response(person, mail, now)

    def _plan_response(self, person: Person, mail: Mail, now: float) -> None:
        rng = self._rng
        if rng.random() < MACHINE_OPENS:
            opened = {"email": person.email, "touch_id": mail.touch_id, "machine": True}
            self._plan(self._with_ids(person, [_act(person, now, "email_opened", opened)]))
        action = answer_to_mail(person, now, rng)
        link = mail.unsubscribe if action == "leave" else mail.link
        if action and link:
            minutes = rng.uniform(2, 600) if self._run.clock.compressed else rng.uniform(0.2, 3)
            self._push(now + minutes * MINUTE, MailResponse(person.index, action, link))

    async def _respond(self, response: MailResponse) -> None:
        """Answers a mail; who follows its link views the page behind it."""
        person = self.people[response.person]
        target = await respond(self._client, person, response, self._run.day())
        if target:
            viewed = {"anonymous_id": person.anonymous_ids[0], "url": target}
            act = _act(person, self._run.day(), "page_viewed", viewed)
            self._plan(self._with_ids(person, [act]))


def reported_later(person: Person, act: Act) -> Act:
    """An act as it is reported some time after: a form, which has no time but its own receipt, by
    the tool that holds it.
    """
    if act.endpoint != "form":
        return act
    given = {"consent": [given_consent("form")]} if act.fields.get("consent") else {}
    fields = {
        "email": person.email,
        "traits": dict(person.traits),
        "properties": {"form": act.form},
        **given,
    }
    return replace(act, endpoint="events", fields=fields)


def _act(person: Person, at: float, kind: str, fields: dict[str, Any]) -> Act:
    return Act(person.index, "", at, at, "events", kind, fields)


def _batches(messages: list[Message]) -> Iterable[list[Message]]:
    return (messages[i : i + BATCH] for i in range(0, len(messages), BATCH))
