"""CRM delivery on a real database to a real receiver: what goes out, once, signed, again after
failures (D6, U3).
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from standardwebhooks import Webhook

from services.ingest.normalise import Normaliser, Receipt
from services.ingest.sources.contract import Item
from services.scorer.crm.delivery import AT_ONCE, CrmDelivery
from services.scorer.crm.payload import SCHEDULE
from services.scorer.processing.handler import Handler
from services.scorer.processing.sweeper import Sweeper
from services.scorer.queries.leads import LeadQueries
from services.scorer.scoring import Scoring
from services.scorer.ui.lead_names import names_of, names_of_views
from services.shared.clock import DAY, Clock
from services.shared.contracts.events import ExternalId
from services.shared.contracts.identity import Cleaner
from services.shared.db import rows
from services.shared.errors import Reject
from services.shared.logs import configure_logs
from services.shared.messaging.kafka import Record
from services.shared.playbook.sections import Crm, Playbook
from services.shared.settings import Settings
from tests.support import present

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CONTACT = ExternalId("hubspot", "701")
RULES = Crm(
    system="hubspot",
    fields={"our_stage": "stage", "our_chance": "band", "our_why": "join('; ', reasons)"},
)
ANN = "ann@firm.example"


class Ahead(Clock):
    """The wall clock, or so many µs before it."""

    shift = 0

    def now_us(self) -> int:
        return super().now_us() + type(self).shift


class Receiver:
    """A CRM's flow: keeps what comes, and answers with `status`, in its own time."""

    def __init__(self) -> None:
        self.status, self.busy = 204, asyncio.Event()
        self.busy.set()
        self.got: list[tuple[dict[str, str], bytes]] = []

    async def serve(self) -> str:
        app = web.Application()
        app.router.add_post("/in", self._take)
        app.router.add_post("/elsewhere", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}/in"

    async def _take(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        await self.busy.wait()
        return web.Response(status=self.status, headers={"Location": "/elsewhere"})

    async def close(self) -> None:
        await self._runner.cleanup()

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]

    def read(self, place: int = -1) -> dict[str, Any]:
        """A message's data, once its signature holds."""
        headers, body = self.got[place]
        return dict(Webhook(SECRET).verify(body, headers)["data"])


class Bench:
    """A scorer's handler and CRM delivery, fed by hand through ingest's normaliser."""

    def __init__(
        self, settings: Settings, engine: AsyncEngine, playbook: Playbook, receiver: Receiver
    ) -> None:
        self.settings, self.engine, self.receiver = settings, engine, receiver
        self.handler = Handler(Scoring.of(playbook, type("Here", (Ahead,), {})()), playbook.crm)
        self.normaliser = Normaliser(
            Cleaner(playbook.identity), b"pepper", playbook.sales, frozenset(playbook.crm.fields)
        )
        self.delivery = self.new_delivery()

    def new_delivery(self) -> CrmDelivery:
        """As after a restart."""
        queries = LeadQueries(self.engine, self.handler.scoring, b"pepper")
        return CrmDelivery(self.settings, self.engine, self.handler.scoring, queries)

    async def happened(self, type_: str, **fields: Any) -> None:
        receipt = self.normaliser.take(
            [Item(**{"type": type_} | fields)], Receipt("canonical:crm", present.now(), 0.0)
        )
        assert receipt.ids
        decoded = [
            self.handler.decode(Record(outgoing.topic, 0, 0, b"", outgoing.value))
            for outgoing in receipt.records
        ]
        async with self.engine.begin() as connection:
            await self.handler.apply(connection, decoded)

    async def deliver(self) -> int:
        """Delivers with all that is enqueued due now; leases apart."""
        await self.do(
            "UPDATE scorer.writeback SET due_at = now() - interval '1 second' WHERE due_at < "
            "now() + interval '2 seconds'"
        )
        return await self.delivery.deliver_due()

    async def outbox(self) -> list[Any]:
        return await self.ask(
            "SELECT sequence, attempts, problem, told, extract(epoch FROM due_at - "
            "now())::float8 AS wait FROM scorer.writeback"
        )

    async def ask(self, statement: str, **values: Any) -> list[Any]:
        async with self.engine.connect() as connection:
            return await rows(connection, statement, **values)

    async def do(self, statement: str) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text(statement))


@pytest.fixture(scope="module", autouse=True)
def _plain_logs() -> None:
    """JSON lines: the console's tracebacks with all locals would take seconds."""
    configure_logs("scorer", "critical")


