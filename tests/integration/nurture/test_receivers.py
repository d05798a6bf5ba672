"""How much mail goes out, and to whom: complaints, answers and ramps, on a real database with a
real mail server (N15).
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from services.nurture.rules.grounds import Rules
from services.nurture.rules.receivers import HOUR
from services.nurture.scheduler import Scheduler
from services.ops.commands import overrides
from services.shared.contracts.events import ConsentChanged, ConsentEvent, keyed_hash
from services.shared.playbook.sections import Playbook
from tests.integration.nurture.test_nurture import NOON, Bench, bench, change, with_parts
from tests.support.smtp_server import SmtpServer

__all__ = ["bench"]


class Post:
    """The bench with a mail server that is no sink, and many leads."""

    def __init__(self, bench: Bench, server: SmtpServer) -> None:
        self.bench, self.server = bench, server
        self.people = 0

    def use(self, playbook: Playbook, **sending: Any) -> None:
        given = playbook.sending.model_copy(update=sending)
        content = [item.model_copy(update={"sample": False}) for item in playbook.content]
        self.bench.use(with_parts(playbook, sending=given, content=content))
        self.bench.rules = Rules.of(self.bench.playbook, sink=False)
        self.bench.scheduler = self.bench.make_scheduler(self.bench.delivery)

    async def leads(self, domain: str, count: int) -> list[str]:
        """Has so many leads at a domain come into a stage; returns their ids."""
        new = [str(uuid.UUID(int=self.people + n + 1)) for n in range(count)]
        self.people += count
        now = type(self.bench.clock).at
        await self.bench.take(
            *(change(lead=one, email=f"p{one[-6:]}@{domain}", cause_at=now) for one in new)
        )
        return new

    async def send(self, batches: int = 4) -> int:
        """Sends what is due; returns how many mails the server has taken by then."""
        for _ in range(batches):
            await self.bench.scheduler.send_batch()
        return len(self.server.mails)

    async def of(self, leads: Sequence[str]) -> dict[tuple[str, str], int]:
        """How many of the leads' touches are in which state, for which reason."""
        found = await self.bench.ask(
            "SELECT status, reason FROM nurture.touch WHERE lead_id = ANY(:ids)",
            ids=[uuid.UUID(lead) for lead in leads],
        )
        return dict(Counter((row.status, row.reason) for row in found))

    async def report(
        self, leads: Sequence[str], basis: str, *, named: bool, purpose: str = "marketing"
    ) -> None:
        """Reports of the mails to these leads, which name the touch or the address alone."""
        found = await self.bench.ask(
            "SELECT id, lead_id FROM nurture.touch WHERE lead_id = ANY(:ids)",
            ids=[uuid.UUID(lead) for lead in leads],
        )
        for row in found:
            email = f"p{str(row.lead_id)[-6:]}@gmail.com"
            said = ConsentChanged(
                address=keyed_hash(self.bench.pepper, f"email:{email}"),
                touch=str(row.id) if named else "",
                channel="email", purpose=purpose, state="withdrawn", basis=basis,
                at=type(self.bench.clock).at,
            )  # fmt: skip
            await self.bench.take(ConsentEvent(id=uuid.uuid4().hex, time=said.at, data=said))

    async def told(self) -> dict[str, Any]:
        """How receivers stand, as people read it."""
        await self.bench.scheduler.told.receivers()
        return {row.receiver: row for row in await self.bench.ask("SELECT * FROM access.receiver")}

    def at(self, moment: Any) -> None:
        self.bench.at(moment)


@pytest.fixture
async def post(bench: Bench) -> AsyncIterator[Post]:
    server = SmtpServer()
    bench.settings = bench.settings.model_copy(
        update={"smtp_url": SecretStr(f"smtp://{await server.start()}")}
    )
    made = Post(bench, server)
    made.use(bench.playbook)
    yield made
    server.close()


@pytest.mark.parametrize("named", [True, False])
async def test_complaints_stop_their_receiver_alone_until_a_person_releases_it(
    post: Post, named: bool
) -> None:
    """N15: two of forty; others go on, and the held mails go out after the release."""
    first = await post.leads("gmail.com", 40)
    assert await post.send() == 40
    await post.report(first[:1], "email_complained", named=named)
    told = (await post.told())["google"]
    assert (told.state, told.sent, told.complained, told.bounced) == ("warning", 40, 1, 0)
    await post.report(first[1:2], "email_complained", named=named)
    await post.report(first[1:2], "email_complained", named=named)  # said twice
    await post.report(first[2:5], "email_bounced", named=named)
    google, firm = await post.leads("googlemail.com", 3), await post.leads("firm.example", 3)
    assert await post.send() == 43
    assert await post.of(google) == {("due", "receiver_stopped"): 3}
    assert await post.of(firm) == {("sent", ""): 3}
    told = (await post.told())["google"]
    assert (told.state, told.sent, told.complained, told.bounced) == ("stopped", 40, 2, 3)
    assert told.why.startswith("2 people called mails spam, of 40 in seven days (5.00%)")
    now = type(post.bench.clock).at
    assert await overrides.release_receiver(post.bench.engine, "google", now)
    assert not await overrides.release_receiver(post.bench.engine, "nobody.example", now)
    assert await post.send() == 46
    assert await post.told() == {}


