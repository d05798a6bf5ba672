"""How mapped senders authenticate: a secret in the address, a password, Standard Webhooks,
Svix, an HMAC as described.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets as random
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.ingest.sources.contract import InboundRequest, Sample, Secret, Sign, Verify
from services.ingest.sources.reading.signatures import fitting, fresh, new_text, same
from services.shared.errors import Reject
from services.shared.playbook.senders import PLACEHOLDER, Hmac

SYMMETRIC, PUBLIC = "whsec_", "whpk_"
MILLISECONDS = 12  # digits from which on a time is one in milliseconds
MAX_SIGNATURES = 10  # of a request that are compared: each costs a hash of the whole body
PLAIN = re.compile(r"[\w-]{1,200}", re.ASCII)  # an id that cannot be taken for more than an id


class Scheme(NamedTuple):
    """Both sides of a scheme, and what makes a secret (for the signer, for the verifier)."""

    verify: Verify
    sign: Sign
    new_secret: Callable[[], tuple[str, str]] = new_text


def scheme(rule: str | Hmac) -> Scheme | None:
    """The scheme of a rule's `verify`; None where the sender brings an API key."""
    if isinstance(rule, Hmac):
        return _by_hmac(rule)
    return SCHEMES[rule]


def _by_query() -> Scheme:
    def verify(request: InboundRequest, secrets: Sequence[Secret]) -> Secret:
        given = request.query.get("secret", "")
        return fitting(secrets, lambda secret: same(given, secret), "?secret=")

    def sign(sample: Sample, secret: str, _: str, __: datetime) -> Sample:
        return sample._replace(query={**sample.query, "secret": secret})

    return Scheme(verify, sign)


def _by_password() -> Scheme:
    """Basic authentication: the password is the secret, the user's name does not count."""

    def verify(request: InboundRequest, secrets: Sequence[Secret]) -> Secret:
        given = _password(request.headers.get("authorization", ""))
        return fitting(secrets, lambda secret: same(given, secret), "Authorization")

    def sign(sample: Sample, secret: str, _: str, __: datetime) -> Sample:
        basic = base64.b64encode(f"ripeline:{secret}".encode()).decode()
        return sample._replace(headers={**sample.headers, "authorization": f"Basic {basic}"})

    return Scheme(verify, sign)


def _password(authorization: str) -> str:
    kind, _, given = authorization.partition(" ")
    try:
        return (
            base64.b64decode(given, validate=True).decode().partition(":")[2]
            if kind.lower() == "basic"
            else ""
        )
    except (binascii.Error, ValueError):
        return ""


class _StandardWebhook:
    """Standard Webhooks: `v1` is an HMAC under a key after `whsec_`, `v1a` an Ed25519 signature for
    one after `whpk_`; the headers begin with `prefix`.

    Neither id nor time may hold a point, for points part what is signed: `a.1` + `2` and `a` +
    `1.2` would be signed alike.
    """

    def __init__(self, prefix: str) -> None:
        self._id, self._timestamp = f"{prefix}-id", f"{prefix}-timestamp"
        self._signature = f"{prefix}-signature"

    def verify(self, request: InboundRequest, secrets: Sequence[Secret]) -> Secret:
        """The secret that fits. Raises Reject `not-connected`, `signature`, `stale`."""
        message_id = request.headers.get(self._id, "")
        stamp = request.headers.get(self._timestamp, "")
        if not message_id or "." in message_id:
            raise Reject(
                "no id, or one with a point in it",
                where=self._id,
                remedy="send an id without points",
                kind="signature",
            )
        if not _is_number(stamp):
            raise _no_time(self._timestamp, "send seconds since 1970")
        signed = f"{message_id}.{stamp}.".encode() + request.body
        given = request.headers.get(self._signature, "").split(" ")[:MAX_SIGNATURES]
        secret = fitting(
            secrets,
            lambda key: any(_is_of(key, signature, signed) for signature in given),
            self._signature,
        )
        fresh(stamp, request.received_at, self._timestamp)
        return secret

    def sign(self, sample: Sample, secret: str, _: str, now: datetime) -> Sample:
        """Signs by HMAC."""
        message_id, stamp = f"msg_{uuid.uuid4().hex}", str(int(now.timestamp()))
        signed = f"{message_id}.{stamp}.".encode() + sample.body
        signature = base64.b64encode(_hmac(_key(secret, SYMMETRIC), signed)).decode()
        headers = {
            self._id: message_id,
            self._timestamp: stamp,
            self._signature: f"v1,{signature}",
        }
        return sample._replace(headers={**sample.headers, **headers})

    def new_secret(self) -> tuple[str, str]:
        """A symmetric key."""
        secret = SYMMETRIC + base64.b64encode(random.token_bytes(32)).decode()
        return secret, secret


def _by_webhook(prefix: str) -> Scheme:
    webhook = _StandardWebhook(prefix)
    return Scheme(webhook.verify, webhook.sign, webhook.new_secret)