@pytest.fixture
async def bench(
    settings: Settings, engine: AsyncEngine, default_playbook: Playbook
) -> AsyncIterator[Bench]:
    receiver = Receiver()
    given = {"crm_url": await receiver.serve(), "crm_secret": SECRET, "sending_timeout_s": 2.0}
    playbook = Playbook(
        **{name: getattr(default_playbook, name) for name in Playbook.model_fields} | {"crm": RULES}
    )
    yield Bench(Settings(**(settings.model_dump() | given)), engine, playbook, receiver)
    receiver.busy.set()
    await receiver.close()


async def ann(bench: Bench) -> None:
    """A lead that the CRM knows asks for a demo."""
    await bench.happened("demo_requested", id="d", email=ANN, external_id=CONTACT)


async def test_a_change_is_delivered_signed_with_the_fields_of_the_playbook(bench: Bench) -> None:
    await ann(bench)
    await bench.deliver()
    data = bench.receiver.read()
    assert (data["system"], data["external_id"], data["email"]) == ("hubspot", "701", ANN)
    assert data["fields"]["our_stage"] == "decision"
    assert data["fields"]["our_chance"] in ("low", "some", "high")
    assert data["fields"]["our_why"].startswith("Asked for a demo (+")
    assert [(row.attempts, row.problem, row.wait) for row in await bench.outbox()] == [
        (0, "", None)
    ]


@pytest.mark.parametrize("turned", [False, True])
async def test_the_person_is_named_by_the_address_and_record_linked_last(
    bench: Bench, turned: bool
) -> None:
    """D6: whatever the alphabet says, and in whatever order the links come."""
    now = present.now()
    links = [
        ("identified", "zoe@firm.example", "90", 3),
        ("identified", "ann@firm.example", "701", 2),
        ("demo_requested", "mid@firm.example", "80", 1),
    ]
    for n, (type_, email, record, days) in enumerate(links[::-1] if turned else links):
        await bench.happened(
            type_, id=f"{n}", user_id="u", email=email,
            external_id=ExternalId("HubSpot", record), occurred_at=now - timedelta(days=days),
        )  # fmt: skip
    await bench.happened("email_opened", id="o", email="zoe@firm.example")
    await bench.deliver()
    data = bench.receiver.read()
    assert (data["external_id"], data["email"]) == ("80", "mid@firm.example")
    leads = LeadQueries(bench.engine, bench.handler.scoring, b"pepper")
    lead = uuid.UUID(data["lead"])
    (name,) = names_of_views([await leads.lead(lead, "default")]).values()
    named = await names_of(bench.engine, [lead])
    assert name.name == named[lead] == "mid@firm.example"


async def test_what_changes_together_goes_in_one_message_and_nothing_follows(bench: Bench) -> None:
    for number in range(5):
        await bench.happened("pricing_viewed", id=f"p{number}", email=ANN)
    await ann(bench)
    for _ in range(3):
        await bench.deliver()
    assert len(bench.receiver.got) == 1
    await bench.happened("page_viewed", id="later", email=ANN)
    await bench.deliver()
    assert len(bench.receiver.got) == 1


async def test_every_further_change_is_a_message_of_its_own(bench: Bench) -> None:
    await ann(bench)
    await bench.deliver()
    await bench.happened("won", id="w", external_id=CONTACT)
    await bench.deliver()
    assert len(set(bench.receiver.ids)) == 2
    assert bench.receiver.read()["fields"]["our_stage"] == "customer"
    assert bench.receiver.read()["version"] > bench.receiver.read(0)["version"]


async def test_silence_is_delivered_too(bench: Bench) -> None:
    """S4: the sweeper enqueues what the review day changed."""
    await ann(bench)
    await bench.deliver()
    type(bench.handler.scoring.clock).shift = 60 * DAY  # type: ignore[attr-defined]
    assert await Sweeper(bench.engine, bench.handler, 0.1, lambda: None).sweep() == 1
    await bench.deliver()
    assert len(bench.receiver.got) == 2
    assert "without a sign" in bench.receiver.read()["fields"]["our_why"]


@pytest.mark.parametrize(
    "named",
    [
        {"anonymous_id": "cookie"},
        {"user_id": "u"},
        {"external_id": ExternalId("mailtool", "1")},
        {"external_id": CONTACT},
        {"email": "someone@mail.millwarden.example"},
    ],
)
async def test_whom_the_crm_cannot_find_or_who_is_no_lead_is_not_delivered(
    bench: Bench, named: dict[str, Any]
) -> None:
    """A visitor, an id that waits for its link (D6), an employee (D7)."""
    await bench.happened("demo_requested", id="d", **named)
    assert await bench.deliver() == 0


