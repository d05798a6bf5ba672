"""What binds a person, under whatever identifier it comes and to whichever lead it belongs by now:
refusals, pauses, caps, what was seen (N5, N6, N11, N14).
"""

import asyncio
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner

from services.nurture.channels import OutcomeUnknown
from services.nurture.channels.message import Message, render
from services.nurture.delivery import Claimed, Delivery
from services.nurture.handler import Handler
from services.nurture.rules.grounds import Rules
from services.nurture.scheduler import Scheduler
from services.nurture.spool_gate import SpoolGate
from services.nurture.store.leads import LeadStore
from services.nurture.store.snapshots import LeadKey
from services.ops.__main__ import app as command_line
from services.shared.clock import Clock, to_us
from services.shared.contracts.events import (
    Change,
    ChangeEvent,
    ConsentChanged,
    ConsentEvent,
    ConsentState,
    LeadRequest,
    Snapshot,
    derived,
    keyed_hash,
)
from services.shared.db import rows
from services.shared.playbook.sections import Playbook
from services.shared.settings import Settings

NOON = datetime(2026, 5, 13, 12, 0, tzinfo=UTC)
PERMITTED = NOON - timedelta(days=1)
ANN, OLD = "ann@firm.example", "ann@old.example"
ENGAGED = "lead.engaged.v1"
FIRST, SECOND, THIRD = (str(uuid.UUID(int=number)) for number in (7, 8, 9))


class Stopped(Clock):
    """A clock that stands."""

    def now_us(self) -> int:
        return to_us(NOON)


class OpenGate:
    """A gate that waits for nothing."""

    async def is_open(self, wait_s: float = 0) -> bool:
        return True

    async def refusals_are_linked(self, spools: SpoolGate, wait_s: float = 0) -> bool:
        return True


class PaperDelivery(Delivery):
    """A delivery without a wire; `sent` are the recipients and items."""

    sent: list[tuple[str, str]]

    async def _over_the_wire(self, claimed: Claimed, now: datetime) -> Message:
        self.sent.append((claimed.snapshot.email, claimed.touch.content))
        return render(
            self._playbook, claimed.touch, claimed.snapshot,
            public_url=self._public_url, pepper=self._pepper,
        )  # fmt: skip


