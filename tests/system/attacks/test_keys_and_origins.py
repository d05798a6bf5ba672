"""Attacks with keys that do not count here, and from pages of other origins."""

import json
import time
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from services.ops.__main__ import app as command_line
from services.shared.contracts.event_types import NOT_FROM_PAGES
from tests.support.ingest_process import REFRESHED_S, IngestProcess
from tests.support.refusals import JSON, refused, visit
from tests.support.running_system import wait_until


def test_another_tenants_key(ingest: IngestProcess, strict: IngestProcess) -> None:
    """A key of another installation is no key, whatever its scope."""
    for scope in ("secret", "public"):
        theirs = {"Authorization": f"Bearer {strict.keys[scope]}"}
        with ingest.publishes_nothing():
            for path in ("/v1/events", "/v1/track", "/v1/forms/demo"):
                body = visit(event="x", anonymousId="a")
                refused(
                    ingest.http.post(ingest.url + path, json=body, headers=theirs),
                    401,
                    "unauthorized",
                    "Authorization",
                )


def test_a_keys_id_with_another_secret(ingest: IngestProcess) -> None:
    mine, other = ingest.keys["secret"].split("_", 2), ingest.new_key("secret").split("_", 2)
    for swapped in (
        f"rl_{mine[1]}_{other[2]}",
        ingest.keys["secret"][:-1],
        ingest.keys["secret"] + "A",
        ingest.keys["secret"].lower(),
    ):
        answer = ingest.http.post(
            f"{ingest.url}/v1/events", json=visit(), headers={"Authorization": f"Bearer {swapped}"}
        )
        refused(answer, 401, "unauthorized", "Authorization")


def test_a_secret_key_in_a_page_or_an_address(ingest: IngestProcess) -> None:
    """It is refused where everybody can read it, so that nobody gets used to it."""
    key = ingest.keys["secret"]
    refused(
        ingest.http.post(f"{ingest.url}/v1/forms/demo", data={"email": "a@b.example", "_key": key}),
        403,
        "forbidden",
        "key",
    )
    refused(
        ingest.http.post(f"{ingest.url}/v1/forms/demo?key={key}", data={"email": "a@b.example"}),
        403,
        "forbidden",
        "key",
    )
    refused(ingest.http.get(f"{ingest.url}/v1/forms/demo/token?key={key}"), 403, "forbidden", "key")


@pytest.mark.parametrize("type_", sorted(NOT_FROM_PAGES))
def test_a_page_that_speaks_as_sales(ingest: IngestProcess, type_: str) -> None:
    """What stands in a page for all to read may not report a sale or merge two people, not even by
    a second `type`.
    """
    with ingest.publishes_nothing():
        refused(
            ingest.post("/v1/events", "public", json=visit(type=type_)), 400, "forbidden", "/type"
        )
        twice = f'{{"type": "page_viewed", "anonymous_id": "a-1", "type": "{type_}"}}'
        refused(
            ingest.post("/v1/events", "public", content=twice, headers=JSON),
            400,
            "forbidden",
            "/type",
        )


@pytest.mark.parametrize("basis", ["double_opt_in", "Double Opt-In"])
def test_a_page_that_confirms_for_others(ingest: IngestProcess, basis: str) -> None:
    """A permission that was confirmed from a mailbox is no page's to report, and a server's is."""
    consent = {"state": "given", "basis": basis}
    given = visit(type="consent_given", email="a@b.example", consent=[consent])
    with ingest.publishes_nothing():
        refused(
            ingest.post("/v1/events", "public", json=given), 400, "forbidden", "/consent/0/basis"
        )
        browser = {"event": "Email Bounced", "userId": "u", "writeKey": ingest.keys["public"]}
        ingest.http.post(f"{ingest.url}/v1/track", json=browser)  # Segment reads 200 as "stop"
    assert ingest.post("/v1/events", "secret", json=given).status_code == 200
    consent["basis"] = "form"
    assert ingest.post("/v1/events", "public", json=given | {"id": "2"}).status_code == 200
    leaves = visit(type="unsubscribed", email="a@b.example")
    assert ingest.post("/v1/events", "public", json=leaves).status_code == 200


