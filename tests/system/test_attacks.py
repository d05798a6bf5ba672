"""Attacks on the doors, each named, against running services, with the exact refusal that
it meets.
"""

import asyncio
import gzip
import json
import re
import secrets
import socket
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from typer.testing import CliRunner

from services.ingest.http import form_token
from services.ingest.sources.contract import Sample, Source
from services.ops.__main__ import app as command_line
from services.shared.contracts.link_tokens import LinkClaim, UnsubscribeClaim, sign
from services.shared.http.paging import Seal
from services.shared.playbook import loading
from services.shared.settings import HOME
from tests.support import present
from tests.support.attacked_ingest import HOUSE, PEPPER, Ingest, make_ready, signing
from tests.support.servers import Postgres, free_port
from tests.system.conftest import System, until
from tests.system.test_bad_input import JSON, MEGABYTE, refused, visit

SIGNED = signing(loading.load(HOME / "deploy" / "playbook"))
# for hours, with the first time stamp
REPEATED_AS_THEY_WERE = {"sendgrid", "mailgun", "mailgun-inbound"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PER_KEY, PER_ADDRESS, AGAIN_S = 12, 5, 5  # requests within seconds that `strict` takes
PATIENCE_S = 1.0  # in which its requests must have their headers
ROOM = 400_000  # bytes of its spool


def new_database(postgres: Postgres) -> str:
    """A migrated database."""
    name = f"attacked_{uuid.uuid4().hex[:8]}"

    async def create() -> None:
        admin = create_async_engine(
            postgres.url.replace("postgresql://", "postgresql+asyncpg://"),
            isolation_level="AUTOCOMMIT",
        )
        async with admin.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template_ripeline"))
        await admin.dispose()

    asyncio.run(create())
    return f"{postgres.url.rpartition('/')[0]}/{name}"


@pytest.fixture(scope="module")
def door(scratch: Path, postgres: Postgres, kafka: str) -> Iterator[Ingest]:
    """An ingest with the settings of production."""
    make_ready(kafka)
    ingest = Ingest(scratch / "attacked", new_database(postgres), kafka).start()
    yield ingest
    ingest.stop()


@pytest.fixture(scope="module")
def impatient(scratch: Path, postgres: Postgres, kafka: str) -> Iterator[Ingest]:
    """An ingest with small limits, little patience and one origin, behind a proxy."""
    make_ready(kafka)
    ingest = Ingest(
        scratch / "impatient",
        new_database(postgres),
        kafka,
        rate_per_key=f"{PER_KEY}/{AGAIN_S}seconds",
        rate_per_address=f"{PER_ADDRESS}/{AGAIN_S}seconds",
        header_seconds=str(PATIENCE_S),
        allowed_origins='["https://www.example.com"]',
        trusted_proxies='["127.0.0.1/32", "10.0.0.0/8"]',
        form_tokens="required",
    ).start()
    yield ingest
    ingest.stop()


@pytest.fixture
def strict(impatient: Ingest) -> Ingest:
    """The same, to somebody whom it has never seen: an address of its own."""
    number = secrets.randbelow(2**16)
    impatient.http.headers["X-Forwarded-For"] = f"198.18.{number >> 8}.{number & 255}"
    return impatient


@contextmanager
def nothing_arrives(ingest: Ingest) -> Iterator[None]:
    """Within it no interaction reaches the broker."""
    before = ingest.arrived()
    yield
    assert ingest.arrived() == before


def pause(seconds: float = 1.0) -> None:
    """Lets time pass; after a second what was changed in the database holds."""
    time.sleep(seconds)


# -- senders who sign -----------------------------------------------------------------------------


class Signer:
    """A sender who signs, with one secret in force for what is verified with it."""

    def __init__(self, ingest: Ingest, source: Source) -> None:
        self.ingest, self.source = ingest, source
        self.secret, self.number = self.connect()

    def connect(self, **more: Any) -> tuple[str, str]:
        """A new secret of its own: (what signs, the id of what verifies)."""
        assert self.source.new_secret
        signs, verifies = self.source.new_secret()
        number = self.ingest.connect(
            self.source, verifies, name=f"attacked-{uuid.uuid4().hex[:6]}", **more
        )
        pause()
        return signs, number

    def request(self, secret: str = "", at: datetime | None = None) -> Sample:
        """A signed request."""
        return self.ingest.signed(self.source, secret or self.secret, at)

    @property
    def signs_the_body(self) -> bool:
        """Whether the signature depends on the body; where it does not, a token serves once, or the
        secret is all there is.
        """
        assert self.source.sample
        sample = self.source.sample("a@signed.example", present.now())
        return self._differ(sample, sample._replace(body=sample.body + b" "))

    @property
    def signs_the_time(self) -> bool:
        """Whether the signature holds for some minutes only."""
        assert self.source.sample
        now = present.now()
        sample = self.source.sample("a@signed.example", now)
        one, other = (
            self.ingest.signed(self.source, self.secret, at, sample)
            for at in (now, now - timedelta(hours=1))
        )
        return (one.headers, one.query, one.body) != (other.headers, other.query, other.body)

    def _differ(self, *samples: Sample) -> bool:
        now = present.now()
        one, other = (
            self.ingest.signed(self.source, self.secret, now, sample) for sample in samples
        )
        return (one.headers, one.query) != (other.headers, other.query)

    def is_refused(self, sample: Sample, kind: str) -> None:
        """The exact refusal, and nothing behind the door."""
        with nothing_arrives(self.ingest):
            refused(self.ingest.hook(self.source, sample), 401, kind)

    def passes(self, sample: Sample) -> None:
        """Success, and something behind the door."""
        before = self.ingest.arrived()
        answer = self.ingest.hook(self.source, sample)
        assert answer.status_code == 200, answer.text
        assert self.ingest.arrived() > before


@pytest.fixture(scope="module", params=SIGNED, ids=lambda source: source.name)
def signer(door: Ingest, request: pytest.FixtureRequest) -> Signer:
    return Signer(door, request.param)


def test_what_its_sender_signed_passes(signer: Signer) -> None:
    """The control: without it the refusals below would prove nothing."""
    signer.passes(signer.request())


def test_a_flipped_byte(signer: Signer) -> None:
    sample = signer.request()
    if signer.signs_the_body:
        for place in (0, len(sample.body) // 2, len(sample.body) - 1):
            flipped = (
                sample.body[:place] + bytes([sample.body[place] ^ 1]) + sample.body[place + 1 :]
            )
            signer.is_refused(sample._replace(body=flipped), "signature")
    else:
        signer.passes(sample)


def test_a_truncated_body(signer: Signer) -> None:
    if signer.signs_the_body:
        sample = signer.request()
        signer.is_refused(sample._replace(body=sample.body[:-1]), "signature")
        signer.is_refused(sample._replace(body=b""), "signature")
    else:
        signer.is_refused(signer.request("wrong"), "signature")


def test_re_serialised_json(signer: Signer) -> None:
    """The signature is over the raw bytes, not over what they mean."""
    sample = signer.request()
    if signer.signs_the_body and "json" in sample.media:
        again = json.dumps(json.loads(sample.body), indent=1).encode()
        signer.is_refused(sample._replace(body=again), "signature")
    else:
        signer.passes(sample)


def test_no_signature(signer: Signer) -> None:
    assert signer.source.sample
    bare = signer.source.sample("a@signed.example", present.now())
    signer.is_refused(bare, "signature")


def test_another_secret(signer: Signer) -> None:
    assert signer.source.new_secret
    signer.is_refused(signer.request(signer.source.new_secret()[0]), "signature")


def test_an_old_secret_after_rotation(signer: Signer) -> None:
    """Two are in force at once while a sender is told the new one; then the old one is of
    no use.
    """
    old, number = signer.connect()
    signer.passes(signer.request(old))
    signer.passes(signer.request())
    signer.ingest.disconnect(number)
    pause()
    signer.is_refused(signer.request(old), "signature")
    signer.passes(signer.request())


def test_an_expired_secret(signer: Signer) -> None:
    secret, _ = signer.connect(expires_at=datetime.now(UTC) + timedelta(seconds=3))
    signer.passes(signer.request(secret))
    pause(2.5)
    signer.is_refused(signer.request(secret), "signature")


@pytest.mark.parametrize("minutes", [-6, -60 * 24 * 4, 6, 60 * 24 * 365])
def test_a_stale_or_future_time_stamp(signer: Signer, minutes: int) -> None:
    """A recorded request is of no use after five minutes, or after the days in which its sender
    repeats it as it was.
    """
    sample = signer.request(at=present.now() + timedelta(minutes=minutes))
    if not signer.signs_the_time or (minutes == -6 and signer.source.name in REPEATED_AS_THEY_WERE):
        signer.passes(sample)
    else:
        signer.is_refused(sample, "stale")


def test_a_token_used_for_another_body(signer: Signer) -> None:
    """Where the signature does not cover the body, its token serves one body only; the same body
    again is a repetition.
    """
    sample = signer.request()
    signer.passes(sample)
    assert signer.ingest.hook(signer.source, sample).status_code == 200
    if signer.source.single_use_token:
        other = sample._replace(body=sample.body.replace(b"signed.example", b"other0.example"))
        assert other != sample
        with nothing_arrives(signer.ingest):
            answer = signer.ingest.hook(signer.source, other)
            assert answer.status_code == signer.source.stop_status
            assert answer.json()["type"].rpartition("#")[2] == "replayed"


def named(signer: Signer) -> bool:
    """Whether it is the scheme of Standard Webhooks."""
    return "webhook-id" in signer.request().headers


def test_a_swapped_id_or_time(signer: Signer) -> None:
    """Standard Webhooks: id and time are signed with the body."""
    if named(signer):
        mine, other = signer.request(), signer.request(at=present.now() - timedelta(seconds=9))
        for header in ("webhook-id", "webhook-timestamp"):
            signer.is_refused(
                mine._replace(headers={**mine.headers, header: other.headers[header]}), "signature"
            )
    else:
        signer.passes(signer.request())


def test_a_dot_inside_an_id(signer: Signer) -> None:
    """Standard Webhooks signs `id.time.body`: dots cannot be moved between the three."""
    if named(signer):
        sample = signer.request()
        at = sample.headers["webhook-timestamp"]
        moved = {**sample.headers, "webhook-id": f"{sample.headers['webhook-id']}.{at}"}
        signer.is_refused(sample._replace(headers=moved), "signature")
        first, _, rest = sample.headers["webhook-id"].partition(".")
        moved = {**sample.headers, "webhook-id": first, "webhook-timestamp": rest}
        signer.is_refused(
            sample._replace(headers=moved, body=f"{at}.".encode() + sample.body), "signature"
        )
    else:
        signer.passes(signer.request())


def test_v1_presented_as_v1a(signer: Signer) -> None:
    """A secret's signature is no public key's, and one that fits among others is enough."""
    if named(signer):
        sample = signer.request()
        given = sample.headers["webhook-signature"]
        for wrong in (
            given.replace("v1,", "v1a,"),
            given.replace("v1,", ""),
            given.replace("v1,", "v2,"),
            "v1,",
            ",",
        ):
            signer.is_refused(
                sample._replace(headers={**sample.headers, "webhook-signature": wrong}), "signature"
            )
        several = {**sample.headers, "webhook-signature": f"v1,AAAA v1a,AAAA {given}"}
        signer.passes(sample._replace(headers=several))
    else:
        signer.passes(signer.request())


def test_a_sender_who_is_not_connected(strict: Ingest) -> None:
    for number, source in enumerate(SIGNED):
        assert source.new_secret
        strict.http.headers["X-Forwarded-For"] = f"198.19.0.{number}"
        sample = strict.signed(source, source.new_secret()[0])
        refused(strict.hook(source, sample), 401, "not-connected")


def test_a_signature_guessed_again_and_again(strict: Ingest) -> None:
    """Guessing is answered 429 after a few attempts; who holds the secret comes in from the same
    address.
    """
    assert HOUSE.new_secret
    secret, wrong = HOUSE.new_secret()[0], HOUSE.new_secret()[0]
    strict.connect(HOUSE, secret)
    pause()
    answers = [strict.hook(HOUSE, strict.signed(HOUSE, wrong)) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 2
    too_many(answers[-1], "address", PER_ADDRESS)
    assert strict.hook(HOUSE, strict.signed(HOUSE, secret)).status_code == 200


# -- keys -----------------------------------------------------------------------------------------


def test_another_tenants_key(door: Ingest, strict: Ingest) -> None:
    """A key of another installation is no key, whatever its scope."""
    for scope in ("secret", "public"):
        theirs = {"Authorization": f"Bearer {strict.keys[scope]}"}
        with nothing_arrives(door):
            for path in ("/v1/events", "/v1/track", "/v1/forms/demo"):
                body = visit(event="x", anonymousId="a")
                refused(
                    door.http.post(door.url + path, json=body, headers=theirs),
                    401,
                    "unauthorized",
                    "Authorization",
                )


def test_a_keys_id_with_another_secret(door: Ingest) -> None:
    mine, other = door.keys["secret"].split("_", 2), door.new_key("secret").split("_", 2)
    for swapped in (
        f"rl_{mine[1]}_{other[2]}",
        door.keys["secret"][:-1],
        door.keys["secret"] + "A",
        door.keys["secret"].lower(),
    ):
        answer = door.http.post(
            f"{door.url}/v1/events", json=visit(), headers={"Authorization": f"Bearer {swapped}"}
        )
        refused(answer, 401, "unauthorized", "Authorization")


def test_a_secret_key_in_a_page_or_an_address(door: Ingest) -> None:
    """It is refused where everybody can read it, so that nobody gets used to it."""
    key = door.keys["secret"]
    refused(
        door.http.post(f"{door.url}/v1/forms/demo", data={"email": "a@b.example", "_key": key}),
        403,
        "forbidden",
        "key",
    )
    refused(
        door.http.post(f"{door.url}/v1/forms/demo?key={key}", data={"email": "a@b.example"}),
        403,
        "forbidden",
        "key",
    )
    refused(door.http.get(f"{door.url}/v1/forms/demo/token?key={key}"), 403, "forbidden", "key")


@pytest.mark.parametrize(
    "said", ["won", "identity_reviewed", "opportunity_opened", "sales_disqualified"]
)
def test_a_page_that_speaks_as_sales(door: Ingest, said: str) -> None:
    """What stands in a page for all to read may not report a sale or merge two people, not even by
    a second `type`.
    """
    with nothing_arrives(door):
        refused(door.post("/v1/events", "public", json=visit(type=said)), 400, "forbidden", "/type")
        twice = f'{{"type": "page_viewed", "anonymous_id": "a-1", "type": "{said}"}}'
        refused(
            door.post("/v1/events", "public", content=twice, headers=JSON),
            400,
            "forbidden",
            "/type",
        )


def test_keys_are_made_rotated_and_revoked_and_hold_within_a_second(door: Ingest) -> None:
    """By `ripeline keys` alone."""

    def ripeline(*words: str) -> Any:
        done = CliRunner().invoke(
            command_line, ["keys", *words], env={"RIPELINE_DATABASE_URL": door.database}
        )
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout) if "--json" in words else done.stdout.strip()

    def answers(key: str) -> int:
        return door.http.post(
            f"{door.url}/v1/events", json=visit(), headers={"Authorization": f"Bearer {key}"}
        ).status_code

    made = ripeline("new", "secret", "--name", "shop", "--expires", "2099-01-01", "--json")
    assert (made["name"], made["scope"], made["origins"]) == ("shop", "secret", None)
    pause()
    assert answers(made["key"]) == 200
    rotated = ripeline("rotate", made["id"], "--grace", "3s", "--json")
    assert (rotated["name"], rotated["scope"]) == ("shop", "secret")
    pause()
    assert (answers(made["key"]), answers(rotated["key"])) == (200, 200)
    pause(2.5)
    assert (answers(made["key"]), answers(rotated["key"])) == (401, 200)
    ripeline("revoke", rotated["id"])
    pause()
    assert answers(rotated["key"]) == 401
    assert rotated["id"] not in {one["id"] for one in ripeline("list", "--json")}
    held = until(lambda: {one["id"]: one for one in ripeline("list", "--json")}[made["id"]])
    assert held["expires_at"] < made["expires_at"]
    until(
        lambda: {one["id"]: one for one in ripeline("list", "--json")}[made["id"]]["last_used_at"]
    )
    page = ripeline("new", "public", "--origins", "https://Shop.example/, https://www.shop.example")
    mine = next(one for one in ripeline("list", "--json") if one["id"] == page.split("_")[1])
    assert mine["origins"] == ["https://shop.example", "https://www.shop.example"]
    assert (
        page
        not in CliRunner()
        .invoke(command_line, ["keys", "list"], env={"RIPELINE_DATABASE_URL": door.database})
        .stdout
    )
    for words in (
        ["revoke", "nosuchkey"],
        ["rotate", "nosuchkey"],
        ["rotate", made["id"], "--grace", "soon"],
    ):
        assert (
            CliRunner()
            .invoke(command_line, ["keys", *words], env={"RIPELINE_DATABASE_URL": door.database})
            .exit_code
            != 0
        )


# -- pages of others ------------------------------------------------------------------------------


def test_a_page_of_another_origin(strict: Ingest) -> None:
    """A simple request needs no preflight, so the server itself looks; a page in a sandbox is of no
    origin.
    """
    simple = {"Content-Type": "text/plain"}
    call = json.dumps({"event": "x", "anonymousId": "a-1", "writeKey": strict.keys["public"]})
    with nothing_arrives(strict):
        for origin in (
            "https://evil.example",
            "null",
            "https://www.example.com.evil.example",
            "http://www.example.com",
        ):
            answer = strict.http.post(
                f"{strict.url}/v1/track", content=call, headers=simple | {"Origin": origin}
            )
            refused(answer, 403, "forbidden", "Origin")
            assert "access-control-allow-origin" not in answer.headers
    allowed = strict.http.post(
        f"{strict.url}/v1/track",
        content=call,
        headers=simple | {"Origin": "https://www.example.com"},
    )
    assert allowed.status_code == 200, allowed.text
    assert allowed.headers["access-control-allow-origin"] == "https://www.example.com"


def test_a_key_of_one_site_on_another(strict: Ingest) -> None:
    """A key's own list counts for it instead of the settings'; browsers are told that some key
    allows its origin.
    """
    shop = strict.new_key("public", name="shop", origins=["https://shop.example"])
    pause()

    def posts(origin: str) -> httpx.Response:
        return strict.http.post(
            f"{strict.url}/v1/events?key={shop}", json=visit(), headers={"Origin": origin}
        )

    refused(posts("https://www.example.com"), 403, "forbidden", "Origin")
    assert posts("https://shop.example").status_code == 200
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    for origin, status in (
        ("https://shop.example", 200),
        ("https://www.example.com", 200),
        ("https://evil.example", 400),
    ):
        preflight = strict.http.options(
            f"{strict.url}/v1/events", headers=asked | {"Origin": origin}
        )
        assert preflight.status_code == status
        assert preflight.headers.get("access-control-allow-origin") == (
            origin if status == 200 else None
        )


# -- too many -------------------------------------------------------------------------------------


def too_many(answer: httpx.Response, whose: str, most: int) -> None:
    """429 with what the draft of the IETF and RFC 9110 say of it."""
    refused(answer, 429, "too-many")
    assert 1 <= int(answer.headers["retry-after"]) <= AGAIN_S
    assert answer.headers["ratelimit-policy"] == f'"{whose}";q={most};w={AGAIN_S}'
    assert re.fullmatch(rf'"{whose}";r=0;t=[1-{AGAIN_S}]', answer.headers["ratelimit"])


def test_a_key_that_asks_too_often(strict: Ingest) -> None:
    """A flood with a good key; others are not held up by it, and after its window it goes on."""
    noisy, quiet = (
        {"Authorization": f"Bearer {strict.new_key('secret', name=name)}"}
        for name in ("noisy", "quiet")
    )
    pause()
    answers = [
        strict.http.post(f"{strict.url}/v1/events", json=visit(), headers=noisy)
        for _ in range(PER_KEY + 2)
    ]
    assert [answer.status_code for answer in answers] == [200] * PER_KEY + [429] * 2
    assert answers[0].headers["ratelimit"] == f'"key";r={PER_KEY - 1};t={AGAIN_S}'
    too_many(answers[-1], "key", PER_KEY)
    assert (
        strict.http.post(f"{strict.url}/v1/events", json=visit(), headers=quiet).status_code == 200
    )
    assert strict.metric("ripeline_requests_limited_total", limit="key") >= 2
    pause(AGAIN_S)
    assert (
        strict.http.post(f"{strict.url}/v1/events", json=visit(), headers=noisy).status_code == 200
    )


def test_keys_guessed_again_and_again(strict: Ingest) -> None:
    """From one address; who holds a key comes in from there all the same."""
    key = strict.new_key("secret", name="holder")
    pause()
    wrong = {"Authorization": f"Bearer rl_0123456789ab_{'x' * 43}"}
    answers = [
        strict.http.post(f"{strict.url}/v1/events", json=visit(), headers=wrong) for _ in range(7)
    ]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 2
    too_many(answers[-1], "address", PER_ADDRESS)
    right = {"Authorization": f"Bearer {key}"}
    assert (
        strict.http.post(f"{strict.url}/v1/events", json=visit(), headers=right).status_code == 200
    )


def test_a_page_that_posts_too_often(strict: Ingest) -> None:
    """Events and forms with a public key count for the address from which they come, together."""
    public = strict.key("public")
    token = strict.http.get(f"{strict.url}/v1/forms/demo/token", headers=public).json()["token"]
    filled = {"email": "a@b.example", "_token": token, "_hp": "x"}
    calls = [
        lambda: strict.http.post(f"{strict.url}/v1/forms/demo", data=filled, headers=public),
        lambda: strict.http.post(f"{strict.url}/v1/events", json=visit(), headers=public),
    ]
    statuses = [calls[number % 2]().status_code for number in range(6)]
    assert statuses == [200] * 4 + [429] * 2
    pause(AGAIN_S)
    assert calls[1]().status_code == 200


def test_the_way_out_asked_for_too_often(strict: Ingest) -> None:
    """Unsubscribing needs no key, so it counts for the address; what an address may say is never in
    the way of one person.
    """
    tokens = [
        sign(PEPPER.encode(), UnsubscribeClaim(str(uuid.uuid4()), f"{number:032x}"))
        for number in range(6)
    ]
    answers = [strict.http.post(f"{strict.url}/u/{token}") for token in tokens]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= AGAIN_S


def test_a_forged_x_forwarded_for(door: Ingest, strict: Ingest) -> None:
    """Without a trusted proxy nobody is believed; with one, the address that it saw itself,
    whatever stands before it.
    """
    wrong = {"Authorization": f"Bearer rl_0123456789ab_{'x' * 43}"}

    def guess(forwarded: str) -> int:
        headers = wrong | {"X-Forwarded-For": forwarded}
        return strict.http.post(
            f"{strict.url}/v1/events", json=visit(), headers=headers
        ).status_code

    assert [guess(f"198.51.100.{number}, 203.0.113.9, 10.1.2.3") for number in range(7)] == [
        401
    ] * 5 + [429] * 2
    assert guess("203.0.113.9, 203.0.113.10") == 401
    six = [guess(f"2001:db8:1:2:{number:x}::1") for number in range(7)]
    assert six == [401] * 5 + [429] * 2
    assert guess("2001:db8:1:3::1") == 401
    public = door.key("public")
    before = [door.http.post(f"{door.url}/v1/events", json=visit(),
    headers=public | {"X-Forwarded-For": f"203.0.113.{n}"})
              for n in (1, 2)]  # fmt: skip
    standing = [
        int(re.findall(r'"address";r=(\d+)', answer.headers["ratelimit"])[0]) for answer in before
    ]
    assert standing[1] == standing[0] - 1 or standing[1] == 999


# -- slow and endless -----------------------------------------------------------------------------


def answered(wire: socket.socket, seconds: float = 10) -> bytes:
    """What comes until the other side closes."""
    wire.settimeout(seconds)
    said = b""
    try:
        while piece := wire.recv(65536):
            said += piece
    except ConnectionResetError:
        pass
    return said


def one_answer(wire: socket.socket, said: bytes = b"") -> tuple[int, str]:
    """(status, kind) of the answer that comes, whatever the other side does after it."""
    wire.settimeout(5)
    while b"\r\n\r\n" not in said:
        said += wire.recv(65536)
    head, _, body = said.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length
    while len(body) < int(length[1]):
        body += wire.recv(65536)
    return problem_in(head + b"\r\n\r\n" + body)


def poured(wire: socket.socket, piece: bytes, most: int) -> int:
    """How many bytes are taken before the other side closes."""
    sent = 0
    try:
        while sent < most:
            sent += wire.send(piece)
    except OSError:
        pass
    return sent


def problem_in(said: bytes) -> tuple[int, str]:
    """(status, kind) of a bare answer."""
    head, _, body = said.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["type"].rpartition("#")[2]


def test_slowloris(strict: Ingest) -> None:
    """Fifty connections that never end their headers are all cut off in time, and others are served
    meanwhile.
    """
    began = time.monotonic()
    wires = [strict.wire() for _ in range(50)]
    for wire in wires:
        wire.sendall(b"POST /v1/events HTTP/1.1\r\nHost: x\r\n")
    assert strict.post("/v1/events", json=visit()).status_code == 200
    for letter in b"X-Slow":
        time.sleep(0.1)
        for wire in wires:
            wire.sendall(bytes([letter]))
    for wire in wires:
        assert problem_in(answered(wire)) == (408, "slow")
    assert time.monotonic() - began < PATIENCE_S + 2
    assert strict.metric("ripeline_connections_cut_off_total", why="slow") >= 50


def test_a_connection_that_says_nothing(strict: Ingest) -> None:
    wire = strict.wire()
    assert answered(wire, PATIENCE_S + 2) == b""


def test_a_second_request_that_stalls(strict: Ingest) -> None:
    """Slowloris behind a good request, on the same connection."""
    wire = strict.wire()
    wire.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert wire.recv(65536).startswith(b"HTTP/1.1 200")
    wire.sendall(b"GET /health/live HT")
    assert problem_in(answered(wire, PATIENCE_S + 2)) == (408, "slow")


def test_a_body_that_trickles(strict: Ingest) -> None:
    """R.U.D.Y.: a byte now and then of a long body."""
    wire = strict.wire()
    wire.sendall(
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: "
        b"application/json\r\nContent-Length: 100000\r\n\r\n"
    )
    began = time.monotonic()
    for _ in range(15):
        time.sleep(0.1)
        try:
            wire.sendall(b" ")
        except OSError:
            break
    assert problem_in(answered(wire)) == (408, "slow")
    assert time.monotonic() - began < PATIENCE_S + 2


def test_a_body_that_comes_steadily_is_waited_for(strict: Ingest) -> None:
    """The control: slower than a second, but at a pace."""
    body = json.dumps(visit(url="x" * 6000)).encode()
    head = (
        "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: "
        f"application/json\r\nContent-Length: {len(body)}\r\n"
    )
    wire = strict.wire()
    wire.sendall(
        f"{head}Authorization: Bearer {strict.keys['secret']}\r\nConnection: close\r\n\r\n".encode()
    )
    for start in range(0, len(body), 400):
        wire.sendall(body[start : start + 400])
        time.sleep(0.1)
    assert answered(wire).startswith(b"HTTP/1.1 200")


CHUNKED = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "endless",
    [
        pytest.param((b"GET /health/live HTTP/1.1\r\nHost: x\r\n",
        b"X-A: " + b"a" * 1000 + b"\r\n"), id="headers"),
        pytest.param((b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-A: ", b"a" * 1000), id="one "
        "header"),
        pytest.param((b"GET /", b"a" * 1000), id="an address"),
        pytest.param(
            (CHUNKED + b"1\r\na\r\n0\r\n", b"X: " + b"a" * 997 + b"\r\n"),
            id="trailers",
        ),
        pytest.param(
            (CHUNKED, b"1;" + b"a" * 1000 + b"\r\na\r\n"),
            id="chunk extensions",
        ),
    ],
)  # fmt: skip
def test_what_never_ends(door: Ingest, endless: tuple[bytes, bytes]) -> None:
    """Headers, trailers or chunk extensions without end are cut off long before they fill the
    memory.
    """
    first, more = endless
    wire = door.wire()
    wire.settimeout(10)
    wire.sendall(first)
    assert poured(wire, more * 64, 50 * MEGABYTE) < 20 * MEGABYTE
    assert door.metric("ripeline_connections_cut_off_total", why="endless") >= 1


def test_headers_just_too_large_are_told_so(door: Ingest) -> None:
    wire = door.wire()
    wire.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n")
    time.sleep(0.2)
    wire.sendall(b"X-A: " + b"a" * 70_000)
    assert problem_in(answered(wire)) == (431, "headers")


def test_one_gigabyte_in_chunks(door: Ingest) -> None:
    """The answer comes once the limit is passed, long before the gigabyte is sent; and the
    connection does not stay.
    """
    wire = door.wire()
    wire.sendall(
        f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {door.keys['secret']}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    chunk, sent, said = b"10000\r\n" + b" " * 65536 + b"\r\n", 0, b""
    wire.setblocking(False)
    while not said and sent < 1024 * MEGABYTE:
        try:
            sent += wire.send(chunk[sent % len(chunk) :])
        except BlockingIOError:
            time.sleep(0.001)
        try:
            said = wire.recv(65536)
        except BlockingIOError:
            continue
    assert one_answer(wire, said) == (413, "too-large")
    assert sent < 40 * MEGABYTE
    began = time.monotonic()
    poured(wire, chunk, 100_000 * MEGABYTE)
    assert time.monotonic() - began < 10


def test_a_gigabyte_promised(door: Ingest) -> None:
    """Refused by its announcement, before a byte of it."""
    wire = door.wire()
    wire.sendall(b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n")
    assert one_answer(wire) == (413, "too-large")


def test_an_expect_header_does_not_invite_a_body_that_is_too_large(door: Ingest) -> None:
    wire = door.wire()
    wire.sendall(
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nExpect: "
        b"100-continue\r\nContent-Length: 1073741824\r\n\r\n"
    )
    assert one_answer(wire) == (413, "too-large")


@pytest.mark.parametrize(
    "smuggled",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n....",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length : 4\r\n\r\n....",
        b"X: a\r\n b\0c: d\r\n\r\n",
    ],
)
def test_request_smuggling(door: Ingest, smuggled: bytes) -> None:
    """Two lengths for one body: what a proxy takes for one request shall not be two for us."""
    wire = door.wire()
    wire.sendall(
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\n" + smuggled + b"GET /health/live "
        b"HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    said = answered(wire)
    assert said.startswith(b"HTTP/1.1 400")
    assert b"live" not in said


def test_requests_that_do_not_wait_for_each_other(door: Ingest) -> None:
    """The control: pipelined requests are no attack, and each is answered, in order."""
    one = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /health/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    wire = door.wire()
    wire.sendall(one * 20 + last[:30])
    time.sleep(0.2)
    wire.sendall(last[30:])
    assert re.findall(rb"HTTP/1.1 (\d+)", answered(wire)) == [b"200"] * 20 + [b"404"]


# -- bodies ---------------------------------------------------------------------------------------

ZIPPED = JSON | {"Content-Encoding": "gzip"}


def test_a_gzip_bomb_in_many_members(door: Ingest) -> None:
    """Members are one body: its limit holds for their sum, and what stands after the first is not
    lost.
    """
    member = gzip.compress(b" " * MEGABYTE)
    refused(door.post("/v1/events", content=member * 6, headers=ZIPPED), 413, "too-large", "body")
    one, two = json.dumps(visit()), json.dumps(visit())
    halves = gzip.compress(f"[{one},".encode()) + gzip.compress(f"{two}]".encode())
    assert door.post("/v1/events", content=halves, headers=ZIPPED).json()["accepted"] == 2


def test_a_gzip_body_of_nothing_but_members(door: Ingest) -> None:
    """A quarter of a million empty members cost more than their few bytes."""
    began = time.monotonic()
    answer = door.post("/v1/events", content=gzip.compress(b"") * 200_000, headers=ZIPPED)
    refused(answer, 413, "too-large", "Content-Encoding")
    assert time.monotonic() - began < 5


def test_something_after_the_end_of_a_gzip_body(door: Ingest) -> None:
    body = gzip.compress(json.dumps(visit()).encode())
    refused(
        door.post("/v1/events", content=body + b"more", headers=ZIPPED),
        400,
        "invalid",
        "Content-Encoding",
    )


def test_gzip_within_gzip_and_other_codings(door: Ingest) -> None:
    inner = gzip.compress(json.dumps(visit()).encode())
    refused(door.post("/v1/events", content=gzip.compress(inner), headers=ZIPPED), 400, "invalid")
    for coding in ("gzip, gzip", "deflate", "zstd", "gzip;q=1"):
        headers = JSON | {"Content-Encoding": coding}
        refused(
            door.post("/v1/events", content=inner, headers=headers),
            415,
            "media-type",
            "Content-Encoding",
        )


def test_a_deflate_bomb_inside_multipart(door: Ingest) -> None:
    """A part's own coding is not undone: the bomb stays as small as it came, and is no text."""
    bomb = zlib.compress(b"a" * 100 * MEGABYTE, 9)
    head = 'Content-Disposition: form-data; name="email"\r\nContent-Encoding: deflate'
    body = f"--xx\r\n{head}\r\n\r\n".encode() + bomb + b"\r\n--xx--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=xx"}
    with nothing_arrives(door):
        refused(
            door.post("/v1/forms/demo", "public", content=body, headers=headers), 400, "invalid"
        )


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/events", DEEP),
        ("/v1/events", f'{{"type": "x", "anonymous_id": "a", "traits": {{"a": {DEEP}}}}}'),
        ("/v1/events", '{"a":' * 100_000 + "1" + "}" * 100_000),
        (
            "/v1/events",
            f'{{"specversion": "1.0", "id": "1", "source": "/a", "type": "x", "data": {DEEP}}}',
        ),
        ("/v1/track", f'{{"event": "x", "anonymousId": "a", "properties": {{"a": {DEEP}}}}}'),
        (
            "/v1/batch",
            f'{{"batch": [{{"type": "track", "event": "x", "anonymousId": "a", '
            f'"properties": {{"a": {DEEP}}}}}]}}',
        ),
        ("/v1/batch", f'{{"batch": {DEEP}}}'),
        ("/v1/forms/demo", f'{{"email": "a@b.example", "a": {DEEP}}}'),
    ],
)
def test_100_000_deep_json(door: Ingest, path: str, body: str) -> None:
    with nothing_arrives(door):
        refused(door.post(path, content=body, headers=JSON), 400, "invalid")


HOSTILE = {
    "NaN": "NaN", "Infinity": "-Infinity", "1e400": "1e400", "2^63": "9223372036854775808",
    "NUL": r'"a\u0000b"',
    "high surrogate": r'"\ud83d"', "low surrogate": r'"\ude00"', "control character": '"a\tb"',
    "comment": '"a" /* b */',
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    ("path", "around"),
    [
        ("/v1/track", '{"event": "x", "anonymousId": "a", "messageId": "m", "properties": '
        '{"n": %s}}'),
        ("/v1/batch", '{"batch": [{"type": "track", "event": "x", "anonymousId": "a", '
        '"properties": {"n": %s}}]}'),
        ("/v1/events", '{"specversion": "1.0", "id": "1", "source": "/a", "type": "x", "data": '
        '{"user_id": "u", "url": %s}}'),
        ("/v1/forms/demo", '{"email": "a@b.example", "n": %s}'),
    ],
    ids=["call", "batch", "CloudEvent", "form"],
)  # fmt: skip
def test_values_that_break_databases_and_parsers(
    door: Ingest, path: str, around: str, name: str
) -> None:
    with nothing_arrives(door):
        answer = door.post(path, content=(around % HOSTILE[name]).encode(), headers=JSON)
        refused(answer, 400, "invalid")


@pytest.mark.parametrize(
    "fields",
    [b"email=a%40b.example&name=%00", b"email=a%40b.example&name=%FF",
    b"email=a%40b.example&name=%C0%A0",
     b"email=a%40b.example&name=%ED%A0%80", b"email=a%40b.example&name=\xc0\xaf",
     b"email=a%40b.example&%00=1"],
)  # fmt: skip
def test_nul_invalid_utf_8_and_overlong_in_a_form(door: Ingest, fields: bytes) -> None:
    with nothing_arrives(door):
        refused(door.post("/v1/forms/demo", "public", content=fields, headers=FORM), 400, "invalid")


def test_bytes_that_are_no_utf_8_in_headers_and_addresses(door: Ingest) -> None:
    """They are nobody's key and nobody's form, and harm nothing."""
    for header in (b"Bearer \xc0\xa0", b"Bearer rl_\xff_" + b"x" * 43, b"Basic \xff\xfe"):
        answer = door.http.post(
            f"{door.url}/v1/events", json=visit(), headers=[(b"Authorization", header)]
        )
        refused(answer, 401, "unauthorized")
    ce = [
        (b"ce-id", b"%C0%A0"),
        (b"ce-type", b"\xc0\xa0"),
        (b"ce-source", b"\xff"),
        (b"ce-specversion", b"1.0"),
    ]
    sent = [
        *ce,
        (b"Authorization", f"Bearer {door.keys['secret']}".encode()),
        (b"Content-Type", b"application/json"),
    ]
    refused(door.http.post(f"{door.url}/v1/events", content=b"{}", headers=sent), 400, "invalid")
    wire = door.wire()
    wire.sendall(
        b"POST /v1/forms/%C0%A0%FF%00 HTTP/1.1\r\nHost: x\r\nContent-Length: "
        b"0\r\nConnection: close\r\n\r\n"
    )
    assert problem_in(answered(wire)) == (401, "unauthorized")


def test_duplicate_keys(door: Ingest) -> None:
    """The last one counts, in the answer as behind the door: nobody is told one thing and stores
    another.
    """
    first, last = uuid.uuid4().hex, uuid.uuid4().hex
    body = f'{{"id": "{first}", "type": "page_viewed", "anonymous_id": "a-1", "id": "{last}"}}'
    assert door.post("/v1/events", content=body, headers=JSON).json()["ids"] == [last]


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("application/x-www-form-urlencoded", b"&".join(b"f%d=1" % n for n in range(300_000))),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 60_000 + b"--x--",
        ),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n1\r\n" * 300_000 + b"--x--"),
        ("application/json", b"{" + b",".join(b'"f%d":1' % n for n in range(300_000)) + b"}"),
    ],
    ids=["urlencoded", "multipart", "nameless parts", "json"],
)
def test_a_form_of_hundreds_of_thousands_of_fields(door: Ingest, media: str, body: bytes) -> None:
    began = time.monotonic()
    answer = door.post("/v1/forms/demo", "public", content=body, headers={"Content-Type": media})
    refused(answer, 413, "too-large")
    assert time.monotonic() - began < 5


