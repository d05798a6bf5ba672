"""Posts signed webhooks (Standard Webhooks) to an address of the settings; in production to no host
inside our own network.
"""

import base64
import hashlib
import hmac
import ipaddress
import socket
import time
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from services.shared.errors import Reject, Retry
from services.shared.settings import Settings

SHORTEST_KEY = 24  # bytes, by the specification of Standard Webhooks
NAT64 = ipaddress.ip_network("64:ff9b::/96")


class SignedWebhook:
    """Posts to one address; connects only to addresses that were checked, follows no redirect.

    `setting` names the address's setting in error messages. Outside production any address may be
    called. Raises Reject for an address without a secret, or with one that is none.
    """

    def __init__(self, settings: Settings, url: str, secret: str, setting: str) -> None:
        self._url, self._setting, self._timeout = url, setting, settings.sending_timeout_s
        self._any_host = settings.environment != "production"
        self._secret = _key_of(secret, setting.replace("_URL", "_SECRET")) if url else b""

    async def post(self, message_id: str, body: bytes) -> int:
        """Posts a body of JSON and returns the HTTP status, whatever it is. Raises Reject where the
        address may not be called, Retry where nobody answers.
        """
        self._check_address()
        connector = aiohttp.TCPConnector(
            resolver=None if self._any_host else PublicResolver(), use_dns_cache=False
        )
        timeout = aiohttp.ClientTimeout(total=self._timeout)
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
            raise Retry(f"the webhook is away: {type(error).__name__}") from error

    def _check_address(self) -> None:
        host = urlsplit(self._url).hostname or ""
        if not self._url:
            remedy = f"set it, with {self._setting.replace('_URL', '_SECRET')}"
            raise Reject("no webhook is set", where=self._setting, remedy=remedy)
        if not self._any_host and _is_ip_address(host) and not is_public(host):
            raise Reject(
                f"{host} is not a public address", where=self._setting, remedy="name a public host"
            )

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


class PublicResolver(AbstractResolver):
    """Resolves names to global addresses only, also behind IPv4-mapped IPv6 and NAT64."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host. Raises OSError where it has none, or one that is not public."""
        found = await self._resolver.resolve(host, port, family)
        if not found or not all(is_public(result["host"]) for result in found):
            raise OSError(f"{host} is not a public address")
        return found

    async def close(self) -> None:
        await self._resolver.close()


def is_public(address: str) -> bool:
    """Whether an IP address is global, so that a host inside our network cannot be meant."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            ip = ip.ipv4_mapped
        elif ip in NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.is_global and not ip.is_multicast


def _is_ip_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False