def test_keys_are_made_rotated_and_revoked_and_hold_within_a_second(ingest: IngestProcess) -> None:
    """By `ripeline keys` alone."""

    def ripeline(*words: str) -> Any:
        done = CliRunner().invoke(
            command_line, ["keys", *words], env={"RIPELINE_DATABASE_URL": ingest.database}
        )
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout) if "--json" in words else done.stdout.strip()

    def listed() -> dict[str, Any]:
        return {key["id"]: key for key in ripeline("list", "--json")}

    def answers(key: str) -> int:
        return ingest.http.post(
            f"{ingest.url}/v1/events", json=visit(), headers={"Authorization": f"Bearer {key}"}
        ).status_code

    made = ripeline("new", "secret", "--name", "shop", "--expires", "2099-01-01", "--json")
    assert (made["name"], made["scope"], made["origins"]) == ("shop", "secret", None)
    time.sleep(REFRESHED_S)
    assert answers(made["key"]) == 200
    rotated = ripeline("rotate", made["id"], "--grace", "3s", "--json")
    assert (rotated["name"], rotated["scope"]) == ("shop", "secret")
    time.sleep(REFRESHED_S)
    assert (answers(made["key"]), answers(rotated["key"])) == (200, 200)
    time.sleep(2.5)
    assert (answers(made["key"]), answers(rotated["key"])) == (401, 200)
    ripeline("revoke", rotated["id"])
    time.sleep(REFRESHED_S)
    assert answers(rotated["key"]) == 401
    assert rotated["id"] not in listed()
    assert listed()[made["id"]]["expires_at"] < made["expires_at"]
    wait_until(lambda: listed()[made["id"]]["last_used_at"])
    page = ripeline("new", "public", "--origins", "https://Shop.example/, https://www.shop.example")
    assert listed()[page.split("_")[1]]["origins"] == [
        "https://shop.example",
        "https://www.shop.example",
    ]
    assert (
        page
        not in CliRunner()
        .invoke(command_line, ["keys", "list"], env={"RIPELINE_DATABASE_URL": ingest.database})
        .stdout
    )
    for words in (
        ["revoke", "nosuchkey"],
        ["rotate", "nosuchkey"],
        ["rotate", made["id"], "--grace", "soon"],
    ):
        assert (
            CliRunner()
            .invoke(command_line, ["keys", *words], env={"RIPELINE_DATABASE_URL": ingest.database})
            .exit_code
            != 0
        )


def test_a_page_of_another_origin(strict: IngestProcess) -> None:
    """A simple request needs no preflight, so the server itself looks; a page in a sandbox is of no
    origin.
    """
    simple = {"Content-Type": "text/plain"}
    call = json.dumps({"event": "x", "anonymousId": "a-1", "writeKey": strict.keys["public"]})
    with strict.publishes_nothing():
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


def test_a_key_of_one_site_on_another(strict: IngestProcess) -> None:
    """A key's own list counts for it instead of the settings'; to browsers its
    origin is allowed where some key allows it.
    """
    shop = strict.new_key("public", name="shop", origins=["https://shop.example"])
    time.sleep(REFRESHED_S)

    def posts(origin: str) -> httpx.Response:
        return strict.http.post(
            f"{strict.url}/v1/events?key={shop}", json=visit(), headers={"Origin": origin}
        )

    refused(posts("https://www.example.com"), 403, "forbidden", "Origin")
    assert posts("https://shop.example").status_code == 200
    asks = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    for origin, status in (
        ("https://shop.example", 200),
        ("https://www.example.com", 200),
        ("https://evil.example", 400),
    ):
        preflight = strict.http.options(
            f"{strict.url}/v1/events", headers=asks | {"Origin": origin}
        )
        assert preflight.status_code == status
        assert preflight.headers.get("access-control-allow-origin") == (
            origin if status == 200 else None
        )
