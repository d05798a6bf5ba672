"""Bad input: a clear refusal of exactly what is bad, neighbours taken, and nothing lost (I2, U3,
O4).
"""

import asyncio
import gzip
import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from services.ops.__main__ import app as command_line
from services.shared.settings import HOME
from tests.support import present
from tests.support.processes import Process
from tests.support.proxy import Door
from tests.system.conftest import System, until

MEGABYTE = 1024 * 1024
LIMIT = 5 * MEGABYTE
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


# -- who may --------------------------------------------------------------------------------------


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


# -- what is no request ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "media", ["text/plain", "application/xml", "image/png", "multipart/form-data"]
)
def test_another_content_type_is_refused_with_those_that_are_known(
    system: System, media: str
) -> None:
    answer = system.post("/v1/events", content=json.dumps(visit()), headers={"Content-Type": media})
    body = refused(answer, 415, "media-type", "Content-Type")
    assert "application/x-ndjson" in body["detail"]


def test_another_charset_or_content_coding_is_refused(system: System) -> None:
    latin = {"Content-Type": "application/json; charset=iso-8859-1"}
    refused(
        system.post("/v1/events", content=json.dumps(visit()), headers=latin),
        415,
        "media-type",
        "Content-Type",
    )
    brotli = JSON | {"Content-Encoding": "br"}
    refused(
        system.post("/v1/events", content=b"..", headers=brotli),
        415,
        "media-type",
        "Content-Encoding",
    )
    false = JSON | {"Content-Encoding": "gzip"}
    refused(
        system.post("/v1/events", content=b"plain", headers=false),
        400,
        "invalid",
        "Content-Encoding",
    )
    cut = gzip.compress(json.dumps(visit()).encode())[:-9]
    refused(
        system.post("/v1/events", content=cut, headers=false), 400, "invalid", "Content-Encoding"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"  ",
        b"{",
        b"[{}",
        b"[{}]]",
        b"nul",
        b"5",
        b'"text"',
        b"\xff\xfe",
        b'{"type":"x",}',
        b"[1,2]",
    ],
)
def test_what_is_no_interaction_is_a_400(system: System, body: bytes) -> None:
    answer = system.post("/v1/events", content=body, headers=JSON)
    assert refused(answer, 400, "invalid")["title"]


# -- bad items among good ones --------------------------------------------------------------------

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
    "long text": ('{{"type": "page_viewed", {}, "traits": {{"a": "{}"}}}}'.format(RANDOM_ID,
    "é" * 4097), "invalid", "/traits/a"),
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
    said = answer.json()
    assert said["accepted"] == len(good)
    assert said["ids"] == [one["id"] for one in good]
    assert [one["index"] for one in said["rejected"]] == list(range(1, 2 * len(BAD), 2))
    for (name, (_, kind, where)), one in zip(BAD.items(), said["rejected"], strict=True):
        problem = one["problem"]
        assert problem["type"].rpartition("#")[2] == kind, (name, problem)
        assert problem["status"] in (400, 413)
        assert problem["title"], name
        assert problem["detail"], name
        assert problem["where"].startswith(f"/{one['index']}"), name
        if where is not None:
            assert problem["where"] == f"/{one['index']}{where}", (name, problem)
    for one in good:
        assert system.known(anonymous_id=one["anonymous_id"])["events_counted"] == 1
    assert system.lookup(anonymous_id="b-1") is None


@pytest.mark.parametrize("name", BAD)
def test_a_bad_item_alone_is_a_400_that_says_where(system: System, name: str) -> None:
    text, kind, where = BAD[name]
    answer = system.post("/v1/events", content=text.encode(), headers=JSON)
    body = refused(answer, 400, kind, where)
    assert [one["index"] for one in body["rejected"]] == [0]


def test_bytes_that_are_no_utf_8_are_refused_alone(system: System) -> None:
    good = visit()
    bad = b'{"id": "x", "type": "page_viewed", "anonymous_id": "b-1", "company": "caf\xe9"}'
    answer = system.post(
        "/v1/events", content=b"[" + bad + b"," + json.dumps(good).encode() + b"]", headers=JSON
    )
    assert answer.status_code == 200
    assert answer.json()["ids"] == [good["id"]]
    assert "UTF-8" in answer.json()["rejected"][0]["problem"]["detail"]
    assert system.known(anonymous_id=good["anonymous_id"])["events_counted"] == 1


