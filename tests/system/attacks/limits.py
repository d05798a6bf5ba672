"""The small limits of the strict ingest."""

import re

import httpx

from tests.support.refusals import refused

PER_KEY, PER_ADDRESS, AGAIN_S = 12, 5, 5  # requests within seconds that `strict` takes


PATIENCE_S = 1.0  # in which its requests must have their headers


def too_many(answer: httpx.Response, whose: str, most: int) -> None:
    """429 with what the draft of the IETF and RFC 9110 say of it."""
    refused(answer, 429, "too-many")
    assert 1 <= int(answer.headers["retry-after"]) <= AGAIN_S
    assert answer.headers["ratelimit-policy"] == f'"{whose}";q={most};w={AGAIN_S}'
    assert re.fullmatch(rf'"{whose}";r=0;t=[1-{AGAIN_S}]', answer.headers["ratelimit"])
