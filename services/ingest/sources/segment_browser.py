"""What Segment's library for browsers loads before it posts."""

from typing import Any
from urllib.parse import urlsplit

import msgspec


class VersionSettings(msgspec.Struct, frozen=True, rename="camel"):
    """The version of Segment's own destination that a browser imitates."""

    version: str = "4.4.7"
    component_types: tuple[str, ...] = ("browser",)


class SegmentDestination(msgspec.Struct, frozen=True, rename="camel"):
    """Where a browser posts."""

    api_key: str
    api_host: str
    protocol: str
    version_settings: VersionSettings = VersionSettings()
    retry_queue: bool = True


class Integrations(msgspec.Struct, frozen=True):
    """The destinations of a browser's calls: ours alone."""

    segment: SegmentDestination = msgspec.field(name="Segment.io")


class BrowserSettings(msgspec.Struct, frozen=True, rename="camel"):
    """What `@segment/analytics-next` asks its `cdnURL` for."""

    integrations: Integrations
    plan: dict[str, Any]
    metrics: dict[str, int]
    remote_plugins: tuple[str, ...] = ()


def browser_settings(key: str, public_url: str) -> BrowserSettings:
    """Where a browser's analytics.js posts, and that there is nothing else to load."""
    url = urlsplit(public_url)
    host = f"{url.netloc}{url.path.rstrip('/')}/v1"
    return BrowserSettings(
        Integrations(SegmentDestination(key, host, url.scheme)),
        plan={"track": {"__default": {"enabled": True, "integrations": {}}}},
        metrics={"sampleRate": 0},
    )


EXAMPLE = msgspec.to_builtins(
    browser_settings("rl_0123456789ab_a-public-key", "https://events.example.com")
)