def test_what_lies_just_within_the_limits_is_taken(system: System) -> None:
    good = visit(
        user_id=f"u{uuid.uuid4().hex}".ljust(512, "u"),
        traits={"text": "é" * 4096, "most": 2**63 - 1, "least": -(2**63), "emoji": "😀"},
        properties={"deep": json.loads("[" * 30 + "]" * 30)},
    )
    answer = system.post("/v1/events", json=good)
    assert answer.status_code == 200, answer.text
    lead = system.known(user_id=good["user_id"])
    assert lead["traits"] == good["traits"]


# -- too much -------------------------------------------------------------------------------------


def padded(size: int) -> bytes:
    """A sound body of so many bytes."""
    body = json.dumps(visit()).encode()
    return body + b" " * (size - len(body))


def test_a_body_of_5_megabytes_is_taken_and_one_byte_more_is_not(system: System) -> None:
    assert system.post("/v1/events", content=padded(LIMIT), headers=JSON).status_code == 200
    refused(
        system.post("/v1/events", content=padded(LIMIT + 1), headers=JSON), 413, "too-large", "body"
    )


def test_a_chunked_body_has_the_same_limit(system: System) -> None:
    def chunks(body: bytes) -> Iterator[bytes]:
        for start in range(0, len(body), 256 * 1024):
            yield body[start : start + 256 * 1024]

    assert system.post("/v1/events", content=chunks(padded(LIMIT)), headers=JSON).status_code == 200
    refused(
        system.post("/v1/events", content=chunks(padded(LIMIT + 1)), headers=JSON),
        413,
        "too-large",
        "body",
    )


def test_a_zipped_body_is_measured_unzipped(system: System) -> None:
    zipped = JSON | {"Content-Encoding": "gzip"}
    assert (
        system.post("/v1/events", content=gzip.compress(padded(LIMIT)), headers=zipped).status_code
        == 200
    )
    bomb = gzip.compress(padded(200 * MEGABYTE), compresslevel=9)
    assert len(bomb) < MEGABYTE
    refused(system.post("/v1/events", content=bomb, headers=zipped), 413, "too-large", "body")


def test_ten_thousand_items_are_taken_and_one_more_takes_none(system: System) -> None:
    somebody, nobody = f"many-{uuid.uuid4().hex}", f"none-{uuid.uuid4().hex}"
    many = [
        {"id": f"{somebody}-{n}", "type": "noted", "anonymous_id": somebody} for n in range(10_000)
    ]
    answer = system.post("/v1/events", json=many)
    assert answer.status_code == 200
    assert answer.json()["accepted"] == 10_000
    over = [{"id": f"{nobody}-{n}", "type": "noted", "anonymous_id": nobody} for n in range(10_001)]
    refused(system.post("/v1/events", json=over), 413, "too-large")
    lines = {"Content-Type": "application/x-ndjson"}
    refused(
        system.post("/v1/events", content="\n".join(map(json.dumps, over)), headers=lines),
        413,
        "too-large",
    )
    until(lambda: system.known(anonymous_id=somebody)["events_counted"] == 10_000, 60)
    assert system.lookup(anonymous_id=nobody) is None


# -- times ----------------------------------------------------------------------------------------


def test_the_far_future_counts_from_now_and_is_flagged(system: System) -> None:
    then = (present.now() + timedelta(days=3650)).isoformat()
    email = system.address()
    system.say(type="page_viewed", email=email, occurred_at=then)
    lead = system.known(email=email)
    event = system.timeline(lead["id"])[0]
    assert event["flags"] == "clamped"
    assert abs((datetime.fromisoformat(event["at"]) - present.now()).total_seconds()) < 60


@pytest.mark.parametrize("days", [402, 900])
def test_the_far_past_is_stored_and_announces_nothing(system: System, days: int) -> None:
    email = system.address()
    given = [{"channel": "email", "purpose": "marketing", "state": "given"}]
    system.say(
        type="demo_requested", email=email, occurred_at=present.ago(days=days), consent=given
    )
    lead = system.known(email=email)
    items = system.timeline(lead["id"])
    assert [(item["kind"], item.get("flags")) for item in items] == [("event", "old")]
    at = (present.now() - timedelta(days=days - 1)).isoformat()
    assert system.ask(f"/v1/leads/{lead['id']}", at=at)["stage"] == "decision"
    system.say(type="noted", email=email)
    system.known(2, email=email)
    assert {touch["status"] for touch in system.touches(lead["id"])} <= {"withheld"}
    assert system.mails(email) == []


