"""Bad items among good ones: exactly the bad ones are refused (I2)."""

import json
import uuid

import pytest

from tests.support.refusals import JSON, refused, visit
from tests.support.running_system import System

MANY = ",".join(f'"p{n}": "' + 8000 * "x" + '"' for n in range(70))


RANDOM_ID = '"anonymous_id": "b-1"'


BAD = {
    "no JSON": (f"{{{RANDOM_ID}, nonsense}}", "invalid", ""),
    "NaN": (f'{{"type": "page_viewed", {RANDOM_ID}, "traits": {{"n": NaN}}}}', "invalid", None),
    "Infinity": (f'{{"type": "page_viewed", {RANDOM_ID}, "cost": -Infinity}}', "invalid", None),
    "1e400": (f'{{"type": "page_viewed", {RANDOM_ID}, "traits": {{"n": 1e400}}}}', "invalid", None),
    "2^63": (f'{{"type": "page_viewed", {RANDOM_ID}, "traits": {{"n": '
    f'9223372036854775808}}}}', "invalid", "/traits/n"),
    "2^63 deep": (
        f'{{"type": "page_viewed", {RANDOM_ID}, "properties": {{"a": [{{"n": '
        f'-9223372036854775809}}]}}}}',
        "invalid",
        "/properties/a/0/n",
    ),
    "NUL": (rf'{{"type": "page_viewed", {RANDOM_ID}, "traits": {{"name": '
    rf'"a\u0000b"}}}}', "invalid", "/traits/name"),
    "NUL in an id": (r'{"type": "page_viewed", "anonymous_id": "a\u0000b"}', "invalid",
    "/anonymous_id"),
    "high surrogate": (rf'{{"type": "page_viewed", {RANDOM_ID}, "traits": {{"name": '
    rf'"\ud83d"}}}}', "invalid", None),
    "low surrogate": (rf'{{"type": "page_viewed", {RANDOM_ID}, "company": "\ude00 '
    rf'x"}}', "invalid", None),
    "depth": ('{{"type": "page_viewed", {}, "traits": {{"a": {}}}}}'.format(RANDOM_ID,
    "[" * 32 + "]" * 32), "invalid", ""),
    "number as text": (f'{{"type": "page_viewed", {RANDOM_ID}, "url": 5}}', "invalid", "/url"),
    "text as time": (f'{{"type": "page_viewed", {RANDOM_ID}, "occurred_at": '
    f'"yesterday"}}', "invalid", "/occurred_at"),
    "no zone": (f'{{"type": "page_viewed", {RANDOM_ID}, "occurred_at": '
    f'"2026-01-02T03:04:05"}}', "invalid", "/occurred_at"),
    "no type": (f"{{{RANDOM_ID}}}", "invalid", "/type"),
    "empty type": (f'{{"type": "", {RANDOM_ID}}}', "invalid", "/type"),
    "our own type": (f'{{"type": "touch_sent", {RANDOM_ID}}}', "reserved-type", "/type"),
    "no mail address": (f'{{"type": "page_viewed", "email": "ann at home", '
    f'{RANDOM_ID}}}', "invalid", "/email"),
    "nobody": ('{"type": "page_viewed"}', "no-identifier", ""),
    "junk": ('{"type": "page_viewed", "user_id": "null", "anonymous_id": " Guest "}',
    "no-identifier", ""),
    "long id": ('{"type": "page_viewed", "user_id": "%s"}' % ("u" * 513), "invalid", "/user_id"),
    "large": (f'{{"type": "page_viewed", {RANDOM_ID}, "properties": {{{MANY}}}}}', "too-large", ""),
    "odd consent": (
        f'{{"type": "consent_given", {RANDOM_ID}, "consent": [{{"state": "maybe"}}]}}',
        "invalid",
        "/consent/0/state",
    ),
}  # fmt: skip


@pytest.mark.parametrize("ndjson", [False, True], ids=["array", "lines"])
def test_a_bad_item_never_takes_its_neighbours_with_it(system: System, ndjson: bool) -> None:
    good = [visit(anonymous_id=f"good-{uuid.uuid4().hex}") for _ in range(len(BAD) + 1)]
    pieces = [json.dumps(good[0])]
    for (text, _, _), neighbour in zip(BAD.values(), good[1:], strict=True):
        pieces += [text, json.dumps(neighbour)]
    body = "\n".join(pieces) if ndjson else f"[{', '.join(pieces)}]"
    media = "application/x-ndjson" if ndjson else "application/json"
    answer = system.post("/v1/events", content=body.encode(), headers={"Content-Type": media})
    assert answer.status_code == 200, answer.text
    receipt = answer.json()
    assert receipt["accepted"] == len(good)
    assert receipt["ids"] == [interaction["id"] for interaction in good]
    assert [rejected["index"] for rejected in receipt["rejected"]] == list(
        range(1, 2 * len(BAD), 2)
    )
    for (name, (_, kind, where)), rejected in zip(BAD.items(), receipt["rejected"], strict=True):
        problem = rejected["problem"]
        assert problem["type"].rpartition("#")[2] == kind, (name, problem)
        assert problem["status"] in (400, 413)
        assert problem["title"], name
        assert problem["detail"], name
        assert problem["where"].startswith(f"/{rejected['index']}"), name
        if where is not None:
            assert problem["where"] == f"/{rejected['index']}{where}", (name, problem)
    for interaction in good:
        assert system.wait_for_lead(anonymous_id=interaction["anonymous_id"])["events_counted"] == 1
    assert system.lookup(anonymous_id="b-1") is None


@pytest.mark.parametrize("name", BAD)
def test_a_bad_item_alone_is_a_400_that_says_where(system: System, name: str) -> None:
    text, kind, where = BAD[name]
    answer = system.post("/v1/events", content=text.encode(), headers=JSON)
    body = refused(answer, 400, kind, where)
    assert [rejected["index"] for rejected in body["rejected"]] == [0]


def test_bytes_that_are_no_utf_8_are_refused_alone(system: System) -> None:
    good = visit()
    bad = b'{"id": "x", "type": "page_viewed", "anonymous_id": "b-1", "company": "caf\xe9"}'
    answer = system.post(
        "/v1/events", content=b"[" + bad + b"," + json.dumps(good).encode() + b"]", headers=JSON
    )
    assert answer.status_code == 200
    assert answer.json()["ids"] == [good["id"]]
    assert "UTF-8" in answer.json()["rejected"][0]["problem"]["detail"]
    assert system.wait_for_lead(anonymous_id=good["anonymous_id"])["events_counted"] == 1


def test_what_lies_just_within_the_limits_is_taken(system: System) -> None:
    good = visit(
        user_id=f"u{uuid.uuid4().hex}".ljust(512, "u"),
        traits={"text": "é" * 500, "most": 2**63 - 1, "least": -(2**63), "emoji": "😀"},
        properties={"text": "é" * 4096, "deep": json.loads("[" * 30 + "]" * 30)},
    )
    answer = system.post("/v1/events", json=good)
    assert answer.status_code == 200, answer.text
    lead = system.wait_for_lead(user_id=good["user_id"])
    assert lead["traits"] == good["traits"]