async def test_a_waiting_id_is_delivered_once_it_is_linked(bench: Bench) -> None:
    """D6."""
    await bench.happened("opportunity_opened", id="o", external_id=CONTACT)
    await bench.happened("identified", id="i", external_id=CONTACT, email=ANN)
    await bench.deliver()
    assert bench.receiver.read()["external_id"] == "701"
    assert bench.receiver.read()["fields"]["our_chance"] == "settled"


async def test_of_merged_leads_the_remaining_one_is_delivered(bench: Bench) -> None:
    await bench.happened("demo_requested", id="1", email=ANN)
    await bench.happened("demo_requested", id="2", external_id=CONTACT, anonymous_id="c")
    await bench.happened("identified", id="3", external_id=CONTACT, email=ANN)
    for _ in range(2):
        await bench.deliver()
    assert [bench.receiver.read(n)["lead"] for n in range(len(bench.receiver.got))] == [
        str((await bench.ask("SELECT id FROM scorer.lead WHERE merged_into IS NULL"))[0].id)
    ]
    assert all(row.wait is None for row in await bench.outbox())


async def test_what_the_crm_says_back_of_it_makes_no_further_message(bench: Bench) -> None:
    """D6: the loop is broken, whichever way our own fields come back."""
    await ann(bench)
    await bench.deliver()
    fields, (before,) = (
        bench.receiver.read()["fields"],
        await bench.ask("SELECT version FROM scorer.lead"),
    )
    for number, named in enumerate(({"external_id": CONTACT}, {"email": ANN})):
        await bench.happened("identified", id=f"echo-{number}", traits=fields, **named)
    assert [row.version for row in await bench.ask("SELECT version FROM scorer.lead")] == [
        before.version
    ]
    await bench.happened(
        "identified", id="both", traits=fields | {"phone": "1"}, email=ANN, external_id=CONTACT
    )
    assert await bench.deliver() == 0
    (lead,) = await bench.ask("SELECT body FROM scorer.event WHERE body LIKE '%\"phone\"%'")
    assert json.loads(lead.body)["traits"] == {"phone": "1"}


@pytest.mark.parametrize("status", [302, 400, 404, 429, 500, 503])
async def test_a_failure_is_tried_again_under_the_same_id(bench: Bench, status: int) -> None:
    """U3: any 3xx is one, and no redirect is followed."""
    bench.receiver.status = status
    await ann(bench)
    await bench.deliver()
    (row,) = await bench.outbox()
    assert (row.attempts, row.problem, row.told) == (1, f"the CRM's webhook said {status}", None)
    assert row.wait == pytest.approx(SCHEDULE[0], abs=1.5)
    bench.receiver.status = 204
    await bench.do("UPDATE scorer.writeback SET due_at = now()")
    await bench.deliver()
    assert len(bench.receiver.got) == 2
    assert len(set(bench.receiver.ids)) == 1
    assert bench.receiver.read(0)["fields"] == bench.receiver.read(1)["fields"]
    assert [(row.attempts, row.problem) for row in await bench.outbox()] == [(0, "")]


async def test_after_the_schedule_it_is_given_up_until_there_is_news(bench: Bench) -> None:
    bench.receiver.status = 500
    await ann(bench)
    for attempt in range(len(SCHEDULE) + 1):
        await bench.do("UPDATE scorer.writeback SET due_at = now()")
        assert await bench.deliver() == 1
        (row,) = await bench.outbox()
        assert (row.wait is None) == (attempt == len(SCHEDULE))
    assert row.problem == "the CRM's webhook said 500"
    assert len(set(bench.receiver.ids)) == 1
    assert await bench.deliver() == 0
    bench.receiver.status = 204
    await bench.happened("page_viewed", id="news", email=ANN)
    await bench.deliver()
    assert len(set(bench.receiver.ids)) == 2


async def test_news_does_not_wait_a_day_behind_a_message_that_fails(bench: Bench) -> None:
    bench.receiver.status = 500
    await ann(bench)
    await bench.deliver()
    await bench.do("UPDATE scorer.writeback SET attempts = 9, due_at = now() + interval '24 hours'")
    await bench.happened("won", id="w", external_id=CONTACT)
    (row,) = await bench.outbox()
    assert (row.attempts, row.sequence) == (1, 2)
    assert row.wait == pytest.approx(300, abs=5)


async def test_a_receiver_that_does_not_answer_is_a_failure(bench: Bench) -> None:
    bench.receiver.busy.clear()
    await ann(bench)
    await bench.deliver()
    (row,) = await bench.outbox()
    assert (row.attempts, row.problem) == (1, "the webhook is away: TimeoutError")


