"""Signed tokens in mails: what following one means, short, without personal data and without a way
to bend it.

A token is base64url of a seal and a body: one letter for its kind, the touch's 16 bytes, and what
else the kind says.
"""

import base64
import hmac
import uuid

import msgspec

from services.shared.errors import Reject

SEAL_BYTES = 12
OLD_SEAL_BYTES = 16
LONGEST = 4096  # characters; those of earlier releases hold a whole address


class LinkClaim(msgspec.Struct, frozen=True, tag="l", array_like=True):
    """A tracked link: the touch and its content; `url` only in tokens of earlier releases.

    A `trap` is the link that no person sees: who follows it is a machine.
    """

    touch_id: str
    content_id: str
    url: str = ""
    trap: bool = False


class PixelClaim(msgspec.Struct, frozen=True):
    """The picture that tells of an open."""

    touch_id: str


class UnsubscribeClaim(msgspec.Struct, frozen=True, tag="u", array_like=True):
    """The way out: the touch, and the keyed hash of the address it went to."""

    touch_id: str
    address: str


class PreferencesClaim(msgspec.Struct, frozen=True):
    """The page of preferences of the person at that address."""

    touch_id: str
    address: str


Claim = LinkClaim | PixelClaim | UnsubscribeClaim | PreferencesClaim


def sign(pepper: bytes, claim: Claim) -> str:
    """The token of a claim, under 100 characters with a content id of up to 45 bytes."""
    body = _body(claim)
    return _text(_seal(pepper, body) + body)


def open_token(pepper: bytes, token: str) -> Claim:
    """The claim of a token. Raises Reject `not-found` for one that we did not sign."""
    try:
        raw = _raw(token)
        seal, body = raw[:SEAL_BYTES], raw[SEAL_BYTES:]
        if hmac.compare_digest(seal, _seal(pepper, body)):
            return _claim(body)
        seal, body = raw[:OLD_SEAL_BYTES], raw[OLD_SEAL_BYTES:]
        if hmac.compare_digest(seal, _old_seal(pepper, body)):
            return msgspec.msgpack.decode(body, type=LinkClaim | UnsubscribeClaim)
    except (ValueError, msgspec.DecodeError):
        pass
    raise Reject(
        "this link is not one of ours",
        where="token",
        remedy="use the link as it stood in the mail",
        kind="not-found",
    )


def _body(claim: Claim) -> bytes:
    touch = uuid.UUID(claim.touch_id).bytes
    match claim:
        case LinkClaim():
            return (b"t" if claim.trap else b"l") + touch + claim.content_id.encode()
        case PixelClaim():
            return b"o" + touch
        case UnsubscribeClaim():
            return b"u" + touch + bytes.fromhex(claim.address)
        case PreferencesClaim():
            return b"p" + touch + bytes.fromhex(claim.address)


def _claim(body: bytes) -> Claim:
    """The claim of a body that we sealed. Raises ValueError for a kind that a later release has."""
    touch_id, rest = str(uuid.UUID(bytes=body[1:17])), body[17:]
    match body[:1]:
        case b"l" | b"t":
            return LinkClaim(touch_id, rest.decode(), trap=body[:1] == b"t")
        case b"o":
            return PixelClaim(touch_id)
        case b"u":
            return UnsubscribeClaim(touch_id, rest.hex())
        case b"p":
            return PreferencesClaim(touch_id, rest.hex())
    raise ValueError("a kind that nobody here knows")


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _raw(token: str) -> bytes:
    """The bytes of a token, if it is written as we write it: of one token there are no two
    spellings.
    """
    raw = (
        base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)) if len(token) <= LONGEST else b""
    )
    return raw if _text(raw) == token else b""


def _seal(pepper: bytes, body: bytes) -> bytes:
    return hmac.digest(pepper, b"mail\0" + body, "sha256")[:SEAL_BYTES]


def _old_seal(pepper: bytes, body: bytes) -> bytes:
    return hmac.digest(pepper, b"link\0" + body, "sha256")[:OLD_SEAL_BYTES]
