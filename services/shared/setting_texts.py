"""Values of settings as people write them: in quotes, blank, as a list with commas."""

import json
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pydantic_settings import EnvSettingsSource, SecretsSettingsSource

BLANK_SAYS_SOMETHING = {"rate_per_key", "rate_per_address"}  # no limit; of others, the default
QUOTES = ("'", '"')


def as_meant(written: Mapping[str, Any]) -> dict[str, Any]:
    """The values without blanks and quotes around them, and without those that are blank."""
    meant = {name: _unquoted(value) for name, value in written.items()}
    return {n: value for n, value in meant.items() if value != "" or n in BLANK_SAYS_SOMETHING}


def _unquoted(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in QUOTES:
        return value[1:-1].strip()
    return value


class Variables(EnvSettingsSource):
    """The variables of the environment, as they are meant."""

    def __call__(self) -> dict[str, Any]:
        return as_meant(super().__call__())


class SecretFiles(SecretsSettingsSource):
    """The files of secrets, as they are meant."""

    def __call__(self) -> dict[str, Any]:
        return as_meant(super().__call__())


def listed(text: str) -> Any:
    """A list that is JSON, or has commas between. Raises ValueError."""
    if not text.startswith("["):
        return [part for part in map(_unquoted, text.split(",")) if part]
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError('write a, b, c or a JSON list: ["a", "b"]') from None


class Receiver(NamedTuple):
    """Who may receive webhooks in a private network: a host by name, or all addresses of a network;
    at one port, or at any (None).
    """

    host: str = ""
    network: IPv4Network | IPv6Network | None = None
    port: int | None = None


def receiver(text: str) -> Receiver:
    """A host, an address or a network, the former two perhaps with a port. Raises ValueError."""
    try:
        return Receiver(network=ip_network(text.strip("[]")))
    except ValueError:
        parts = urlsplit(f"//{text}")
    host = (parts.hostname or "").rstrip(".")
    if not host or parts.netloc != text or "@" in text or any(c in text for c in " *,"):
        raise ValueError("write hosts (n8n, n8n:5678) or networks (10.0.0.0/8)")
    try:
        return Receiver(network=ip_network(host), port=parts.port)
    except ValueError:
        return Receiver(host, port=parts.port)
