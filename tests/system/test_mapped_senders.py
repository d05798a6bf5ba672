"""Typeform, HubSpot and mapped senders through the running ingest, signed by the senders' own
libraries or a few lines here (I2).
"""

import asyncio
import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import standardwebhooks
import svix
from sqlalchemy.ext.asyncio import create_async_engine

from services.ingest import senders
from tests.support import present
from tests.support.processes import Process
from tests.support.running_system import System, wait_until

DATA = Path(__file__).parents[1] / "data" / "senders"
FIRM = "https://leads.firm.example"


@pytest.fixture
def environ(system: System) -> dict[str, str]:
    """The settings with which the system runs, as its own commands find them."""
    [state] = system.mail.parents[1].glob("ripeline-*/up.json")
    return dict(json.loads(state.read_text())["environ"])


class Connected:
    """Secrets of senders, put where `ripeline sources connect` puts them."""

    def __init__(self, system: System, environ: dict[str, str]) -> None:
        self._url = system.database.replace("postgresql://", "postgresql+asyncpg://")
        self._vault = senders.Vault(environ["RIPELINE_PEPPER"].encode())
        self.ids: list[str] = []

    async def connect(self, source: str, secret: str) -> None:
        """Connects one, in force after a second."""
        engine = create_async_engine(self._url)
        async with engine.begin() as connection:
            self.ids.append(await senders.connect(connection, self._vault, source, secret))
        await engine.dispose()
        await asyncio.sleep(1.5)

    async def disconnect(self) -> None:
        """Takes all of them back, in a second."""
        engine = create_async_engine(self._url)
        async with engine.begin() as connection:
            await senders.disconnect(connection, self.ids)
        await engine.dispose()
        await asyncio.sleep(1.5)

    def add(self, source: str, secret: str) -> None:
        asyncio.run(self.connect(source, secret))

    def remove(self) -> None:
        asyncio.run(self.disconnect())


@pytest.fixture
def connected(system: System, environ: dict[str, str]) -> Iterator[Connected]:
    """Nobody is connected when the test ends."""
    connected = Connected(system, environ)
    yield connected
    connected.remove()


def send(
    system: System, name: str, body: bytes, headers: dict[str, str] | None = None, **more: Any
) -> httpx.Response:
    given = {"Content-Type": "application/json"} | (headers or {})
    return system.http.post(f"{system.ingest}/v1/hooks/{name}", content=body, headers=given, **more)


def accepted(answer: httpx.Response, count: int = 1) -> list[str]:
    assert answer.status_code == 200, answer.text
    receipt = answer.json()
    assert (receipt["accepted"], receipt["rejected"]) == (count, [])
    return list(receipt["ids"])


def golden(file: str, email: str, **changes: str) -> bytes:
    """A request of the documentation with other words in it."""
    text = (DATA / file).read_text().replace("zoe@plant.example", email)
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text.encode()


def hexed(secret: str, *parts: bytes) -> str:
    return hmac.new(secret.encode(), b"".join(parts), hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("name", "prefix", "library"),
    [("standard-webhooks", "webhook", standardwebhooks.Webhook), ("svix", "svix", svix.Webhook)],
)
def test_what_the_senders_own_library_signs_becomes_a_lead_once(
    system: System, connected: Connected, name: str, prefix: str, library: Any
) -> None:
    secret, email, number = (
        "whsec_" + base64.b64encode(uuid.uuid4().bytes * 2).decode(),
        system.address(),
        f"msg_{uuid.uuid4().hex}",
    )
    now = present.now()
    body = json.dumps(
        {
            "type": "trial.started",
            "timestamp": present.ago(hours=1),
            "data": {"email": email, "plan": "team"},
        }
    )
    headers = {
        f"{prefix}-id": number, f"{prefix}-timestamp": str(int(now.timestamp())),
        f"{prefix}-signature": library(secret).sign(number, now, body),
    }  # fmt: skip
    assert send(system, name, body.encode(), headers).json()["type"].endswith("#not-connected")
    connected.add(name, "whsec_" + base64.b64encode(b"the one before").decode())
    connected.add(name, secret)
    for _ in range(2):  # a repetition is the same event
        assert accepted(send(system, name, body.encode(), headers)) == [number]
    forged = send(system, name, body.replace("team", "Team").encode(), headers)
    assert (forged.status_code, forged.json()["type"].rpartition("#")[2]) == (401, "signature")
    lead = system.wait_for_lead(email=email)
    assert (lead["events_counted"], lead["stage"]) == (1, "decision")
    [event] = [item for item in system.timeline(lead["id"]) if item["kind"] == "event"]
    assert (event["type"], event["source"]) == ("trial_started", f"{name}:default")