def _is_of(key: str, signature: str, signed: bytes) -> bool:
    """Whether a versioned signature was made with a key: the kind of the key says which version
    counts.
    """
    version, _, given = signature.partition(",")
    if key.startswith(PUBLIC):
        return version == "v1a" and _is_signed(_key(key, PUBLIC), _decoded(given), signed)
    secret = _key(key, SYMMETRIC)
    return version == "v1" and bool(secret) and same(_decoded(given), _hmac(secret, signed))


def _is_signed(key: bytes, signature: bytes, signed: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _key(text: str, prefix: str) -> bytes:
    return _decoded(text.removeprefix(prefix) + "==")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        return b""


def _hmac(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, hashlib.sha256)


class _HmacScheme:
    """An HMAC as the playbook describes it: what is signed, where signature, time and id stand."""

    def __init__(self, rule: Hmac) -> None:
        self._rule = rule
        texts = PLACEHOLDER.split(rule.value)  # and between them names of places
        self._parts = [
            (text.rpartition(",")[2].lstrip(), place)
            for text, place in zip(texts[::2], texts[1::2], strict=False)
        ]
        self._is_timed = "timestamp" in PLACEHOLDER.findall(rule.signed)
        self._time_header = rule.timestamp or rule.header

    def verify(self, request: InboundRequest, secrets: Sequence[Secret]) -> Secret:
        """The secret that fits. Raises Reject `not-connected`, `signature`, `stale`."""
        rule = self._rule
        values = _values_of(request.headers.get(rule.header.lower(), ""), self._parts)
        stamp = self._stamp(request, values)
        places = {"timestamp": stamp, "id": self._id(request)}
        signed = _filled(rule.signed, places, request.body)
        given = values.get("signature", [])[:MAX_SIGNATURES]
        if rule.encoding == "hex":
            given = [signature.lower() for signature in given]
        secret = fitting(
            secrets,
            lambda key: any(same(signature, _written(rule, key, signed)) for signature in given),
            rule.header,
        )
        if self._is_timed:
            unit = 0.001 if len(stamp) >= MILLISECONDS else 1
            window = timedelta(seconds=rule.window)
            fresh(stamp, request.received_at, self._time_header, unit=unit, window=window)
        return secret

    def _stamp(self, request: InboundRequest, values: Mapping[str, list[str]]) -> str:
        """The time that was signed, from the signature's header or its own."""
        if "timestamp" in values:
            stamp = values["timestamp"][0]
        else:
            stamp = request.headers.get(self._rule.timestamp.lower(), "")
        if self._is_timed and not _is_number(stamp):
            raise _no_time(self._time_header, "send the time that was signed")
        return stamp

    def _id(self, request: InboundRequest) -> str:
        """The id that was signed; '' where the rule has none."""
        name = self._rule.id
        message_id = request.headers.get(name.lower(), "")
        if name and not PLAIN.fullmatch(message_id):
            raise Reject(
                "no id, or one with other signs in it",
                where=name,
                remedy="send an id of letters, digits, _ and -",
                kind="signature",
            )
        return message_id

    def sign(self, sample: Sample, secret: str, _: str, now: datetime) -> Sample:
        """Signs as the sender does."""
        rule = self._rule
        values = {"timestamp": str(int(now.timestamp())), "id": uuid.uuid4().hex}
        values["signature"] = _written(rule, secret, _filled(rule.signed, values, sample.body))
        headers = {rule.header: _filled(rule.value, values, b"").decode()}
        for name, place in ((rule.timestamp, "timestamp"), (rule.id, "id")):
            if name:
                headers[name] = values[place]
        return sample._replace(headers={**sample.headers, **headers})


def _by_hmac(rule: Hmac) -> Scheme:
    described = _HmacScheme(rule)
    return Scheme(described.verify, described.sign)


def _no_time(where: str, remedy: str) -> Reject:
    return Reject("the signature has no time", where=where, remedy=remedy, kind="signature")


def _values_of(header: str, parts: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """The values in a header, by place; some senders put several signatures into one."""
    values: dict[str, list[str]] = {}
    for given in header.split(",") if len(parts) > 1 else [header]:
        for before, place in parts:
            if given.strip().startswith(before):
                values.setdefault(place, []).append(given.strip().removeprefix(before))
    return values


def _written(rule: Hmac, secret: str, signed: bytes) -> str:
    digest = _hmac(secret.encode(), signed)
    return digest.hex() if rule.encoding == "hex" else base64.b64encode(digest).decode()


def _filled(form: str, values: Mapping[str, str], body: bytes) -> bytes:
    """A form with its places filled in; values are not searched for places again."""
    pieces = re.split(PLACEHOLDER, form)  # texts, and between them names of places
    return b"".join(
        piece.encode() if number % 2 == 0 else body if piece == "body" else values[piece].encode()
        for number, piece in enumerate(pieces)
    )


def _is_number(stamp: str) -> bool:
    return stamp.isascii() and stamp.isdigit()


SCHEMES: dict[str, Scheme | None] = {
    "key": None,
    "query": _by_query(),
    "basic": _by_password(),
    "standard-webhooks": _by_webhook("webhook"),
    "svix": _by_webhook("svix"),
}