def test_a_body_that_no_question_needs(system: System) -> None:
    """The services that answer questions read 64 KB, of strangers too, and not a byte more."""
    big = json.dumps({"email": "a" * 100_000}).encode()
    for url in (
        f"{system.scorer}/v1/leads/lookup",
        f"{system.scorer}/sign-in",
        f"{system.scorer}/find",
    ):
        answer = system.http.post(url, content=big, headers=JSON)
        assert answer.status_code == 413, (url, answer.text)


# -- forms ----------------------------------------------------------------------------------------


def token_of(ingest: Ingest, form: str) -> str:
    """What a page gets when it shows a form."""
    answer = ingest.http.get(
        f"{ingest.url}/v1/forms/{form}/token", params={"key": ingest.keys["public"]}
    )
    assert answer.headers["cache-control"] == "no-store"
    return str(answer.json()["token"])


def test_a_form_filled_in_at_once(door: Ingest) -> None:
    """A robot is thanked and forgotten, so that it learns nothing; a person is kept."""
    token = token_of(door, "demo")
    fields = {"email": "robot@signed.example", "_token": token}
    before = door.metric("ripeline_interactions_refused_total", source="forms", kind="too-quick")
    with nothing_arrives(door):
        answer = door.post("/v1/forms/demo", "public", data=fields)
        assert (answer.status_code, "Thank you" in answer.text) == (200, True)
    assert (
        door.metric("ripeline_interactions_refused_total", source="forms", kind="too-quick")
        == before + 1
    )
    pause(form_token.QUICKEST_S)
    before_person = door.arrived()
    assert door.post("/v1/forms/demo", "public", data=fields).status_code == 200
    assert door.arrived() > before_person