class Desk:
    """Nurture on a database, fed by hand; nobody is held out."""

    def __init__(self, settings: Settings, engine: AsyncEngine, playbook: Playbook) -> None:
        holdout = playbook.holdout.model_copy(update={"share": 0.0})
        parts = {name: getattr(playbook, name) for name in Playbook.model_fields}
        self.settings, self.engine = settings, engine
        self.pepper = settings.pepper.get_secret_value().encode()
        self.clock = Stopped()
        self.sent: list[tuple[str, str]] = []
        self.use(Playbook(**(parts | {"holdout": holdout})))

    def use(self, playbook: Playbook) -> None:
        """Decides by this playbook."""
        self.rules = Rules.of(playbook, sink=True)
        self.handler = Handler(self.rules, self.clock, self.pepper)
        self.scheduler = self.make_scheduler()

    def make_scheduler(self) -> Scheduler:
        """A scheduler as of a process of its own."""
        delivery = PaperDelivery(
            self.settings, self.engine, self.rules.playbook, self.clock, lambda: None
        )
        delivery.sent = self.sent
        gate: Any = OpenGate()
        return Scheduler(
            self.settings, self.engine, self.rules, self.clock, gate, delivery, lambda: None
        )

    async def take(self, *events: ChangeEvent | ConsentEvent) -> None:
        async with self.engine.begin() as connection:
            await self.handler.apply(connection, events)

    async def send(self, times: int = 3) -> list[tuple[str, str]]:
        for _ in range(times):
            await self.scheduler.send_batch()
        return self.sent

    async def do(self, statement: str, **values: Any) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text(statement), values)

    async def outcome(self) -> list[tuple[str, str]]:
        async with self.engine.connect() as connection:
            found = await rows(
                connection, "SELECT status, reason FROM nurture.touch ORDER BY status, reason"
            )
        return [(row.status, row.reason) for row in found]

    def hashed(self, name: str) -> str:
        return keyed_hash(self.pepper, name)

    def snapshot(self, email: str = ANN, *names: str, **more: Any) -> Snapshot:
        given: dict[str, Any] = {
            "stage": "decision",
            "traits": {"timezone": "UTC"},
            "consents": {"email:marketing": ConsentState("given", PERMITTED, "form")},
        }
        identifiers = tuple(map(self.hashed, (f"email:{email}", *names)))
        return Snapshot(**(given | more), email=email, identifiers=identifiers)

    def change(
        self, lead: str = FIRST, seq: int = 1, snapshot: Snapshot | None = None,
        kind: str = "lead.stage_changed.v1", **more: Any,
    ) -> ChangeEvent:  # fmt: skip
        data = Change(
            lead=lead, version=seq, seq=seq, stage="decision", cause="event", cause_at=NOON,
            snapshot=snapshot or self.snapshot(), **more,
        )  # fmt: skip
        return ChangeEvent(id=derived(kind, lead, seq), type=kind, time=NOON, data=data)

    def word(
        self, state: Any, at: datetime, *, address: str = "", name: str = "", touch: str = ""
    ) -> ConsentEvent:
        """What a person says on mails, under an address or another identifier."""
        data = ConsentChanged(
            address=self.hashed(f"email:{address}") if address else "",
            identifier=self.hashed(name) if name else "",
            touch=touch, channel="email", purpose="marketing", state=state, at=at,
        )  # fmt: skip
        return ConsentEvent(id=str(uuid.uuid4()), time=at, data=data)


@pytest.fixture
def desk(settings: Settings, engine: AsyncEngine, default_playbook: Playbook) -> Desk:
    return Desk(settings, engine, default_playbook)


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["user:u-1", "external:crm\t7", "anonymous:v-1", f"email:{OLD}", f"email:{ANN}"]
)
async def test_a_refusal_under_any_identifier_of_the_lead_stops_what_was_due(
    desk: Desk, name: str
) -> None:
    """N6: and waits for no scorer."""
    await desk.take(desk.change(snapshot=desk.snapshot(ANN, "user:u-1", name)))
    assert await desk.outcome() == [("due", "")]
    address = name.removeprefix("email:") if name.startswith("email:") else ""
    await desk.take(desk.word("withdrawn", NOON, address=address, name="" if address else name))
    assert await desk.send() == []
    assert await desk.outcome() == [("withheld", "no_consent")]


async def test_somebody_elses_refusal_stops_nothing(desk: Desk) -> None:
    await desk.take(desk.change(snapshot=desk.snapshot(ANN, "user:u-1")))
    await desk.take(desk.word("withdrawn", NOON, name="user:u-2"))
    assert len(await desk.send()) == 1


async def test_who_left_at_an_old_address_has_left_until_the_new_one_is_named(desk: Desk) -> None:
    """N6."""
    snapshot = desk.snapshot(ANN, f"email:{OLD}", "user:u-1")
    left, back = NOON - timedelta(hours=9), NOON - timedelta(hours=8)
    await desk.take(
        desk.word("withdrawn", left, address=OLD),
        desk.word("given", back, address=OLD),
        desk.word("given", back, name="user:u-1"),
        desk.change(snapshot=snapshot),
    )
    assert await desk.outcome() == [("withheld", "no_consent")]
    await desk.take(desk.word("given", back, address=ANN), desk.change(seq=2, snapshot=snapshot))
    assert await desk.outcome() == [("due", ""), ("withheld", "no_consent")]


