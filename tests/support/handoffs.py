"""A scorer in process on a real database, with a clock that tests set: events come in, leads are
examined, and what is answered comes back as the event that it is.
"""

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ingest.normalise import Normaliser, Receipt
from services.ingest.sources.contract import Item
from services.scorer.api import create_app
from services.scorer.processing.handing_over import Examiner
from services.scorer.processing.handler import Handler
from services.scorer.scoring import Scoring
from services.shared.clock import Clock, to_us
from services.shared.contracts.events import INTERACTIONS, decode_change
from services.shared.contracts.identity import Cleaner
from services.shared.db import rows
from services.shared.http.keys import ApiKeys, new_key, register
from services.shared.messaging.kafka import Outgoing, Record
from services.shared.playbook.handoff import Handoff as Section
from services.shared.playbook.sections import Fit, Playbook
from services.shared.settings import Settings

TUESDAY = datetime(2026, 6, 9, 9, 0, tzinfo=UTC)  # at ten in London, on no public holiday


class SetClock(Clock):
    """A clock that stands until it is set."""

    at = TUESDAY

    def now_us(self) -> int:
        return to_us(type(self).at)


def playbook_with(playbook: Playbook, **section: Any) -> Playbook:
    """The playbook with another section, in which everybody fits, and is ready once in the
    consideration or decision.
    """
    section = {"ready_stages": ["consideration", "decision"], **section}
    return playbook.model_copy(
        update={"handoff": Section(**section), "fit": Fit(base=70, qualified_at=60)}
    )


class HandoffBench:
    """A scorer's handler, examiner and HTTP."""

    def __init__(
        self, settings: Settings, engine: AsyncEngine, playbook: Playbook, *, webhook: bool = False
    ) -> None:
        SetClock.at = TUESDAY
        self.engine, self.keys, self.playbook = engine, ApiKeys(engine), playbook
        pepper = settings.pepper.get_secret_value().encode()
        self.scoring = Scoring.of(playbook, SetClock(), pepper)
        self.handler = Handler(self.scoring)
        self.examiner = Examiner(engine, self.scoring, 0.01, lambda: None, webhook=webhook)
        self.normaliser = Normaliser(Cleaner(playbook.identity), pepper, playbook.sales)
        app = create_app(settings, engine, self.scoring, self.keys, dict, self)  # type: ignore[arg-type]
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://scorer")
        self._key = new_key()
        self.published: list[Any] = []  # on `lead.changes`

    async def open(self) -> None:
        await register(self.engine, self._key, "query", "query")
        await self.keys.load()

    async def publish(self, records: Iterable[Outgoing], timeout: float = 5) -> None:
        """Stands for broker and consumer."""
        await self.apply(
            [Record(each.topic, 0, n, b"", each.value) for n, each in enumerate(records)]
        )

    async def apply(self, records: Iterable[Record]) -> None:
        decoded = [self.handler.decode(record) for record in records]
        async with self.engine.begin() as connection:
            await self.handler.apply(connection, decoded)

    def records(self, *items: Item, at: datetime | None = None) -> list[Record]:
        receipt = self.normaliser.take(items, Receipt("canonical:site", at or SetClock.at, 0.0))
        assert not receipt.refused, receipt.refused
        return [
            Record(each.topic, 0, n, b"", each.value)
            for n, each in enumerate(receipt.records)
            if each.topic == INTERACTIONS
        ]

    async def happened(self, *items: Item) -> None:
        """Interactions come in; what is to be examined is."""
        await self.apply(self.records(*items))
        await self.settle()

    async def settle(self) -> None:
        """Examines what is due, gives room, and lets what was put out come back, until all is
        quiet.
        """
        for _ in range(50):
            examined = await self.examiner.examine_due()
            examined += await self.examiner.allocate()
            if not examined + await self.relay():
                return
        raise AssertionError("it does not come to rest")

    async def relay(self) -> int:
        """Delivers the outbox; returns how many interactions were in it."""
        async with self.engine.begin() as connection:
            found = await rows(connection, "DELETE FROM scorer.outbox RETURNING id, topic, value")
        found.sort(key=lambda row: row.id)
        self.published += [decode_change(row.value) for row in found if row.topic != INTERACTIONS]
        own = [row for row in found if row.topic == INTERACTIONS]
        await self.apply([Record(row.topic, 0, n, b"", row.value) for n, row in enumerate(own)])
        return len(own)

    async def passes(self, **span: float) -> None:
        """Time passes, and what is due then happens."""
        SetClock.at += timedelta(**span)
        await self.settle()

    async def until(self, moment: datetime) -> None:
        SetClock.at = moment
        await self.settle()

    async def ask(self, path: str = "", **asked: Any) -> httpx.Response:
        return await self.http.get(f"/v1/handoffs{path}", params=asked, headers=self.auth)

    async def listed(self, **asked: Any) -> list[dict[str, Any]]:
        answer = await self.ask(**asked)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["handoffs"])

    async def only(self, **asked: Any) -> dict[str, Any]:
        found = await self.listed(**asked)
        assert len(found) == 1, found
        return found[0]

    async def answer(self, handoff: str, what: str, **said: str) -> httpx.Response:
        answer = await self.http.post(
            f"/v1/handoffs/{handoff}/{what}", json=said, headers=self.auth
        )
        await self.settle()
        return answer

    async def answered(self, handoff: str, what: str, **said: str) -> dict[str, Any]:
        answer = await self.answer(handoff, what, **said)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def lead(self, lead: str) -> dict[str, Any]:
        answer = await self.http.get(f"/v1/leads/{lead}", headers=self.auth)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def status(self, lead: str, **report: Any) -> None:
        answer = await self.http.post(f"/v1/leads/{lead}/status", json=report, headers=self.auth)
        assert answer.status_code == 200, answer.text
        await self.settle()

    @property
    def auth(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"}

    async def steps(self, handoff: str) -> list[str]:
        """What happened to a hand-off, in order."""
        answer = await self.ask(f"/{handoff}")
        assert answer.status_code == 200, answer.text
        return [step["what"] for step in answer.json()["history"]]

    async def rows(self, statement: str, **values: Any) -> list[Any]:
        async with self.engine.connect() as connection:
            return await rows(connection, statement, **values)

    async def run(self, statement: str, **values: Any) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text(statement), values)


def demo(email: str, ago: timedelta = timedelta(), **more: Any) -> Item:
    """Somebody asks for a demo."""
    named = {"id": str(uuid.uuid4())} | more
    return Item(
        type="demo_requested", email=email, occurred_at=SetClock.at - ago, **named
    )  # fmt: skip


def prices(email: str, times: int = 6, ago: timedelta = timedelta()) -> list[Item]:
    """Somebody looks at prices, an hour apart, the last time so long ago."""
    return [
        Item(
            id=str(uuid.uuid4()), type="pricing_viewed", email=email,
            occurred_at=SetClock.at - ago - timedelta(hours=n),
        )
        for n in range(times)
    ]  # fmt: skip
