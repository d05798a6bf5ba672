"""What all signed webhooks share: several active secrets compared in constant time, and the window
against replays.
"""

import hmac
import secrets as random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from services.ingest.sources.contract import Secret
from services.shared.errors import Reject
from services.shared.playbook.senders import SIGNATURE_WINDOW_S

WINDOW = timedelta(seconds=SIGNATURE_WINDOW_S)


def fitting(secrets: Sequence[Secret], fits: Callable[[str], bool], where: str) -> Secret:
    """The first secret whose value `fits`. Raises Reject `not-connected` where there is none, else
    `signature`.
    """
    if not secrets:
        raise Reject(
            "this sender is not connected",
            where=where,
            remedy="run `ripeline sources connect`",
            kind="not-connected",
        )
    for secret in secrets:
        if fits(secret.value):
            return secret
    remedy = "sign the raw body with the secret that `ripeline sources connect` was given"
    raise Reject("the signature does not fit", where=where, remedy=remedy, kind="signature")


def same(given: str | bytes, expected: str | bytes) -> bool:
    """Whether two texts are equal, compared in constant time."""
    left = given.encode() if isinstance(given, str) else given
    right = expected.encode() if isinstance(expected, str) else expected
    return hmac.compare_digest(left, right)


def fresh(
    stamp: str, now: datetime, where: str, *, unit: float = 1.0, window: timedelta = WINDOW
) -> None:
    """Checks a time in seconds since 1970 (`unit` 0.001: milliseconds). Raises Reject `stale`
    outside the window.

    A sender who repeats a request with its first signature needs a longer window; times to come are
    accepted within the usual one only.
    """
    try:
        signed_at = datetime.fromtimestamp(float(stamp) * unit, UTC)
    except (ValueError, OverflowError, OSError):
        raise Reject(
            "the signature has no time",
            where=where,
            remedy="send the time that was signed",
            kind="signature",
        ) from None
    if now - signed_at > window or signed_at - now > min(window, WINDOW):
        remedy = "sign again, and compare the clocks of both sides"
        raise Reject(
            "the signature is not of these minutes", where=where, remedy=remedy, kind="stale"
        )


def new_text() -> tuple[str, str]:
    """A secret that signs and verifies alike."""
    value = random.token_urlsafe(32)
    return value, value
