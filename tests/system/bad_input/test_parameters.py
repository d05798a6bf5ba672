"""What is asked for under a name that nobody knows: refused with the nearest known name (U3)."""

import re
import uuid
from typing import Any

import httpx
import pytest

from tests.support.refusals import refused, visit
from tests.support.running_system import System

SERVICES = {"ingest": "secret", "scorer": "query", "nurture": "query"}
# the addresses of other tools, which decide what they append
FOREIGN = re.compile(
    r"/v1/(hooks/|projects/|[abgipst]$|track|identify|page|screen|group|alias|batch)"
)


def routes(system: System, service: str) -> list[tuple[str, str]]:
    """Method and address of every route of our own API, as the document has them."""
    document = httpx.get(f"{getattr(system, service)}/openapi.json").json()
    return [
        (method.upper(), re.sub(r"\{\w+\}", str(uuid.uuid4()), path))
        for path, operations in document["paths"].items()
        for method in operations
        if path.startswith("/v1/") and not FOREIGN.match(path) and method != "options"
        if not path.endswith("/import/")
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_every_route_of_our_own_refuses_a_parameter_that_it_does_not_declare(
    system: System, service: str
) -> None:
    found = routes(system, service)
    assert found
    for method, path in found:
        body: dict[str, Any] = {"json": {"email": "a@b.example"}} if method == "POST" else {}
        answer = system.http.request(
            method, f"{getattr(system, service)}{path}", params={"zzz": "1"},
            headers=system.key(SERVICES[service]), **body,
        )  # fmt: skip
        refused(answer, 400, "invalid", "query.zzz")
        unsigned = system.http.request(
            method, f"{getattr(system, service)}{path}", params={"zzz": "1"}, **body
        )
        assert unsigned.status_code == 401, path


@pytest.mark.parametrize(
    ("service", "path", "nearest"),
    [
        ("scorer", "/v1/leads?stge=decision", "stage"),
        ("scorer", "/v1/leads?likelihood=0.5", "min_likelihood"),
        ("scorer", "/v1/leads?updatedSince=2026-01-01T00:00:00Z", "updated_since"),
        ("nurture", "/v1/touches?leads=x", "lead"),
    ],
)
def test_the_nearest_name_is_said(system: System, service: str, path: str, nearest: str) -> None:
    answer = system.http.get(f"{getattr(system, service)}{path}", headers=system.key("query"))
    assert f"did you mean {nearest!r}?" in refused(answer, 400, "invalid")["detail"]


def test_a_form_that_advertisements_decorate_is_taken(system: System) -> None:
    """A lead is never lost for what a page's analytics append to its address."""
    key = system.keys["public"]
    for appended, status in (("utm_source=x&_gl=1*abc&gclid=y", 200), ("colour=red", 400)):
        answer = system.http.post(
            f"{system.ingest}/v1/forms/demo?key={key}&{appended}",
            data={"email": system.address()},
            headers={"Accept": "application/json"},
        )
        assert answer.status_code == status, answer.text


def test_a_webhook_sender_is_told_that_it_may_post(system: System) -> None:
    """Web Hooks for Event Delivery, § 4; Azure Event Grid asks like this before it delivers."""
    headers = {
        "WebHook-Request-Origin": "eventgrid.azure.net",
        "WebHook-Request-Callback": "https://rp-westeurope.eventgrid.azure.net:553/x",
        "WebHook-Request-Rate": "120",
    }
    answer = system.http.options(f"{system.ingest}/v1/events", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["WebHook-Allowed-Origin"] == "eventgrid.azure.net"
    assert answer.headers["WebHook-Allowed-Rate"] == "120000"
    assert "POST" in answer.headers["Allow"]
    for origin in ("", "a b", "*", "x" * 300):
        wrong = headers | {"WebHook-Request-Origin": origin}
        answer = system.http.options(f"{system.ingest}/v1/events", headers=wrong)
        refused(answer, 400, "invalid", "WebHook-Request-Origin")
        assert "WebHook-Allowed-Origin" not in answer.headers


def test_an_empty_batch_of_cloudevents_is_a_success(system: System) -> None:
    media = {"Content-Type": "application/cloudevents-batch+json"}
    answer = system.post("/v1/events", headers=media, content=b"[]")
    assert (answer.status_code, answer.json()["accepted"]) == (200, 0)
    refused(system.post("/v1/events", json=[]), 400, "invalid")


def test_a_misspelt_field_is_named_in_the_answer(system: System) -> None:
    answer = system.post("/v1/events", json=visit(time="2026-01-01T00:00:00Z", type="page_view"))
    assert answer.status_code == 200
    assert [(each["field"], each["nearest"]) for each in answer.json()["warnings"]] == [
        ("/time", "occurred_at"), ("/type", "page_viewed"),
    ]  # fmt: skip
