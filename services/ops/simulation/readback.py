"""Reads back over HTTP what a running system knows."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

AT_ONCE = 8


class TouchRow(msgspec.Struct, frozen=True):
    """A touch of `GET /v1/touches`, as far as it is needed here."""

    announcement: str | None
    program: str | None
    status: str
    reason: str | None = None
    content: str | None = None
    sent_at: str | None = None
    decision_ms: float | None = None


@dataclass
class SystemRecord:
    """What the system knows: its leads with their identifiers, the ids of its events and
    announcements, its touches, its hand-offs.
    """

    identifiers: dict[str, list[str]] = field(default_factory=dict)
    events: set[str] = field(default_factory=set)
    announcements: set[str] = field(default_factory=set)
    touches: list[TouchRow] = field(default_factory=list)
    handoffs: list[dict[str, Any]] = field(default_factory=list)


class QueryClient:
    """The query API of a running system."""

    def __init__(self, http: aiohttp.ClientSession, scorer: str, nurture: str, key: str) -> None:
        self._http, self._scorer, self._nurture = http, scorer, nurture
        self._headers = {"Authorization": f"Bearer {key}"}
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def everything(self) -> SystemRecord:
        """All there is to read."""
        record = SystemRecord()
        async for lead in self._leads():
            values = lead["identifiers"].values()
            record.identifiers[lead["id"]] = [str(value) for kind in values for value in kind]
        async with asyncio.TaskGroup() as group:
            for lead_id in record.identifiers:
                group.create_task(self._read_timeline(lead_id, record))
        record.touches = await self.touches()
        record.handoffs = await self.handoffs()
        return record

    async def handoffs(self, status: str = "") -> list[dict[str, Any]]:
        """Every hand-off of a status, or all."""
        url = f"{self._scorer}/v1/handoffs?limit=500&status={status}"
        return [handoff async for handoff in self._all(url, "handoffs")]

    async def answer_handoff(self, handoff: str, answer: str, said: dict[str, str]) -> None:
        """Answers one, which another may have done, or its time be over."""
        url = f"{self._scorer}/v1/handoffs/{handoff}/{answer}"
        async with self._http.post(url, json=said, headers=self._headers) as response:
            if response.status != 409:
                response.raise_for_status()

    async def touches(self) -> list[TouchRow]:
        """Every touch."""
        pages = self._all(f"{self._nurture}/v1/touches?limit=500", "touches")
        return [msgspec.convert(touch, TouchRow) async for touch in pages]

    async def count_leads(self) -> int:
        """How many leads there are."""
        return len({lead["id"] async for lead in self._leads()})

    async def stage(self, lead: str, at: str) -> str:
        """The published stage of a lead at an RFC 3339 moment; `unknown` before it was there."""
        answer = await self._get(f"{self._scorer}/v1/leads/{lead}?at={quote(at)}", missing_ok=True)
        return str(answer.get("stage", "unknown"))

    def _leads(self) -> AsyncIterator[dict[str, Any]]:
        return self._all(f"{self._scorer}/v1/leads?limit=200&sales_status=any", "leads")

    async def _read_timeline(self, lead: str, record: SystemRecord) -> None:
        async for item in self._all(f"{self._scorer}/v1/leads/{lead}/timeline?limit=500", "items"):
            if item["kind"] == "event":
                record.events.add(item["id"])
            elif item["kind"] == "announcement":
                record.announcements.add(item["id"])

    async def _all(self, url: str, name: str) -> AsyncIterator[dict[str, Any]]:
        """Every item of a list, page by page."""
        cursor = ""
        while True:
            page = await self._get(f"{url}&cursor={quote(cursor)}" if cursor else url)
            for item in page[name]:
                yield item
            cursor = page.get("next") or ""
            if not cursor:
                return

    async def _get(self, url: str, *, missing_ok: bool = False) -> dict[str, Any]:
        async with self._at_once, self._http.get(url, headers=self._headers) as response:
            if missing_ok and response.status == 404:
                return {}
            response.raise_for_status()
            answer: dict[str, Any] = await response.json()
            return answer
