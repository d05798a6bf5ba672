"""Requests without a key in force, or with one for something else."""

import uuid

import pytest

from tests.support.refusals import refused, visit
from tests.support.running_system import System


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Bearer",
        "Bearer nonsense",
        "Basic !!!",
        "Bearer rl_0123456789ab_" + "x" * 43,
        "Bearer rl_\u00e9_x",
    ],
)
def test_without_a_key_in_force_nobody_gets_in(system: System, given: str) -> None:
    lead = uuid.uuid4()
    headers = [(b"Authorization", given.encode("latin-1"))] if given else []
    answers = [
        system.http.post(f"{system.ingest}/v1/events", json=visit(), headers=headers),
        system.http.post(
            f"{system.ingest}/v1/forms/demo", data={"email": "a@b.example"}, headers=headers
        ),
        system.http.post(
            f"{system.ingest}/v1/track", json={"event": "x", "anonymousId": "a1"}, headers=headers
        ),
        system.http.get(f"{system.scorer}/v1/leads", headers=headers),
        system.http.get(f"{system.scorer}/v1/leads/{lead}", headers=headers),
        system.http.post(
            f"{system.scorer}/v1/leads/lookup", json={"email": "a@b.example"}, headers=headers
        ),
        system.http.get(f"{system.nurture}/v1/touches", headers=headers),
    ]
    for answer in answers:
        refused(answer, 401, "unauthorized", "Authorization")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_key_opens_only_what_its_scope_is_for(system: System) -> None:
    refused(system.post("/v1/events", "query", json=visit()), 403, "forbidden", "Authorization")
    for scope in ("secret", "public"):
        for url in (f"{system.scorer}/v1/leads", f"{system.nurture}/v1/touches"):
            refused(
                system.http.get(url, headers=system.key(scope)), 403, "forbidden", "Authorization"
            )
    secret = system.http.post(
        f"{system.ingest}/v1/events", params={"key": system.keys["secret"]}, json=visit()
    )
    refused(secret, 403, "forbidden", "key")
    public = system.http.post(
        f"{system.ingest}/v1/events", params={"key": system.keys["public"]}, json=visit()
    )
    assert public.status_code == 200
