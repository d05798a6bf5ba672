"""Drives simulated people over HTTP as the clock goes, late and twice, and lets them answer their
mail.
"""

import asyncio
import heapq
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from services.ops.simulation import population as simulator
from services.ops.simulation.population import MINUTE, Act, Person, World
from services.shared.clock import DAY, Clock, from_us, rfc3339

TICK_S = 0.05
BATCH = 400
AT_ONCE = 16
PATIENCE_S = 60.0
SINGLES = 0.4  # share of canonical events that are posted one by one while they are few
LIVE_VISIT_S = 2.0  # mean pause between visits once time runs at life's pace
MACHINE_OPENS = 0.1
# others are machines
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
LINK = re.compile(r"https?://[^\s\"'<>()]+/l/[^\s\"'<>()]+")


class Refused(Exception):
    """An answer that more patience would not change."""


@dataclass(frozen=True)
class Answer:
    """What somebody is about to do with a mail."""

    person: int
    does: str
    link: str


@dataclass
class Tally:
    """What was sent, and what came of it."""

    accepted: set[str] = field(default_factory=set)
    duplicates: int = 0
    rejected: list[str] = field(default_factory=list)
    clicks: int = 0
    unsubscribed: int = 0
    mails: Counter[str] = field(default_factory=Counter)
    done: defaultdict[int, list[tuple[float, str]]] = field(
        default_factory=lambda: defaultdict(list)
    )


