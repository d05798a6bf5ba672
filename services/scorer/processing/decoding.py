"""What arrives from the topics, decoded and checked: interactions, and our own sends in the same
form.
"""

import re
import uuid

import msgspec

from services.scorer.records import Arrival
from services.shared.clock import to_us
from services.shared.contracts.events import (
    TOUCH_SENT,
    Interaction,
    Touch,
    TouchEvent,
    decode_envelope,
    decode_interaction,
    encode_bytes,
)
from services.shared.contracts.identity import Cleaner
from services.shared.errors import Reject

UID = re.compile("[0-9a-f]{32}")


def from_interaction(value: bytes, cleaner: Cleaner) -> Arrival:
    """Decodes a record of `lead.interactions`. Raises Reject for what can never be applied."""
    try:
        envelope = decode_envelope(value)
        if envelope.type != "interaction.v1":
            raise Reject(
                f"unknown type {envelope.type!r}",
                where="type",
                remedy="replay it with a scorer that knows it",
            )
        data = decode_interaction(envelope.data)
        body = bytes(envelope.data).decode()
        uid = envelope.id if UID.fullmatch(envelope.id) else uuid.UUID(envelope.id).hex
        digest = bytes.fromhex(envelope.digest).hex()
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise Reject(f"not an interaction.v1: {error}", where="lead.interactions") from error
    if "\0" in body or "\\u0000" in body:
        raise Reject("a NUL character", where="data", remedy="take it out and replay")
    ids = cleaner.identifiers(data)
    if not ids:
        raise Reject(
            "identifies nobody",
            where="data",
            remedy="add user_id, email, anonymous_id or external_id",
        )
    flags, source = envelope.flags, envelope.source
    return Arrival(
        uid,
        to_us(envelope.time),
        digest,
        envelope.receivedat,
        source,
        flags,
        envelope.postedat,
        data,
        body,
        ids,
    )


def from_touch(event: TouchEvent, cleaner: Cleaner) -> Arrival | None:
    """Our own send as an event of the set, assigned by its recipient; None for what is no send."""
    touch = event.data
    if event.type != "touch.sent.v1" or not touch.sent_at:
        return None
    data = _as_interaction(touch)
    ids = cleaner.identifiers(data)
    uid = uuid.UUID(touch.id).hex
    body = encode_bytes(data).decode()
    return (
        Arrival(uid, to_us(touch.sent_at), "00", event.time, "nurture", "", 0.0, data, body, ids)
        if ids
        else None
    )


def _as_interaction(touch: Touch) -> Interaction:
    return Interaction(
        id=touch.id,
        type=TOUCH_SENT,
        email=touch.recipient if "@" in touch.recipient else "",
        user_id="" if "@" in touch.recipient else touch.recipient,
        product=touch.product,
        content_id=touch.content,
        touch_id=touch.id,
        properties={"opens_tracked": touch.opens_tracked, "clicks_tracked": touch.clicks_tracked},
    )