async def test_who_left_by_an_id_alone_comes_back_by_it(desk: Desk) -> None:
    snapshot = desk.snapshot(ANN, "user:u-1")
    await desk.take(
        desk.word("withdrawn", NOON - timedelta(hours=9), name="user:u-1"),
        desk.word("given", NOON - timedelta(hours=8), name="user:u-1"),
        desk.change(snapshot=snapshot),
    )
    assert await desk.outcome() == [("due", "")]


async def test_a_refusal_that_answers_a_mail_binds_the_address_that_got_it(desk: Desk) -> None:
    """N6: though the lead has been split since, and no identifier is left in common."""
    await desk.take(desk.change())
    assert len(await desk.send()) == 1
    async with desk.engine.connect() as connection:
        (sent,) = await rows(connection, "SELECT id::text AS id FROM nurture.touch")
    names = {"name": f"external:ripeline.touch\t{sent.id}", "touch": sent.id}
    await desk.take(desk.word("withdrawn", NOON, **names), desk.change(SECOND))
    assert await desk.outcome() == [("sent", ""), ("withheld", "no_consent")]


async def test_a_refusals_repetition_is_no_later_refusal(desk: Desk) -> None:
    """N6: it was received again after the person came back."""
    first = desk.word("withdrawn", NOON - timedelta(hours=3), address=ANN)
    said = [
        ConsentEvent(id=first.id, time=at, data=replace(first.data, at=at, undated=True))
        for at in (NOON - timedelta(hours=3), NOON - timedelta(hours=1))
    ]
    back = desk.word("given", NOON - timedelta(hours=2), address=ANN)
    await desk.take(said[0])
    await desk.take(back)
    await desk.take(said[1], desk.change())
    assert await desk.outcome() == [("due", "")]


async def test_a_refusal_by_an_id_binds_the_address_that_the_id_had(desk: Desk) -> None:
    """N6: a stranger's link has given the address to a lead that knows nothing of the id; the
    former one has gone on without the address, without the id, or into a third.
    """
    left = desk.word("withdrawn", NOON, name="user:u-1")
    bare = Snapshot(stage="decision", identifiers=(desk.hashed("user:u-1"),))
    await desk.take(desk.change(kind=ENGAGED, snapshot=desk.snapshot(ANN, "user:u-1")))
    await desk.take(left, desk.word("given", PERMITTED, address=ANN), desk.change(SECOND))
    await desk.take(desk.change(seq=2, kind=ENGAGED, snapshot=bare))
    assert await desk.send() == []
    await desk.take(desk.change(SECOND, 2))
    await desk.take(desk.change(seq=3, kind=ENGAGED, snapshot=Snapshot(stage="decision")))
    await desk.take(desk.change(SECOND, 3))
    other = desk.snapshot("zoe@firm.example")
    await desk.take(desk.change(THIRD, kind="lead.merged.v1", merged=(FIRST,), snapshot=other))
    await desk.take(desk.change(THIRD, 2, kind=ENGAGED, snapshot=other))
    await desk.take(desk.change(SECOND, 4))
    assert await desk.outcome() == [("withheld", "no_consent")] * 4
    back = desk.word("given", NOON + timedelta(seconds=1), address=ANN)
    await desk.take(back, desk.change(SECOND, 5))
    assert ("due", "") in await desk.outcome()


async def test_a_refusal_at_an_older_address_binds_the_next_leads(desk: Desk) -> None:
    """N6: the address has moved to another lead since, the older one has not."""
    await desk.take(desk.change(kind=ENGAGED, snapshot=desk.snapshot(ANN, f"email:{OLD}")))
    await desk.take(desk.word("withdrawn", NOON, address=OLD))
    await desk.take(desk.change(seq=2, kind=ENGAGED, snapshot=desk.snapshot(OLD)))
    await desk.take(desk.change(SECOND))
    assert await desk.outcome() == [("withheld", "no_consent")]


