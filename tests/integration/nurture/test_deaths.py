"""Real deaths of nurture and of the mail server at each step of a delivery: nothing goes out twice,
and what may have arrived is told (N6, N11).
"""

import os
import signal
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from email import message_from_bytes
from itertools import pairwise

import pytest

from services.shared.settings import Settings
from tests.integration.nurture.test_nurture import (
    LEAD,
    NOON,
    Bench,
    bench,
    by_webhook,
    change,
    engaged,
    stops,
)
from tests.integration.nurture.test_programs import DAY, live, planner
from tests.support.sending import send_due
from tests.support.smtp_server import BODY, SmtpServer

__all__ = ["bench"]
# a fault point, or the command before whose answer the process dies: how the touch ends, and how
# many mails there are of it
OF_MAIL = {
    "before_claim_commit": ("sent", 1),
    "between_sending_and_wire": ("unknown", 0),
    "CONNECT": ("unknown", 0),
    "EHLO": ("unknown", 0),
    "MAIL": ("unknown", 0),
    "RCPT": ("unknown", 0),
    "DATA": ("unknown", 0),
    BODY: ("unknown", 1),
    "between_wire_and_outcome": ("unknown", 1),
    "before_outcome_commit": ("unknown", 1),
}
# ... and how often it is posted
OF_WEBHOOK = {
    "before_claim_commit": 1,
    "between_sending_and_wire": 1,
    "POST": 2,
    "between_wire_and_outcome": 2,
    "before_outcome_commit": 2,
}


@pytest.fixture
async def server(bench: Bench) -> AsyncIterator[SmtpServer]:
    """The bench's mail server, which answers as the test says."""
    started = SmtpServer()
    given = {"smtp_url": f"smtp://{await started.start()}"}
    bench.settings = Settings(**(bench.settings.model_dump() | given))
    bench.use(bench.playbook)
    bench.hook.heard = lambda step: None
    started.heard = lambda step: bench.hook.heard(step)
    yield started
    started.close()


class Killer:
    """Kills a process when it comes to a step for the first time; called with its number."""

    def __init__(self, step: str) -> None:
        self.pid, self._step = 0, step

    def __call__(self, pid: int) -> None:
        self.pid = pid

    def heard(self, step: str) -> None:
        if step == self._step:
            self._step = ""
            os.kill(self.pid, signal.SIGKILL)


async def dies(bench: Bench, step: str) -> None:
    """A process of nurture sends what is due, and dies at this step; long enough ago."""
    killer = Killer(step)
    bench.hook.heard = killer.heard
    fault = "" if step.isupper() else step
    code = await send_due(bench.settings, bench.playbook, bench.clock.at, fault, killer)
    assert code == -signal.SIGKILL
    await bench.do("UPDATE nurture.touch SET sending_since = sending_since - interval '1 day'")


async def another(bench: Bench) -> None:
    """Another process goes on."""
    for _ in range(2):
        await bench.make_scheduler().recover()
        await bench.make_scheduler().send_batch()


async def told(bench: Bench) -> list[tuple[str, str]]:
    """What others are told of touches that are over."""
    return [
        (event.data.id, event.data.status)
        for event in await bench.events()
        if event.type != "touch.decided.v1"
    ]


@pytest.mark.parametrize("step", OF_MAIL)
async def test_whichever_step_nurture_dies_at_no_mail_goes_out_twice(
    bench: Bench, server: SmtpServer, step: str
) -> None:
    """N11: what may have arrived is unknown, and others are told once."""
    await bench.take(change())
    await dies(bench, step)
    await another(bench)
    status, mails = OF_MAIL[step]
    (touch,) = await bench.touches()
    assert (touch.status, len(server.mails)) == (status, mails)
    assert await told(bench) == [(str(touch.id), status)]


async def test_who_tells_that_a_mail_is_unknown_may_die_too(
    bench: Bench, server: SmtpServer
) -> None:
    """N11: and nobody else's mail waits for it."""
    await bench.take(change())
    await dies(bench, BODY)
    await bench.take(change(lead=str(uuid.UUID(int=8)), email="bob@firm.example"))
    await dies(bench, "before_recovery_commit")
    await another(bench)
    assert sorted(status for _, status in await told(bench)) == ["sent", "unknown"]
    assert len({mail.partition(b"\r\nTo: ")[2][:3] for mail in server.mails}) == 2
    assert len(server.mails) == 2


