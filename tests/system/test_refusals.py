"""After a 2xx on a refusal no mail to that person starts, whatever stands still (N6)."""

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from services.ops.__main__ import app as command_line
from tests.support import present
from tests.support.refusals import visit
from tests.support.replica import Replica
from tests.support.running_system import ON_SITE_S, System, wait_until

SOON_S = ON_SITE_S + 3  # within which a mail leaves that nothing holds up


@pytest.fixture
async def replica(system: System, tmp_path: Path) -> AsyncIterator[Replica]:
    """One more ingest, whose broker is away."""
    replica = Replica(system, "ingest", tmp_path)
    replica.database.open()
    await replica.process.start()
    await replica.process.ready()
    yield replica
    replica.broker.close()
    replica.broker.open()
    await until_nothing_waits(replica)
    assert await replica.process.stop() == 0, replica.process.tail()
    replica.database.close()
    replica.broker.close()


async def until_nothing_waits(replica: Replica) -> None:
    """Waits until its spool is empty."""
    async with httpx.AsyncClient() as http:
        while (
            "ripeline_spool_records 0.0"
            not in (await http.get(f"{replica.process.url}/metrics")).text
        ):
            await asyncio.sleep(0.1)


def ask_for_a_demo(system: System, email: str, **who: Any) -> None:
    """A person permits mails and does what brings one at once."""
    system.post_event(
        type="demo_requested", email=email, consent=[{"state": "given", "basis": "form"}],
        traits={"timezone": present.midday_zone(), "name": "Ann Ames"}, **who,
    )  # fmt: skip


def ripeline(system: System, *arguments: str) -> str:
    """What a command of ours prints."""
    variables = {"RIPELINE_DATABASE_URL": system.database}
    ran = CliRunner().invoke(command_line, arguments, env=variables)
    assert ran.exit_code == 0, ran.output
    return ran.output


@contextmanager
def braked(system: System) -> Iterator[None]:
    """Nothing is sent meanwhile."""
    ripeline(system, "brake", "on")
    try:
        yield
    finally:
        ripeline(system, "brake", "off")


@contextmanager
def frozen(pids: Sequence[int]) -> Iterator[None]:
    """These processes stand still meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_a_refusal_in_a_spool_holds_up_sending_also_when_its_ingest_is_killed(
    system: System, replica: Replica
) -> None:
    """The refusal names a user id alone, and the spool's ingest cannot reach the broker."""
    email, user = system.address(), f"u-{uuid.uuid4().hex}"
    async with httpx.AsyncClient(timeout=20) as http:

        async def post(**body: Any) -> None:
            answer = await http.post(
                f"{replica.process.url}/v1/events",
                json=visit(**body),
                headers=system.key("public"),
            )
            assert answer.status_code == 200, answer.text

        await post(type="unsubscribed", user_id=f"somebody-{user}")
        await asyncio.to_thread(ask_for_a_demo, system, email, user_id=user)
        lead = await asyncio.to_thread(system.wait_for_lead, email=email)
        touch = await asyncio.to_thread(wait_until, lambda: system.touches(lead["id"]))
        assert touch[0]["status"] == "due"
        await post(type="unsubscribed", user_id=user)
    replica.process.signal(signal.SIGKILL)
    await asyncio.sleep(SOON_S)
    assert system.mails(email) == []
    assert "sending waits" in await asyncio.to_thread(ripeline, system, "spool", "list", "--json")
    await replica.process.ready()
    await asyncio.sleep(SOON_S)
    assert system.mails(email) == []
    replica.broker.open()
    withheld = await asyncio.to_thread(
        wait_until, lambda: system.touches(lead["id"], status="withheld")
    )
    assert withheld[0]["reason"] == "no_consent"
    assert system.mails(email) == []
    other = system.address()
    await asyncio.to_thread(ask_for_a_demo, system, other)
    await asyncio.to_thread(wait_until, lambda: system.mails(other))


def test_a_refusal_by_an_id_that_the_scorer_has_still_to_link_is_not_overtaken(
    system: System,
) -> None:
    """N6: nor do refusals by ids that nobody has stop anything."""
    email, user = system.address(), f"u-{uuid.uuid4().hex}"
    with braked(system):
        ask_for_a_demo(system, email)
        lead = system.wait_for_lead(email=email)["id"]
        wait_until(lambda: system.touches(lead, status="due"))
        with frozen(system.pids["scorer"]):
            system.post_event(type="identified", email=email, user_id=user)
            system.post_event(type="unsubscribed", user_id=user)
            ripeline(system, "brake", "off")
            time.sleep(SOON_S)
            assert system.mails(email) == []
            assert system.touches(lead, status="due")
        (touch,) = wait_until(lambda: system.touches(lead, status="withheld"))
    assert touch["reason"] == "no_consent"
    assert system.mails(email) == []
    other = system.address()
    ask_for_a_demo(system, other)

    def is_there() -> bool:
        system.post_event(type="unsubscribed", user_id=f"nobody-{uuid.uuid4().hex}")
        return bool(system.mails(other))

    wait_until(is_there)


@pytest.mark.parametrize("kind", ["user_id", "anonymous_id", "external_id"])
def test_a_refusal_that_names_an_id_alone_is_not_overtaken_while_the_scorer_stands(
    system: System, kind: str
) -> None:
    """N6."""
    email, name = system.address(), f"n-{uuid.uuid4().hex}"
    who: Any = {"system": "crm", "id": name} if kind == "external_id" else name
    with braked(system):
        ask_for_a_demo(system, email, **{kind: who})
        lead = system.wait_for_lead(email=email)["id"]
        wait_until(lambda: system.touches(lead, status="due"))
        refused = {"id": uuid.uuid4().hex, "type": "unsubscribed", kind: who}
        with frozen(system.pids["scorer"]):
            assert system.post("/v1/events", json=refused).status_code == 200
            ripeline(system, "brake", "off")
            (touch,) = wait_until(lambda: system.touches(lead, status="withheld"))
    assert touch["reason"] == "no_consent"
    assert system.mails(email) == []
