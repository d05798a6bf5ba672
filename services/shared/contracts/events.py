"""Contracts of the topics: frozen, versioned structs in CloudEvents 1.0 envelopes, and how they are
encoded.
"""

import hashlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec

from services.shared.contracts.provenance import LIVE, Provenance, encode_provenance

INTERACTIONS = "lead.interactions"
CHANGES = "lead.changes"
CONSENTS = "lead.consents"
TOUCHES = "nurture.touches"
TOPICS = (INTERACTIONS, CHANGES, CONSENTS, TOUCHES)

NAMESPACE = uuid.UUID("6f0d4c56-6b0f-5d0e-9a54-3a8f1d1c7e21")
# the external-id system that ties a click or a reply to the touch's recipient
TOUCH_SYSTEM = "ripeline.touch"
CLOCK_TOLERANCE = timedelta(minutes=5)  # a sender's clock may be ahead by so much
TOO_OLD = timedelta(days=400)  # what happened so long before its receipt announces nothing


# a time with its zone, as OpenAPI documents describe it
Moment = Annotated[datetime, msgspec.Meta(extra_json_schema={"format": "date-time"})]
Cause = Literal["", "event", "silence", "late_evidence", "merge", "model"]  # of a stage change
OWN_ACTS: frozenset[Cause] = frozenset({"event", "late_evidence"})  # those by which the lead moved


class ExternalId(msgspec.Struct, frozen=True, omit_defaults=True):
    """A lead's id in another system, a CRM say."""

    system: str
    id: str


