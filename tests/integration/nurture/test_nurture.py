"""Nurture on a real database: one decision a change and program, grounds checked again, what a
crash leaves (N6, N11, N14).
"""

import asyncio
import base64
import hashlib
import hmac
import json
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner

from services.nurture.consent_gate import ConsentGate
from services.nurture.delivery import Delivery
from services.nurture.handler import Handler
from services.nurture.library import ContentLibrary
from services.nurture.planned import PlannedTouches
from services.nurture.rules.grounds import Rules
from services.nurture.scheduler import Scheduler
from services.nurture.spool_gate import SpoolGate
from services.nurture.store.leads import LeadStore
from services.ops.__main__ import app as command_line
from services.ops.commands import channels, overrides
from services.ops.commands.gaps import accept_gaps, open_gaps
from services.ops.embedded import mail_sink as sink
from services.shared.clock import Clock, rfc3339, to_us
from services.shared.contracts.events import (
    CHANGES,
    CONSENTS,
    INTERACTIONS,
    Change,
    ChangeEvent,
    ConsentChanged,
    ConsentEvent,
    ConsentState,
    LeadRequest,
    Snapshot,
    TouchEvent,
    decode_touch,
    derived,
    encode,
    keyed_hash,
)
from services.shared.db import rows
from services.shared.errors import Retry
from services.shared.logs import configure_logs
from services.shared.messaging.consumer import Consumer
from services.shared.messaging.kafka import Extent, Log, Record
from services.shared.messaging.progress import Progress
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings
from tests.support.smtp_server import SmtpServer

NOON = datetime(2026, 5, 13, 12, 0, tzinfo=UTC)
SECRET = base64.b64encode(b"twenty-four random bytes").decode()
BOTTLING = "case-study-bottling"


class Stopped(Clock):
    """A clock that shows what it is set to."""

    at = NOON

    def now_us(self) -> int:
        return to_us(type(self).at)


class OpenGate:
    """A gate that waits for nothing."""

    async def is_open(self, wait_s: float = 0) -> bool:
        return True

    async def refusals_are_linked(self, spools: SpoolGate, wait_s: float = 0) -> bool:
        return True


class DyingDelivery(Delivery):
    """A delivery whose process ends when the message is out."""

    async def _record_sent(self, *_: Any) -> None:
        raise ConnectionAbortedError


class Hook:
    """Somebody's webhook: keeps what comes, tells `heard`, and answers with `status`."""

    def __init__(self) -> None:
        self.status = 204
        self.heard: Callable[[str], None] = lambda step: None
        self.got: list[tuple[dict[str, str], bytes]] = []

    async def serve(self) -> str:
        app = web.Application()
        app.router.add_post("/in", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}/in"

    async def _take(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        self.heard("POST")
        return web.Response(status=self.status)

    async def close(self) -> None:
        await self._runner.cleanup()


class Bench:
    """Nurture's handler and scheduler, fed by hand, with a real mail server and a real webhook
    behind them.
    """

    def __init__(
        self, settings: Settings, engine: AsyncEngine, playbook: Playbook, mail: Path, hook: Hook
    ) -> None:
        self.settings, self.engine, self.mail, self.hook = settings, engine, mail, hook
        self.clock = type("Here", (Stopped,), {})()
        self.pepper = settings.pepper.get_secret_value().encode()
        self.offset = 0
        self.use(playbook)

    def use(self, playbook: Playbook) -> None:
        """Decides by this playbook from now on."""
        self.playbook = playbook
        self.rules = Rules.of(playbook, sink=True)
        self.handler = Handler(self.rules, self.clock, self.pepper)
        self.delivery = self.make_delivery(Delivery)
        self.scheduler = self.make_scheduler(self.delivery)

    def make_delivery(self, kind: type[Delivery], settings: Settings | None = None) -> Delivery:
        """A delivery, by these settings or the bench's."""
        given = settings or self.settings
        return kind(given, self.engine, self.playbook, self.clock, lambda: None)

    def make_scheduler(self, delivery: Delivery | None = None) -> Scheduler:
        """A scheduler, as of another process of nurture."""
        given = delivery or self.make_delivery(Delivery)
        return Scheduler(
            self.settings,
            self.engine,
            self.rules,
            self.clock,
            OpenGate(),  # type: ignore[arg-type]
            given,
            lambda: None,
        )

    def planned(self) -> PlannedTouches:
        """What is planned, as of another process of nurture."""
        return PlannedTouches(self.engine, self.rules, self.clock, self.pepper, lambda: None)

    def library(self) -> ContentLibrary:
        """The library, as of another process of nurture."""
        return ContentLibrary(self.settings, self.engine, self.playbook, self.clock)

    def at(self, moment: datetime) -> None:
        type(self.clock).at = moment

    def record(self, event: ChangeEvent | ConsentEvent) -> Record:
        self.offset += 1
        return Record(
            CONSENTS if isinstance(event, ConsentEvent) else CHANGES,
            0,
            self.offset,
            b"k",
            encode(event),
        )

    async def take(self, *events: ChangeEvent | ConsentEvent) -> None:
        def never() -> Any:
            raise AssertionError("no broker here")

        consumer = Consumer(
            self.engine, never, self.handler, "nurture", batch=100, on_commit=lambda _: None
        )
        await consumer.process([self.record(event) for event in events], lambda: None)

    async def ask(self, statement: str, **values: Any) -> list[Any]:
        async with self.engine.connect() as connection:
            return await rows(connection, statement, **values)

    async def do(self, statement: str, **values: Any) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text(statement), values)

    async def touches(self) -> list[Any]:
        return await self.ask("SELECT * FROM nurture.touch ORDER BY decided_at, id")

    async def outcome(self) -> list[tuple[str, str]]:
        return [(row.status, row.reason) for row in await self.touches()]

    async def events(self) -> list[TouchEvent]:
        return [
            decode_touch(row.value)
            for row in await self.ask("SELECT value FROM nurture.outbox ORDER BY id")
        ]

    def mails(self) -> list[Any]:
        return [message_from_bytes(file.read_bytes()) for file in sorted(self.mail.glob("*.eml"))]

    async def die_on_the_wire(self) -> None:
        """Sends what is due, and dies before it can note that; long enough ago."""
        dying = self.make_scheduler(self.make_delivery(DyingDelivery))
        with pytest.raises(ConnectionAbortedError):
            await dying.send_batch()
        await self.do(
            "UPDATE nurture.touch SET sending_since = sending_since - make_interval(secs => "
            ":ago) WHERE status = 'sending'",
            ago=self.settings.sending_timeout_s * 1.5 + 6,
        )


@pytest.fixture(scope="module", autouse=True)
def _plain_logs() -> None:
    """JSON lines: the console's tracebacks with all locals would take seconds."""
    configure_logs("nurture", "error")


@pytest.fixture
async def bench(
    settings: Settings, engine: AsyncEngine, default_playbook: Playbook, tmp_path: Path
) -> AsyncIterator[Bench]:
    hook, server = Hook(), await sink.serve(tmp_path / "mail")
    given = {
        "smtp_url": f"smtp://{sink.address(server)}",
        "webhook_url": await hook.serve(),
        "webhook_secret": f"whsec_{SECRET}",
        "sending_timeout_s": 3.0,
    }
    held = Settings(**(settings.model_dump() | given))
    holdout = default_playbook.holdout.model_copy(update={"share": 0.0})
    yield Bench(
        held, engine, with_parts(default_playbook, holdout=holdout), tmp_path / "mail", hook
    )
    await hook.close()
    server.close()


