"""Invented identities: they join nobody, count once and make no new series."""

import time
import uuid

from tests.support.ingest_process import IngestProcess
from tests.support.refusals import visit
from tests.support.running_system import System


def test_merge_everyone_through_a_shared_anonymous_id(system: System) -> None:
    """D2: an attacker who puts one cookie into many forms joins nobody with anybody."""
    cookie = f"shared-{uuid.uuid4().hex}"
    people = [system.address(f"person{number}") for number in range(5)]
    for email in people:
        system.post_event(type="form_submitted", email=email, anonymous_id=cookie)
    leads = [system.wait_for_lead(email=email) for email in people]
    assert len({lead["id"] for lead in leads}) == len(people)
    system.post_event(type="demo_requested", anonymous_id=cookie)
    time.sleep(1)
    assert [system.wait_for_lead(email=email)["events_counted"] for email in people] == [1] * len(
        people
    )


def test_the_same_id_with_another_body(system: System) -> None:
    """One fact, one event: the second body counts no second time."""
    email, name = system.address(), uuid.uuid4().hex
    for number in range(3):
        answer = system.post(
            "/v1/events",
            json={
                "id": name,
                "type": "page_viewed",
                "email": email,
                "url": f"https://a.example/{number}",
            },
        )
        assert answer.status_code == 200
    system.post_event(type="noted", email=email)
    lead = system.wait_for_lead(2, email=email)
    assert lead["events_counted"] == 2


def test_a_million_distinct_ids_make_no_new_series(ingest: IngestProcess) -> None:
    """Cardinality: whatever people invent, no metric has it for a label. Tens of thousands show it
    as well as a million.
    """

    def series() -> int:
        return len(ingest.http.get(f"{ingest.url}/metrics").text.splitlines())

    ingest.post("/v1/events", json=[visit(), {"type": ""}])
    before = series()
    for _ in range(4):
        many = [
            visit(id=uuid.uuid4().hex, type=f"t{uuid.uuid4().hex}", source=uuid.uuid4().hex)
            for _ in range(10_000)
        ]
        assert ingest.post("/v1/events", json=many).json()["accepted"] == 10_000
    for number in range(50):
        ingest.http.post(f"{ingest.url}/v1/{uuid.uuid4().hex}", json={})
        ingest.post(
            f"/v1/forms/{uuid.uuid4().hex}", "public", data={"email": f"a{number}@b.example"}
        )
    assert series() <= before + 5
