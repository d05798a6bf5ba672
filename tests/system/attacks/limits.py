"""The limits of the strict ingest, and what its answers say of them."""

import re

import httpx

from tests.support.refusals import refused

PER_KEY, PER_ADDRESS, WINDOW_S = 12, 5, 5  # requests in a window of so many seconds
HEADER_SECONDS = 1.0  # in which a request must have its headers


def too_many(answer: httpx.Response, limit: str, most: int) -> None:
    """429 with what the draft of the IETF and RFC 9110 say of it."""
    refused(answer, 429, "too-many")
    assert 1 <= int(answer.headers["retry-after"]) <= WINDOW_S
    assert answer.headers["ratelimit-policy"] == f'"{limit}";q={most};w={WINDOW_S}'
    assert re.fullmatch(rf'"{limit}";r=0;t=[1-{WINDOW_S}]', answer.headers["ratelimit"])