async def test_a_permission_under_somebody_elses_id_permits_nothing(desk: Desk) -> None:
    """N6: it would lift a refusal that names an id alone."""
    mine, foreign = desk.snapshot(ANN, "user:u-1"), desk.snapshot(ANN, "user:u-2")
    await desk.take(
        desk.change(kind=ENGAGED, snapshot=foreign),
        desk.word("withdrawn", NOON - timedelta(hours=2), name="user:u-1"),
        desk.word("given", NOON - timedelta(hours=1), name="user:u-2"),
        desk.change(SECOND, snapshot=mine),
    )
    assert await desk.outcome() == [("withheld", "no_consent")]


# -- the address ----------------------------------------------------------------------------------


async def test_an_address_under_ever_new_leads_gets_one_mail(desk: Desk) -> None:
    """N5, N11: links move it to a lead of another id each time."""
    for lead in (FIRST, SECOND, THIRD):
        await desk.take(desk.change(lead))
        await desk.send()
    assert len(desk.sent) == 1
    assert await desk.outcome() == [("due", "capped"), ("due", "capped"), ("sent", "")]


async def test_leads_of_one_address_that_are_due_at_once_send_one_mail(desk: Desk) -> None:
    """N5: in one batch, and by two processes."""
    leads = [str(uuid.UUID(int=number)) for number in range(1, 9)]
    await desk.take(*(desk.change(lead) for lead in leads))
    twins = [desk.scheduler, *(desk.make_scheduler() for _ in range(3))]
    await asyncio.gather(*(twin.send_batch() for twin in twins))
    await desk.send(8)
    assert len(desk.sent) == 1


async def test_two_claims_of_one_address_wait_for_each_other(desk: Desk) -> None:
    """N5: each has locked a touch of another lead, before either sees what the other sends."""
    await desk.take(desk.change(FIRST), desk.change(SECOND))
    async with desk.engine.begin() as first:
        await LeadStore(first, desk.pepper, ()).lock_addresses([FIRST])
        async with desk.engine.connect() as second:
            await second.execute(text("SET lock_timeout = 200"))
            with pytest.raises(Exception, match="lock timeout"):
                await LeadStore(second, desk.pepper, ()).lock_addresses([SECOND])


async def test_a_persons_pause_holds_for_the_address_under_its_next_lead(desk: Desk) -> None:
    """N14."""
    await desk.take(desk.change())
    variables = {"RIPELINE_DATABASE_URL": desk.settings.database_url.get_secret_value()}
    pause = ["lead", "pause", FIRST, "--until", f"{NOON + timedelta(days=9):%Y-%m-%d}"]
    ran = await asyncio.to_thread(CliRunner().invoke, command_line, pause, env=variables)
    assert ran.exit_code == 0, ran.output
    await desk.take(desk.change(SECOND))
    assert await desk.send() == []
    assert await desk.outcome() == [("due", "paused")] * 2


@pytest.mark.parametrize(
    "asked",
    [
        {"mail_paused_until": f"{NOON + timedelta(days=9):%Y-%m-%d}"},
        {"mail_paused_until": "some day"},
        {"mail_pace": "monthly"},
    ],
    ids=["pause", "unreadable", "pace"],
)
async def test_what_was_asked_for_holds_for_the_address_under_its_next_lead(
    desk: Desk, asked: dict[str, str]
) -> None:
    """N9: a link has moved the address to a lead that has asked for nothing, or for less."""
    less = {"mail_paused_until": f"{NOON - timedelta(days=9):%Y-%m-%d}", "mail_pace": "weekly"}
    wishes = {"timezone": "UTC"} | asked
    await desk.take(desk.change(kind="lead.engaged.v1", snapshot=desk.snapshot(traits=wishes)))
    await desk.take(desk.change(SECOND), desk.change(seq=2, kind="lead.engaged.v1",
                    snapshot=desk.snapshot(OLD, traits=wishes)))  # fmt: skip
    await desk.do("UPDATE nurture.touch SET status = 'sent', sent_at = :at, address = :address "
                  "WHERE status = 'due'",
                  at=NOON - timedelta(days=20), address=desk.hashed(f"email:{ANN}"))  # fmt: skip
    await desk.take(desk.change(THIRD, snapshot=desk.snapshot(traits=less | {"timezone": "UTC"})))
    assert ("due", "preference") in await desk.outcome()
    assert await desk.send() == []