def test_a_secret_that_is_taken_back_opens_no_more(system: System, connected: Connected) -> None:
    connected.add("typeform", "first")
    body = golden(
        "typeform.json", email=system.address(), q9w8e7r6t5y4u3i2o1p0q9w8e7r6=uuid.uuid4().hex
    )
    signature = base64.b64encode(hmac.new(b"first", body, hashlib.sha256).digest()).decode()
    accepted(send(system, "typeform", body, {"Typeform-Signature": f"sha256={signature}"}))
    connected.remove()
    refused = send(system, "typeform", body, {"Typeform-Signature": f"sha256={signature}"})
    assert refused.status_code == 401


def test_a_typeform_is_a_lead_with_traits_and_permission(
    system: System, connected: Connected
) -> None:
    """I7: the permission in the words shown."""
    connected.add("typeform", "secret")
    email = system.address("zoe")
    changes = {
        "q9w8e7r6t5y4u3i2o1p0q9w8e7r6": uuid.uuid4().hex,
        "u-77": f"u-{email}",
        "visitor-5": f"v-{email}",
    }
    body = golden(
        "typeform.json", email=email, **changes, **{"2026-01-02T03:04:05Z": present.ago(minutes=5)}
    )
    signature = base64.b64encode(hmac.new(b"secret", body, hashlib.sha256).digest()).decode()
    assert (
        accepted(send(system, "typeform", body, {"Typeform-Signature": f"sha256={signature}"}))
        == list(changes.values())[:1]
    )
    lead = system.wait_for_lead(email=email)
    assert lead["identifiers"]["user_id"] == [f"u-{email}"]
    assert (lead["traits"]["company_size"], lead["traits"]["company"], lead["source"]) == (
        120,
        "Plant Ltd",
        "newsletter",
    )
    assert [(consent["state"], consent["basis"]) for consent in lead["consent"]] == [
        ("given", "form")
    ]


async def test_hubspot_behind_a_proxy_signs_the_public_address(
    system: System, environ: dict[str, str], tmp_path: Path
) -> None:
    """D6: the id identifies the contact before and after its address is known; sales' stage is an
    outcome.
    """
    own = {
        "RIPELINE_PUBLIC_URL": f"{FIRM}/",
        "RIPELINE_SPOOL_DIR": str(tmp_path / "spool"),
        "RIPELINE_HOST": "127.0.0.1",
    }
    ingest, connected = (
        Process("services.ingest", environ | own, tmp_path / "ingest.log"),
        Connected(system, environ),
    )
    await ingest.start()
    try:
        await ingest.ready()
        await connected.connect("hubspot", "client-secret")
        email, contact = system.address(), str(uuid.uuid4().int >> 80)
        now = int(present.now().timestamp() * 1000)
        body = golden(
            "hubspot.json",
            email=email,
            **{'"objectId": 123': f'"objectId": {contact}', "17673230": str(now)[:8]},
        )
        body = b"[" + b",".join(body.strip().split(b",\n")[:4]).lstrip(b"[\n") + b"]"
        signatures = {}
        for address in (f"{FIRM}/v1/hooks/hubspot", f"{ingest.url}/v1/hooks/hubspot"):
            text = b"POST" + address.encode() + body + str(now).encode()
            signatures[address] = base64.b64encode(
                hmac.new(b"client-secret", text, hashlib.sha256).digest()
            ).decode()
        public, private = signatures.values()
        headers = {
            "Content-Type": "application/json",
            "Host": "leads.firm.example",
            "X-HubSpot-Request-Timestamp": str(now),
        }
        async with httpx.AsyncClient(timeout=20) as http:
            url = f"{ingest.url}/v1/hooks/hubspot"
            inside = await http.post(
                url, content=body, headers=headers | {"X-HubSpot-Signature-v3": private}
            )
            assert inside.status_code == 401
            answer = await http.post(
                url, content=body, headers=headers | {"X-HubSpot-Signature-v3": public}
            )
        accepted(answer, 4)
        lead = await asyncio.to_thread(system.wait_for_lead, 4, email=email)
        assert lead["identifiers"]["external_id"] == [{"system": "hubspot", "id": contact}]
        assert lead["traits"]["title"] == "Plant manager"
        assert lead["sales_status"] == "opportunity"
    finally:
        await ingest.stop()
        await connected.disconnect()