def with_parts(playbook: Playbook, **parts: Any) -> Playbook:
    """The playbook with other parts."""
    return Playbook(**({name: getattr(playbook, name) for name in Playbook.model_fields} | parts))


def by_webhook(playbook: Playbook) -> Playbook:
    """All programs send by webhook."""
    return with_parts(
        playbook,
        programs=[
            program.model_copy(update={"channel": "webhook"}) for program in playbook.programs
        ],
    )


LEAD = str(uuid.UUID(int=7))


def change(
    stage: str = "decision", *, lead: str = LEAD, seq: int = 1, version: int = 1,
    cause_at: datetime = NOON,
    kind: str = "lead.stage_changed.v1", content: tuple[str, ...] = (), merged: tuple[str,
    ...] = (), **snapshot: Any,
) -> ChangeEvent:  # fmt: skip
    known: dict[str, Any] = {
        "stage": stage, "email": "ann@firm.example", "traits": {"timezone": "UTC",
        "name": "Ann Ames"},
        "consents": {
            f"{channel}:marketing": ConsentState("given", NOON - timedelta(days=1), "form")
            for channel in ("email", "phone")
        },
    }  # fmt: skip
    data = Change(
        lead=lead, version=version, seq=seq, stage=stage, cause="event", cause_at=cause_at,
        content=content, merged=merged,
        snapshot=Snapshot(**(known | snapshot)),
    )  # fmt: skip
    return ChangeEvent(
        id=derived(kind, lead, seq, version),
        type=kind,
        time=cause_at,
        data=data,
        postedat=time.time(),
    )


def engaged(version: int, **more: Any) -> ChangeEvent:
    return change(kind="lead.engaged.v1", seq=0, version=version, **more)


def refusal(
    bench: Bench, at: datetime, state: Any = "withdrawn", email: str = "ann@firm.example"
) -> ConsentEvent:
    address = keyed_hash(bench.pepper, f"email:{email}")
    consent = ConsentChanged(
        address=address, channel="email", purpose="marketing", state=state, at=at
    )
    return ConsentEvent(id=uuid.uuid4().hex, time=at, data=consent)


# -- measuring is a permission of its own (N16) ---------------------------------------------------

REFUSED, AGAIN = timedelta(hours=-2), timedelta(hours=-1)
TRACKING = [  # the playbook's default, (state, when, channel) of what was said, whether it measures
    ("granted", [], True),
    ("asked", [], False),
    ("asked", [("given", REFUSED, "email")], True),
    ("granted", [("withdrawn", REFUSED, "email")], False),
    ("granted", [("withdrawn", REFUSED, "web")], False),
    ("granted", [("withdrawn", REFUSED, "email"), ("given", AGAIN, "email")], True),
    ("asked", [("given", REFUSED, "email"), ("withdrawn", AGAIN, "email")], False),
]


@pytest.mark.parametrize(("default", "said", "measures"), TRACKING)
async def test_who_refused_measuring_gets_plain_links_and_no_pixel(
    bench: Bench, default: str, said: list[tuple[Any, timedelta, str]], measures: bool
) -> None:
    bench.use(with_parts(bench.playbook, tracking=default, open_pixel=True))
    address = keyed_hash(bench.pepper, "email:ann@firm.example")
    for state, ago, channel in said:
        at = NOON + ago
        consent = ConsentChanged(
            address=address, channel=channel, purpose="tracking", state=state, at=at
        )
        await bench.take(ConsentEvent(id=uuid.uuid4().hex, time=at, data=consent))
    await bench.take(change())
    assert await bench.scheduler.send_batch() == 1
    (file,) = bench.mail.glob("*.eml")
    raw = file.read_bytes().replace(b"=\r\n", b"").replace(b"=\n", b"")
    for measuring in (b"/l/", b"/o/", b"<img"):
        assert (measuring in raw) is measures
    assert b"/u/" in raw
    assert b"/p/" in raw
    url = bench.playbook.content_by_id[BOTTLING].url.encode()
    assert (url in raw) is not measures
    sent = next(event for event in await bench.events() if event.type == "touch.sent.v1")
    assert (sent.data.clicks_tracked, sent.data.opens_tracked) == (measures, measures)


# -- an endpoint that is dead ---------------------------------------------------------------------


async def test_an_endpoint_that_is_gone_is_paused_at_once_and_probed(bench: Bench) -> None:
    """N7: the same id after a pause; a probe or a person takes the channel up again."""
    bench.use(by_webhook(bench.playbook))
    bench.hook.status = 410
    await bench.take(change())
    assert await bench.scheduler.send_batch() == 1
    (stop,) = await stops(bench)
    assert stop.channel == "webhook"
    assert "ripeline channel resume webhook" in stop.why
    assert await bench.outcome() == [("due", "")]
    assert await bench.scheduler.send_batch() == 0
    bench.hook.status = 204
    bench.at(NOON + timedelta(seconds=11))
    assert await bench.scheduler.send_batch() == 1
    assert await stops(bench) == []
    first, second = [headers["webhook-id"] for headers, _ in bench.hook.got]
    assert first == second
    assert await bench.outcome() == [("sent", "")]


async def test_failures_in_a_row_pause_an_endpoint_and_a_person_takes_it_up(bench: Bench) -> None:
    """N7: what waits is sent for three days under its id, and fails only after them."""
    bench.use(by_webhook(bench.playbook))
    bench.hook.status = 500
    await bench.take(change())
    moment = NOON
    for _ in range(4):
        bench.at(moment)
        assert await bench.scheduler.send_batch() == 1
        assert await stops(bench) == []
        (touch,) = await bench.touches()
        moment = touch.due_at
    bench.at(moment)
    assert await bench.scheduler.send_batch() == 1
    (stop,) = await stops(bench)
    assert "5 times in a row" in stop.why
    assert await channels.resume(bench.engine, "webhook")
    assert not await channels.resume(bench.engine, "webhook")
    bench.hook.status = 200
    assert await bench.scheduler.send_batch() == 1
    assert await bench.outcome() == [("sent", "")]
    assert len({headers["webhook-id"] for headers, _ in bench.hook.got}) == 1


# -- one announcement, one touch a program --------------------------------------------------------


async def test_one_announcement_brings_one_decision_a_program_however_often_it_comes(
    bench: Bench,
) -> None:
    """N11: replays, a batch with itself, and two processes at once."""
    first = change()
    await bench.take(first, first)
    await asyncio.gather(*(bench.take(first) for _ in range(4)))
    (touch,) = await bench.touches()
    assert (touch.status, touch.content, touch.program, touch.channel) == (
        "due",
        BOTTLING,
        "practitioner-track",
        "email",
    )
    assert str(touch.announcement_id) == first.id
    assert 0 <= touch.decision_ms < 60_000
    (event,) = await bench.events()
    assert (event.type, event.data.id, event.data.status, event.data.propensity) == (
        "touch.decided.v1",
        str(touch.id),
        "due",
        1.0,
    )


async def test_two_programs_decide_each_for_itself(bench: Bench) -> None:
    own = bench.playbook.programs
    twin = own[0].model_copy(update={"id": "twin", "items": ["article-where-data-lives"]})
    bench.use(with_parts(bench.playbook, programs=[*own, twin]))
    await bench.take(change())
    found = {row.program: (row.status, row.content) for row in await bench.touches()}
    assert found == {
        "practitioner-track": ("due", BOTTLING),
        "twin": ("due", "article-where-data-lives"),
    }


