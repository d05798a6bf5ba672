"""Official clients of Segment, RudderStack and Jitsu, unchanged but for their host: in Python,
Node, Go, Java and a browser, refused with 401, 429 and 503 as well (I2).

All of them tell their stories side by side; each is then looked at alone.
"""

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.async_api import async_playwright

from tests.support import present
from tests.support.official_clients import (
    PYTHON,
    STORIES,
    Gate,
    Missing,
    go_client,
    java_clients,
    python_client,
)
from tests.support.running_system import System
from tests.system.test_clients import BROWSER_FLAGS, CHROMIUM

NODE = Path(__file__).parents[1] / "node"
NOBODY = "rl_nobody_" + "x" * 43
TYPES = {"page_viewed", "identified", "grouped", "demo_requested"}
JAVA = ("segment", "rudder")
OTHERS = [*PYTHON, "node segment", "node rudderstack", "node jitsu", "go segment"]


class Person(NamedTuple):
    """Whom a client tells of."""

    user: str
    cookie: str
    email: str


class Told(NamedTuple):
    """What a client said, or why it is missing here; `left` are refusals that it did not get to."""

    person: Person
    said: dict[str, Any]
    missing: str = ""
    left: Sequence[str] = ()


@pytest.fixture(scope="module")
def told(system: System) -> dict[str, Told]:
    """What every client said, by its name."""

    def person() -> Person:
        return Person(f"user-{uuid.uuid4().hex}", uuid.uuid4().hex, system.address())

    commands: dict[str, Callable[[], list[str]]] = {name: partial(_python, name) for name in PYTHON}
    for script in ("segment", "rudderstack", "jitsu"):
        commands[f"node {script}"] = partial(_node, script)
    commands["go segment"] = _go
    people = [person() for _ in JAVA]
    with ThreadPoolExecutor(len(commands) + 1) as pool:
        java = pool.submit(_java, system, people)
        stories = {
            name: pool.submit(_story, system, name, person(), command)
            for name, command in commands.items()
        }
        return java.result() | {name: story.result() for name, story in stories.items()}


def _story(system: System, name: str, person: Person, command: Callable[[], list[str]]) -> Told:
    """A story whose first request is answered with 429, and the second with 503; Jitsu's client
    tries nothing again.
    """
    gate = Gate(system.ingest, [] if "jitsu" in name else ["too-many", "away"])
    try:
        arguments = [gate.url, system.keys["secret"], *person, system.ingest, NOBODY]
        return Told(person, _said([*command(), *arguments]), left=gate.left)
    except Missing as missing:
        return Told(person, {}, str(missing))
    finally:
        gate.close()


