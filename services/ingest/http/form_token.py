"""Signed tokens of forms: they hold when a form was shown, so that a robot that fills it in at once
is recognised.
"""

import base64
import binascii
import hmac
import struct

from services.shared.errors import Reject

LONGEST_S = 24 * 3600  # how long a page may stay open
QUICKEST_S = 2.0  # nobody fills in a form faster
SEAL_BYTES = 16
TIME = struct.Struct(">Q")  # milliseconds since 1970


def issue(pepper: bytes, form: str, now: float) -> str:
    """The token of a form that is shown at `now`, in seconds since 1970."""
    shown_at = TIME.pack(int(now * 1000))
    return base64.urlsafe_b64encode(shown_at + _seal(pepper, form, shown_at)).decode().rstrip("=")


def age(pepper: bytes, form: str, token: str, now: float) -> float:
    """Seconds since the form was shown. Raises Reject `form-token` where there is no token, it is
    old, or not for this form.
    """
    if not token:
        raise _unfit(
            "a form without a token",
            "put what GET /v1/forms/{form}/token answers into the field `_token`",
        )
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (ValueError, binascii.Error):
        raw = b""
    shown_at, seal = raw[: TIME.size], raw[TIME.size :]
    if len(shown_at) < TIME.size or not hmac.compare_digest(seal, _seal(pepper, form, shown_at)):
        raise _unfit(
            "a token that is not this form's", "use each form's own token, as it was given"
        )
    seconds = now - TIME.unpack(shown_at)[0] / 1000
    if seconds > LONGEST_S:
        raise _unfit("a token of another day", "load the page again, and send the form once more")
    return seconds


def _seal(pepper: bytes, form: str, shown_at: bytes) -> bytes:
    return hmac.digest(pepper, b"form\0" + shown_at + form.encode(), "sha256")[:SEAL_BYTES]


def _unfit(title: str, remedy: str) -> Reject:
    return Reject(title, where="/_token", remedy=remedy, kind="form-token")