async def test_a_decision_not_to_send_is_a_decision_too(bench: Bench) -> None:
    await bench.take(
        change("unknown", lead=str(uuid.UUID(int=1))),
        change(lead=str(uuid.UUID(int=2)), cause_at=NOON - timedelta(days=8)),
        change(lead=str(uuid.UUID(int=3)), consents={}),
        change(lead=str(uuid.UUID(int=4)), sales_status="accepted"),
    )
    assert sorted(await bench.outcome()) == [
        ("due", "with_sales"),
        *(("withheld", reason) for reason in ("history", "no_consent", "unknown_stage")),
    ]
    assert all(event.data.why for event in await bench.events())
    await bench.scheduler.send_batch()
    assert bench.mails() == []


async def test_touches_and_what_was_seen_follow_a_merged_lead(bench: Bench) -> None:
    other = str(uuid.UUID(int=8))
    await bench.take(change(lead=other))
    await bench.scheduler.send_batch()
    await bench.take(change(kind="lead.merged.v1", merged=(other,), seq=0, version=5))
    await bench.take(change(seq=2, version=6), change(lead=other, seq=9, version=7))
    found = await bench.touches()
    assert {str(row.lead_id) for row in found} == {LEAD}
    assert sorted(await bench.outcome()) == [
        ("due", "capped"),
        ("due", "capped"),
        ("sent", ""),
    ]
    bench.at(NOON + timedelta(days=1))
    for _ in range(3):
        await bench.scheduler.send_batch()
    assert sorted(await bench.outcome()) == [("sent", ""), ("sent", ""), ("withheld", "superseded")]
    assert {str(row.lead_id) for row in await bench.ask("SELECT lead_id FROM nurture.seen")} == {
        LEAD
    }


# -- sending --------------------------------------------------------------------------------------


async def test_a_due_touch_is_mailed_once_and_published(bench: Bench) -> None:
    """N7: and two schedulers at once send it once."""
    await bench.take(change())
    twin = bench.make_scheduler()
    await asyncio.gather(bench.scheduler.send_batch(), twin.send_batch())
    await bench.scheduler.send_batch()
    (mail,) = bench.mails()
    (touch,) = await bench.touches()
    assert mail["X-Ripeline-Touch"] == str(touch.id)
    assert mail["To"] == "ann@firm.example"
    assert (touch.status, touch.sent_at) == ("sent", NOON)
    sent = (await bench.events())[-1]
    assert (sent.type, sent.data.recipient, sent.data.clicks_tracked, sent.data.opens_tracked) == (
        "touch.sent.v1", "ann@firm.example", True, False,
    )  # fmt: skip
    assert "Ann" in sent.data.text


async def test_a_snapshot_that_cannot_be_read_holds_up_nobody_elses_mail(bench: Bench) -> None:
    other = str(uuid.uuid4())
    await bench.take(change(), change(lead=other, email="bob@firm.example"))
    await bench.do("UPDATE nurture.lead SET snapshot = '\\xc1' WHERE lead_id = :id", id=LEAD)
    await bench.scheduler.send_batch()
    (mail,) = bench.mails()
    assert mail["To"] == "bob@firm.example"
    assert sorted(await bench.outcome()) == [("sent", ""), ("withheld", "superseded")]
    await bench.take(change("consideration", version=2, seq=2))
    assert len(await bench.ask("SELECT snapshot FROM nurture.lead WHERE snapshot <> '\\xc1'")) == 2


@pytest.mark.parametrize(
    ("overtaken", "reason"),
    [
        (lambda bench: refusal(bench, NOON), "no_consent"),
        (lambda bench: engaged(2, stage="consideration"), "superseded"),
        (lambda bench: engaged(2, traits={"timezone": "UTC", "language": "de"}), "superseded"),
        (lambda bench: engaged(2, email=""), "no_consent"),
        (
            lambda bench: engaged(2, sales_status="lost", sales_reason="competitor", sales_at=NOON),
            "after_loss",
        ),
        (
            lambda bench: engaged(2, traits={"timezone": "UTC", "mail_topics": ["cost"]}),
            "preference",
        ),
        (
            lambda bench: engaged(2, traits={"timezone": "UTC", "mail_topics": []}),
            "preference",
        ),
        (lambda bench: engaged(2, excluded="competitor"), "excluded"),
    ],
    ids=[
        "refused",
        "moved on",
        "other language",
        "no address",
        "lost to a competitor",
        "other topic",
        "no topics",
        "excluded",
    ],
)
async def test_every_ground_is_checked_again_at_sending(
    bench: Bench, overtaken: Any, reason: str
) -> None:
    """N6: what has been overtaken since the decision is not sent, and that is published."""
    await bench.take(change())
    assert await bench.outcome() == [("due", "")]
    await bench.take(overtaken(bench))
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("withheld", reason)]
    assert bench.mails() == []
    last = (await bench.events())[-1]
    assert (last.type, last.data.status, last.data.reason) == (
        "touch.decided.v1",
        "withheld",
        reason,
    )


@pytest.mark.parametrize(
    ("passing", "reason", "after"),
    [
        ({"sales_status": "opportunity"}, "with_sales", {"sales_status": "rejected"}),
        (
            {"traits": {"timezone": "UTC", "mail_paused_until": "2026-06-14"}}, "preference",
            {"traits": {"timezone": "UTC"}},
        ),
        (
            {"sales_status": "lost", "sales_reason": "bad timing", "sales_at": NOON}, "after_loss",
            {"sales_status": "won"},
        ),
    ],
)  # fmt: skip
async def test_a_ground_that_passes_delays_until_there_is_news(
    bench: Bench, passing: dict[str, Any], reason: str, after: dict[str, Any]
) -> None:
    """N6, N8, N9: the choice is made again when it has passed."""
    await bench.take(change())
    await bench.take(engaged(2, **passing))
    await bench.scheduler.send_batch()
    assert (await bench.outcome(), bench.mails()) == ([("due", reason)], [])
    bench.at(NOON + timedelta(days=1))
    await bench.take(engaged(3, content=(BOTTLING,), **after))
    await bench.scheduler.send_batch()
    ((status, _),) = await bench.outcome()
    (touch,) = await bench.touches()
    assert (status, touch.content != BOTTLING, len(bench.mails())) == ("sent", True, 1)
    decided = [event.data.content for event in await bench.events() if "decided" in event.type]
    assert decided == [BOTTLING, touch.content]


async def test_what_the_lead_has_found_by_itself_gives_way_to_the_next_item(bench: Bench) -> None:
    """N3."""
    await bench.take(change())
    await bench.take(engaged(2, content=(BOTTLING,)))
    await bench.scheduler.send_batch()
    (touch,) = await bench.touches()
    assert (touch.status, touch.content == BOTTLING) == ("sent", False)


async def test_an_item_that_was_taken_out_since_gives_way_to_the_next_one(bench: Bench) -> None:
    """N6: nurture was started with another playbook meanwhile."""
    await bench.take(change())
    own = bench.playbook.programs
    fewer = [name for name in own[0].items if name != BOTTLING]
    edited = [own[0].model_copy(update={"items": fewer}), *own[1:]]
    bench.use(with_parts(bench.playbook, programs=edited))
    await bench.scheduler.send_batch()
    (touch,) = await bench.touches()
    assert (touch.status, touch.content in fewer) == ("sent", True)