def _said(command: list[str]) -> dict[str, Any]:
    """The JSON that a story ends with."""
    done = subprocess.run(
        command, env=present.environment(), capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def _python(name: str) -> list[str]:
    module = "rudderstack.analytics.client" if "rudder" in name else "segment.analytics.client"
    path = f"PYTHONPATH={python_client(name)}"
    return ["env", path, sys.executable, "-W", "ignore", str(STORIES / "story.py"), module]


def _node(script: str) -> list[str]:
    return [shutil.which("node") or "node", str(NODE / f"{script}.mjs")]


def _go() -> list[str]:
    return [str(go_client())]


def _java(system: System, people: list[Person]) -> dict[str, Told]:
    """Both clients in one process. They wait for seconds before they try again: what they say of
    that is enough.
    """
    try:
        folder = java_clients()
    except Missing as missing:
        return {
            name: Told(someone, {}, str(missing))
            for name, someone in zip(JAVA, people, strict=True)
        }
    limited, away = Gate(system.ingest, ["too-many"] * 9), Gate(system.ingest, ["away"] * 9)
    try:
        options = ["-XX:TieredStopAtLevel=1", "-cp", f"{folder}{os.pathsep}{folder}/*"]
        hosts = [system.ingest, system.keys["secret"], limited.url, away.url]
        names = [part for someone in people for part in someone]
        said = _said([shutil.which("java") or "java", *options, "Story", *hosts, *names])
    finally:
        limited.close()
        away.close()

    def of(name: str) -> dict[str, Any]:
        mine = (what for what in said if what.startswith(name))
        return {what.removeprefix(f"{name} "): said[what] for what in mine}

    return {name: Told(someone, of(name)) for name, someone in zip(JAVA, people, strict=True)}


def available(told: dict[str, Told], name: str) -> Told:
    """What a client said; skips where it cannot be had."""
    if told[name].missing:
        pytest.skip(told[name].missing)
    return told[name]


@pytest.mark.parametrize("name", [*OTHERS, *JAVA])
def test_a_client_on_a_server_tells_a_whole_story(
    system: System, told: dict[str, Told], name: str
) -> None:
    """I2, D1: none is lost through 429 and 503, and anonymous calls join the user."""
    person, said, _, left = available(told, name)
    assert said["story"] in ([], {"failed": [], "log": []})
    assert list(left) == []
    types = TYPES if "jitsu" in name else TYPES | {"aliased"}
    lead = system.wait_for_lead(len(types), user_id=person.user)
    assert lead["identifiers"]["email"] == [person.email]
    cookies = [person.cookie] if "jitsu" in name else [person.cookie, f"old-{person.cookie}"]
    assert sorted(lead["identifiers"]["anonymous_id"]) == sorted(cookies)
    assert lead["traits"]["title"] == "Plant manager"
    events = {item["type"]: item for item in system.timeline(lead["id"]) if item["kind"] == "event"}
    assert set(events) == types
    assert events["page_viewed"]["read_as"] == "pricing"
    assert lead["stage"] == "decision"
    assert lead["events_counted"] == len(types)


@pytest.mark.parametrize("name", OTHERS)
def test_a_client_on_a_server_hears_of_a_wrong_key(told: dict[str, Told], name: str) -> None:
    """By `code` and `message` where it reads them; the older ones fail without."""
    failed = available(told, name).said["wrong key"]
    assert len(failed) == 1
    assert "401" in failed[0] or "Unauthorized" in failed[0]
    if name in PYTHON:
        assert "unauthorized: the API key is missing or not valid: send" in failed[0]


@pytest.mark.parametrize("name", JAVA)
def test_javas_clients_try_again_after_429_and_503_and_give_up_after_401(
    told: dict[str, Told], name: str
) -> None:
    said = available(told, name).said
    assert "rate limiting. Retrying" in said["limited"]["log"][0]
    assert "server error. Retrying" in said["away"]["log"][0]
    assert "Giving up" in said["wrong key"]["log"][0]
    assert len(said["wrong key"]["failed"]) == 1


@pytest.mark.parametrize("path", ["/v1/import", "/v1/import/"])
def test_a_batch_as_rubys_client_posts_it_is_taken(system: System, path: str) -> None:
    """I2: the request of analytics-ruby 2.4, written down."""
    user, email = f"user-{uuid.uuid4().hex}", system.address()
    library = {"library": {"name": "analytics-ruby", "version": "2.4.0"}}
    calls = [
        {"type": "identify", "userId": user, "traits": {"email": email}, "context": library},
        {"type": "track", "userId": user, "event": "Demo Requested", "context": library},
    ]
    stated = {"timestamp": present.ago(seconds=1)}
    batch = [call | stated | {"messageId": uuid.uuid4().hex} for call in calls]
    answer = system.http.post(
        system.ingest + path,
        auth=(system.keys["secret"], ""),
        headers={"Accept": "application/json", "User-Agent": "analytics-ruby/2.4.0"},
        json={"sentAt": present.ago(seconds=0), "batch": batch},
    )
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert system.wait_for_lead(2, user_id=user)["identifiers"]["email"] == [email]
    wrong = system.http.post(system.ingest + path, auth=(NOBODY, ""), json={"batch": batch})
    assert wrong.status_code == 401
    assert wrong.json()["code"] == "unauthorized"
    assert wrong.json()["message"]


def test_what_importers_post_to_the_same_address_is_an_import(system: System) -> None:
    item = {
        "id": uuid.uuid4().hex,
        "type": "page_viewed",
        "email": system.address(),
        "occurred_at": present.ago(days=9),
    }
    answer = system.post("/v1/import", params={"as": "history"}, json=[item])
    assert answer.json()["ids"] == [item["id"]]
    facts = system.http.get(f"{system.ingest}/v1/import", headers=system.key("secret"))
    assert facts.status_code == 200


JITSU_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Pricing</title>
<script type="module">
import {{ jitsuAnalytics }} from "/jitsu.js";
window.failed = [];
const errorPolicy = (what) => failed.push(what);
window.analytics = jitsuAnalytics({{ host: "{ingest}", writeKey: "{key}:x", errorPolicy }});
</script></html>"""


async def test_jitsus_client_in_a_browser_posts_across_origins_with_a_public_key(
    system: System,
) -> None:
    """I2, I11: a person whom an assistant's page sent has it as its source."""
    script = NODE / "node_modules" / "@jitsu" / "js" / "dist" / "jitsu.es.js"
    assert script.is_file(), "run `make test`, which installs tests/node"
    system.site.pages["/jitsu.js"] = script.read_text()
    system.site.pages["/pricing"] = JITSU_PAGE.format(
        ingest=system.ingest, key=system.keys["public"]
    )
    user, email = f"user-{uuid.uuid4().hex}", system.address()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=BROWSER_FLAGS)
        page = await browser.new_page()
        await page.goto(f"{system.site.url}/pricing", referer="https://chatgpt.com/")
        failed = await page.evaluate(
            """async ([user, email]) => {
              while (!window.analytics) await new Promise((resolve) => setTimeout(resolve, 50));
              await analytics.page();
              await analytics.identify(user, { email });
              await analytics.track("Demo Requested");
              return window.failed;
            }""",
            [user, email],
        )
        await browser.close()
    assert failed == []
    lead = system.wait_for_lead(3, user_id=user)
    assert lead["identifiers"]["email"] == [email]
    events = {item["type"] for item in system.timeline(lead["id"]) if item["kind"] == "event"}
    assert events == {"page_viewed", "identified", "demo_requested"}
    assert lead["source"] == "chatgpt.com"


def test_a_page_event_of_an_assistants_live_fetch_weighs_nothing(system: System) -> None:
    """I11, I5: it is kept and marked, and no person did it."""
    cookie = uuid.uuid4().hex
    agent = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; ChatGPT-User/1.0"
    page = {"url": "https://www.millwarden.example/pricing", "referrer": "https://chatgpt.com/"}
    call = {"anonymousId": cookie, "context": {"userAgent": agent, "page": page}}
    assert system.post("/v1/page", json=call).status_code == 200
    lead = system.wait_for_lead(1, anonymous_id=cookie)
    [event] = [item for item in system.timeline(lead["id"]) if item["kind"] == "event"]
    assert (event["machine"], event["read_as"]) == (True, None)
    assert lead["source"] is None
