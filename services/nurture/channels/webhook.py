"""Signed webhooks (Standard Webhooks): the touch's id is the message id, so a repetition is recognised."""

import base64
import hashlib
import hmac
import ipaddress
import socket
import time
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from services.nurture.channels.message import Message
from services.shared.errors import Reject, Retry
from services.shared.events import Touch
from services.shared.settings import Settings

NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Webhook:
    """Posts to the one address of the settings; connects only to the address that was checked."""

    def __init__(self, settings: Settings) -> None:
        self._url, self._timeout = settings.webhook_url, settings.sending_timeout_s
        self._secret = base64.b64decode(settings.webhook_secret.get_secret_value().removeprefix("whsec_") or "")
        self._anywhere = settings.environment != "production"

    async def send(self, message: Message, touch: Touch) -> None:
        """Returns on a 2xx. Raises Reject on any 3xx or 4xx but 408 and 429, Retry on the rest."""
        host = urlsplit(self._url).hostname or ""
        if not self._anywhere and _is_literal(host) and not is_public(host):
            raise Reject(f"{host} is not a public address", where="RIPELINE_WEBHOOK_URL", remedy="name a public host")
        if not self._url:
            raise Reject("no webhook is set", where="RIPELINE_WEBHOOK_URL", remedy="set it, with RIPELINE_WEBHOOK_SECRET")
        body = msgspec.json.encode({
            "type": "touch.due", "touch": touch.id, "lead": touch.lead, "program": touch.program, "content": touch.content,
            "recipient": message.recipient, "subject": message.subject, "text": message.text, "html": message.html,
            "link": message.link, "unsubscribe": message.unsubscribe, "preferences": message.preferences,
        })  # fmt: skip
        now = str(int(time.time()))
        signed = hmac.digest(self._secret, f"{touch.id}.{now}.".encode() + body, hashlib.sha256)
        headers = {
            "content-type": "application/json",
            "webhook-id": touch.id,
            "webhook-timestamp": now,
            "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
        }
        connector = aiohttp.TCPConnector(resolver=None if self._anywhere else PublicResolver(), use_dns_cache=False)
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                status = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Retry(f"the webhook is away: {type(error).__name__}") from error
        if 300 <= status < 500 and status not in (408, 429):
            raise Reject(f"the webhook said {status}")
        if status >= 300:
            raise Retry(f"the webhook said {status}")


class PublicResolver(AbstractResolver):
    """Resolves names to global addresses only, also behind IPv4-mapped IPv6 and NAT64."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """The addresses, all of them checked."""
        found = await self._resolver.resolve(host, port, family)
        if not found or not all(is_public(one["host"]) for one in found):
            raise OSError(f"{host} is not a public address")
        return found

    async def close(self) -> None:
        await self._resolver.close()


def is_public(address: str) -> bool:
    """Whether an address may be called from inside."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            ip = ip.ipv4_mapped
        elif ip in NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.is_global and not ip.is_multicast


def _is_literal(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False