# -- asking ---------------------------------------------------------------------------------------


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
    asked = {
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
    for url, (status, where) in asked.items():
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
        system.say(type="page_viewed", email=email, occurred_at=present.ago(hours=2))
        system.say(type="demo_requested", email=email, occurred_at=present.ago(hours=1))
    leads = [system.known(2, email=email)["id"] for email in emails]
    for lead in leads:
        until(lambda lead=lead: system.touches(lead))
    return leads


def test_a_cursor_goes_on_after_the_list_has_grown(system: System, crowd: list[str]) -> None:
    """U3: a stale cursor still continues where its page ended: nothing is shown twice, nothing left
    out.
    """
    first = system.ask("/v1/leads", limit=1, order="last_event_at")
    system.say(type="page_viewed", email=(fresh := system.address()))
    system.known(email=fresh)
    seen, cursor = [first["leads"][0]["id"]], first["next"]
    while cursor:
        page = system.ask("/v1/leads", limit=100, order="last_event_at", cursor=cursor)
        seen += [lead["id"] for lead in page["leads"]]
        cursor = page["next"]
    assert len(seen) == len(set(seen))
    assert set(crowd) <= set(seen)


def test_a_cursor_of_another_list_or_a_bent_one_is_refused(
    system: System, crowd: list[str]
) -> None:
    leads = system.ask("/v1/leads", limit=1)["next"]
    timeline = system.ask(f"/v1/leads/{crowd[0]}/timeline", limit=1)["next"]
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


# -- who is nobody --------------------------------------------------------------------------------


def test_a_desks_mailbox_is_a_lead_that_joins_nobody(system: System) -> None:
    """D2: two visitors who write as info@ stay two, and strangers."""
    desk, visitors = f"info@{uuid.uuid4().hex}.example", [uuid.uuid4().hex for _ in range(2)]
    for visitor in visitors:
        system.say(type="page_viewed", anonymous_id=visitor)
        system.say(type="form_submitted", anonymous_id=visitor, email=desk)
    shared = system.known(2, email=desk)
    strangers = [system.known(anonymous_id=visitor) for visitor in visitors]
    assert len({shared["id"], *(one["id"] for one in strangers)}) == 3
    assert [one["events_counted"] for one in strangers] == [1, 1]


def test_a_form_with_a_filled_trap_is_thanked_and_forgotten(system: System) -> None:
    robot, person = system.address("robot"), system.address("person")
    forms = f"{system.ingest}/v1/forms/contact"
    for email, trap in ((robot, "http://spam.example"), (person, "")):
        answer = system.http.post(
            forms, params={"key": system.keys["public"]}, data={"email": email, "_hp": trap}
        )
        assert answer.status_code == 200
        assert "Thank you" in answer.text
    system.known(email=person)
    assert system.lookup(email=robot) is None


def test_a_form_leads_to_allowed_pages_only_and_is_not_kept_otherwise(system: System) -> None:
    email, thanks = system.address(), f"{system.site.url}/thanks"
    host = system.site.url.removeprefix("http://")
    away = [
        "https://evil.example/", "//evil.example", "javascript:alert(1)",
        f"http://{host}@evil.example/thanks",
        f"http://{host}.evil.example/thanks", f"{thanks}/../admin", f"{system.site.url}/other",
        f"{thanks}\r\nX: y",
        "http://[", f"https://{host}/thanks", f"http:\\\\{host}\\thanks",
    ]  # fmt: skip
    post = {"url": f"{system.ingest}/v1/forms/contact", "params": {"key": system.keys["public"]}}
    for page in away:
        refused(
            system.http.post(**post, data={"email": email, "_next": page}), 400, "invalid", "/_next"
        )
    sound = system.http.post(**post, data={"email": email, "_next": f"{thanks}?from=form"})
    assert (sound.status_code, sound.headers["location"]) == (303, f"{thanks}?from=form")
    assert system.known(email=email)["events_counted"] == 1


# -- a playbook that contradicts itself -----------------------------------------------------------


def test_a_loop_of_prerequisites_is_named_with_file_line_and_remedy(
    system: System, tmp_path: Path
) -> None:
    folder = tmp_path / "playbook"
    shutil.copytree(HOME / "deploy" / "playbook", folder)
    content = folder / "content.yaml"
    marked = "    url: https://www.millwarden.example/papers/four-kinds-of-software\n"
    text = content.read_text()
    content.write_text(text.replace(marked, f"{marked}    prerequisites: [video-planning-board]\n"))
    assert content.read_text() != text
    line = next(
        number
        for number, line in enumerate(content.read_text().splitlines(), 1)
        if "prerequisites: [video-planning-board]" in line
    )
    found = CliRunner().invoke(command_line, ["playbook", "check", str(folder)])
    assert found.exit_code == 1
    assert f"content.yaml:{line}: " in found.stdout
    assert "whitepaper-four-kinds -> video-planning-board -> whitepaper-four-kinds" in found.stdout
    assert "Take one of them out" in found.stdout
    as_json = CliRunner().invoke(command_line, ["playbook", "check", str(folder), "--json"])
    assert as_json.exit_code == 1
    problems = json.loads(as_json.stdout)["problems"]
    assert [(one["file"], one["line"]) for one in problems] == [("content.yaml", line)]
    service = present.environment() | {
        "RIPELINE_PLAYBOOK": str(folder),
        "RIPELINE_DATABASE_URL": system.line["database"],
    }
    started = subprocess.run(
        [sys.executable, "-m", "services.nurture"],
        cwd=HOME,
        env=service,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert started.returncode == 1
    assert "a loop of prerequisites" in started.stderr
    assert "Traceback" not in started.stderr


# -- servers that are away at start ---------------------------------------------------------------


class Replica:
    """One more process of a service of the running system, that reaches database and broker through
    doors.
    """

    def __init__(self, system: System, service: str, folder: Path) -> None:
        user, _, place = system.line["database"].partition("@")
        self.database, self.broker = Door(place.partition("/")[0]), Door(system.line["kafka"])
        variables = {
            "RIPELINE_DATABASE_URL": f"{user}@{self.database.address}/{place.partition('/')[2]}",
            "RIPELINE_KAFKA_BOOTSTRAP": self.broker.address,
            "RIPELINE_PEPPER": "of no other",
            "RIPELINE_SPOOL_DIR": str(folder / "spool"),
        }
        self.process = Process(f"services.{service}", variables, folder / f"{service}.log")

    async def readiness(self) -> int:
        """The status of /health/ready once the process listens."""
        async with httpx.AsyncClient() as http:
            for _ in range(150):
                try:
                    return (await http.get(f"{self.process.url}/health/ready")).status_code
                except httpx.TransportError:
                    assert self.process.deaths == 0, self.process.tail()
                    await pause()
        raise AssertionError(f"it does not listen:\n{self.process.tail()}")


async def pause() -> None:
    """A tenth of a second."""
    await asyncio.sleep(0.1)


@pytest.fixture
async def replica(
    system: System, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Replica]:
    one = Replica(system, request.param, tmp_path)
    yield one
    assert await one.process.stop() == 0, one.process.tail()
    one.database.close()
    one.broker.close()


@pytest.mark.parametrize("replica", ["ingest", "scorer", "nurture"], indirect=True)
async def test_a_service_waits_for_a_database_that_is_away_at_start(replica: Replica) -> None:
    """O2: it lives, says that it is not ready, and becomes ready by itself."""
    replica.broker.open()
    await replica.process.start()
    assert await replica.readiness() == 503
    replica.database.open()
    await replica.process.ready()
    assert replica.process.deaths == 0


@pytest.mark.parametrize("replica", ["scorer", "nurture"], indirect=True)
async def test_a_service_waits_for_a_broker_that_is_away_at_start(replica: Replica) -> None:
    replica.database.open()
    await replica.process.start()
    assert await replica.readiness() == 503
    replica.broker.open()
    await replica.process.ready()
    assert replica.process.deaths == 0


@pytest.mark.parametrize("replica", ["ingest"], indirect=True)
async def test_while_the_broker_is_away_events_are_put_off_and_forms_are_kept(
    system: System, replica: Replica
) -> None:
    """I2, O4: 503 with Retry-After for who can repeat; a form is safe on disk and arrives by itself
    later.
    """
    replica.database.open()
    await replica.process.start()
    await replica.process.ready()
    url, email = replica.process.url, system.address()
    async with httpx.AsyncClient(timeout=20) as http:
        put_off = await http.post(f"{url}/v1/events", json=visit(), headers=system.key("secret"))
        refused(put_off, 503, "away")
        assert int(put_off.headers["retry-after"]) > 0
        kept = await http.post(
            f"{url}/v1/forms/contact", data={"email": email}, headers=system.key("public")
        )
        assert kept.status_code == 200
    assert system.lookup(email=email) is None
    replica.broker.open()
    for _ in range(200):
        if lead := system.lookup(email=email):
            break
        await pause()
    assert lead
    assert lead["events_counted"] == 1
