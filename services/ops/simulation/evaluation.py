"""Reads all back over HTTP after a run, and says whether it was counted, decided once, and
estimated well.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp

from services.ops.simulation import points
from services.ops.simulation.population import Person, World
from services.ops.simulation.traffic import Tally
from services.shared.clock import DAY, from_us, rfc3339

AT_ONCE = 8
SAMPLED_PEOPLE = 400
SAMPLED_AT = (0.25, 0.5, 0.75, 1.0)  # of the run's days


@dataclass
class Books:
    """What the system says: leads, their timelines' ids, and touches."""

    leads: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: set[str] = field(default_factory=set)
    announcements: set[str] = field(default_factory=set)
    touches: list[dict[str, Any]] = field(default_factory=list)


class Reader:
    """The query API of a running system."""

    def __init__(self, http: aiohttp.ClientSession, scorer: str, nurture: str, key: str) -> None:
        self._http, self._scorer, self._nurture = http, scorer, nurture
        self._headers = {"Authorization": f"Bearer {key}"}
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def books(self) -> Books:
        """Everything there is to read."""
        books = Books()
        async for lead in self._all(f"{self._scorer}/v1/leads?limit=200", "leads"):
            books.leads[lead["id"]] = lead
        async with asyncio.TaskGroup() as group:
            for name in books.leads:
                group.create_task(self._timeline(name, books))
        books.touches = await self.touches()
        return books

    async def touches(self) -> list[dict[str, Any]]:
        """Every touch."""
        return [
            touch async for touch in self._all(f"{self._nurture}/v1/touches?limit=500", "touches")
        ]

    async def count_leads(self) -> int:
        """How many leads there are."""
        return len(
            {lead["id"] async for lead in self._all(f"{self._scorer}/v1/leads?limit=200", "leads")}
        )

    async def stage(self, lead: str, at: str) -> str:
        """The published stage of a lead at a moment; `unknown` where it was not there yet."""
        answer = await self._get(f"{self._scorer}/v1/leads/{lead}?at={quote(at)}", missing_ok=True)
        return str(answer.get("stage", "unknown"))

    async def _timeline(self, lead: str, books: Books) -> None:
        async for item in self._all(f"{self._scorer}/v1/leads/{lead}/timeline?limit=500", "items"):
            if item["kind"] == "event":
                books.events.add(item["id"])
            elif item["kind"] == "announcement":
                books.announcements.add(item["id"])

    async def _all(self, url: str, name: str) -> AsyncIterator[dict[str, Any]]:
        cursor = ""
        while True:
            page = await self._get(f"{url}&cursor={quote(cursor)}" if cursor else url)
            for item in page[name]:
                yield item
            cursor = page.get("next") or ""
            if not cursor:
                return

    async def _get(self, url: str, *, missing_ok: bool = False) -> dict[str, Any]:
        async with self._gate, self._http.get(url, headers=self._headers) as response:
            if missing_ok and response.status == 404:
                return {}
            response.raise_for_status()
            answer: dict[str, Any] = await response.json()
            return answer


def report(
    books: Books,
    tally: Tally,
    run: str,
    dead_letters: int,
    accuracy: tuple[float | None, float | None],
) -> dict[str, Any]:
    """The result of a run, one JSON object."""
    withheld = Counter(
        str(touch["reason"]) for touch in books.touches if touch["status"] == "withheld"
    )
    return {
        "accepted": len(tally.accepted),
        "counted": len(_counted(books, tally, run)),
        "duplicates_sent": tally.duplicates,
        "dead_letters": dead_letters,
        "leads": len(books.leads),
        "transitions": len(books.announcements),
        "touches": {
            "sent": sum(touch["status"] == "sent" for touch in books.touches),
            "withheld": dict(withheld.most_common()),
        },
        "undecided_transitions": len(_undecided(books)),
        "event_to_touch_ms": percentiles(
            [
                float(touch["decision_ms"])
                for touch in books.touches
                if touch.get("decision_ms") is not None
            ]
        ),
        "stage_accuracy": accuracy[0],
        "stage_accuracy_by_points": accuracy[1],
        "simulated": True,
    }  # fmt: skip