def test_a_forged_borrowed_or_old_form_token(door: Ingest) -> None:
    pepper, now = PEPPER.encode(), time.time()
    sound = token_of(door, "demo")
    wrong = [
        sound[:-2] + ("AA" if sound[-2:] != "AA" else "BB"), "x", "A" * 32, "é", sound + "AAAA",
        form_token.issue(b"another pepper", "demo", now - 60), form_token.issue(pepper, "demo",
        now - 25 * 3600),
        form_token.issue(pepper, "contact", now - 60),
    ]  # fmt: skip
    with nothing_arrives(door):
        for token in wrong:
            answer = door.post(
                "/v1/forms/demo", "public", data={"email": "a@b.example", "_token": token}
            )
            refused(answer, 400, "form-token", "/_token")


def test_a_form_without_a_token_where_one_is_required(strict: Ingest) -> None:
    refused(
        strict.post("/v1/forms/demo", "public", data={"email": "a@b.example"}),
        400,
        "form-token",
        "/_token",
    )


# -- tokens of mails ------------------------------------------------------------------------------


def test_the_unsubscribe_token_of_another_lead(door: Ingest) -> None:
    """It takes out the address that it was made for; nothing in it can be exchanged, and a link's
    token is no way out.
    """
    pepper, touch = PEPPER.encode(), str(uuid.uuid4())
    mine = sign(pepper, UnsubscribeClaim(touch, "ab" * 16))
    theirs = sign(b"another pepper", UnsubscribeClaim(touch, "cd" * 16))
    click = sign(pepper, LinkClaim(touch, "guide", "https://www.example.com/"))
    other = sign(pepper, UnsubscribeClaim(touch, "cd" * 16))
    crossed = mine[:22] + other[22:]
    with nothing_arrives(door):
        for token in (theirs, click, crossed, mine[:-1], mine + "A", mine.swapcase()):
            refused(door.http.post(f"{door.url}/u/{token}"), 404, "not-found", "token")
            refused(door.http.get(f"{door.url}/u/{token}"), 404, "not-found", "token")
        assert door.http.get(f"{door.url}/u/{mine}").status_code == 200  # looking changes nothing
    before = door.arrived()
    assert (
        door.http.post(f"{door.url}/u/{mine}", data={"List-Unsubscribe": "One-Click"}).status_code
        == 200
    )
    assert door.arrived() > before