class Traffic:
    """The people of a world at the door of one ingest; `run` prefixes every id, so no two runs
    share one.
    """

    def __init__(
        self, http: aiohttp.ClientSession, ingest: str, keys: dict[str, str], clock: Clock,
        start_us: int,
        world: World, people: Sequence[Person], *, run: str, seed: int, mail: Path,
    ) -> None:  # fmt: skip
        self.tally = Tally()
        self.people = list(people)
        self.run_prefix = run
        self._http, self._ingest, self._keys = http, ingest, keys
        self._clock, self._start_us, self._world = clock, start_us, world
        self._seed, self._mail = seed, mail
        self._rng = random.Random(f"{seed}/traffic")
        self._by_email = {person.email: person for person in self.people}
        self._order = count()
        self._later: list[tuple[float, int, Act | Answer, bool]] = []
        self._extra: Counter[int] = Counter()
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._seen_files: set[str] = set()
        for person in self.people:
            self._plan(person.acts)

    def day(self) -> float:
        """Days since the beginning, by the clock."""
        return (self._clock.now_us() - self._start_us) / DAY

    async def run(self, days: float | None) -> None:
        """Sends what is due until day `days`, then all the rest at once; without `days`, on
        and on.
        """
        next_visit = 0.0
        while days is None or self.day() < days:
            now = self.day()
            if days is None and not self._clock.compressed and now >= next_visit:
                self._visit(now)
                next_visit = now + self._rng.expovariate(1 / LIVE_VISIT_S) / 86_400
            await self._send(self._due(now))
            self._read_mail(self.day())
            await asyncio.sleep(TICK_S)
        rest = [entry for entry in self._later if isinstance(entry[2], Act)]
        self._later.clear()
        await self._send([(act, copy) for _, _, act, copy in sorted(rest)])

    def _plan(self, acts: Iterable[Act]) -> None:
        for act in acts:
            heapq.heappush(self._later, (act.sent, next(self._order), act, False))
            for again in act.copies:
                heapq.heappush(self._later, (again, next(self._order), act, True))

    def _due(self, now: float) -> list[tuple[Act | Answer, bool]]:
        due = []
        while self._later and self._later[0][0] <= now:
            _, _, what, copy = heapq.heappop(self._later)
            due.append((what, copy))
        return due

    def _visit(self, now: float) -> None:
        """At life's pace somebody new comes by, or somebody known comes back."""
        if self._rng.random() < 0.5:
            who = simulator.person(self._world, self._seed, len(self.people), now + 30, arrives=now)
            self.people.append(who)
            self._by_email[who.email] = who
            self._plan(who.acts)
        else:
            who = self._rng.choice(self.people)
            self._plan(self._named(who, simulator.session(self._world, who, now)))

    def _named(self, who: Person, acts: Iterable[Act]) -> list[Act]:
        """Acts beyond a person's own plan, with ids of their own."""
        named = []
        for act in acts:
            self._extra[who.index] += 1
            named.append(replace(act, id=f"{who.index:05d}-x{self._extra[who.index]:04d}"))
        return named

    async def _send(self, due: Sequence[tuple[Act | Answer, bool]]) -> None:
        singles, batch, segment = [], [], []
        for what, copy in due:
            if isinstance(what, Answer):
                singles.append(self._answer(what))
            elif what.door == "form":
                singles.append(self._post_form(what))
            elif what.door == "segment":
                segment.append((what, copy))
            elif len(due) < BATCH and self._rng.random() < SINGLES:
                singles.append(self._post_events([(what, copy)]))
            else:
                batch.append((what, copy))
        async with asyncio.TaskGroup() as group:
            for single in singles:
                group.create_task(single)
            for some in _chunks(batch):
                group.create_task(self._post_events(some))
            for some in _chunks(segment):
                group.create_task(self._post_segment(some))

    async def _post_events(self, acts: list[tuple[Act, bool]]) -> None:
        items = [canonical(act, self.run_prefix, self._start_us) for act, _ in acts]
        headers = {
            "Authorization": f"Bearer {self._keys['secret']}",
            "Content-Type": "application/json",
        }
        if len(items) == 1:
            body = msgspec.json.encode(items[0])
        elif self._rng.random() < 0.3:
            headers["Content-Type"] = "application/x-ndjson"
            body = b"\n".join(map(msgspec.json.encode, items))
        else:
            body = msgspec.json.encode(items)
        answer = await self._post("/v1/events", body, headers)
        self._count(acts, answer.get("rejected", []))

    async def _post_segment(self, acts: list[tuple[Act, bool]]) -> None:
        sent_at = rfc3339(self._clock.now())
        items = [
            segment_message(act, self.run_prefix, self._start_us) | {"sentAt": sent_at}
            for act, _ in acts
        ]
        basic = aiohttp.BasicAuth(self._keys["secret"], "").encode()
        headers = {"Authorization": basic, "Content-Type": "application/json"}
        answer = await self._post(
            "/v1/batch", msgspec.json.encode({"batch": items, "sentAt": sent_at}), headers
        )
        self._count(acts, answer.get("rejected", []))

    async def _post_form(self, act: Act) -> None:
        """As a browser without JavaScript does; the answer names the id that ingest gave."""
        answer = await self._post(
            f"/v1/forms/{act.form}?key={self._keys['public']}",
            aiohttp.FormData({name: str(value) for name, value in act.fields.items()}),
            {"Accept": "application/json"},
        )
        for given in answer.get("ids", []):
            self.tally.accepted.add(given)
        if not answer.get("rejected"):
            self.tally.done[act.person].append((act.at, act.type))

    def _count(self, acts: list[tuple[Act, bool]], rejected: list[dict[str, Any]]) -> None:
        bad = {int(one.get("index", 0)): str(one.get("problem", "")) for one in rejected}
        self.tally.rejected += bad.values()
        for place, (act, copy) in enumerate(acts):
            if place in bad:
                continue
            self.tally.duplicates += copy
            if (name := f"{self.run_prefix}{act.id}") not in self.tally.accepted:
                self.tally.accepted.add(name)
                self.tally.done[act.person].append((act.at, act.type))

    async def _post(self, path: str, body: Any, headers: dict[str, str]) -> dict[str, Any]:
        """Posts until there is a 2xx or a refusal; a sender that gets 503, or nobody, comes
        again.
        """
        loop = asyncio.get_running_loop()
        give_up, pause, where = loop.time() + PATIENCE_S, 0.1, f"POST {path.partition('?')[0]}"
        while True:
            try:
                async with (
                    self._gate,
                    self._http.post(self._ingest + path, data=body, headers=headers) as response,
                ):
                    text = await response.read()
                    if response.status < 300:
                        return _parsed(text)
                    if response.status == 400 and "rejected" in (answer := _parsed(text)):
                        return answer
                    problem = f"{where}: {response.status} {text.decode(errors='replace')[:300]}"
                    if response.status < 500 and response.status != 429:
                        raise Refused(problem)
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = f"{where}: no answer, {error}"
            if loop.time() > give_up:
                raise Refused(problem)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)

    def _read_mail(self, now: float) -> None:
        """Looks into the letter boxes and plans what people do with what came."""
        for name in sorted(path.name for path in self._mail.glob("*.eml")):
            if name in self._seen_files:
                continue
            self._seen_files.add(name)
            mail = read_mail(self._mail / name)
            touch = str(mail.get("Message-ID", name)).strip("<> ").partition("@")[0]
            self.tally.mails[touch] += 1
            who = self._by_email.get(
                str(mail.get("To", "")).strip("<> ").rpartition("<")[2].lower()
            )
            if who:
                self._plan_answer(who, mail, touch, now)

    def _plan_answer(self, who: Person, mail: EmailMessage, touch: str, now: float) -> None:
        rng = self._rng
        if rng.random() < MACHINE_OPENS:
            opened = {"email": who.email, "touch_id": touch, "machine": True}
            self._plan(self._named(who, [_act(who, now, "email_opened", opened)]))
        does = simulator.answer_to_mail(who, now, rng)
        found = LINK.search(text_of(mail))
        link = found[0] if found else ""
        if does == "leave":
            link = str(mail.get("List-Unsubscribe", "")).partition("<")[2].partition(">")[0]
        if does and link:
            when = (
                now + rng.uniform(2, 600) * MINUTE
                if self._clock.compressed
                else now + rng.uniform(0.2, 3) * MINUTE
            )
            heapq.heappush(
                self._later, (when, next(self._order), Answer(who.index, does, link), False)
            )

    async def _answer(self, answer: Answer) -> None:
        """Follows the tracked link to the page behind it, or unsubscribes with one click."""
        who = self.people[answer.person]
        try:
            if answer.does == "leave":
                data = {"List-Unsubscribe": "One-Click"}
                async with self._gate, self._http.post(answer.link, data=data) as response:
                    if response.status < 300:
                        self.tally.unsubscribed += 1
                        who.left_at = self.day()
                        self.tally.done[who.index].append((self.day(), "unsubscribed"))
                return
            async with (
                self._gate,
                self._http.get(answer.link, headers=BROWSER, allow_redirects=False) as response,
            ):
                target = response.headers.get("Location", "")
        except (aiohttp.ClientError, TimeoutError):
            return  # a person who gets no page does not try again
        if target:
            self.tally.clicks += 1
            self.tally.done[who.index].append((self.day(), "email_clicked"))
            viewed = {"anonymous_id": who.anonymous_ids[0], "url": target}
            self._plan(self._named(who, [_act(who, self.day(), "page_viewed", viewed)]))


