"""Questions that make no sense, and cursors that are stale, bent or of another list (U3)."""

import uuid
from functools import partial

import httpx
import pytest

from tests.support import present
from tests.support.refusals import JSON, refused
from tests.support.running_system import System, wait_until


def test_an_unknown_lead_is_a_404(system: System) -> None:
    lead = uuid.uuid4()
    for path in ("", "/explain", "/timeline"):
        refused(
            system.http.get(f"{system.scorer}/v1/leads/{lead}{path}", headers=system.key("query")),
            404,
            "not-found",
        )
    for body in (
        {"email": "nobody@nowhere.example"},
        {"email": "no address"},
        {"user_id": "null"},
        {"user_id": "a\0b"},
    ):
        found = system.http.post(
            f"{system.scorer}/v1/leads/lookup", json=body, headers=system.key("query")
        )
        refused(found, 404, "not-found")
    assert system.touches(str(lead)) == []


def test_a_question_that_makes_no_sense_says_where(system: System) -> None:
    key = system.key("query")
    lead = uuid.uuid4()
    refusals = {
        f"{system.scorer}/v1/leads/some-lead": (422, "path.lead_id"),
        f"{system.scorer}/v1/leads?limit=0": (422, "query.limit"),
        f"{system.scorer}/v1/leads?min_likelihood=2": (422, "query.min_likelihood"),
        f"{system.scorer}/v1/leads?order=name": (422, "query.order"),
        f"{system.scorer}/v1/leads?stage=asleep": (400, "stage"),
        f"{system.scorer}/v1/leads?product=none": (400, "product"),
        f"{system.scorer}/v1/leads/{lead}?at=yesterday": (400, "at"),
        f"{system.scorer}/v1/leads/{lead}?at=2026-01-01T00:00:00": (400, "at"),
        f"{system.nurture}/v1/touches?status=gone": (422, "query.status"),
        f"{system.nurture}/v1/touches?lead=x": (422, "query.lead"),
    }
    for url, (status, where) in refusals.items():
        refused(system.http.get(url, headers=key), status, "invalid", where)
    for body in ({}, {"email": "a@b.example", "user_id": "u"}):
        refused(
            system.http.post(f"{system.scorer}/v1/leads/lookup", json=body, headers=key),
            400,
            "invalid",
            "body",
        )
    refused(
        system.http.post(f"{system.scorer}/v1/leads/lookup", content=b"{", headers=key | JSON),
        422,
        "invalid",
    )
    refused(system.http.get(f"{system.scorer}/v1/lead", headers=key), 404, "not-found")
    refused(system.http.delete(f"{system.scorer}/v1/leads", headers=key), 405, "method")


@pytest.fixture(scope="module")
def crowd(system: System) -> list[str]:
    """Three leads with a timeline and decisions."""
    emails = [system.address() for _ in range(3)]
    for email in emails:
        system.post_event(type="page_viewed", email=email, occurred_at=present.ago(hours=2))
        system.post_event(type="demo_requested", email=email, occurred_at=present.ago(hours=1))
    leads = [system.wait_for_lead(2, email=email)["id"] for email in emails]
    for lead in leads:
        wait_until(partial(system.touches, lead))
    return leads


def test_a_cursor_goes_on_after_the_list_has_grown(system: System, crowd: list[str]) -> None:
    """U3: a stale cursor still continues where its page ended: nothing is shown twice, nothing left
    out.
    """
    first = system.query("/v1/leads", limit=1, order="last_event_at")
    system.post_event(type="page_viewed", email=(fresh := system.address()))
    system.wait_for_lead(email=fresh)
    seen, cursor = [first["leads"][0]["id"]], first["next"]
    while cursor:
        page = system.query("/v1/leads", limit=500, order="last_event_at", cursor=cursor)
        seen += [lead["id"] for lead in page["leads"]]
        cursor = page["next"]
    assert len(seen) == len(set(seen))
    assert set(crowd) <= set(seen)


def test_a_cursor_of_another_list_or_a_bent_one_is_refused(
    system: System, crowd: list[str]
) -> None:
    leads = system.query("/v1/leads", limit=1)["next"]
    timeline = system.query(f"/v1/leads/{crowd[0]}/timeline", limit=1)["next"]
    key = system.key("query")
    touches = system.http.get(f"{system.nurture}/v1/touches?limit=1", headers=key).json()["next"]
    assert leads
    assert timeline
    assert touches
    bent = leads[:20] + ("A" if leads[20] != "A" else "B") + leads[21:]
    for url, cursors in {
        f"{system.scorer}/v1/leads?order=fit": [leads, timeline, bent, "x", "é", "!!!"],
        f"{system.scorer}/v1/leads": [timeline, touches, bent],
        f"{system.scorer}/v1/leads?stage=decision": [leads],
        f"{system.scorer}/v1/leads/{crowd[1]}/timeline": [timeline, leads],
        f"{system.nurture}/v1/touches": [leads, timeline, touches[::-1]],
        f"{system.nurture}/v1/touches?status=sent": [touches],
    }.items():
        for cursor in cursors:
            answer = system.http.get(
                url, params=dict(httpx.URL(url).params) | {"cursor": cursor}, headers=key
            )
            refused(answer, 400, "invalid", "cursor")