def test_a_tracked_link_that_leads_elsewhere(door: Ingest) -> None:
    """No open redirect: an address that we did not sign is not followed, nor one beside it."""
    claim = LinkClaim(str(uuid.uuid4()), "guide", "https://www.example.com/guide")
    for token in (sign(b"another pepper", claim), "https://evil.example", "..%2f..%2fetc"):
        refused(door.http.get(f"{door.url}/l/{token}"), 404, "not-found")
    sound = door.http.get(
        f"{door.url}/l/{sign(PEPPER.encode(), claim)}?to=https://evil.example&url=//evil.example"
    )
    assert sound.status_code == 302
    assert "evil" not in sound.headers["location"]


# -- asking ---------------------------------------------------------------------------------------


def test_another_installations_cursor(system: System) -> None:
    """A cursor is sealed by the installation that gave it, for its list; a bent or foreign one
    opens nothing.
    """
    scopes = ["leads default likelihood", "touches None ", "timeline"]
    for scope in scopes:
        for place in ((0.5, str(uuid.uuid4())), ("' OR 1=1 --", "x"), (2**70, "x")):
            cursor = Seal(b"another pepper").close(scope, *place)
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
    assert system.ask("/v1/leads", limit=1)["leads"] is not None


# -- what reaches people --------------------------------------------------------------------------