async def test_a_requests_time_is_kept_for_the_check_at_sending(bench: Bench) -> None:
    """N6: a refusal of a moment before the decision that became known after it."""
    asked = bench.playbook.programs[0].model_copy(
        update={"id": "asked", "trigger": "request", "stages": [], "personas": []}
    )
    bench.use(with_parts(bench.playbook, programs=[asked]))
    request = LeadRequest("u1", "form_submitted", NOON - timedelta(minutes=9), BOTTLING)
    event = engaged(1)
    data = msgspec.structs.replace(event.data, requests=(request,))
    await bench.take(msgspec.structs.replace(event, data=data))
    assert await bench.outcome() == [("due", "")]
    await bench.take(refusal(bench, NOON - timedelta(minutes=5)))
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("withheld", "no_consent")]


@pytest.mark.parametrize("turned", [False, True])
async def test_a_pause_and_a_stage_that_people_set_have_each_their_date_through_merges(
    bench: Bench, turned: bool
) -> None:
    """N14: the longer pause wins, and the stage that holds longer."""
    other, hour = str(uuid.UUID(int=8)), timedelta(hours=1)
    first, second = (other, LEAD) if turned else (LEAD, other)
    for lead, pause, stage, until in (
        (first, 5, "awareness", 9), (second, 3, "consideration", 12),
    ):  # fmt: skip
        await overrides.assert_stage(bench.engine, uuid.UUID(lead), stage, NOON + until * hour)
        await overrides.pause_lead(bench.engine, uuid.UUID(lead), NOON + pause * hour)
    await bench.take(change(lead=other))
    await bench.take(change(kind="lead.merged.v1", merged=(other,), seq=0, version=5))
    (pause,) = await bench.ask("SELECT lead_id, until FROM nurture.pause")
    (stage,) = await bench.ask("SELECT lead_id, stage, until FROM nurture.asserted_stage")
    assert (str(pause.lead_id), pause.until) == (LEAD, NOON + 5 * hour)
    assert (str(stage.lead_id), stage.stage, stage.until) == (
        LEAD, "consideration", NOON + 12 * hour,
    )  # fmt: skip
    await overrides.pause_lead(bench.engine, uuid.UUID(other), NOON + hour)
    (pause,) = await bench.ask("SELECT lead_id, until FROM nurture.pause")
    assert (str(pause.lead_id), pause.until) == (LEAD, NOON + hour)
    await overrides.release_lead(bench.engine, uuid.UUID(other))
    assert await bench.ask("SELECT 1 FROM nurture.pause") == []
    assert await bench.ask("SELECT 1 FROM nurture.asserted_stage") == []


async def test_a_monthly_pace_looks_back_a_whole_month(bench: Bench) -> None:
    """N9: the mail of 29 days ago still counts, that of 30 does not."""
    slow = {"timezone": "UTC", "mail_pace": "monthly"}
    await bench.take(change(traits=slow))
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("sent", "")]
    for days, seq, expected in ((29, 2, ("due", "preference")), (30, 3, ("due", ""))):
        later = NOON + timedelta(days=days)
        bench.at(later)
        await bench.take(change("consideration", seq=seq, version=seq, cause_at=later, traits=slow))
        assert (await bench.outcome())[-1] == expected


async def test_an_older_snapshot_and_an_older_consent_change_nothing(bench: Bench) -> None:
    await bench.take(change(version=5))
    await bench.take(engaged(4, stage="consideration"), refusal(bench, NOON - timedelta(days=2)))
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("sent", "")]


async def test_a_refusal_at_the_same_instant_as_the_permission_wins(bench: Bench) -> None:
    await bench.take(
        refusal(bench, NOON, "given"),
        refusal(bench, NOON),
        refusal(bench, NOON, "given"),
        change(consents={}),
    )
    assert await bench.outcome() == [("withheld", "no_consent")]


async def test_who_came_back_to_the_site_is_not_written_to_until_it_left(bench: Bench) -> None:
    """N12."""
    await bench.take(change(last_act_at=NOON - timedelta(hours=3)))
    await bench.take(engaged(2, last_act_at=NOON - timedelta(minutes=5)))
    await bench.scheduler.send_batch()
    (touch,) = await bench.touches()
    assert (touch.status, touch.reason, touch.due_at) == (
        "due",
        "on_site",
        NOON + timedelta(minutes=25),
    )
    bench.at(NOON + timedelta(minutes=24))
    await bench.scheduler.send_batch()
    assert bench.mails() == []
    bench.at(NOON + timedelta(minutes=25))
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("sent", "")]


async def test_a_touch_in_the_night_waits_for_the_morning_of_its_lead(bench: Bench) -> None:
    """N5."""
    await bench.take(change(traits={"timezone": "Asia/Tokyo"}))
    assert await bench.outcome() == [("due", "")]
    bench.at(NOON + timedelta(hours=1, minutes=30))
    await bench.scheduler.send_batch()
    (touch,) = await bench.touches()
    assert (touch.status, touch.reason) == ("due", "quiet_hours")
    assert touch.due_at == datetime.fromisoformat("2026-05-14T06:00+09:00")


async def test_two_touches_due_at_once_for_one_lead_do_not_pass_the_cap_together(
    bench: Bench,
) -> None:
    own = bench.playbook.programs
    twin = own[0].model_copy(update={"id": "twin", "items": ["article-where-data-lives"]})
    bench.use(with_parts(bench.playbook, programs=[*own, twin]))
    await bench.take(change())
    for _ in range(3):
        await bench.scheduler.send_batch()
    assert sorted(await bench.outcome()) == [("due", "capped"), ("sent", "")]
    assert len(bench.mails()) == 1


@pytest.fixture
def command(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[Any]]:
    """Runs the command line against the bench's database; returns what it says as JSON."""
    monkeypatch.setenv("RIPELINE_DATABASE_URL", bench.settings.database_url.get_secret_value())
    # no other system of this user is found there
    monkeypatch.setattr(tempfile, "tempdir", str(bench.mail.parent))

    async def run(*words: str) -> Any:
        ran = await asyncio.to_thread(CliRunner().invoke, command_line, [*words, "--json"])
        assert ran.exit_code == 0, ran.output
        return json.loads(ran.stdout)

    return run


async def test_the_kill_switch_stops_all_sending_until_it_is_off(
    bench: Bench, command: Callable[..., Awaitable[Any]]
) -> None:
    """N14: by the commands that people have, which say what is held."""
    await bench.take(change())
    waiting = [{"channel": "email", "program": "practitioner-track", "held": 1, "planned": 0}]
    for words in (("nurture", "stop"), ("brake", "on"), ("nurture", "status")):
        assert await command(*words) == {
            "stopped": True, "held": 1, "planned": 0, "on_the_wire": 0, "waiting": waiting,
        }  # fmt: skip
    assert await bench.scheduler.send_batch() == 0
    assert (await bench.outcome(), bench.mails()) == ([("due", "")], [])
    await bench.scheduler.told.held()
    assert [tuple(row) for row in await bench.ask("SELECT * FROM access.held")] == [
        ("email", "practitioner-track", 1)
    ]
    assert (await command("brake", "off"))["stopped"] is False
    assert (await command("nurture", "start"))["held"] == 1
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("sent", "")]
    assert (await command("nurture", "status"))["waiting"] == []
    await bench.scheduler.told.held()
    assert await bench.ask("SELECT * FROM access.held") == []


