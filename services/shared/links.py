"""Signed links in mails: what a click or an unsubscribe means, without personal data and without a way to bend it."""

import base64
import binascii
import hmac

import msgspec

from services.shared.errors import Reject

SEAL_BYTES = 16


class LinkClaim(msgspec.Struct, frozen=True, tag="l", array_like=True):
    """A tracked link: the touch, its content and the content's own address."""

    touch_id: str
    content_id: str
    url: str


class UnsubscribeClaim(msgspec.Struct, frozen=True, tag="u", array_like=True):
    """The way out: the touch, and the keyed hash of the address it went to."""

    touch_id: str
    address: str


def sign(pepper: bytes, claim: LinkClaim | UnsubscribeClaim) -> str:
    """The token of a claim."""
    body = msgspec.msgpack.encode(claim)
    return base64.urlsafe_b64encode(_seal(pepper, body) + body).decode().rstrip("=")


def open_token(pepper: bytes, token: str) -> LinkClaim | UnsubscribeClaim:
    """The claim of a token. Raises Reject `not-found` for one that we did not sign."""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        seal, body = raw[:SEAL_BYTES], raw[SEAL_BYTES:]
        if hmac.compare_digest(seal, _seal(pepper, body)):
            return msgspec.msgpack.decode(body, type=LinkClaim | UnsubscribeClaim)
    except (ValueError, binascii.Error, msgspec.DecodeError):
        pass
    raise Reject("this link is not one of ours", where="token", remedy="use the link as it stood in the mail", kind="not-found")


def _seal(pepper: bytes, body: bytes) -> bytes:
    return hmac.digest(pepper, b"link\0" + body, "sha256")[:SEAL_BYTES]
