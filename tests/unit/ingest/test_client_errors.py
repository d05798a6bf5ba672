"""Refusals as older clients of Segment and RudderStack read them: a problem document with `code`
and `message`.
"""

import httpx
import pytest
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from services.ingest.http.client_errors import ClientErrors
from services.shared.errors import Kind, Reject
from services.shared.http.problems import problem_response

PATH = "/v1/batch"


async def posted(answer: ASGIApp, path: str = PATH) -> httpx.Response:
    transport = httpx.ASGITransport(app=ClientErrors(answer, paths=frozenset({PATH})))
    async with httpx.AsyncClient(transport=transport, base_url="http://ingest") as client:
        return await client.post(path)


@pytest.mark.parametrize("kind", ["invalid", "unauthorized", "too-large", "too-many", "away"])
async def test_a_refusal_has_code_and_message_beside_what_problem_documents_have(
    kind: Kind,
) -> None:
    reject = Reject("über 5 MB", where="body", remedy="send less", kind=kind)
    found, plain = await posted(problem_response(reject)), problem_response(reject)
    added = {"code": kind, "message": "über 5 MB: send less"}
    assert found.json() == httpx.Response(200, content=plain.body).json() | added
    assert found.status_code == plain.status_code
    assert int(found.headers["content-length"]) == len(found.content)
    kept = {name: value for name, value in plain.headers.items() if name != "content-length"}
    assert kept.items() <= dict(found.headers).items()


async def test_other_paths_successes_and_other_answers_are_left_alone() -> None:
    refused = problem_response(Reject("no"))
    assert (await posted(refused, "/v1/events")).content == refused.body
    assert (await posted(JSONResponse({"success": True}))).json() == {"success": True}
    assert (await posted(Response(b"odd", 502, media_type="text/plain"))).content == b"odd"