async def test_what_is_on_its_way_when_sending_is_stopped_is_held_and_goes_on_after_it(
    bench: Bench, command: Callable[..., Awaitable[Any]]
) -> None:
    """N14: fifty mails that the server takes up and keeps waiting before their texts."""
    people = [str(uuid.UUID(int=n)) for n in range(1, 51)]
    await bench.take(*(change(lead=one, email=f"{one[-4:]}@firm.example") for one in people))
    server = SmtpServer()
    bench.settings = bench.settings.model_copy(
        update={"smtp_url": SecretStr(f"smtp://{await server.start()}"), "sending_timeout_s": 15.0}
    )
    bench.use(bench.playbook)
    server.held_recipients.clear()
    sending = asyncio.create_task(bench.scheduler.send_batch())
    while server.verbs.count("RCPT") < len(people):
        await asyncio.sleep(0.02)
    stopping = asyncio.create_task(command("nurture", "stop"))
    while not await bench.ask("SELECT 1 FROM access.brake"):
        await asyncio.sleep(0.02)
    server.held_recipients.set()
    await sending
    stopped = await stopping
    assert (stopped["held"], stopped["on_the_wire"]) == (len(people), 0)
    assert await bench.scheduler.send_batch() == 0
    assert server.mails == []
    assert {*await bench.outcome()} == {("due", "")}
    await command("nurture", "start")
    await bench.scheduler.send_batch()
    assert {*await bench.outcome()} == {("sent", "")}
    assert len(server.mails) == len(people)
    server.close()


# -- what a crash leaves --------------------------------------------------------------------------


async def test_a_mail_whose_sender_died_on_the_wire_is_unknown_and_never_repeated(
    bench: Bench,
) -> None:
    """N11: it may have arrived; it counts against the caps."""
    await bench.take(change())
    await bench.die_on_the_wire()
    await asyncio.gather(bench.scheduler.recover(), bench.scheduler.recover())
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("unknown", "")]
    assert len(bench.mails()) == 1
    failed = [event for event in await bench.events() if event.type == "touch.failed.v1"]
    assert [event.data.status for event in failed] == ["unknown"]
    await bench.take(change(seq=2, version=2))
    assert sorted(await bench.outcome()) == [("due", "capped"), ("unknown", "")]


async def test_what_is_still_on_the_wire_is_left_alone(bench: Bench) -> None:
    await bench.take(change())
    await bench.do("UPDATE nurture.touch SET status = 'sending', sending_since = clock_timestamp()")
    await bench.scheduler.recover()
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("sending", "")]
    assert bench.mails() == []


async def test_a_webhook_is_signed_and_after_a_crash_repeated_under_the_same_id(
    bench: Bench,
) -> None:
    """N7, N11: its receiver knows the repetition by `webhook-id` (Standard Webhooks)."""
    bench.use(by_webhook(bench.playbook))
    await bench.take(change())
    await bench.die_on_the_wire()
    assert await bench.outcome() == [("sending", "")]
    await bench.scheduler.recover()
    await bench.scheduler.send_batch()
    (touch,) = await bench.touches()
    assert touch.status == "sent"
    assert len(bench.hook.got) == 2
    for headers, body in bench.hook.got:
        assert headers["webhook-id"] == str(touch.id)
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 30
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(
            hmac.digest(base64.b64decode(SECRET), signed, hashlib.sha256)
        ).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
        posted = json.loads(body)
        assert set(posted) == {"type", "timestamp", "data"}
        assert (posted["type"], posted["timestamp"]) == ("touch.due", rfc3339(touch.decided_at))
        data = posted["data"]
        assert (data["touch"], data["recipient"]) == (str(touch.id), "ann@firm.example")
        assert data["unsubscribe"].startswith(f"{bench.settings.public_url}/u/")
        assert data["preferences"].startswith(f"{bench.settings.public_url}/p/")
    assert bench.hook.got[0][1] == bench.hook.got[1][1]
    assert bench.mails() == []


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(410, "due"), (302, "failed"), (400, "failed"), (503, "due"), (429, "due"), (408, "due")],
)
async def test_a_webhooks_answer_says_whether_to_try_again(
    bench: Bench, status: int, outcome: str
) -> None:
    bench.use(by_webhook(bench.playbook))
    bench.hook.status = status
    await bench.take(change())
    await bench.scheduler.send_batch()
    (touch,) = await bench.touches()
    assert touch.status == outcome
    assert str(status) in touch.why + "".join(stop.why for stop in await stops(bench))
    if outcome == "due":
        assert touch.due_at > NOON or status == 410
        bench.hook.status = 200
        bench.at(touch.due_at + timedelta(seconds=11))
        await bench.scheduler.send_batch()
        assert await bench.outcome() == [("sent", "")]
        assert len({headers["webhook-id"] for headers, _ in bench.hook.got}) == 1


async def test_a_webhook_that_never_works_is_given_up_after_three_days(bench: Bench) -> None:
    bench.use(by_webhook(bench.playbook))
    bench.hook.status = 500
    await bench.take(change())
    for minutes in (0, 1, 3, 10, 30, *range(1440, 3 * 1440 + 1, 1440)):
        assert [row.status for row in await bench.touches()] == ["due"]
        bench.at(NOON + timedelta(minutes=minutes))
        await bench.scheduler.send_batch()
        await bench.scheduler.give_up()
    bench.at(NOON + timedelta(days=4))
    await bench.scheduler.give_up()
    assert [row.status for row in await bench.touches()] == ["failed"]
    assert len({headers["webhook-id"] for headers, _ in bench.hook.got}) == 1
    assert (await bench.events())[-1].type == "touch.failed.v1"


async def test_a_mail_server_that_is_away_is_tried_again_later(bench: Bench) -> None:
    """Nothing had begun, so nothing can have arrived."""
    away = Settings(**(bench.settings.model_dump() | {"smtp_url": "smtp://127.0.0.1:9"}))
    await bench.take(change())
    await bench.make_scheduler(bench.make_delivery(Delivery, away)).send_batch()
    (touch,) = await bench.touches()
    assert (touch.status, touch.due_at, touch.attempts) == ("due", NOON, 0)
    assert touch.why.startswith("the next of practitioner-track")
    assert "away" in (await stops(bench))[0].why
    assert await bench.scheduler.send_batch() == 0
    bench.at(NOON + timedelta(seconds=10))
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("sent", "")]
    assert len(bench.mails()) == 1


# -- a server that refuses us ---------------------------------------------------------------------


@pytest.fixture
async def refusing(bench: Bench) -> AsyncIterator[SmtpServer]:
    """The bench's mail server, which answers as the test says."""
    server = SmtpServer()
    given = {"smtp_url": f"smtp://{await server.start()}"}
    bench.settings = Settings(**(bench.settings.model_dump() | given))
    bench.use(bench.playbook)
    yield server
    server.close()


def several(count: int, seq: int = 1) -> list[ChangeEvent]:
    """Changes of so many leads."""
    leads = [str(uuid.UUID(int=1000 + n)) for n in range(count)]
    return [
        change(lead=lead, seq=seq, email=f"ann{n}@firm.example") for n, lead in enumerate(leads)
    ]


async def stops(bench: Bench) -> list[Any]:
    return await bench.ask("SELECT * FROM access.channel_stop")