def failings(books: Books, tally: Tally, run: str) -> list[str]:
    """A sentence for each promise that was not kept."""
    said = []
    counted = _counted(books, tally, run)
    if lost := tally.accepted - counted:
        said.append(f"{len(lost)} events were accepted and not counted, {min(lost)} for one.")
    if extra := counted - tally.accepted:
        said.append(
            f"{len(extra)} events were counted without having been accepted, {min(extra)} for one."
        )
    if undecided := _undecided(books):
        said.append(f"{len(undecided)} stage changes have no decision, {min(undecided)} for one.")
    decided = Counter(
        (touch["announcement"], touch["program"])
        for touch in books.touches
        if touch["announcement"]
    )
    if twice := [one for one, times in decided.items() if times > 1]:
        said.append(
            f"{len(twice)} stage changes were answered twice by one program, {twice[0][0]} for one."
        )
    if twice_out := [touch for touch, times in tally.mails.items() if times > 1]:
        said.append(f"{len(twice_out)} touches went out twice, {twice_out[0]} for one.")
    return said


def _counted(books: Books, tally: Tally, run: str) -> set[str]:
    """This run's events; what ingest noted itself (tracked links) has ids that no sender knows."""
    return {name for name in books.events if name.startswith(run) or name in tally.accepted}


def _undecided(books: Books) -> set[str]:
    return books.announcements - {touch["announcement"] for touch in books.touches}


def percentiles(values: list[float]) -> dict[str, float | None]:
    """Nearest-rank percentiles of milliseconds; none without values."""
    ordered = sorted(values)
    return {
        f"p{p}": round(ordered[max(-(-p * len(ordered) // 100), 1) - 1], 1) if ordered else None
        for p in (50, 95, 99)
    }


async def stage_accuracy(
    reader: Reader,
    books: Books,
    tally: Tally,
    people: list[Person],
    world: World,
    start_us: int,
    days: float,
    seed: int,
) -> tuple[float | None, float | None]:
    """Macro recall of the published stage against the hidden one, and of the best plain points
    thresholds.

    Looks at up to 400 people at four moments each, once they have done anything and until their
    outcome.
    """
    lead_of = _lead_by_identifier(books.leads)
    seen = [person for person in people if tally.done[person.index]]
    chosen = random.Random(f"{seed}/sample").sample(seen, min(len(seen), SAMPLED_PEOPLE))
    looks = [
        (person, share * days)
        for person in chosen
        for share in SAMPLED_AT
        if first_act(tally, person) <= share * days
    ]
    looks = [(person, day) for person, day in looks if person.stage_at(day) is not None]

    async def published(person: Person, day: float) -> str:
        lead = next(
            (lead_of[name] for name in (person.email, *person.anonymous_ids) if name in lead_of), ""
        )
        return (
            await reader.stage(lead, rfc3339(from_us(start_us + int(day * DAY))))
            if lead
            else "unknown"
        )

    named = await asyncio.gather(*(published(person, day) for person, day in looks))
    hidden = [person.stage_at(day) or 0 for person, day in looks]
    pairs = zip(map(world.stage_name, hidden), named, strict=True)
    scores = [
        points.score(kind for at, kind in tally.done[person.index] if at <= day)
        for person, day in looks
    ]
    return _rounded(points.macro_recall(pairs)), _rounded(
        points.best_macro_recall(list(zip(scores, hidden, strict=True)))
    )


def first_act(tally: Tally, person: Person) -> float:
    """The day of the first thing that a person did."""
    return min(at for at, _ in tally.done[person.index])


def _lead_by_identifier(leads: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {
        str(value): lead
        for lead, body in leads.items()
        for values in body["identifiers"].values()
        for value in values
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