@pytest.mark.parametrize("step", OF_WEBHOOK)
async def test_whichever_step_nurture_dies_at_a_webhook_is_repeated_under_its_id(
    bench: Bench, step: str
) -> None:
    """N7, N11."""
    bench.use(by_webhook(bench.playbook))
    await bench.take(change())
    await dies(bench, step)
    await another(bench)
    (touch,) = await bench.touches()
    assert await told(bench) == [(str(touch.id), "sent")]
    ids = [headers["webhook-id"] for headers, _ in bench.hook.got]
    assert ids == [str(touch.id)] * OF_WEBHOOK[step]
    assert len({body for _, body in bench.hook.got}) == 1


@pytest.mark.parametrize("step", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", BODY])
async def test_whichever_step_the_mail_server_dies_at_no_mail_is_lost_or_doubled(
    bench: Bench, server: SmtpServer, step: str
) -> None:
    """N6, N11: what it cannot have taken waits until it is back; the rest is unknown."""
    port = int(bench.settings.smtp_url.get_secret_value().rpartition(":")[2])
    await bench.take(change())
    server.heard = lambda verb: server.close() if verb == step else None
    await bench.scheduler.send_batch()
    (touch,) = await bench.touches()
    assert touch.status == ("unknown" if step == BODY else "due")
    bench.at(NOON + timedelta(seconds=30))
    await bench.scheduler.send_batch()  # it is still away
    server.heard = lambda verb: None
    await server.start(port)
    bench.at(max([bench.clock.at, *(stop.retry_at for stop in await stops(bench))]))
    for _ in range(2):
        await bench.scheduler.send_batch()
    (touch,) = await bench.touches()
    assert touch.status == ("unknown" if step == BODY else "sent")
    assert len(server.mails) == 1


@pytest.mark.parametrize("step", ["between_sending_and_wire", BODY])
async def test_after_a_death_the_clock_set_forward_by_weeks_brings_one_mail_at_a_time(
    bench: Bench, server: SmtpServer, step: str
) -> None:
    """N9, N11: also where all changes are read again from the beginning."""
    story = [change(), engaged(2), change("consideration", seq=2, version=3)]
    await bench.take(*story)
    await dies(bench, step)
    bench.at(NOON + 35 * DAY)
    await bench.take(*story, *reversed(story))
    await planner(bench).plan()
    await another(bench)
    await live(bench, NOON + 60 * DAY)
    await only_once(bench, server)
    moments = sorted(one.sent_at for one in await bench.touches() if one.sent_at)
    assert len(moments) >= 3
    assert moments[0] == NOON + 35 * DAY  # it may have arrived as late as that
    assert all(after - before >= 2 * DAY for before, after in pairwise(moments))


@pytest.mark.parametrize("step", ["before_claim_commit", BODY, "before_outcome_commit"])
@pytest.mark.parametrize("merged_first", [True, False])
async def test_after_a_death_two_leads_that_become_one_go_on_as_one(
    bench: Bench, server: SmtpServer, step: str, merged_first: bool
) -> None:
    """N11: whether the touch on the wire is found before the merge or after it."""
    other = str(uuid.UUID(int=8))
    await bench.take(change(), change(lead=other, email="bob@firm.example"))
    await dies(bench, step)
    merge = change(kind="lead.merged.v1", lead=other, merged=(LEAD,), seq=0, version=5)
    for turn in (True, False):
        if turn is merged_first:
            await bench.take(merge, merge)
        else:
            await another(bench)
    await live(bench, NOON + 40 * DAY)
    await only_once(bench, server)
    seen = [one.content for one in await bench.touches() if one.status in ("sent", "unknown")]
    assert len({*seen[1:]}) == len(seen) - 1 >= 3  # each lead had the first before
    assert {str(one.lead_id) for one in await bench.touches()} == {other}


async def only_once(bench: Bench, server: SmtpServer) -> None:
    """Each place has one touch, each touch one mail, and nothing is left on the wire."""
    touches = await bench.touches()
    assert len({(one.announcement_id, one.program) for one in touches}) == len(touches)
    assert {one.status for one in touches} <= {"sent", "unknown", "withheld", "due"}
    mails = [message_from_bytes(mail)["X-Ripeline-Touch"] for mail in server.mails]
    assert len({*mails}) == len(mails)
    sent = {str(one.id) for one in touches if one.status == "sent"}
    assert sent <= {*mails} <= {str(one.id) for one in touches}
