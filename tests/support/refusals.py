"""What a refusal looks like, and sound requests to spoil."""

import uuid
from typing import Any

import httpx

MEGABYTE = 1024 * 1024


JSON = {"Content-Type": "application/json"}


def refused(
    answer: httpx.Response, status: int, kind: str, where: str | None = None
) -> dict[str, Any]:
    """The problem document of a refusal, which says what, where and how to mend it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"].rpartition("#")[2] == kind, body
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    if where is not None:
        assert body["where"] == where, body
    return body


def visit(**fields: Any) -> dict[str, Any]:
    """A sound interaction of somebody new."""
    return {
        "id": uuid.uuid4().hex,
        "type": "page_viewed",
        "anonymous_id": uuid.uuid4().hex,
    } | fields
