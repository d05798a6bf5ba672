"""Posts signed webhooks (Standard Webhooks) to an address of the settings; in production to no host
inside our own network but those that RIPELINE_PRIVATE_RECEIVERS names.
"""

import base64
import hashlib
import hmac
import ipaddress
import socket
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from services.shared.errors import Reject, Retry
from services.shared.setting_texts import Receiver, receiver
from services.shared.settings import Settings

ALLOW = "RIPELINE_PRIVATE_RECEIVERS"
LOOPBACK = ("localhost", ".localhost")
CONNECT_S = 4.0  # what is stopped meanwhile goes out no later
SHORTEST_KEY = 24  # bytes, by the specification of Standard Webhooks
NAT64 = ipaddress.ip_network("64:ff9b::/96")


IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class NotPublic(OSError):
    """A host's name leads into a private network."""


class SignedWebhook:
    """Posts to one address; connects only to addresses that were checked, follows no redirect.

    `setting` names the address's setting in error messages. Outside production any address may be
    called. Raises Reject for an address without a secret, with one that is none, or in a private
    network by what is written.
    """

    def __init__(self, settings: Settings, url: str, secret: str, setting: str) -> None:
        self._url, self._setting, self._timeout = url, setting, settings.sending_timeout_s
        self._secret = _key_of(secret, setting.replace("_URL", "_SECRET")) if url else b""
        self._networks = (
            None
            if settings.environment != "production"
            else Networks(map(receiver, settings.private_receivers), url)
        )
        host = urlsplit(url).hostname or ""
        if self._networks and not self._networks.may_be_named(host):
            raise self._not_public(host, f"{host} is not a public address")

    async def post(self, message_id: str, body: bytes) -> int:
        """Posts a body of JSON and returns the HTTP status, whatever it is. Raises Reject where the
        address may not be called, Retry where nobody answers.
        """
        if not self._url:
            remedy = f"set it, with {self._setting.replace('_URL', '_SECRET')}"
            raise Reject("no webhook is set", where=self._setting, remedy=remedy)
        connector = aiohttp.TCPConnector(
            resolver=CheckingResolver(self._networks) if self._networks else None,
            use_dns_cache=False,
        )
        timeout = aiohttp.ClientTimeout(self._timeout, connect=min(CONNECT_S, self._timeout))
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.post(
                    self._url,
                    data=body,
                    headers=self._headers(message_id, body),
                    allow_redirects=False,
                ) as answer,
            ):
                return answer.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if isinstance(error.__cause__, NotPublic):
                host = urlsplit(self._url).hostname or ""
                raise self._not_public(host, str(error.__cause__)) from error
            raise Retry(f"the webhook is away: {type(error).__name__}") from error

    def _not_public(self, host: str, title: str) -> Reject:
        remedy = f"name a public host, or add {host} to {ALLOW}"
        return Reject(title, where=self._setting, remedy=remedy)

    def _headers(self, message_id: str, body: bytes) -> dict[str, str]:
        now = str(int(time.time()))
        signed = hmac.digest(self._secret, f"{message_id}.{now}.".encode() + body, hashlib.sha256)
        return {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": now,
            "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
        }


def _key_of(secret: str, setting: str) -> bytes:
    """The bytes of a secret that is written `whsec_` and base64. Raises Reject."""
    remedy = "set it to whsec_ and 32 random bytes in base64"
    if not secret:
        raise Reject("no secret to sign with", where=setting, remedy=remedy)
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if len(key) < SHORTEST_KEY:
        raise Reject("not a secret of Standard Webhooks", where=setting, remedy=remedy)
    return key


class Networks:
    """Which addresses a URL's host may have: public ones, and those of the receivers that are
    named.
    """

    def __init__(self, receivers: Iterable[Receiver], url: str) -> None:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        fitting = [each for each in receivers if each.port in (None, port)]
        self._hosts = {each.host for each in fitting if each.host}
        self._allowed = [each.network for each in fitting if each.network]

    def may_be_named(self, host: str) -> bool:
        """Whether what is written is neither a private address nor our own machine."""
        if is_named := host.rstrip(".") in self._hosts:
            return is_named
        if host.endswith(LOOPBACK):
            return any(network.is_loopback for network in self._allowed)
        return not _is_ip_address(host) or self.may_be(host)

    def may_be(self, address: str, host: str = "") -> bool:
        """Whether this address may be called, to which a host's name leads."""
        if host.rstrip(".").lower() in self._hosts or is_public(address):
            return True
        ip = plain_address(address)
        return any(ip in network for network in self._allowed)


class CheckingResolver(AbstractResolver):
    """Resolves names to addresses that may be called."""

    def __init__(self, networks: Networks) -> None:
        self._resolver, self._networks = ThreadedResolver(), networks

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host. Raises OSError where it has none, NotPublic where one of them
        may not be called.
        """
        found = await self._resolver.resolve(host, port, family)
        for result in found:
            if not self._networks.may_be(result["host"], host):
                raise NotPublic(f"{host} is {result['host']}, which is not a public address")
        return found

    async def close(self) -> None:
        await self._resolver.close()


def is_public(address: str) -> bool:
    """Whether an IP address is global, so that a host inside our network cannot be meant."""
    ip = plain_address(address)
    return ip.is_global and not ip.is_multicast


def plain_address(address: str) -> IpAddress:
    """An IP address; the IPv4 address within an IPv4-mapped or NAT64 one."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return ip.ipv4_mapped
        if ip in NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


def _is_ip_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False
