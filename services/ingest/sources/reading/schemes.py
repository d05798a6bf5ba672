"""How mapped senders prove themselves: a secret in the address, a password, Standard Webhooks,
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

from services.ingest.sources.contract import Post, Sample, Secret, Sign, Verify
from services.ingest.sources.reading.signatures import fitting, fresh, new_text, same
from services.shared.errors import Reject
from services.shared.playbook.senders import PLACEHOLDER, Hmac

SYMMETRIC, PUBLIC = "whsec_", "whpk_"
MILLISECONDS = 12  # digits from which on a time is one in milliseconds
PART = re.compile(r"\s*([^,{]*)\{(\w+)\}")
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
    def verify(post: Post, secrets: Sequence[Secret]) -> Secret:
        given = post.query.get("secret", "")
        return fitting(secrets, lambda secret: same(given, secret), "?secret=")

    def sign(sample: Sample, secret: str, _: str, __: datetime) -> Sample:
        return sample._replace(query={**sample.query, "secret": secret})

    return Scheme(verify, sign)


def _by_password() -> Scheme:
    """Basic authentication: the password is the secret, the user's name means nothing."""

    def verify(post: Post, secrets: Sequence[Secret]) -> Secret:
        given = _password(post.headers.get("authorization", ""))
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


def _by_webhook(prefix: str) -> Scheme:
    """Standard Webhooks: `v1` is an HMAC under a key after `whsec_`, `v1a` an Ed25519 signature for
    one after `whpk_`.

    Neither id nor time may hold a point, for points part what is signed: `a.1` + `2` and `a` +
    `1.2` would be signed alike.
    """
    named, timed, signed_in = f"{prefix}-id", f"{prefix}-timestamp", f"{prefix}-signature"

    def verify(post: Post, secrets: Sequence[Secret]) -> Secret:
        number, stamp = post.headers.get(named, ""), post.headers.get(timed, "")
        if not number or "." in number:
            raise Reject(
                "no id, or one with a point in it",
                where=named,
                remedy="send an id without points",
                kind="signature",
            )
        if not _is_number(stamp):
            raise Reject(
                "the signature has no time",
                where=timed,
                remedy="send seconds since 1970",
                kind="signature",
            )
        signed, given = (
            f"{number}.{stamp}.".encode() + post.body,
            post.headers.get(signed_in, "").split(" "),
        )
        secret = fitting(
            secrets, lambda key: any(_is_of(key, one, signed) for one in given), signed_in
        )
        fresh(stamp, post.received_at, timed)
        return secret

    def sign(sample: Sample, secret: str, _: str, now: datetime) -> Sample:
        number, stamp = f"msg_{uuid.uuid4().hex}", str(int(now.timestamp()))
        signature = base64.b64encode(
            _hmac(_key(secret, SYMMETRIC), f"{number}.{stamp}.".encode() + sample.body)
        ).decode()
        return sample._replace(
            headers={**sample.headers, named: number, timed: stamp, signed_in: f"v1,{signature}"}
        )

    def new_secret() -> tuple[str, str]:
        secret = SYMMETRIC + base64.b64encode(random.token_bytes(32)).decode()
        return secret, secret

    return Scheme(verify, sign, new_secret)


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


def _by_hmac(rule: Hmac) -> Scheme:
    parts: list[tuple[str, str]] = PART.findall(rule.value)
    header, stamped = rule.header.lower(), "timestamp" in PLACEHOLDER.findall(rule.signed)

    def verify(post: Post, secrets: Sequence[Secret]) -> Secret:
        held = _held(post.headers.get(header, ""), parts)
        stamp = (
            held["timestamp"][0]
            if "timestamp" in held
            else post.headers.get(rule.timestamp.lower(), "")
        )
        if stamped and not _is_number(stamp):
            remedy = "send the time that was signed"
            raise Reject(
                "the signature has no time",
                where=rule.timestamp or rule.header,
                remedy=remedy,
                kind="signature",
            )
        number = post.headers.get(rule.id.lower(), "")
        if rule.id and not PLAIN.fullmatch(number):
            remedy = "send an id of letters, digits, _ and -"
            raise Reject(
                "no id, or one with other signs in it",
                where=rule.id,
                remedy=remedy,
                kind="signature",
            )
        signed = _filled(rule.signed, {"timestamp": stamp, "id": number}, post.body)
        given = [
            one.lower() if rule.encoding == "hex" else one for one in held.get("signature", ())
        ]
        secret = fitting(
            secrets,
            lambda key: any(same(one, _written(rule, key, signed)) for one in given),
            rule.header,
        )
        if stamped:
            unit = 0.001 if len(stamp) >= MILLISECONDS else 1
            fresh(
                stamp,
                post.received_at,
                rule.timestamp or rule.header,
                unit=unit,
                window=timedelta(seconds=rule.window),
            )
        return secret

    def sign(sample: Sample, secret: str, _: str, now: datetime) -> Sample:
        values = {"timestamp": str(int(now.timestamp())), "id": uuid.uuid4().hex}
        values["signature"] = _written(rule, secret, _filled(rule.signed, values, sample.body))
        headers = {rule.header: _filled(rule.value, values, b"").decode()}
        headers |= {
            name: values[place]
            for name, place in ((rule.timestamp, "timestamp"), (rule.id, "id"))
            if name
        }
        return sample._replace(headers={**sample.headers, **headers})

    return Scheme(verify, sign)


def _held(value: str, parts: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """What a header holds, by place; some senders put several signatures into one."""
    held: dict[str, list[str]] = {}
    for given in value.split(",") if len(parts) > 1 else [value]:
        for before, place in parts:
            if given.strip().startswith(before):
                held.setdefault(place, []).append(given.strip().removeprefix(before))
    return held


def _written(rule: Hmac, secret: str, signed: bytes) -> str:
    digest = _hmac(secret.encode(), signed)
    return digest.hex() if rule.encoding == "hex" else base64.b64encode(digest).decode()


def _filled(form: str, values: Mapping[str, str], body: bytes) -> bytes:
    """A form with its places filled in; what is filled in is not looked at again."""
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