SCRIPT = '<script>alert(1)</script><img src=x onerror="alert(2)">'
TEMPLATE = (
    "{{7*191}}{% for a in ().__class__.__base__.__subclasses__() %}x{% endfor %}${7*191}#{7*191}"
)


class Victim:
    """A lead that put harm into every field of a form, and the mail that it got."""

    def __init__(self, system: System, name: str) -> None:
        self.email = system.address("mallory")
        fields = {
            "email": self.email, "name": name, "first_name": name, "company": name, "title": name,
            name: name,
            "timezone": present.midday_zone(), "consent": "yes", "consent_text": name,
            "utm_source": name, "utm_campaign": name,
        }  # fmt: skip
        answer = system.http.post(
            f"{system.ingest}/v1/forms/demo", params={"key": system.keys["public"]}, data=fields
        )
        assert answer.status_code == 200, answer.text
        self.id = system.known(1, email=self.email)["id"]
        self.mail: EmailMessage = until(lambda: next(iter(system.mails(self.email)), None), 40)


def parts(mail: EmailMessage) -> tuple[str, str]:
    """(text, HTML)."""
    plain, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain
    assert html
    return plain.get_content(), html.get_content()


def page_of(system: System, lead: str) -> str:
    """The lead's page as somebody sees it who is signed in."""
    with httpx.Client(base_url=system.scorer) as http:
        assert http.get("/sign-in", params={"key": system.keys["query"]}).status_code == 303
        return http.get(f"/leads/{lead}").text + http.get("/").text