def canonical(act: Act, run: str, start_us: int) -> dict[str, Any]:
    """An act as an item of `POST /v1/events`."""
    return {
        "id": run + act.id,
        "type": act.type,
        "occurred_at": _moment(act, start_us),
        **act.fields,
    }


def segment_message(act: Act, run: str, start_us: int) -> dict[str, Any]:
    """An act as a message of Segment's batch: a `page`, or an `identify`."""
    fields = act.fields
    message: dict[str, Any] = {"messageId": run + act.id, "timestamp": _moment(act, start_us)}
    message |= {"anonymousId": fields["anonymous_id"]} if "anonymous_id" in fields else {}
    message |= {"userId": fields["user_id"]} if "user_id" in fields else {}
    if act.type == "identified":
        return message | {
            "type": "identify",
            "traits": fields.get("traits", {}) | {"email": fields["email"]},
        }
    return message | {"type": "page", "properties": {"url": fields.get("url", "")}}


def read_mail(path: Path) -> EmailMessage:
    """One stored mail."""
    return message_from_bytes(path.read_bytes(), policy=policy.default)


def text_of(mail: EmailMessage) -> str:
    """The words of a mail: its plain part, else its HTML."""
    body = mail.get_body(("plain", "html"))
    return str(body.get_content()) if body else ""


def _moment(act: Act, start_us: int) -> str:
    return rfc3339(from_us(start_us + int(act.at * DAY)))


def _act(who: Person, at: float, kind: str, fields: dict[str, Any]) -> Act:
    return Act(who.index, "", at, at, "events", kind, fields)


def _chunks(acts: list[tuple[Act, bool]]) -> Iterable[list[tuple[Act, bool]]]:
    return (acts[i : i + BATCH] for i in range(0, len(acts), BATCH))


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        answer = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}
