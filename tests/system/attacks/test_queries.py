"""Attacks on the query APIs."""

import uuid

import pytest

from services.shared.http.paging import Cursors, Position
from tests.support.refusals import refused
from tests.support.running_system import System


def test_another_installations_cursor(system: System) -> None:
    """A cursor is sealed by the installation that gave it, for its list; a bent or foreign one
    opens nothing.
    """
    scopes = ["leads default likelihood", "touches None ", "timeline"]
    for scope in scopes:
        for place in ((0.5, str(uuid.uuid4())), ("' OR 1=1 --", "x"), (2**70, "x")):
            cursor = Cursors(b"another pepper").encode(scope, Position(*place))
            for url in (f"{system.scorer}/v1/leads", f"{system.nurture}/v1/touches"):
                answer = system.http.get(
                    url, params={"cursor": cursor}, headers=system.key("query")
                )
                refused(answer, 400, "invalid", "cursor")


INJECTIONS = [
    "' OR '1'='1",
    "decision'; DROP TABLE scorer.lead; --",
    "decision' UNION SELECT hash FROM access.api_key --",
    "%",
    "\0",
]


@pytest.mark.parametrize("injected", INJECTIONS)
def test_filter_injection(system: System, injected: str) -> None:
    """Filters are words of a list or numbers; nothing that is written into one becomes part of a
    statement.
    """
    key = system.key("query")
    for name in ("stage", "product"):
        refused(
            system.http.get(f"{system.scorer}/v1/leads", params={name: injected}, headers=key),
            400,
            "invalid",
            name,
        )
    for url, name in (
        (f"{system.scorer}/v1/leads", "order"),
        (f"{system.scorer}/v1/leads", "min_likelihood"),
        (f"{system.scorer}/v1/leads", "limit"),
        (f"{system.nurture}/v1/touches", "status"),
        (f"{system.nurture}/v1/touches", "lead"),
    ):
        refused(
            system.http.get(url, params={name: injected}, headers=key),
            422,
            "invalid",
            f"query.{name}",
        )
    for identifier in ("email", "user_id", "anonymous_id"):
        found = system.http.post(
            f"{system.scorer}/v1/leads/lookup", json={identifier: injected}, headers=key
        )
        refused(found, 404, "not-found")
    assert system.query("/v1/leads", limit=1)["leads"] is not None