def test_stored_xss_in_a_name(system: System) -> None:
    """It is text, on the page and in the mail."""
    victim = Victim(system, SCRIPT)
    shown = page_of(system, victim.id)
    assert "&lt;script&gt;alert(1)" in shown
    for html in (shown, parts(victim.mail)[1]):
        assert "<script>alert" not in html
        assert "<img src=x" not in html


def test_template_injection_in_a_name(system: System) -> None:
    """Nobody's words are ever a template."""
    victim = Victim(system, TEMPLATE)
    for said in (page_of(system, victim.id), *parts(victim.mail), str(victim.mail["Subject"])):
        assert "1337" not in said


def test_crlf_in_a_form_field_that_reaches_a_mail(system: System) -> None:
    """A line break in a name begins no header, and an address with one is no address."""
    victim = Victim(system, "Ann\r\nBcc: victim@signed.example\r\n\r\nBuy now")
    assert victim.mail["Bcc"] is None
    assert victim.mail["To"] == victim.email
    for said in (*parts(victim.mail), str(victim.mail["Subject"])):
        assert "victim" not in said
    for address in (
        f"{victim.email}\r\nBcc: victim@signed.example",
        f"{victim.email}%0d%0aBcc:x@y.example",
        f"a,{victim.email}",
    ):
        answer = system.post("/v1/forms/demo", "public", data={"email": address})
        refused(answer, 400, "invalid", "/email")