async def test_what_an_address_has_seen_it_does_not_get_under_its_next_lead(desk: Desk) -> None:
    """N3."""
    item = "case-study-bottling"
    await desk.take(desk.change(FIRST, kind="lead.engaged.v1", content=(item,)))
    await desk.take(desk.change(SECOND))
    assert item not in [content for _, content in await desk.send()]


async def test_what_is_asked_for_again_under_other_names_goes_out_once_an_hour(
    desk: Desk,
) -> None:
    """N12: a stranger asks in the name of an address, as ever new people."""
    playbook = desk.rules.playbook
    live = [program.model_copy(update={"state": "live"}) for program in playbook.programs]
    parts = {name: getattr(playbook, name) for name in Playbook.model_fields}
    desk.use(Playbook(**(parts | {"programs": live})))

    def asking(lead: str, seq: int) -> ChangeEvent:
        asked = LeadRequest(uuid.uuid4().hex, "form_submitted", NOON, "whitepaper-four-kinds")
        return desk.change(lead, seq, kind="lead.engaged.v1", requests=(asked,))

    leads = (FIRST, SECOND, THIRD)
    await desk.take(*(asking(lead, seq) for seq, lead in enumerate(leads, 1)))
    await desk.send(5)
    await desk.take(*(asking(lead, seq) for seq, lead in enumerate(leads, 11)))
    await desk.send(5)
    assert desk.sent == [(ANN, "whitepaper-four-kinds")]
    await desk.do("UPDATE nurture.touch SET sent_at = sent_at - interval '61 minutes'")
    await desk.take(asking(SECOND, 21))
    await desk.send(2)
    assert len(desk.sent) == 2


async def seen(desk: Desk) -> list[tuple[str, str]]:
    """Leads and what they have had."""
    async with desk.engine.connect() as connection:
        found = await rows(connection, "SELECT lead_id::text, content FROM nurture.seen")
    return [tuple(row) for row in found]


async def test_what_is_on_the_wire_counts_however_long_it_was_due(desk: Desk) -> None:
    """N5: sending had been stopped for days."""
    await desk.take(desk.change(FIRST), desk.change(SECOND))
    await desk.do("UPDATE nurture.touch SET due_at = due_at - interval '9 days'")
    claimed = [await desk.make_scheduler()._claim() for _ in range(2)]
    assert [len(touches) for touches, _ in claimed] == [1, 0]
    await desk.do("UPDATE nurture.touch SET sending_since = '2020-01-01' "
                  "WHERE status = 'sending'")  # fmt: skip
    await desk.scheduler.recover()
    await desk.take(desk.change(THIRD))
    assert await desk.outcome() == [
        ("due", "capped"), ("due", "capped"), ("unknown", ""),
    ]  # fmt: skip


async def test_content_that_is_on_the_wire_while_leads_merge_is_seen(desk: Desk) -> None:
    """N3."""
    await desk.take(desk.change(FIRST))
    claimed, _ = await desk.scheduler._claim()
    await desk.take(desk.change(SECOND, 2, kind="lead.merged.v1", merged=(FIRST,)))
    await desk.scheduler._send(claimed)
    assert await seen(desk) == [(SECOND, content) for _, content in desk.sent]
    assert desk.sent


