"""Cursors of keyset paging: sealed for their list, so that they can be neither bent nor used
elsewhere.
"""

import base64
import binascii
import hmac
from typing import Any

import msgspec

from services.shared.errors import Reject

SEAL_BYTES = 12


class Seal:
    """Seals the place where a page ended, (sort value, id), under a scope that names the list."""

    def __init__(self, pepper: bytes) -> None:
        self._pepper = pepper

    def close(self, scope: str, *place: Any) -> str:
        """A cursor."""
        body = msgspec.json.encode(place)
        return base64.urlsafe_b64encode(self._mac(scope, body) + body).decode().rstrip("=")

    def open(self, cursor: str, scope: str) -> tuple[Any, str]:
        """The place. Raises Reject for a cursor of another list or of nobody's."""
        try:
            raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            if not hmac.compare_digest(raw[:SEAL_BYTES], self._mac(scope, raw[SEAL_BYTES:])):
                raise ValueError
            place, last = msgspec.json.decode(raw[SEAL_BYTES:])
            return place, str(last)
        except (ValueError, binascii.Error):
            raise Reject(
                "the cursor does not belong to this list",
                where="cursor",
                remedy="begin again without a cursor",
            ) from None

    def _mac(self, scope: str, body: bytes) -> bytes:
        return hmac.digest(self._pepper, scope.encode() + b"\0" + body, "sha256")[:SEAL_BYTES]
