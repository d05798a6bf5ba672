"""Mail tools through the running ingest: people, touches and refusals arrive, and nobody else
gets in (I2, I5, I7, N6).
"""

import asyncio
import json
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from services.ingest.senders import Vault, connect, disconnect
from services.ingest.sources import mailchimp, mailgun, postmark, sendgrid
from services.ingest.sources.contract import Sample, Source
from services.ops.embedded.state import running_system
from tests.support import present
from tests.support.running_system import System, wait_until

T = TypeVar("T")
TOOLS = {
    source.name: source
    for source in (sendgrid.SOURCE, mailgun.SOURCE, postmark.SOURCE, mailchimp.SOURCE)
}
TAKES_EFFECT_S = 5


class Tools:
    """The four tools, each connected with a secret of its own."""

    def __init__(self, system: System, pepper: str) -> None:
        self.system, self._vault = system, Vault(pepper.encode())
        self.signers: dict[str, str] = {}
        self.ids: dict[str, str] = {}
        for name in TOOLS:
            self.signers[name], self.ids[name] = self.connect(name)

    def connect(self, name: str) -> tuple[str, str]:
        """A new secret beside those in force: (what signs, its id)."""
        make = TOOLS[name].new_secret
        assert make
        signer, verifier = make()
        number = self._run(lambda connection: connect(connection, self._vault, name, verifier))
        wait_until(
            lambda: (
                self.post(name, self.signed(name, self.sample(name), signer)).status_code == 200
            ),
            TAKES_EFFECT_S,
        )
        return signer, number

    def disconnect(self, name: str, number: str, signer: str) -> None:
        """Takes a secret back."""
        assert self._run(lambda connection: disconnect(connection, [number])) == 1
        wait_until(
            lambda: (
                self.post(name, self.signed(name, self.sample(name), signer)).status_code == 401
            ),
            TAKES_EFFECT_S,
        )

    def _run(self, act: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async def run() -> T:
            engine = create_async_engine(
                self.system.database.replace("postgresql:", "postgresql+asyncpg:")
            )
            async with engine.begin() as connection:
                done = await act(connection)
            await engine.dispose()
            return done

        return asyncio.run(run())

    def sample(self, name: str) -> Sample:
        """A request about somebody who is in no test."""
        make = TOOLS[name].sample
        assert make
        return make(f"nobody@{name}.example", present.now())

    def signed(self, name: str, sample: Sample, signer: str = "") -> Sample:
        """The request as the tool signs it."""
        source: Source = TOOLS[name]
        assert source.sign
        return source.sign(
            sample,
            signer or self.signers[name],
            self.system.ingest + source.paths[0],
            present.now(),
        )

    def post(self, name: str, sample: Sample, method: str = "POST") -> httpx.Response:
        """The answer of ingest."""
        headers = {"Content-Type": sample.media, **sample.headers}
        url = self.system.ingest + TOOLS[name].paths[0]
        return self.system.http.request(
            method, url, content=sample.body, headers=headers, params=dict(sample.query)
        )

    def say(self, name: str, body: Any) -> httpx.Response:
        """Posts JSON, or for Mailchimp a form, signed."""
        encoded = httpx.QueryParams(body) if name == "mailchimp" else json.dumps(body)
        media = "application/x-www-form-urlencoded" if name == "mailchimp" else "application/json"
        return self.post(name, self.signed(name, Sample(str(encoded).encode(), media)))


@pytest.fixture(scope="module")
def tools(system: System) -> Iterator[Tools]:
    before, tempfile.tempdir = tempfile.tempdir, str(system.mail.parents[1])
    running = running_system()
    tempfile.tempdir = before
    assert running
    made = Tools(system, running.environ["RIPELINE_PEPPER"])
    yield made
    for name, number in made.ids.items():
        made.disconnect(name, number, made.signers[name])


def seconds() -> int:
    return int(present.now().timestamp())


def clock() -> str:
    return f"{present.now():%Y-%m-%dT%H:%M:%SZ}"


def leaving(name: str, email: str) -> Any:
    """How somebody's leaving is reported by each tool."""
    return {
        "sendgrid": [{"email": email, "timestamp": seconds(), "event": "unsubscribe",
        "sg_event_id": uuid.uuid4().hex}],
        "mailgun": {
            "event-data": {"event": "unsubscribed", "id": uuid.uuid4().hex, "timestamp": seconds(),
            "recipient": email}
        },
        "postmark": {
            "RecordType": "SubscriptionChange", "ChangedAt": clock(), "Recipient": email,
            "Origin": "Recipient",
            "SuppressSending": True, "SuppressionReason": "ManualSuppression",
        },
        "mailchimp": {
            "type": "unsubscribe", "fired_at": clock().replace("T", " ").rstrip("Z"),
            "data[email]": email,
            "data[action]": "unsub",
        },
    }[name]  # fmt: skip


def useless(name: str) -> Any:
    """A request without anything acceptable."""
    return {
        "sendgrid": [{"event": "won", "email": "ann@example.com"}],
        "mailgun": {"event-data": {"event": "won", "recipient": "ann@example.com"}},
        "postmark": {"RecordType": "Inbound", "FromFull": {"Email": "ann@example.com"}},
        "mailchimp": {"type": "won", "data[email]": "ann@example.com"},
    }[name]


def kind(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).rpartition("#")[2]


@pytest.mark.parametrize("name", TOOLS)
def test_who_leaves_by_a_tool_is_a_lead_that_refuses_mail(tools: Tools, name: str) -> None:
    """N6: and the same request again changes nothing."""
    system = tools.system
    email = system.address(name)
    body = leaving(name, email)
    for _ in range(2):
        answer = tools.say(name, body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["accepted"] == 1
    lead = system.wait_for_lead(email=email)
    assert {
        (consent["channel"], consent["purpose"], consent["state"]) for consent in lead["consent"]
    } == {("email", "marketing", "withdrawn")}
    assert [item["type"] for item in system.timeline(lead["id"]) if item["kind"] == "event"] == [
        "unsubscribed"
    ]


@pytest.fixture(scope="module")
def nurtured(tools: Tools) -> tuple[str, str, str]:
    """(address, lead, touch) of somebody who agreed, asked for a demo and was written to."""
    system = tools.system
    email = system.address()
    agreed = [{"state": "given", "basis": "form"}]
    system.post_event(
        type="demo_requested",
        email=email,
        traits={"timezone": present.midday_zone()},
        consent=agreed,
    )
    lead = system.wait_for_lead(email=email)["id"]
    touch = wait_until(lambda: next(iter(system.touches(lead, status="sent")), None))
    return email, lead, touch["id"]


def test_what_a_tool_tells_of_our_mail_answers_its_touch(
    tools: Tools, nurtured: tuple[str, str, str]
) -> None:
    """I7, I5: by what the mail itself carries; a machine's open is recorded and flagged."""
    system, (email, lead, touch) = tools.system, nurtured
    mail = wait_until(lambda: system.mails(email, touch))[0]
    argument = json.loads(mail["X-SMTPAPI"])["unique_args"]
    variable = json.loads(mail["X-Mailgun-Variables"])
    sample = {"email": email, "timestamp": seconds(), **argument}
    opened = {"event": "open", "sg_machine_open": True, "sg_event_id": uuid.uuid4().hex}
    clicked = {
        "event": "clicked",
        "id": uuid.uuid4().hex,
        "recipient": email,
        "timestamp": seconds(),
        "user-variables": variable,
    }
    delivered = {
        "event": "delivered", "id": uuid.uuid4().hex, "recipient": email, "timestamp": seconds(),
        "message": {"headers": {"message-id": mail["Message-ID"].strip("<>")}},
    }  # fmt: skip
    seen = {
        "RecordType": "Open",
        "Recipient": email,
        "ReceivedAt": clock(),
        "Metadata": {"touch_id": mail["X-PM-Metadata-touch_id"]},
    }
    for name, body in (
        ("sendgrid", [sample | opened]),
        ("mailgun", {"event-data": clicked}),
        ("mailgun", {"event-data": delivered}),
        ("postmark", seen),
    ):
        assert tools.say(name, body).status_code == 200
    system.wait_for_lead(5, email=email)
    events = [
        item
        for item in system.timeline(lead)
        if item["kind"] == "event" and item["touch_id"] == touch
    ]
    names = sorted(
        (item["source"].partition(":")[0], item["type"], item["read_as"], item["machine"])
        for item in events
    )
    assert names == [
        ("mailgun", "email_clicked", "click", False),
        ("mailgun", "email_delivered", None, False),
        ("postmark", "email_opened", "open", False),
        ("sendgrid", "email_opened", "open", True),
    ]


def test_a_complaint_to_a_tool_stops_the_next_mail(
    tools: Tools, nurtured: tuple[str, str, str]
) -> None:
    """N6."""
    system, (email, lead, _) = tools.system, nurtured
    complaint = {
        "email": email,
        "timestamp": seconds(),
        "event": "spamreport",
        "sg_event_id": uuid.uuid4().hex,
    }
    assert tools.say("sendgrid", [complaint]).status_code == 200
    wait_until(
        lambda: (
            "withdrawn"
            in {consent["state"] for consent in system.query(f"/v1/leads/{lead}")["consent"]}
        )
    )
    system.post_event(type="purchased", email=email)
    touch = wait_until(
        lambda: next(
            (touch for touch in system.touches(lead) if touch["stage"] == "customer"), None
        )
    )
    assert (touch["status"], touch["reason"]) == ("withheld", "no_consent")


def test_mailguns_token_serves_one_body_only(tools: Tools) -> None:
    """Its signature does not cover the event: a caught one must not carry another."""
    system = tools.system
    email, victim = system.address(), system.address("victim")
    caught = tools.signed(
        "mailgun", Sample(json.dumps(leaving("mailgun", email)).encode(), "application/json")
    )
    assert tools.post("mailgun", caught).status_code == 200
    assert tools.post("mailgun", caught).status_code == 200
    forged = json.loads(caught.body) | leaving("mailgun", victim)
    answer = tools.post("mailgun", caught._replace(body=json.dumps(forged).encode()))
    assert (answer.status_code, kind(answer)) == (406, "replayed")
    assert system.wait_for_lead(email=email)["events_counted"] == 1
    assert system.lookup(email=victim) is None


@pytest.mark.parametrize(
    ("name", "status"), [("sendgrid", 200), ("mailgun", 406), ("postmark", 403), ("mailchimp", 200)]
)
def test_what_can_never_be_accepted_is_answered_so_that_the_tool_stops(
    tools: Tools, name: str, status: int
) -> None:
    answer = tools.say(name, useless(name))
    assert answer.status_code == status, answer.text
    [rejected] = answer.json()["rejected"]
    assert rejected["problem"]["title"]
    assert rejected["problem"]["detail"]


def test_a_body_that_is_no_batch_is_answered_so_that_sendgrid_stops(tools: Tools) -> None:
    for body in (b"", b"[", b"[]"):
        answer = tools.post("sendgrid", tools.signed("sendgrid", Sample(body, "application/json")))
        assert (answer.status_code, answer.json()["accepted"], len(answer.json()["rejected"])) == (
            200,
            0,
            1,
        )


@pytest.mark.parametrize("name", TOOLS)
def test_who_does_not_know_the_secret_does_not_get_in(tools: Tools, name: str) -> None:
    system = tools.system
    email = system.address("unknown")
    body = leaving(name, email)
    encoded = str(httpx.QueryParams(body)) if name == "mailchimp" else json.dumps(body)
    plain = Sample(encoded.encode(), TOOLS[name].sample("a@b.example", present.now()).media)  # type: ignore[misc]
    other = TOOLS[name].new_secret
    assert other
    for sample in (plain, tools.signed(name, plain, other()[0])):
        answer = tools.post(name, sample)
        assert (answer.status_code, kind(answer)) == (401, "signature"), answer.text
    assert system.lookup(email=email) is None


def test_mailchimp_is_answered_when_it_asks_who_is_there(tools: Tools) -> None:
    nothing = Sample(b"", "")
    assert tools.post("mailchimp", tools.signed("mailchimp", nothing), "GET").status_code == 200
    assert tools.post("mailchimp", nothing, "GET").status_code == 200
    assert (
        tools.post("mailchimp", nothing._replace(query={"secret": "another"}), "GET").status_code
        == 401
    )
    assert tools.post("sendgrid", nothing, "GET").status_code == 405


def test_a_secret_is_changed_without_losing_or_doubling_an_event(tools: Tools) -> None:
    """Both fit while it changes; an event signed under both counts once; afterwards the old one is
    worth nothing.
    """
    system = tools.system
    email = system.address()
    sample = Sample(json.dumps(leaving("postmark", email)).encode(), "application/json")
    old, number = tools.signers["postmark"], tools.ids["postmark"]
    assert tools.post("postmark", tools.signed("postmark", sample)).status_code == 200
    tools.signers["postmark"], tools.ids["postmark"] = tools.connect("postmark")
    assert tools.post("postmark", tools.signed("postmark", sample)).status_code == 200
    assert tools.post("postmark", tools.signed("postmark", sample, old)).status_code == 200
    tools.disconnect("postmark", number, old)
    assert tools.post("postmark", tools.signed("postmark", sample)).status_code == 200
    system.post_event(type="page_viewed", email=email)
    assert system.wait_for_lead(2, email=email)["events_counted"] == 2
