"""Posts acts to ingest in the forms of several senders, until they are accepted or refused."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp
import msgspec

from services.ops.simulation.people import Act
from services.shared.clock import DAY, Clock, from_us, rfc3339

AT_ONCE = 16
TIMEOUT_S = 60.0
FIRST_RETRY_S, LAST_RETRY_S = 0.1, 2.0
NDJSON_SHARE = 0.3  # of batches of canonical events


class Refused(Exception):
    """An answer that no retry would change."""


@dataclass(frozen=True)
class Run:
    """One run of the simulation: its seed, and its clock, whose day 0 is `start_us`."""

    seed: int
    clock: Clock
    start_us: int

    @property
    def prefix(self) -> str:
        """Of the id of every event, so that no two runs share one."""
        return f"sim-{self.seed}-{int(self.clock.origin)}-"

    def day(self) -> float:
        """Days since the beginning."""
        return (self.clock.now_us() - self.start_us) / DAY

    def moment(self, day: float) -> str:
        """The moment of a day, as RFC 3339."""
        return rfc3339(from_us(self.start_us + int(day * DAY)))


class Done(NamedTuple):
    """What a person has done, as ingest accepted it."""

    day: float
    type: str


@dataclass
class Tally:
    """What was sent, and what came of it; `mails` by touch, `done` by person."""

    accepted: set[str] = field(default_factory=set)
    duplicates: int = 0
    rejected: list[str] = field(default_factory=list)
    clicks: int = 0
    unsubscribed: int = 0
    mails: Counter[str] = field(default_factory=Counter)
    done: defaultdict[int, list[Done]] = field(default_factory=lambda: defaultdict(list))


class Message(NamedTuple):
    """An act that is to be posted; `is_copy` where it was posted before."""

    act: Act
    is_copy: bool = False


class IngestClient:
    """Posts to one ingest with its keys, and keeps the tally."""

    def __init__(
        self, http: aiohttp.ClientSession, ingest: str, keys: Mapping[str, str], run: Run
    ) -> None:
        self.tally = Tally()
        self.http = http
        self.at_once = asyncio.Semaphore(AT_ONCE)
        self._ingest, self._keys, self._run = ingest, keys, run
        self._rng = random.Random(f"{run.seed}/posting")

    async def post_events(self, messages: list[Message]) -> None:
        """As canonical events: one alone, or several as a list or as lines."""
        items = [canonical(message.act, self._run) for message in messages]
        headers = {
            "Authorization": f"Bearer {self._keys['secret']}",
            "Content-Type": "application/json",
        }
        if len(items) == 1:
            body = msgspec.json.encode(items[0])
        elif self._rng.random() < NDJSON_SHARE:
            headers["Content-Type"] = "application/x-ndjson"
            body = b"\n".join(map(msgspec.json.encode, items))
        else:
            body = msgspec.json.encode(items)
        answer = await self._post("/v1/events", body, headers)
        self._count(messages, answer.get("rejected", []))

    async def post_segment(self, messages: list[Message]) -> None:
        """As a batch of Segment's library."""
        sent_at = rfc3339(self._run.clock.now())
        items = [
            segment_message(message.act, self._run) | {"sentAt": sent_at} for message in messages
        ]
        basic = aiohttp.BasicAuth(self._keys["secret"], "").encode()
        headers = {"Authorization": basic, "Content-Type": "application/json"}
        answer = await self._post(
            "/v1/batch", msgspec.json.encode({"batch": items, "sentAt": sent_at}), headers
        )
        self._count(messages, answer.get("rejected", []))

    async def post_form(self, act: Act) -> None:
        """As a browser without JavaScript does; the answer names the id that ingest gave."""
        answer = await self._post(
            f"/v1/forms/{act.form}?key={self._keys['public']}",
            aiohttp.FormData({name: str(value) for name, value in act.fields.items()}),
            {"Accept": "application/json"},
        )
        self.tally.accepted.update(answer.get("ids", []))
        if not answer.get("rejected"):
            self.tally.done[act.person].append(Done(act.at, act.type))

    def _count(self, messages: list[Message], rejected: list[dict[str, Any]]) -> None:
        problems = {int(item.get("index", 0)): str(item.get("problem", "")) for item in rejected}
        self.tally.rejected += problems.values()
        for place, (act, is_copy) in enumerate(messages):
            if place in problems:
                continue
            self.tally.duplicates += is_copy
            if (name := f"{self._run.prefix}{act.id}") not in self.tally.accepted:
                self.tally.accepted.add(name)
                self.tally.done[act.person].append(Done(act.at, act.type))

    async def _post(self, path: str, body: Any, headers: dict[str, str]) -> dict[str, Any]:
        """Posts until there is a 2xx or a refusal; after a 429, a 5xx or no answer it retries.
        Raises `Refused`.
        """
        loop = asyncio.get_running_loop()
        give_up, pause = loop.time() + TIMEOUT_S, FIRST_RETRY_S
        where = f"POST {path.partition('?')[0]}"
        while True:
            try:
                async with (
                    self.at_once,
                    self.http.post(self._ingest + path, data=body, headers=headers) as response,
                ):
                    text = await response.read()
                    if response.status < 300:
                        return _object(text)
                    if response.status == 400 and "rejected" in (answer := _object(text)):
                        return answer
                    problem = f"{where}: {response.status} {text.decode(errors='replace')[:300]}"
                    if response.status < 500 and response.status != 429:
                        raise Refused(problem)
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = f"{where}: no answer, {error}"
            if loop.time() > give_up:
                raise Refused(problem)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_RETRY_S)


def canonical(act: Act, run: Run) -> dict[str, Any]:
    """An act as an item of `POST /v1/events`."""
    return {
        "id": run.prefix + act.id,
        "type": act.type,
        "occurred_at": run.moment(act.at),
        **act.fields,
    }


def segment_message(act: Act, run: Run) -> dict[str, Any]:
    """An act as a message of Segment's batch: a `page`, or an `identify`."""
    fields = act.fields
    message: dict[str, Any] = {"messageId": run.prefix + act.id, "timestamp": run.moment(act.at)}
    message |= {"anonymousId": fields["anonymous_id"]} if "anonymous_id" in fields else {}
    message |= {"userId": fields["user_id"]} if "user_id" in fields else {}
    if act.type == "identified":
        return message | {
            "type": "identify",
            "traits": fields.get("traits", {}) | {"email": fields["email"]},
        }
    return message | {"type": "page", "properties": {"url": fields.get("url", "")}}


def _object(text: bytes) -> dict[str, Any]:
    """The JSON object of an answer; an empty one where it is none."""
    try:
        answer = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}