def test_an_advert_in_a_name(system: System) -> None:
    """Nobody makes us send their words to a stranger: what is no name is not greeted by it."""
    victim = Victim(system, "Win-at-https://evil.example/now")
    for said in (*parts(victim.mail), str(victim.mail["Subject"])):
        assert "evil.example" not in said


def test_crlf_in_what_comes_back_as_a_header(door: Ingest) -> None:
    """Nothing that is sent to us splits our answer."""
    wire = door.wire()
    path = "/v1/forms/demo%0d%0aSet-Cookie:%20a=b?key=%0d%0aX-Owned:%201"
    wire.sendall(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nOrigin: a%0d%0aX-Owned: 1\r\nConnection: "
        "close\r\n\r\n".encode()
    )
    head = answered(wire).partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"http/1.1 401")
    assert b"owned" not in head
    assert b"set-cookie" not in head


def test_a_forged_host(door: Ingest) -> None:
    """No address that we give is made of what a request calls us."""
    headers = door.key("public") | {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "host=evil.example",
    }
    answers = [
        door.http.post(f"{door.url}/v1/forms/demo", data={"email": "a@b.example"}, headers=headers),
        door.http.post(
            f"{door.url}/v1/forms/demo/", data={"email": "a@b.example"}, headers=headers
        ),
        door.http.get(f"{door.url}/health/live/", headers=headers),
        door.http.get(f"{door.url}/openapi.json", headers=headers),
    ]
    for answer in answers:
        assert "evil.example" not in answer.text
        assert "evil.example" not in str(answer.headers)