class Consent(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A permission given or taken: for a channel and purpose, on a basis, with the wording
    shown.
    """

    channel: str = "email"
    purpose: str = "marketing"
    state: Literal["given", "withdrawn"]
    basis: str = ""
    at: Moment | None = None
    text: str = ""


class Interaction(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`interaction.v1`: what somebody did, in the one form that all doors normalise to."""

    id: str
    type: str
    user_id: str = ""
    email: str = ""
    anonymous_id: str = ""
    external_id: ExternalId | None = None
    product: str = ""
    content_id: str = ""
    url: str = ""
    touch_id: str = ""
    company: str = ""
    source: str = ""
    campaign: str = ""
    cost: float | None = None
    consent: tuple[Consent, ...] = ()
    machine: bool = False
    traits: dict[str, Any] = {}
    properties: dict[str, Any] = {}


class ConsentState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a permission, and from when it counts; `general` where it named no
    address.
    """

    state: Literal["given", "withdrawn"]
    at: datetime
    basis: str = ""
    general: bool = False


class InteractionEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope of an interaction: `id` is (source with its key's name, sender's id) hashed,
    `time` when it happened.

    `data` are the interaction as it was written, `digest` the hash of what the sender wrote,
    `postedat` the machine's time of acceptance, whatever the clock; `flags` are words: what was
    mended, and what an import says that it is.
    """

    id: str
    source: str
    time: datetime
    receivedat: datetime
    digest: str
    data: msgspec.Raw
    postedat: float = 0.0
    flags: str = ""
    type: str = "interaction.v1"


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What nurture needs to know of a lead, so that it never reads the scorer's tables; consents by
    `channel:purpose`, `identifiers` as the HMACs under which a refusal may come; `excluded` is why
    it is no lead by the playbook's rules, '' where it is one; `answered_at` is the last answer that
    is no act on the site (a reply, a survey, a talk), `sales_until` the day that sales named for
    going on; `mailed` are the times of the last mails that other tools sent; `handoff` is the
    status of the lead's last hand-off, '' where it had none.
    """

    stage: str
    belief: dict[str, float] = {}
    likelihood: float | None = None
    fit: float = 0.0
    qualified: bool = False
    product: str = "default"
    email: str = ""
    user_id: str = ""
    traits: dict[str, Any] = {}
    sales_status: str = ""
    sales_reason: str = ""
    sales_at: datetime | None = None
    sales_until: str = ""
    consents: dict[str, ConsentState] = {}
    identifiers: tuple[str, ...] = ()
    last_act_at: datetime | None = None
    answered_at: datetime | None = None
    excluded: str = ""
    mailed: tuple[datetime, ...] = ()
    handoff: str = ""


class HandoffStep(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A hand-off to sales after a step of it: `what` happened, and how it stands."""

    id: str
    what: str
    kind: str
    status: str
    at: datetime
    owner: str = ""
    why_owner: str = ""
    reasons: tuple[str, ...] = ()
    said: str = ""
    opened_at: datetime | None = None
    respond_by: datetime | None = None
    expires_at: datetime | None = None
    by: str = ""
    reason: str = ""
    until: str = ""


class LeadRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that the lead asked for by name: a form's content, a demo, a call; `imported` as in
    `Change`.
    """

    uid: str
    type: str
    at: datetime
    content: str = ""
    imported: str = ""


class Change(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An event on `lead.changes`; `seq` numbers announcements of a (lead, product), 0 where the
    stage is unchanged.

    `imported` is `history` or `new_leads:DAYS` where nothing but an import is behind it.
    """

    lead: str
    version: int
    product: str = "default"
    seq: int = 0
    from_stage: str = ""
    stage: str = ""
    cause: Cause = ""
    cause_at: datetime | None = None
    cause_event: str = ""
    announced_at: datetime | None = None
    snapshot: Snapshot | None = None
    content: tuple[str, ...] = ()
    merged: tuple[str, ...] = ()
    requests: tuple[LeadRequest, ...] = ()
    imported: str = ""
    handoff: HandoffStep | None = None


class ChangeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Envelope of `lead.stage_changed.v1`, `lead.engaged.v1`, `lead.qualified.v1`,
    `lead.sales_changed.v1`, `lead.merged.v1`, `lead.handoff_changed.v1`.
    """

    id: str
    type: str
    time: datetime
    data: Change
    postedat: float = 0.0
    source: str = "ripeline/scorer"


class ConsentChanged(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A permission changed for the person of an identifier.

    `address` and `identifier` are HMACs: of the address that it names, '' where it names none, and
    of the identifier that it is told under, '' where that is the address. `touch` is the touch that
    it answers, `at` from when it counts. Where that depends on the receipt (`undated`), only the
    first record of its id counts: repeated it is no later.
    """

    address: str
    identifier: str = ""
    touch: str = ""
    channel: str
    purpose: str
    state: Literal["given", "withdrawn"]
    at: datetime
    basis: str = ""
    undated: bool = False


class ConsentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Envelope of `consent_changed.v1`."""

    id: str
    time: datetime
    data: ConsentChanged
    source: str = "ripeline/ingest"
    type: str = "consent_changed.v1"


class Touch(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A decision of nurture and what became of it.

    `announcement` is the stage change or request that it answers; between stage changes it has none
    and `follows` the touch before it. `cause_at` is the time of what it answers, `requested`
    whether that is a request, None where that was not noted; `imported` as in `Change`;
    `outcome` is what came of a call; `arm` is that of the account: treated, calendar or holdout.
    """

    id: str
    lead: str
    product: str = "default"
    announcement: str = ""
    program: str = ""
    stage: str = ""
    cause_at: datetime | None = None
    imported: str = ""
    requested: bool | None = None
    follows: str = ""
    persona: str = ""
    arm: str = ""
    content: str = ""
    channel: str = ""
    status: Literal["due", "sending", "sent", "unknown", "failed", "withheld"]
    reason: str = ""
    why: str = ""
    propensity: float | None = None
    decided_at: datetime | None = None
    due_at: datetime | None = None
    sent_at: datetime | None = None
    outcome: str = ""
    recipient: str = ""
    opens_tracked: bool = False
    clicks_tracked: bool = False
    subject: str = ""
    text: str = ""
    html: str = ""


class HandedOver(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A step of a hand-off, with its lead."""

    lead: str
    product: str = "default"
    handoff: HandoffStep


class TouchEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Envelope of `touch.decided.v1`, `touch.sent.v1`, `touch.failed.v1`, `touch.answered.v1`,
    `touch.exported.v1`.
    """

    id: str
    type: str
    time: datetime
    data: Touch
    postedat: float = 0.0
    source: str = "ripeline/nurture"


class HandoffEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Envelope of `handoff.changed.v1`."""

    id: str
    time: datetime
    data: HandedOver
    source: str = "ripeline/nurture"
    type: str = "handoff.changed.v1"


class _Typed(msgspec.Struct):
    """Of an envelope its type alone."""

    type: str = ""


_ENVELOPE = b'{"specversion":"1.0","datacontenttype":"application/json",'
_SPACE = NAMESPACE.bytes
# RFC 9562: the variant's two bits are 10
_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
_encoder = msgspec.json.Encoder()
_encode = _encoder.encode
encode_bytes = _encode
decode_change = msgspec.json.Decoder(ChangeEvent).decode
decode_consent = msgspec.json.Decoder(ConsentEvent).decode
decode_touch = msgspec.json.Decoder(TouchEvent).decode
decode_envelope = msgspec.json.Decoder(InteractionEvent).decode
_decode_type = msgspec.json.Decoder(_Typed).decode
decode_interaction = msgspec.json.Decoder(Interaction).decode


def is_handoff_step(encoded: bytes) -> bool:
    """Whether a record on `nurture.touches` is a step of a hand-off, and no touch."""
    if b"handoff.changed.v1" not in encoded:
        return False
    try:
        return _decode_type(encoded).type == "handoff.changed.v1"
    except ValueError:
        return False


def event_uid(source: str, sender_id: str) -> str:
    """The event's identity, 32 hex digits: unique for (source with its key's name, sender's id)."""
    return hashlib.sha1(f"{source}\0{sender_id}".encode(), usedforsecurity=False).hexdigest()[:32]


def is_forward(stages: Sequence[str], from_stage: str, stage: str) -> bool:
    """Whether a stage comes after another; not where `stages` lacks one of them."""
    known = from_stage in stages and stage in stages
    return known and stages.index(stage) > stages.index(from_stage)


def derived(*parts: object) -> str:
    """A deterministic uuid5 of the parts, e.g. an announcement's or a touch's id."""
    name = "\0".join(map(str, parts)).encode()
    h = hashlib.sha1(_SPACE + name, usedforsecurity=False).hexdigest()
    # a UUID object would cost more than all else
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}"


def keyed_hash(pepper: bytes, value: str) -> str:
    """HMAC-SHA256 of an identifier, 32 hex digits: what stands in keys and links instead of
    personal data.
    """
    inner, outer = (half.copy() for half in _hmac_halves(pepper))
    inner.update(value.encode())
    outer.update(inner.digest())
    return str(outer.hexdigest()[:32])


@lru_cache(maxsize=16)
def _hmac_halves(pepper: bytes) -> tuple[Any, Any]:
    """HMAC's two hashes (RFC 2104) once they have taken the key: starting from these halves the
    time of each digest.
    """
    key = (hashlib.sha256(pepper).digest() if len(pepper) > 64 else pepper).ljust(64, b"\0")
    return hashlib.sha256(bytes(b ^ 0x36 for b in key)), hashlib.sha256(
        bytes(b ^ 0x5C for b in key)
    )


def envelope(
    interaction: Interaction,
    *,
    source: str,
    occurred_at: datetime | None,
    received_at: datetime,
    posted_at: float,
    provenance: Provenance = LIVE,
    said_at: datetime | None = None,
    scope: str = "",
) -> tuple[str, bytes]:
    """Returns (uid, encoded `interaction.v1`); without `occurred_at` the receipt counts as the
    time.

    `scope` is within what the interaction's id is unique, where that is not its source.

    The digest covers what the sender wrote and nothing of the receipt, so a resent item has the
    same one: `said_at` is the sender's own time where `occurred_at` is another, corrected one.
    """
    data, uid = _encode(interaction), event_uid(scope or source, interaction.id)
    sender_time = said_at or occurred_at
    event = InteractionEvent(
        id=uid,
        source=source,
        time=occurred_at.astimezone(UTC) if occurred_at else received_at,
        receivedat=received_at,
        digest=hashlib.sha256(
            data + _encode(sender_time.astimezone(UTC)) if sender_time else data
        ).hexdigest(),
        data=msgspec.Raw(data),
        postedat=posted_at,
        flags=encode_provenance(provenance),
    )
    return uid, _ENVELOPE + _encode(event)[1:]


def encode(event: ChangeEvent | ConsentEvent | TouchEvent | HandoffEvent) -> bytes:
    """An envelope as CloudEvents JSON."""
    return _ENVELOPE + _encode(event)[1:]
