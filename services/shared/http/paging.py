"""Cursors of keyset paging: signed for their list, so that nobody can make one up or use one of
another list.
"""

import base64
import binascii
import hmac
from typing import Any, NamedTuple

import msgspec

from services.shared.errors import Reject

MAC_BYTES = 12
MAX_CURSOR = 500  # characters; ours are shorter, as what a list is sorted by is short


class Position(NamedTuple):
    """Where a page ended: the value that the list is sorted by, and the id of the last row."""

    value: Any
    id: str


class Cursors:
    """Makes and reads cursors, base64url of MAC and JSON, under a scope that names the list."""

    def __init__(self, pepper: bytes) -> None:
        self._pepper = pepper

    def encode(self, scope: str, position: Position) -> str:
        """The cursor of a position; its value must be one that JSON has."""
        body = msgspec.json.encode(position)
        return base64.urlsafe_b64encode(self._mac(scope, body) + body).decode().rstrip("=")

    def decode(self, scope: str, cursor: str) -> Position:
        """The position. Raises Reject for a cursor of another list, or one that we never made."""
        try:
            raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            if not hmac.compare_digest(raw[:MAC_BYTES], self._mac(scope, raw[MAC_BYTES:])):
                raise ValueError
            return msgspec.json.decode(raw[MAC_BYTES:], type=Position)
        except (ValueError, binascii.Error):
            raise Reject(
                "the cursor does not belong to this list",
                where="cursor",
                remedy="begin again without a cursor",
            ) from None

    def _mac(self, scope: str, body: bytes) -> bytes:
        return hmac.digest(self._pepper, scope.encode() + b"\0" + body, "sha256")[:MAC_BYTES]
