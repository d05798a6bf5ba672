"""Refusals as problem documents: on the wire, and as OpenAPI documents describe them."""

from typing import get_args

import msgspec
import pytest
from fastapi import FastAPI

from services.shared.errors import Kind, Reject
from services.shared.http import web
from services.shared.http.problems import STATUS, Problem, problem_response, refusals
from services.shared.http.rates import RateLimits
from services.shared.settings import Settings


@pytest.fixture
def app() -> FastAPI:
    return web.create("a service", dict, RateLimits(Settings()))


def test_every_kind_has_a_status() -> None:
    assert set(get_args(Kind)) == set(STATUS)


@pytest.mark.parametrize("kind", STATUS)
def test_every_status_can_be_described(kind: Kind) -> None:
    [described] = refusals(STATUS[kind]).values()
    example = described["content"]["application/problem+json"]["example"]
    assert msgspec.convert(example, Problem).status == STATUS[kind]


def test_the_described_document_is_the_one_that_is_sent(app: FastAPI) -> None:
    @app.get("/some", responses=refusals(403))
    async def some() -> None: ...

    document = app.openapi()
    refused = document["paths"]["/some"]["get"]["responses"]["403"]
    [content] = refused["content"].values()
    name = content["schema"]["$ref"].removeprefix("#/components/schemas/")
    sent = msgspec.json.decode(problem_response(Reject("no", kind="forbidden")).body)
    assert document["components"]["schemas"][name]["properties"].keys() == sent.keys()
    assert content["example"].keys() == sent.keys()


def test_who_must_sign_in_or_wait_is_informed_in_the_header() -> None:
    assert problem_response(Reject("no", kind="stale")).headers["www-authenticate"] == "Bearer"
    assert problem_response(Reject("no", kind="away")).headers["retry-after"] == "5"
