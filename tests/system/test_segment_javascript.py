"""Segment's own JavaScript client in a browser's page, unchanged but for its host (I2)."""

import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import BrowserContext, async_playwright

from tests.support.running_system import System
from tests.system.test_clients import BROWSER_FLAGS, CHROMIUM

NODE = Path(__file__).parents[1] / "node"
MODULES = NODE / "node_modules" / "@segment"

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Pricing</title>
<script src="/analytics.js"></script><script>
window.failed = [];
const settings = {{ writeKey: "{key}", cdnURL: "{ingest}" }};
window.analytics = AnalyticsNext.AnalyticsBrowser.load(settings, {options});
analytics.on("error", (error) => failed.push(String(error.code)));
</script></html>"""


@pytest.fixture(scope="module", autouse=True)
def clients() -> None:
    """The client as npm brings it."""
    assert MODULES.is_dir(), "run `make test`, which installs tests/node"


@pytest.mark.parametrize(
    "options",
    [
        "{}",
        "{integrations: {'Segment.io': {deliveryStrategy: {strategy: 'batching', config: "
        "{size: 4, timeout: 500}}}}}",
    ],
    ids=["one by one", "batching"],
)
async def test_the_client_for_browsers_asks_us_where_to_post_and_posts_across_origins(
    system: System, options: str
) -> None:
    """I2: `cdnURL` is all that changes; the settings that it fetches there lead it to us, with a
    public key.
    """
    system.site.pages["/analytics.js"] = (
        MODULES / "analytics-next" / "dist" / "umd" / "index.js"
    ).read_text()
    system.site.pages["/pricing"] = PAGE.format(
        key=system.keys["public"], ingest=system.ingest, options=options
    )
    user, email = f"user-{uuid.uuid4().hex}", system.address()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=BROWSER_FLAGS)
        cookie, failed = await _visit(await browser.new_context(), system, user, email)
        await browser.close()
    assert failed == []
    lead = system.wait_for_lead(4, user_id=user)
    assert lead["identifiers"]["anonymous_id"] == [cookie]
    assert lead["identifiers"]["email"] == [email]
    events = {item["type"]: item for item in system.timeline(lead["id"]) if item["kind"] == "event"}
    assert set(events) >= {"page_viewed", "identified", "demo_requested", "grouped"}
    assert all(item["source"] == "segment:default" for item in events.values())


async def _visit(
    context: BrowserContext, system: System, user: str, email: str
) -> tuple[str, list[Any]]:
    """A person looks at a page, says who it is, and asks for a demo; returns its anonymous id and
    what went wrong.
    """
    page = await context.new_page()
    await page.goto(f"{system.site.url}/pricing")
    script = """async ([user, email]) => {
      await analytics.page("Pricing");
      await analytics.identify(user, { email });
      await analytics.track("Demo Requested");
      await analytics.group("account-9", { name: "Cy & Sons" });
      const known = await analytics.user();
      await new Promise((resolve) => setTimeout(resolve, 1500));
      return [known.anonymousId(), window.failed];
    }"""
    cookie, failed = await page.evaluate(script, [user, email])
    return cookie, failed


def test_the_settings_for_browsers_are_for_public_keys_only(system: System) -> None:
    address = f"{system.ingest}/v1/projects/{{}}/settings"
    found = httpx.get(
        address.format(system.keys["public"]), headers={"Origin": "https://www.millwarden.example"}
    )
    assert found.headers["access-control-allow-origin"] == "*"
    settings = found.json()["integrations"]["Segment.io"]
    assert f"{settings['protocol']}://{settings['apiHost']}" == f"{system.ingest}/v1"
    assert httpx.get(address.format(system.keys["secret"])).status_code == 403
    assert httpx.get(address.format("rl_nobody_" + "x" * 43)).status_code == 401


def test_a_call_over_32_kilobytes_and_a_batch_over_500_are_refused_as_segment_does(
    system: System,
) -> None:
    user = f"user-{uuid.uuid4().hex}"

    def call(size: int) -> dict[str, Any]:
        return {
            "type": "track",
            "userId": user,
            "event": "Noted",
            "messageId": uuid.uuid4().hex,
            "properties": {"text": "x" * size},
        }

    parts = {f"p{n}": "x" * 7_000 for n in range(5)}
    mixed = system.post("/v1/batch", json={"batch": [call(100), call(100) | {"properties": parts}]})
    assert mixed.status_code == 200
    assert [item["problem"]["type"].rpartition("#")[2] for item in mixed.json()["rejected"]] == [
        "too-large"
    ]
    whole = system.post("/v1/batch", json={"batch": [call(7_000) for _ in range(80)]})
    assert whole.status_code == 413
    assert whole.json()["type"].endswith("#too-large")
    assert system.wait_for_lead(1, user_id=user)["events_counted"] == 1