async def test_410_stops_all_writing_and_loses_nothing(bench: Bench) -> None:
    """U3: until somebody has set another address and started the scorer."""
    bench.receiver.status = 410
    await ann(bench)
    await bench.deliver()
    assert bench.delivery.gone
    running = asyncio.create_task(bench.delivery.run(lambda: None))
    await bench.happened("won", id="w", external_id=CONTACT)
    await asyncio.sleep(1.5)
    running.cancel()
    assert len(bench.receiver.got) == 1
    bench.receiver.status, bench.delivery = 204, bench.new_delivery()
    await bench.deliver()
    assert bench.receiver.read()["fields"]["our_stage"] == "customer"


async def test_what_changes_while_a_message_is_on_the_wire_is_delivered_after_it(
    bench: Bench,
) -> None:
    """Nobody sends the first twice meanwhile, and the second is not lost."""
    bench.receiver.busy.clear()
    await ann(bench)
    first = asyncio.create_task(bench.deliver())
    while not bench.receiver.got:
        await asyncio.sleep(0.02)
    await bench.happened("won", id="w", external_id=CONTACT)
    assert await bench.new_delivery().deliver_due() == 0
    bench.receiver.busy.set()
    await first
    await bench.deliver()
    assert [bench.receiver.read(n)["fields"]["our_stage"] for n in (0, 1)] == [
        "decision",
        "customer",
    ]
    assert len(set(bench.receiver.ids)) == 2
    assert [row.wait for row in await bench.outbox()] == [None]


async def test_a_process_that_dies_before_it_noted_the_answer_repeats_it_under_the_same_id(
    bench: Bench,
) -> None:
    """O4: at least once; the receiver knows the repetition."""
    await ann(bench)

    async def dies(*_: Any) -> None:
        raise ConnectionAbortedError

    bench.delivery._finish = dies  # type: ignore[method-assign]
    with pytest.raises(ConnectionAbortedError):
        await bench.deliver()
    bench.delivery = bench.new_delivery()
    assert await bench.deliver() == 0  # the lease of the dead one
    await bench.do("UPDATE scorer.writeback SET due_at = now()")
    assert await bench.deliver() == 1
    assert len(bench.receiver.got) == 2
    assert len(set(bench.receiver.ids)) == 1


async def test_two_processes_share_the_work(bench: Bench) -> None:
    for number in range(2 * AT_ONCE):
        await bench.happened("demo_requested", id=f"d{number}", email=f"p{number}@firm.example")
    await bench.do("UPDATE scorer.writeback SET due_at = now()")
    other = bench.new_delivery()
    delivered = await asyncio.gather(bench.delivery.deliver_due(), other.deliver_due())
    assert delivered == [AT_ONCE, AT_ONCE]
    assert len(set(bench.receiver.ids)) == len(bench.receiver.got) == 2 * AT_ONCE


async def test_in_production_no_address_of_our_own_network_is_called(bench: Bench) -> None:
    """Security: neither a literal address nor a name that leads to one."""
    await ann(bench)
    for url, problem in (
        (
            "http://127.0.0.1:9/in",
            "RIPELINE_CRM_URL: 127.0.0.1 is not a public address: name a public host",
        ),
        (
            "http://[::ffff:169.254.169.254]/in",
            "RIPELINE_CRM_URL: ::ffff:169.254.169.254 is not a public address: name a public host",
        ),
        ("http://localhost:9/in", "the webhook is away: ClientConnectorDNSError"),
        ("file:///etc/passwd", "the webhook is away: NonHttpUrlClientError"),
    ):
        bench.settings = bench.settings.model_copy(
            update={"environment": "production", "crm_url": SecretStr(url)}
        )
        bench.delivery = bench.new_delivery()
        await bench.do("UPDATE scorer.writeback SET due_at = now()")
        await bench.deliver()
        assert [row.problem for row in await bench.outbox()] == [problem]


@pytest.mark.parametrize(
    ("secret", "problem"),
    [("", "no secret to sign with"), ("whsec_a", "not a secret of Standard Webhooks")],
)
def test_without_a_sound_secret_the_delivery_does_not_start(
    bench: Bench, secret: str, problem: str
) -> None:
    bench.settings = bench.settings.model_copy(update={"crm_secret": SecretStr(secret)})
    with pytest.raises(Reject) as refused:
        bench.new_delivery()
    assert (refused.value.title, refused.value.where) == (problem, "RIPELINE_CRM_SECRET")