async def test_a_server_that_refuses_us_stops_its_channel_and_loses_no_touch(
    bench: Bench, refusing: SmtpServer
) -> None:
    """The trials are single and come later each time; all goes out when one succeeds."""
    refusing.answers["MAIL"] = "452 4.3.1 over your quota"
    await bench.take(*several(5))
    await bench.scheduler.send_batch()
    assert refusing.verbs.count("MAIL") == 5
    (stop,) = await stops(bench)
    assert (stop.channel, stop.since, stop.attempts) == ("email", NOON, 1)
    assert stop.why == "the mail server answered 452 4.3.1 over your quota"
    waits = []
    for _ in range(9):
        before = bench.clock.now()
        assert await bench.make_scheduler().send_batch() == 0
        (stop,) = await stops(bench)
        waits.append((stop.retry_at - before).total_seconds())
        bench.at(stop.retry_at)
        refusing.verbs.clear()
        await bench.scheduler.send_batch()
        await bench.scheduler.give_up()
        assert refusing.verbs.count("MAIL") == 1
    assert waits == [10, 30, 90, 270, 810, 2430, 3600, 3600, 3600]
    assert {(row.status, row.due_at, row.attempts) for row in await bench.touches()} == {
        ("due", NOON, 0)
    }
    refusing.answers.clear()
    (stop,) = await stops(bench)
    bench.at(stop.retry_at)
    await bench.scheduler.send_batch()
    assert await stops(bench) == []
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("sent", "")] * 5


async def test_what_could_not_go_out_for_three_days_fails_and_says_why(
    bench: Bench, refusing: SmtpServer
) -> None:
    refusing.answers["CONNECT"] = "554 not you"
    first, second = several(2)
    await bench.take(first)
    await bench.scheduler.send_batch()
    bench.at(NOON + timedelta(days=3) - timedelta(seconds=1))
    await bench.take(second)
    await bench.scheduler.send_batch()
    await bench.scheduler.give_up()
    assert await bench.outcome() == [("due", "")] * 2
    bench.at(NOON + timedelta(days=3))
    await bench.scheduler.give_up()
    assert [row.status for row in await bench.touches()] == ["failed", "due"]
    assert (await bench.touches())[0].why.endswith("the mail server answered 554 not you")
    assert (await bench.events())[-1].type == "touch.failed.v1"


async def test_one_recipient_at_whom_the_server_hangs_up_does_not_hold_up_the_others(
    bench: Bench, refusing: SmtpServer
) -> None:
    """The first one due is not tried again and again."""
    first, *others = several(4)
    refusing.dropped, refusing.answers["MAIL"] = "ann0@firm.example", "452 over your quota"
    await bench.take(first)
    bench.at(NOON + timedelta(minutes=1))
    await bench.take(*others)
    await bench.scheduler.send_batch()
    refusing.answers.clear()
    for _ in range(3):
        bench.at(max([bench.clock.now(), *(stop.retry_at for stop in await stops(bench))]))
        await bench.scheduler.send_batch()
    assert [row.status for row in await bench.touches()] == ["due", "sent", "sent", "sent"]


async def test_a_mail_that_is_refused_stops_nothing(bench: Bench, refusing: SmtpServer) -> None:
    refusing.answers["RCPT"] = "550 nobody here"
    await bench.take(change())
    await bench.scheduler.send_batch()
    assert [row.status for row in await bench.touches()] == ["failed"]
    assert await stops(bench) == []


async def test_a_webhook_that_is_away_stops_its_channel_and_not_the_mails(bench: Bench) -> None:
    gone = Settings(**(bench.settings.model_dump() | {"webhook_url": "http://127.0.0.1:9/"}))
    mail = bench.playbook.programs
    hook = mail[0].model_copy(update={"id": "hook", "channel": "webhook"})
    bench.use(with_parts(bench.playbook, programs=[hook]))
    await bench.take(change(lead=str(uuid.UUID(int=1))))
    bench.use(with_parts(bench.playbook, programs=[hook, *mail]))
    scheduler = bench.make_scheduler(bench.make_delivery(Delivery, gone))
    await scheduler.send_batch()
    assert [row.channel for row in await stops(bench)] == ["webhook"]
    await bench.take(change(seq=2, version=2, lead=str(uuid.UUID(int=2))))
    await scheduler.send_batch()
    assert sorted((row.channel, row.status) for row in await bench.touches())[0] == (
        "email", "sent",
    )  # fmt: skip


async def test_a_stopped_scheduler_claims_nothing_more_and_waits_for_what_is_on_the_wire(
    bench: Bench, refusing: SmtpServer
) -> None:
    """SIGTERM, whether the loop ends by itself or is cancelled."""
    for cancelled in (False, True):
        refusing.held.clear()
        before = len(refusing.mails)
        somebody, another = (f"{uuid.uuid4()}@firm.example" for _ in range(2))
        await bench.take(change(lead=str(uuid.uuid4()), seq=before + 1, email=somebody))
        scheduler = bench.make_scheduler()
        running = asyncio.create_task(scheduler.run(lambda: None))
        while refusing.verbs.count("DATA") <= before:
            await asyncio.sleep(0.01)
        scheduler.stop()
        if cancelled:
            running.cancel()
        await bench.take(change(lead=str(uuid.uuid4()), seq=before + 1, email=another))
        await asyncio.sleep(0.05)
        assert not running.done()
        refusing.held.set()
        await asyncio.wait([running], timeout=5)
        assert running.done()
        assert sorted(status for status, _ in await bench.outcome()) == ["due", "sent"]
        assert len(refusing.mails) == before + 1
        await bench.do("DELETE FROM nurture.touch")


async def test_while_sales_works_on_one_product_the_programs_of_all_pause(bench: Bench) -> None:
    """N8: the other one is lost."""
    known = engaged(1, sales_status="opportunity", product="other")
    other = msgspec.structs.replace(known.data, product="other")
    await bench.take(msgspec.structs.replace(known, data=other))
    await bench.take(change(sales_status="lost"))
    assert await bench.outcome() == [("due", "with_sales")]


# -- the gate -------------------------------------------------------------------------------------


class Ends:
    """Where the partitions of one topic end, the others having none; None while the broker is
    away. `topic_id` is of its topics.
    """

    def __init__(self, topic: str = CONSENTS) -> None:
        self.topic = topic
        self.at: int | None = 3
        self.topic_id = uuid.UUID(int=0)

    async def of(self, topics: list[str]) -> dict[Log, int]:
        if self.at is None:
            raise Retry("away")
        return {Log(topic, self.topic_id, 0): self.at for topic in topics if topic == self.topic}


async def test_nothing_is_sent_while_the_reading_of_permissions_lags(bench: Bench) -> None:
    """N6."""
    ends = Ends()
    gate = ConsentGate(bench.engine, ends)  # type: ignore[arg-type]
    assert not await gate.is_open()
    bench.offset = 1
    await bench.take(refusal(bench, NOON))
    assert await gate.is_open()
    ends.at = None
    assert not await gate.is_open()


async def test_nothing_is_sent_while_it_is_unknown_whom_a_refusal_names(bench: Bench) -> None:
    """N6: a lead's identifiers come by the topic of changes."""
    ends = Ends(CHANGES)
    gate = ConsentGate(bench.engine, ends)  # type: ignore[arg-type]
    assert not await gate.is_open()
    bench.offset = 1
    await bench.take(change())
    assert await gate.is_open()


