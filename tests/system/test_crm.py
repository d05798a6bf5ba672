"""Sales and a CRM with the running system: words both ways, write-back to a real receiver, through
a kill (I6, D6, U3, O4).
"""

import asyncio
import os
import signal
import threading
import time
import uuid
from typing import Any

import httpx
from pydantic import SecretStr
from sqlalchemy import text
from standardwebhooks import Webhook

from services.shared.db import open_engine
from services.shared.settings import Settings
from tests.support import present
from tests.support.company import CRM_SECRET
from tests.support.running_system import System, wait_until


def contact() -> dict[str, str]:
    """A record of the CRM that is new."""
    return {"system": "hubspot", "id": uuid.uuid4().hex}


def post_status(system: System, lead: str, scope: str = "query", **status: Any) -> httpx.Response:
    return system.http.post(
        f"{system.scorer}/v1/leads/{lead}/status", json=status, headers=system.key(scope)
    )


def written_back(
    system: System, email: str, number: int = 1, seconds: float = 20
) -> list[dict[str, Any]]:
    """The data of the messages about a lead, once there are so many and each signature holds."""
    got = wait_until(lambda: len(found := system.crm.about(email)) >= number and found, seconds)
    return [dict(Webhook(CRM_SECRET).verify(body, headers)["data"]) for headers, body in got]


async def _end_leases(database: str) -> None:
    """As if the dead writer's time had run out."""
    engine = open_engine(Settings(database_url=SecretStr(database)))
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE scorer.writeback SET due_at = now() WHERE due_at IS NOT NULL")
        )
    await engine.dispose()


def ids(system: System, email: str) -> list[str]:
    return [headers["webhook-id"] for headers, _ in system.crm.about(email)]


def test_sales_word_is_one_fact_by_the_call_and_by_an_event(system: System) -> None:
    """I6: the answer shows it, with either key of ours."""
    email, record, at = system.address(), contact(), present.ago(hours=1)
    system.post_event(
        type="demo_requested", email=email, external_id=record, occurred_at=present.ago(hours=2)
    )
    lead = system.wait_for_lead(email=email)
    for scope in ("query", "secret"):
        answer = post_status(
            system,
            f"hubspot:{record['id']}",
            scope,
            status="opportunity",
            id="deal-1",
            at=at,
            value=900,
        )
        assert answer.status_code == 200, answer.text
        assert (answer.json()["id"], answer.json()["sales_status"]) == (lead["id"], "opportunity")
    system.post_event(id=f"deal-1-{record['id']}", type="page_viewed", email=email)
    event = {
        "id": "deal-1",
        "type": "opportunity_opened",
        "external_id": record,
        "occurred_at": at,
        "properties": {"value": 900},
    }
    assert system.post("/v1/events", json=event).json()["accepted"] == 1
    system.post_event(type="page_viewed", email=email)
    assert system.wait_for_lead(4, email=email)["events_counted"] == 4
    words = [
        item for item in system.timeline(lead["id"]) if item.get("type") == "opportunity_opened"
    ]
    assert [(word["id"], word["conflict"]) for word in words] == [("deal-1", False)]


def test_ingest_asks_for_a_reason_of_the_playbook_too(system: System) -> None:
    """I6: in another spelling it is the same."""
    event = {
        "type": "sales_disqualified",
        "external_id": contact(),
        "properties": {"reason": "bored"},
    }
    answer = system.post("/v1/events", json=event)
    assert answer.status_code == 400
    assert answer.json()["where"] == "/properties/reason"
    assert "no_budget" in answer.json()["detail"]
    event["properties"] = {"reason": "No budget"}
    assert system.post("/v1/events", json=event).json()["accepted"] == 1
    lead = system.wait_for_lead(external_id=event["external_id"])
    assert (lead["sales_status"], lead["sales_reason"]) == ("disqualified", "no_budget")


def test_a_word_on_an_unknown_record_waits_for_its_link(system: System) -> None:
    """D6: nothing is announced or written back before."""
    email, record = system.address(), contact()
    waiting = post_status(
        system, f"hubspot:{record['id']}", status="won", at=present.ago(hours=1)
    ).json()
    assert waiting["stage"] == "customer"
    assert [item["kind"] for item in system.timeline(waiting["id"])] == ["event"]
    system.post_event(type="identified", email=email, external_id=record)
    lead = system.wait_for_lead(2, email=email)
    assert (lead["stage"], lead["sales_status"]) == ("customer", "won")
    assert system.query(f"/v1/leads/hubspot:{record['id']}")["id"] == lead["id"]
    assert written_back(system, email)[0]["fields"] == {
        "our_stage": "customer", "our_chance": "settled", "our_why": "Bought", "our_sales": "won",
    }  # fmt: skip


def test_the_crm_is_told_and_its_echo_ends_there(system: System) -> None:
    """D6: our own fields come back as a change of the contact, and nothing more is written."""
    email, record = system.address(), contact()
    system.post_event(type="demo_requested", email=email, external_id=record)
    (data,) = written_back(system, email)
    assert (data["system"], data["external_id"]) == ("hubspot", record["id"])
    assert data["fields"]["our_stage"] == "decision"
    before = system.wait_for_lead(email=email)
    for name, value in data["fields"].items():
        system.post_event(type="identified", external_id=record, traits={name: value})
        system.post_event(type="identified", email=email, external_id=record, traits={name: value})
    system.post_event(type="identified", email=email, traits={"phone": "1"})
    after = system.wait_for_lead(before["events_counted"] + 5, email=email)
    assert after["traits"] == before["traits"] | {"phone": "1"}
    time.sleep(3)
    assert len(system.crm.about(email)) == 1


def test_a_failure_or_a_redirect_is_repeated_under_the_same_id(system: System) -> None:
    """U3: nobody is led elsewhere."""
    email = system.address()
    system.crm.redirect, system.crm.answers[email] = f"{system.site.url}/led-on", [302]
    system.post_event(type="demo_requested", email=email)
    first, second = written_back(system, email, 2)
    assert len(set(ids(system, email))) == 1
    assert first["fields"] == second["fields"]
    assert "/led-on" not in system.site.requested


def test_a_kill_on_the_wire_repeats_the_message_under_the_same_id(system: System) -> None:
    """O4: the scorer dies while the CRM has the message and has not answered yet."""
    email = system.address()
    system.crm.held[email] = threading.Event()
    system.post_event(type="demo_requested", email=email)
    written_back(system, email)
    os.kill(system.pids["scorer"][0], signal.SIGKILL)
    system.crm.held.pop(email).set()
    asyncio.run(_end_leases(system.database))
    written_back(system, email, 2, seconds=90)
    assert len(set(ids(system, email))) == 1
    post_status(system, system.wait_for_lead(email=email)["id"], status="accepted")
    data = written_back(system, email, 3)[-1]
    assert data["fields"]["our_sales"] == "accepted"
    assert len(set(ids(system, email))) == 2