# -- identities and floods ------------------------------------------------------------------------


def test_merge_everyone_through_a_shared_anonymous_id(system: System) -> None:
    """D2: an attacker who puts one cookie into many forms joins nobody with anybody."""
    cookie = f"shared-{uuid.uuid4().hex}"
    people = [system.address(f"person{number}") for number in range(5)]
    for email in people:
        system.say(type="form_submitted", email=email, anonymous_id=cookie)
    leads = [system.known(email=email) for email in people]
    assert len({lead["id"] for lead in leads}) == len(people)
    system.say(type="demo_requested", anonymous_id=cookie)
    time.sleep(1)
    assert [system.known(email=email)["events_counted"] for email in people] == [1] * len(people)


def test_the_same_id_with_another_body(system: System) -> None:
    """One fact, one event: the second body counts no second time."""
    email, name = system.address(), uuid.uuid4().hex
    for number in range(3):
        answer = system.post(
            "/v1/events",
            json={
                "id": name,
                "type": "page_viewed",
                "email": email,
                "url": f"https://a.example/{number}",
            },
        )
        assert answer.status_code == 200
    system.say(type="noted", email=email)
    lead = system.known(2, email=email)
    assert lead["events_counted"] == 2


def test_a_million_distinct_ids_make_no_new_series(door: Ingest) -> None:
    """Cardinality: whatever people invent, no metric has it for a label. Tens of thousands show it
    as well as a million.
    """

    def series() -> int:
        return len(door.http.get(f"{door.url}/metrics").text.splitlines())

    door.post("/v1/events", json=[visit(), {"type": ""}])
    before = series()
    for _ in range(4):
        many = [
            visit(id=uuid.uuid4().hex, type=f"t{uuid.uuid4().hex}", source=uuid.uuid4().hex)
            for _ in range(10_000)
        ]
        assert door.post("/v1/events", json=many).json()["accepted"] == 10_000
    for number in range(50):
        door.http.post(f"{door.url}/v1/{uuid.uuid4().hex}", json={})
        door.post(f"/v1/forms/{uuid.uuid4().hex}", "public", data={"email": f"a{number}@b.example"})
    assert series() <= before + 5


def test_one_noisy_sender_and_the_spool(scratch: Path, postgres: Postgres) -> None:
    """While the broker is away a sender fills its own share of the spool only: others still get in,
    and the full one is told.
    """
    lonely = f"127.0.0.1:{free_port()}"
    ingest = Ingest(scratch / "lonely", new_database(postgres), lonely, spool_max_bytes=str(ROOM))
    other = ingest.new_key("public", name="other")
    ingest.start()
    try:
        letter = {"email": "noisy@signed.example", "words": "w" * 5000}
        answers = [ingest.post("/v1/forms/demo", "public", data=letter) for _ in range(30)]
        kinds = [
            200 if answer.status_code == 200 else refused(answer, 503, "spool-share")["status"]
            for answer in answers
        ]
        assert kinds == sorted(kinds)
        assert 10 <= kinds.count(200) < 30
        assert int(answers[-1].headers["retry-after"]) > 0
        assert ingest.metric("ripeline_spool_share_total") == kinds.count(503)
        assert ROOM / 5 < ingest.metric("ripeline_spool_bytes") <= ROOM / 4
        quiet = ingest.http.post(
            f"{ingest.url}/v1/forms/demo", data=letter, headers={"Authorization": f"Bearer {other}"}
        )
        assert quiet.status_code == 200
        ingest.kill()
        ingest.start()
        refused(ingest.post("/v1/forms/demo", "public", data=letter), 503, "spool-share")
    finally:
        ingest.stop()


def test_nothing_of_an_attack_stands_in_the_log(door: Ingest) -> None:
    """No address of a person, no key and no secret is logged, whatever was refused above."""
    door.post(
        "/v1/forms/demo",
        "public",
        data={"email": "somebody@signed.example", "_next": "https://evil.example/"},
    )
    written = door.log()
    for secret in (*door.keys.values(), "somebody@", "@signed.example", "whsec_"):
        assert secret not in written