@pytest.mark.parametrize("lost", [OutcomeUnknown("reset"), None], ids=["wire", "process"])
async def test_content_that_may_have_arrived_is_seen(
    desk: Desk, lost: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N3, N11."""

    async def broken(*_: Any) -> Message:
        raise lost or AssertionError

    await desk.take(desk.change(FIRST))
    monkeypatch.setattr(PaperDelivery, "_over_the_wire", broken)
    claimed, _ = await desk.scheduler._claim()
    if lost:
        await desk.scheduler._send(claimed)
    else:
        await desk.do("UPDATE nurture.touch SET sending_since = '2020-01-01'")
        await desk.scheduler.recover()
    assert await desk.outcome() == [("unknown", "")]
    assert await seen(desk) == [(FIRST, claimed[0].touch.content)]


async def test_a_change_waits_for_the_merge_of_its_lead(desk: Desk) -> None:
    """N6: what is decided for it is the surviving lead's, whose refusals bind."""
    for lead in (FIRST, SECOND, THIRD):
        await desk.take(desk.change(lead, kind="lead.engaged.v1"))
    late = desk.change(FIRST, 2, content=("seen-before",))
    merges = [
        desk.change(new, 3, kind="lead.merged.v1", merged=(old,))
        for old, new in ((FIRST, SECOND), (SECOND, THIRD))
    ]
    async with desk.engine.begin() as connection:
        await desk.handler.apply(connection, merges[:1])
        waiting = [asyncio.create_task(desk.take(event)) for event in (merges[1], late)]
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in waiting)
    await asyncio.gather(*waiting)
    async with desk.engine.connect() as connection:
        for table in ("lead", "touch", "seen", "address_lead"):
            found = await rows(connection, f"SELECT lead_id::text AS id FROM nurture.{table}")
            assert {row.id for row in found} == {THIRD}, table
        assert set((await LeadStore(connection, desk.pepper, ()).surviving(
            [FIRST, SECOND, THIRD])).values()) == {THIRD}  # fmt: skip


async def test_a_touch_that_its_leads_merge_has_missed_is_the_surviving_leads(desk: Desk) -> None:
    """N6: through a chain of merges."""
    await desk.take(desk.change(FIRST), desk.change(THIRD, kind="lead.engaged.v1"))
    await desk.do("INSERT INTO nurture.merged VALUES (:first, :second), (:second, :third)",
                  first=FIRST, second=SECOND, third=THIRD)  # fmt: skip
    assert len(await desk.send()) == 1
    assert [lead for lead, _ in await seen(desk)] == [THIRD]


async def test_a_batch_locks_a_lead_before_it_writes_one_of_its_products(desk: Desk) -> None:
    """A claim locks all of them in one order; else each would wait for the other."""

    def engaged(seq: int, product: str) -> ChangeEvent:
        event = desk.change(FIRST, seq, kind="lead.engaged.v1")
        return ChangeEvent(
            id=str(uuid.uuid4()), type=event.type, time=NOON,
            data=replace(event.data, product=product),
        )  # fmt: skip

    await desk.take(engaged(1, "a"), engaged(1, "b"))
    only_a = text("SELECT 1 FROM nurture.lead WHERE product = 'a' FOR UPDATE")
    async with desk.engine.begin() as claim:
        await claim.execute(only_a)
        batch = asyncio.create_task(desk.take(engaged(2, "b")))
        await asyncio.sleep(0.3)
        assert not batch.done()
        await claim.execute(text("SET LOCAL lock_timeout = 2000"))
        await LeadStore(claim, desk.pepper, ()).lock([FIRST])
    await batch


STEPS = st.lists(
    st.sampled_from(["first", "second", "third", "merge 1>2", "merge 2>3", "merge 3>1", "send"]),
    min_size=3, max_size=9,
)  # fmt: skip