def test_zoom_asks_who_is_there_and_then_tells_of_registrations_and_attendance(
    system: System, connected: Connected
) -> None:
    """An attendance that names only the registrant joins the registration."""
    connected.add("zoom", "token")

    def zoom(body: bytes, secret: str = "token") -> httpx.Response:
        stamp = str(int(present.now().timestamp()))
        signature = f"v0={hexed(secret, f'v0:{stamp}:'.encode(), body)}"
        return send(
            system, "zoom", body, {"x-zm-request-timestamp": stamp, "x-zm-signature": signature}
        )

    hello = (
        b'{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"},'
        b'"event_ts":1654503849680}'
    )
    answer = zoom(hello)
    assert answer.status_code == 200
    assert answer.json() == {
        "plainToken": "qgg8vlvZRS6UYooatFL8Aw",
        "encryptedToken": hexed("token", b"qgg8vlvZRS6UYooatFL8Aw"),
    }
    assert zoom(hello, "another").status_code == 401
    email, registrant = system.address(), uuid.uuid4().hex
    changes = {"U0BBBBBBBBBBfrUz1Q": registrant}
    accepted(zoom(golden("zoom_registration.json", email=email, **changes)))
    accepted(
        zoom(
            golden(
                "zoom_joined.json",
                email=email,
                **changes,
                **{"2026-02-03T15:02:03Z": present.ago(minutes=1)},
            )
        )
    )
    lead = system.wait_for_lead(2, email=email)
    types = [item["type"] for item in system.timeline(lead["id"]) if item["kind"] == "event"]
    assert types == ["webinar_registered", "webinar_attended"]
    assert zoom(b'{"event":"webinar.started","payload":{"object":{}}}').json() == {
        "accepted": 0,
        "ids": [],
        "rejected": [],
    }


def test_salesforce_reads_its_acknowledgement_whatever_became_of_the_message(
    system: System, connected: Connected
) -> None:
    connected.add("salesforce", "s3cret")
    email, other = system.address(), system.address("bo")
    changes = {
        "bo@plant.example": other,
        **{id_: uuid.uuid4().hex for id_ in ("04l80000000nrC5BAAU", "04l80000000nrC6BAAU")},
    }
    changes |= {id_: uuid.uuid4().hex for id_ in ("00Q8000000ABCDEEA4", "0038000000ABCDEEA4")}
    xml = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '""'}
    body = golden("salesforce.xml", email=email, **changes)
    assert send(system, "salesforce", body, xml).status_code == 401
    assert send(system, "salesforce", body, xml, params={"secret": "S3cret"}).status_code == 401
    for payload in (body, body[:-20], b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'):
        answer = send(system, "salesforce", payload, xml, params={"secret": "s3cret"})
        assert (answer.status_code, answer.headers["content-type"]) == (
            200,
            "text/xml; charset=utf-8",
        )
        assert "<Ack>true</Ack>" in answer.text
    lead = system.wait_for_lead(email=email)
    assert (lead["sales_status"], lead["traits"]["title"]) == ("disqualified", "Plant manager")
    assert [consent["state"] for consent in system.wait_for_lead(email=other)["consent"]] == [
        "withdrawn"
    ]


def test_calendly_raises_a_hand(system: System, connected: Connected) -> None:
    connected.add("calendly", "signing key")
    email, stamp = system.address(), str(int(present.now().timestamp()))
    changes = {
        "2026-01-02T03:04:05.000000Z": present.ago(minutes=2),
        "invitees/CCCCCCCCCCCCCCCC": f"invitees/{uuid.uuid4().hex}",
    }
    body = golden("calendly_created.json", email=email, **changes)
    signature = hexed("signing key", f"{stamp}.".encode(), body)
    headers = {"Calendly-Webhook-Signature": f"t={stamp},v1={signature}"}
    accepted(send(system, "calendly", body, headers))
    lead = system.wait_for_lead(email=email)
    assert (lead["stage"], lead["source"]) == ("decision", "newsletter")
    stale = str(int(stamp) - 301)
    signature = hexed("signing key", f"{stale}.".encode(), body)
    headers = {"Calendly-Webhook-Signature": f"t={stale},v1={signature}"}
    refused = send(system, "calendly", body, headers)
    assert (refused.status_code, refused.json()["type"].rpartition("#")[2]) == (401, "stale")


def test_a_flow_of_an_automation_tool_brings_an_api_key(system: System) -> None:
    email = system.address()
    body = golden("zapier.json", email=email, **{"4711": str(uuid.uuid4().int >> 80)})
    assert send(system, "zapier", body).status_code == 401
    accepted(send(system, "zapier", body, system.key("secret")))
    lead = system.wait_for_lead(email=email)
    assert (lead["traits"]["machines"], lead["source"]) == (60, "fair")
    broken = send(system, "zapier", b'{"email": {"no": "text"}}', system.key("secret"))
    assert (broken.status_code, broken.json()["where"]) == (400, "/email")


def test_every_mapped_sender_is_in_the_log_book(system: System) -> None:
    """What `ripeline sources` and the page show."""

    async def names() -> set[str]:
        engine = create_async_engine(
            system.database.replace("postgresql://", "postgresql+asyncpg://")
        )
        async with engine.connect() as connection:
            rows = await connection.exec_driver_sql("SELECT name FROM access.source WHERE served")
            known = {row.name for row in rows}
        await engine.dispose()
        return known

    expected = {sender.id for sender in system.playbook.senders} | {"typeform", "hubspot"}
    assert wait_until(lambda: expected <= asyncio.run(names()))