async def test_one_person_who_complains_of_every_mail_stops_nobody(post: Post) -> None:
    """N15: a report may name the touch and the address, and the last mail may be a later one."""
    first = await post.leads("gmail.com", 4)
    await post.send()
    await post.bench.do(
        "UPDATE nurture.touch SET address = (SELECT min(address) FROM nurture.touch)"
    )
    await post.report(first[:3], "email_complained", named=True)
    assert (await post.told())["google"].complained == 1
    more = await post.leads("gmail.com", 1)
    await post.send()
    assert await post.of(more) == {("sent", ""): 1}


async def test_a_stop_ends_by_itself_when_its_complaints_are_old(post: Post) -> None:
    first = await post.leads("gmail.com", 10)
    await post.send()
    await post.report(first[:2], "email_complained", named=True)
    held = await post.leads("gmail.com", 1)
    await post.send()
    post.at(NOON + HOUR)
    await post.send()
    assert await post.of(held) == {("due", "receiver_stopped"): 1}
    assert "google" in await post.told()
    post.at(NOON + timedelta(days=6, hours=23))
    await post.send()
    assert await post.of(held) == {("due", "receiver_stopped"): 1}
    post.at(NOON + timedelta(days=7, hours=1))
    await post.send()
    assert await post.of(held) == {("sent", ""): 1}
    assert await post.told() == {}


async def test_what_a_receiver_has_against_the_sender_holds_its_mails_and_is_told_with_the_remedy(
    post: Post,
) -> None:
    """N15: tried again after an hour, with nothing lost."""
    post.server.answers["BODY"] = "550 5.7.26 unauthenticated"
    google, firm = await post.leads("gmail.com", 1), await post.leads("firm.example", 1)
    await post.send(1)
    post.server.answers.clear()
    more = await post.leads("gmail.com", 2)
    await post.send()
    assert await post.of([*google, *more]) == {("due", "receiver_stopped"): 3}
    told = (await post.told())["google"]
    assert told.state == "stopped"
    assert "550 5.7.26: mails are not authenticated: publish SPF and DKIM" in told.why
    post.at(NOON + HOUR)
    await post.send()
    assert await post.of([*google, *more, *firm]) == {("sent", ""): 4}
    assert await post.told() == {}


async def test_a_new_sender_sends_more_each_day_and_what_is_held_follows(post: Post) -> None:
    """N15: by two schedulers at once too; a request counts, and does not wait."""
    post.use(post.bench.playbook, first_day=4, daily_growth=2.0, ramp_days=3)
    leads = await post.leads("firm.example", 20)
    other: Scheduler = post.bench.make_scheduler(post.bench.delivery)
    await asyncio.gather(post.bench.scheduler.send_batch(), other.send_batch())
    assert await post.send() == 4
    assert await post.of(leads) == {("sent", ""): 4, ("due", "sender_ramp"): 16}
    midnight = NOON.replace(hour=0)
    for days, expected in ((1, 12), (2, 20)):
        post.at(midnight + timedelta(days=days, hours=7))
        await post.send()
        assert await post.send() == expected


async def test_a_receiver_gets_its_share_of_an_hour_and_others_go_on(post: Post) -> None:
    """N15."""
    post.use(post.bench.playbook, per_hour=3)
    firm, gmail = await post.leads("firm.example", 5), await post.leads("gmail.com", 2)
    assert await post.send() == 5
    assert await post.of(firm) == {("sent", ""): 3, ("due", "receiver_rate"): 2}
    assert await post.of(gmail) == {("sent", ""): 2}
    post.at(NOON + timedelta(minutes=59))
    assert await post.send() == 5
    post.at(NOON + timedelta(minutes=61))
    assert await post.send() == 7


async def test_a_mail_that_is_refused_at_once_has_come_back(post: Post) -> None:
    post.server.answers["RCPT"] = "550 5.1.1 nobody"
    leads = await post.leads("firm.example", 1)
    await post.send()
    assert await post.of(leads) == {("failed", ""): 1}
    told = (await post.told())["firm.example"]
    assert (told.state, told.sent, told.bounced) == ("ok", 0, 1)


async def test_a_mail_that_comes_back_later_holds_its_receiver_where_it_is_about_the_sender(
    post: Post,
) -> None:
    """N15: by the return path, or a mail tool; it is no refusal of the lead."""
    google, other = await post.leads("gmail.com", 2), await post.leads("firm.example", 1)
    await post.send()
    for leads, basis in ((google, "email_bounced 5.7.515"), (other, "email_bounced 4.2.2")):
        await post.report(leads[:1], basis, named=True, purpose="delivery")
    told = await post.told()
    assert (told["google"].state, told["google"].bounced) == ("stopped", 1)
    assert told["google"].why.startswith("a mail came back with 5.7.515: the domain does not meet")
    assert (told["firm.example"].state, told["firm.example"].bounced) == ("ok", 1)
    held, firm = await post.leads("gmail.com", 1), await post.leads("firm.example", 1)
    await post.send()
    assert await post.of([*held, *firm]) == {("due", "receiver_stopped"): 1, ("sent", ""): 1}
    post.at(NOON + HOUR)
    await post.send()
    assert await post.of(held) == {("sent", ""): 1}
    assert await post.bench.ask("SELECT 1 FROM nurture.consent") == []
    assert await post.bench.ask("SELECT 1 FROM nurture.touch WHERE refused_at IS NOT NULL") == []