async def test_a_refusal_that_comes_while_a_lead_is_waited_for_is_not_overtaken(
    bench: Bench,
) -> None:
    """N6: the gate was open before; a large batch of changes holds the lead."""
    ends = Ends()
    await bench.take(change())
    bench.offset = 1
    await bench.take(refusal(bench, NOON, email="zoe@firm.example"))
    bench.scheduler._gate = ConsentGate(bench.engine, ends)  # type: ignore[arg-type]
    async with bench.engine.begin() as batch:
        await LeadStore(batch, bench.pepper, ()).lock([LEAD])
        sending = asyncio.create_task(bench.scheduler.send_batch())
        await asyncio.sleep(0.3)
        assert not sending.done()
        ends.at = 4
    assert await sending == 0
    assert (await bench.outcome(), bench.mails()) == ([("due", "")], [])
    await bench.take(refusal(bench, NOON))
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("withheld", "no_consent")]


async def test_what_was_read_of_a_topic_says_nothing_of_the_one_after_it(bench: Bench) -> None:
    """N6: a refusal that waits on a topic that was created again stops sending, though more had
    been read of the topic before; and so does a topic that nobody has begun to read.
    """
    ends = Ends()
    gate = ConsentGate(bench.engine, ends)  # type: ignore[arg-type]
    bench.offset = 50
    await bench.take(refusal(bench, NOON))
    assert await gate.is_open()
    ends.topic_id = uuid.uuid4()
    assert not await gate.is_open()
    ends.at = 0
    assert not await gate.is_open()
    again = Log(CONSENTS, ends.topic_id, 0)
    progress = Progress(bench.engine, "nurture")
    await progress.place(await progress.read([CONSENTS]), {again: Extent(0, 0)})
    assert await gate.is_open()


PUBLISHED = """INSERT INTO access.published VALUES ('scorer', :topic, :id, 0, :at)
    ON CONFLICT (service, topic, topic_id, partition) DO UPDATE SET next_offset = :at"""


async def publish_up_to(bench: Bench, at: int, ends: Ends) -> None:
    """The scorer has published what it makes of so many interactions."""
    await bench.do(PUBLISHED, topic=INTERACTIONS, id=ends.topic_id, at=at)


async def test_a_refusal_waits_for_links_that_the_scorer_has_still_to_read(bench: Bench) -> None:
    """N6: it names a user id that an unread event gives to the lead. The same without such an
    event: the mail goes out as soon as the scorer has come so far.
    """
    user = keyed_hash(bench.pepper, "user:u-7")
    for link in (True, False):
        ends = Ends(INTERACTIONS)
        bench.scheduler._gate = gate = ConsentGate(bench.engine, ends)  # type: ignore[arg-type]
        lead = str(uuid.uuid4())
        email = f"{lead}@firm.example"
        await bench.take(change(lead=lead, email=email))
        said = refusal(bench, NOON)
        await bench.take(
            msgspec.structs.replace(
                said, data=msgspec.structs.replace(said.data, address="", identifier=user)
            ),
            refusal(bench, NOON, "given", email="zoe@firm.example"),
        )
        await publish_up_to(bench, 2, ends)
        await bench.scheduler.send_batch()
        assert [row.status for row in await bench.touches() if str(row.lead_id) == lead] == ["due"]
        ends.at = 9  # what comes after the refusal is not waited for
        if link:
            await bench.take(engaged(2, lead=lead, email=email, identifiers=(user,)))
        await publish_up_to(bench, 3, ends)
        await bench.scheduler.send_batch()
        (touch,) = [row for row in await bench.touches() if str(row.lead_id) == lead]
        expected = ("withheld", "no_consent") if link else ("sent", "")
        assert (touch.status, touch.reason) == expected
        assert await gate.refusals_are_linked(SpoolGate(), 0)


async def test_while_the_scorer_stands_what_is_refused_is_withheld(bench: Bench) -> None:
    """N6: and nothing else is sent."""
    bench.scheduler._gate = ConsentGate(bench.engine, Ends(INTERACTIONS))  # type: ignore[arg-type]
    other = str(uuid.UUID(int=8))
    await bench.take(change(), change(lead=other, email="zoe@firm.example"))
    await bench.take(refusal(bench, NOON))
    assert await bench.scheduler.send_batch() == 0
    assert sorted(await bench.outcome()) == [("due", ""), ("withheld", "no_consent")]
    assert bench.mails() == []


async def test_links_are_waited_for_in_spools_and_on_the_topic_of_today(bench: Bench) -> None:
    """N6: an accepted link may lie in a spool when its refusal is read; on a topic that was wiped
    nobody will find it.
    """
    ends = Ends(INTERACTIONS)
    gate, spools = ConsentGate(bench.engine, ends), SpoolGate()  # type: ignore[arg-type]
    assert await gate.refusals_are_linked(spools, 0)
    await bench.take(refusal(bench, NOON, "given"))
    assert await gate.refusals_are_linked(spools, 0), "a permission waits for nothing"
    await bench.take(refusal(bench, NOON))
    await publish_up_to(bench, 3, ends)
    lease = "INSERT INTO access.ingest_lease VALUES ('i', true, 1, clock_timestamp())"
    await bench.do(lease)
    assert not await gate.refusals_are_linked(spools, 0)
    await bench.do("DELETE FROM access.ingest_lease")
    ends.at = 4  # it has left the spool
    assert not await gate.refusals_are_linked(spools, 0)
    ends.topic_id, ends.at = uuid.uuid4(), 2
    assert not await gate.refusals_are_linked(spools, 0)
    await publish_up_to(bench, 2, ends)
    ends.at = None
    assert not await gate.refusals_are_linked(spools, 0)
    ends.at = 2
    assert await gate.refusals_are_linked(spools, 0)


async def test_nothing_is_sent_once_consents_were_lost_until_somebody_answers_for_it(
    bench: Bench,
) -> None:
    """N6: there may be refusals among them."""
    ends = Ends()
    gate = ConsentGate(bench.engine, ends)  # type: ignore[arg-type]
    progress = Progress(bench.engine, "nurture")
    await progress.place({}, {Log(CONSENTS, ends.topic_id, 0): Extent(3, 3)})
    assert not await gate.is_open()
    await accept_gaps(bench.engine, await open_gaps(bench.engine))
    assert await gate.is_open()


# -- attacks --------------------------------------------------------------------------------------


async def test_an_announcement_that_comes_again_after_the_persona_changed_stays_decided(
    bench: Bench,
) -> None:
    """N11: another program would answer for the new persona."""
    first = change(traits={"timezone": "UTC", "title": "Maintenance manager"})
    await bench.take(first)
    await bench.take(engaged(2, traits={"timezone": "UTC", "title": "CEO"}))
    await bench.take(first)
    assert [row.program for row in await bench.touches()] == ["practitioner-track"]


async def test_merges_in_any_order_end_at_the_surviving_lead(bench: Bench) -> None:
    first, second = str(uuid.UUID(int=8)), str(uuid.UUID(int=9))
    await bench.take(change(lead=first))
    await bench.take(change(kind="lead.merged.v1", merged=(second,), seq=0, version=5))
    await bench.take(change(kind="lead.merged.v1", lead=second, merged=(first,), seq=0, version=4))
    assert [str(row.lead_id) for row in await bench.touches()] == [LEAD]


async def test_a_process_that_slept_since_its_check_sends_nothing(bench: Bench) -> None:
    """SIGSTOP between `sending` and the wire; meanwhile the touch was given up and the lead
    refused.
    """
    await bench.take(change())
    (claimed,), _ = await bench.scheduler._claim()
    slept = time.monotonic() - bench.settings.sending_timeout_s - 1
    await bench.delivery.send(claimed._replace(checked_at=slept))
    assert bench.mails() == []
    assert await bench.outcome() == [("sending", "")]


