"""Records of the topics, decoded and checked: interactions, and our own sends in the same form."""

import re
import uuid

import msgspec

from services.scorer.records import IncomingEvent
from services.shared.clock import to_us
from services.shared.contracts.event_types import TOUCH_SENT, EventType
from services.shared.contracts.events import (
    Consent,
    Interaction,
    Touch,
    TouchEvent,
    decode_envelope,
    decode_interaction,
    encode_bytes,
)
from services.shared.contracts.identity import Cleaner
from services.shared.contracts.provenance import LIVE, decode_provenance
from services.shared.errors import Reject

CALL_EXPIRED = EventType.CALL_EXPIRED.value
# the type of interaction that an outcome of a call is
CALLS = {
    "reached": "call_held", "not_reached": "call_attempted", "not_now": "not_now",
    "wrong_person": "call_attempted", "do_not_call": "call_held", "expired": CALL_EXPIRED,
}  # fmt: skip
UID = re.compile("[0-9a-f]{32}")


def from_interaction(value: bytes, cleaner: Cleaner) -> IncomingEvent:
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
    identifiers = cleaner.identifiers(data)
    if not identifiers:
        remedy = "add user_id, email, anonymous_id or external_id"
        raise Reject("identifies nobody", where="data", remedy=remedy)
    return IncomingEvent(
        uid,
        to_us(envelope.time),
        digest,
        envelope.receivedat,
        envelope.source,
        decode_provenance(envelope.flags),
        envelope.postedat,
        data,
        body,
        identifiers,
    )


def from_touch(event: TouchEvent, cleaner: Cleaner) -> IncomingEvent | None:
    """Our own send as an event of the set, assigned by its recipient; None for what is no send."""
    touch = event.data
    if event.type == "touch.answered.v1":
        return _outcome(event, cleaner)
    if event.type != "touch.sent.v1" or not touch.sent_at:
        return None
    data = _as_interaction(touch)
    identifiers = cleaner.identifiers(data)
    if not identifiers:
        return None
    return IncomingEvent(
        uuid.UUID(touch.id).hex,
        to_us(touch.sent_at),
        "00",
        event.time,
        "nurture",
        LIVE,
        0.0,
        data,
        encode_bytes(data).decode(),
        identifiers,
    )


def _outcome(event: TouchEvent, cleaner: Cleaner) -> IncomingEvent | None:
    """What came of a call, as an act of the lead; None where the lead has no address."""
    touch = event.data
    consent = Consent(channel="phone", state="withdrawn", basis="said in a call")
    data = Interaction(
        id=event.id,
        type=CALLS.get(touch.outcome, CALL_EXPIRED),
        email=touch.recipient,
        product=touch.product,
        consent=(consent,) if touch.outcome == "do_not_call" else (),
        properties={"outcome": touch.outcome, "task": touch.id},
    )
    identifiers = cleaner.identifiers(data)
    if not identifiers:
        return None
    return IncomingEvent(
        uuid.UUID(event.id).hex, to_us(event.time), "00", event.time, "nurture", LIVE, 0.0, data,
        encode_bytes(data).decode(), identifiers,
    )  # fmt: skip


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