@hypothesis_settings(
    max_examples=20, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(STEPS)
async def test_merges_and_splits_in_any_order_leave_what_is_the_addresss(
    desk: Desk, steps: Sequence[str]
) -> None:
    """N5, N11, N14: whoever has the address is capped after one mail, has seen what it has, and is
    paused.
    """
    await desk.do("TRUNCATE nurture.lead, nurture.touch, nurture.seen, nurture.merged, "
                  "nurture.address_lead, nurture.outbox, nurture.pause")  # fmt: skip
    desk.sent.clear()
    leads = dict(zip(("first", "second", "third"), (FIRST, SECOND, THIRD), strict=True))
    until = NOON + timedelta(days=3)
    await desk.take(desk.change(kind="lead.engaged.v1", content=("seen-before",)))
    await desk.do("INSERT INTO nurture.pause VALUES (:lead, :until)",
                  lead=FIRST, until=until)  # fmt: skip
    for seq, step in enumerate(steps, 2):
        if step in leads:
            await desk.take(desk.change(leads[step], seq))
        elif step == "send":
            await desk.send(1)
        else:
            old, new = (list(leads.values())[int(number) - 1] for number in step[6:].split(">"))
            await desk.take(desk.change(new, seq, kind="lead.merged.v1", merged=(old,)))
    new = str(uuid.uuid4())
    await desk.take(desk.change(new, 99))
    async with desk.engine.connect() as connection:
        store = LeadStore(connection, desk.pepper, ())
        known = (await store.leads([LeadKey(new, "default")], NOON))[LeadKey(new, "default")]
    assert desk.sent == []
    assert known.paused_until == until
    assert "seen-before" in known.seen
    await desk.do("DELETE FROM nurture.pause")
    await desk.take(*(desk.change(lead, 100) for lead in (new, *leads.values())))
    await desk.send(5)
    assert len(desk.sent) == 1


# -- spools ---------------------------------------------------------------------------------------

LEASE = """INSERT INTO access.ingest_lease
    VALUES (:name, :spooled, 1, clock_timestamp() - CAST(:age AS interval))"""


@pytest.mark.parametrize(
    ("spooled", "age", "sent"),
    [(False, 0, 1), (True, 0, 0), (False, 6, 0), (True, 6, 0)],
    ids=["empty", "holds records", "not seen", "died with records"],
)
async def test_sending_waits_for_an_ingest_that_holds_records_or_is_not_seen(
    desk: Desk, spooled: bool, age: int, sent: int
) -> None:
    """N6: until it is back, or a person says that it is lost."""
    await desk.take(desk.change())
    lease = {"name": "ingest-1", "spooled": spooled, "age": timedelta(seconds=age)}
    await desk.do(LEASE, **lease)
    assert len(await desk.send()) == sent
    assert await desk.scheduler._claim() == ([], 0)
    variables = {"RIPELINE_DATABASE_URL": desk.settings.database_url.get_secret_value()}

    async def run(*arguments: str) -> Any:
        return await asyncio.to_thread(
            CliRunner().invoke, command_line, ["spool", *arguments], env=variables
        )

    if not sent:
        listed = (await run("list", "--json")).output
        assert '"instance": "ingest-1"' in listed
        assert "sending waits for" in listed
    asked = await run("forget", "ingest-1")
    assert asked.exit_code == 1, "it asks first"
    assert (await run("forget", "ingest-1", "--yes")).exit_code == 0
    assert (await run("forget", "ingest-1", "--yes")).exit_code == 1
    assert len(await desk.send()) == 1


async def test_a_spool_that_fills_between_the_gate_and_the_claim_is_seen(desk: Desk) -> None:
    """N6: the lease is asked in the claim's own transaction."""

    class FillingGate(OpenGate):
        async def is_open(self, wait_s: float = 0) -> bool:
            await desk.do(LEASE, name="ingest-1", spooled=True, age=timedelta())
            return True

    await desk.take(desk.change())
    desk.scheduler._gate = FillingGate()  # type: ignore[assignment]
    await desk.scheduler.send_batch()
    assert desk.sent == []
    assert await desk.outcome() == [("due", "")]