async def test_what_was_checked_seconds_ago_is_checked_again_before_it_is_sent(
    bench: Bench,
) -> None:
    """N6: the lead may have refused meanwhile."""
    await bench.take(change())
    (claimed,), _ = await bench.scheduler._claim()
    await bench.delivery.send(claimed._replace(checked_at=time.monotonic() - 2.5))
    assert bench.mails() == []
    (touch,) = await bench.touches()
    assert (touch.status, touch.attempts) == ("due", 0)
    await bench.take(refusal(bench, NOON))
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("withheld", "no_consent")]


async def test_a_late_outcome_does_not_undo_what_another_process_wrote(bench: Bench) -> None:
    bench.use(by_webhook(bench.playbook))
    bench.hook.status = 500
    await bench.take(change())
    (claimed,), _ = await bench.scheduler._claim()
    await bench.do("UPDATE nurture.touch SET status = 'sent', sent_at = :at", at=NOON)
    await bench.delivery.send(claimed)
    assert await bench.outcome() == [("sent", "")]


async def test_two_processes_keep_one_leads_caps(bench: Bench) -> None:
    """N5: touches of two announcements of one lead are due at once."""
    await bench.take(change())
    await bench.do(
        "INSERT INTO nurture.touch SELECT gen_random_uuid(), gen_random_uuid(), program, "
        "lead_id, product, stage, "
        "'article-where-data-lives', channel, status, reason, why, propensity, decided_at, "
        "decision_ms, due_at FROM nurture.touch"
    )
    twin = bench.make_scheduler()
    await asyncio.gather(bench.scheduler.send_batch(), twin.send_batch())
    await bench.scheduler.send_batch()
    assert len(bench.mails()) == 1


async def test_a_program_that_is_no_longer_live_sends_nothing_that_was_due(bench: Bench) -> None:
    """N14."""
    await bench.take(change())
    drafts = [program.model_copy(update={"state": "draft"}) for program in bench.playbook.programs]
    bench.use(with_parts(bench.playbook, programs=drafts))
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("withheld", "superseded")]


@pytest.mark.parametrize(
    "address",
    [
        "ä@b.cc",
        "a\u200b@b.cc",
        "a\x01@b.cc",
        "x:victim@c.dd",
        "=?utf-8?q?x?=@b.cc",
        "a()@b.cc",
        "a@b.cc\r\nBcc: c@d.ee",
    ],
)
async def test_an_address_that_cannot_be_written_to_fails_alone(bench: Bench, address: str) -> None:
    """One poisoned lead neither stops the others nor reaches anybody else."""
    assert bench.rules.cleaner.address(address) == ""
    await bench.take(
        change(email=address), change(lead=str(uuid.UUID(int=8)), email="good@firm.example")
    )
    await bench.scheduler.send_batch()
    assert sorted(status for status, _ in await bench.outcome()) == ["failed", "sent"]
    assert [mail["To"] for mail in bench.mails()] == ["good@firm.example"]


def asking(bench: Bench, **snapshot: Any) -> ChangeEvent:
    """A lead asks for a thing, at night, and all programs answer; nearly everybody is held out."""
    playbook = bench.playbook
    live = [program.model_copy(update={"state": "live"}) for program in playbook.programs]
    bench.use(
        with_parts(
            playbook, programs=live, holdout=playbook.holdout.model_copy(update={"share": 0.9})
        )
    )
    bench.at(NOON.replace(hour=2))
    asked = LeadRequest(uuid.uuid4().hex, "form_submitted", bench.clock.at, "whitepaper-four-kinds")
    event = engaged(2, last_act_at=bench.clock.at, consents={}, **snapshot)
    return msgspec.structs.replace(
        event, data=msgspec.structs.replace(event.data, requests=(asked,))
    )


async def test_what_was_asked_for_goes_out_at_once_outside_caps_and_hours(bench: Bench) -> None:
    """N12: and outside the pace and the pause that the lead has asked for, and whatever it refused
    before.
    """
    event = asking(
        bench, traits={"timezone": "UTC", "mail_paused_until": "2030-01-01", "mail_pace": "monthly"}
    )
    await bench.take(refusal(bench, bench.clock.at - timedelta(days=1)), event, event)
    await bench.take(event)
    await bench.scheduler.send_batch()
    (touch,) = await bench.touches()
    assert (touch.program, touch.content, touch.status) == (
        "requested",
        "whitepaper-four-kinds",
        "sent",
    )
    assert len(bench.mails()) == 1


async def test_who_leaves_after_asking_does_not_get_it_any_more(bench: Bench) -> None:
    """N6, N12."""
    await bench.take(asking(bench))
    assert await bench.outcome() == [("due", "")]
    await bench.take(refusal(bench, bench.clock.at + timedelta(seconds=1)))
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("withheld", "no_consent")]
    assert bench.mails() == []


def run_lead_command(bench: Bench, *arguments: str) -> None:
    """Runs `ripeline lead`, which finds the database by its variable."""
    named = {"RIPELINE_DATABASE_URL": bench.settings.database_url.get_secret_value()}
    result = CliRunner().invoke(command_line, ["lead", *arguments], env=named)
    assert result.exit_code == 0, result.output


async def test_a_person_pauses_a_lead_until_a_date(bench: Bench) -> None:
    """N14."""
    until = ["--until", f"{NOON + timedelta(days=2):%Y-%m-%d}"]
    await bench.take(change())
    await asyncio.to_thread(run_lead_command, bench, "pause", LEAD, *until)
    await bench.scheduler.send_batch()
    (touch,) = await bench.touches()
    assert (touch.status, touch.reason, f"{touch.due_at:%F %H}") == (
        "due",
        "paused",
        "2026-05-15 06",
    )
    bench.at(NOON + timedelta(days=3))
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("sent", "")]


async def test_a_person_asserts_a_stage_until_it_is_taken_back(bench: Bench) -> None:
    """N14: the estimate may say another one meanwhile."""
    await asyncio.to_thread(
        run_lead_command,
        bench,
        "assert",
        LEAD,
        "consideration",
        "--until",
        f"{NOON + timedelta(days=9):%Y-%m-%d}",
    )
    await bench.take(change())
    assert await bench.outcome() == [("withheld", "superseded")]
    await asyncio.to_thread(run_lead_command, bench, "release", LEAD)
    await bench.take(change(seq=2, version=2))
    assert sorted(await bench.outcome()) == [("due", ""), ("withheld", "superseded")]


async def test_mails_that_other_tools_sent_count_towards_the_caps(bench: Bench) -> None:
    """N5: those of the lead, and of others at its address; each once."""
    hour = timedelta(hours=1)
    await bench.take(change(mailed=(NOON - 40 * 24 * hour, NOON - 30 * hour, NOON + 90 * hour)))
    assert await bench.outcome() == [("due", "")]
    same = engaged(1, lead=str(uuid.UUID(int=8)), mailed=(NOON - 60 * hour, NOON - 90 * hour))
    await bench.take(same)
    await bench.scheduler.send_batch()
    (touch,) = await bench.touches()
    assert (touch.status, touch.reason) == ("due", "capped")
    assert touch.due_at == NOON - 90 * hour + timedelta(days=7)
    bench.at(touch.due_at)
    await bench.scheduler.send_batch()
    assert await bench.outcome() == [("sent", "")]
