"""HubSpot's webhooks, signature version 3: what changed in contacts, up to a hundred events a
request.

An object's id identifies the contact as an external id, its e-mail address links it to a person.
Stages that sales reached are outcomes, an opt-out is a withdrawal, everything else about a contact
is a trait. Left out are deals and companies, whose events name no person (HubSpot moves the
contact's lifecycle stage along), and the fields that we ourselves write.

HubSpot's `eventId` need not be unique, and two subscriptions may report one change: an event's id
is the hash of its fields.
"""

import base64
import hashlib
import hmac
import re
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from services.ingest.sources.contract import (
    InboundRequest,
    Item,
    Parsed,
    Sample,
    Secret,
    SetupGuide,
    Source,
)
from services.ingest.sources.permissions import remarks_of, with_trait
from services.ingest.sources.reading.json import TOO_DEEP, UNREADABLE, is_deep, pieces, refused
from services.ingest.sources.reading.lenient import lenient
from services.ingest.sources.reading.signatures import fitting, fresh, new_text, same
from services.ingest.sources.remarks import also_remarked, remarked
from services.shared.contracts.consent_words import KNOWN_WORDS, Answer, ConsentWords
from services.shared.contracts.events import Consent, ExternalId
from services.shared.errors import Reject
from services.shared.playbook.expressions import datetime_of

SYSTEM = "hubspot"
SIGNATURE, TIMESTAMP = "X-HubSpot-Signature-v3", "X-HubSpot-Request-Timestamp"
# what HubSpot decodes before it signs
ESCAPED = re.compile("%(3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)
CONTACT_TYPE = "0-1"  # of objects, where a subscription says only `object`
OUR_NAMES = {
    "jobtitle": "title", "firstname": "first_name", "lastname": "last_name",
    "numberofemployees": "company_size",
    "numemployees": "company_size",
}  # fmt: skip  # HubSpot's names of traits that fit rules and mails name otherwise
OUTCOMES: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("lifecyclestage", "salesqualifiedlead"): ("sales_accepted", {}),
    ("lifecyclestage", "opportunity"): ("opportunity_opened", {}),
    ("lifecyclestage", "customer"): ("won", {}),
    ("hs_lead_status", "IN_PROGRESS"): ("sales_accepted", {}),
    ("hs_lead_status", "OPEN_DEAL"): ("opportunity_opened", {}),
    ("hs_lead_status", "UNQUALIFIED"): ("sales_disqualified", {"reason": "other"}),
    ("hs_lead_status", "BAD_TIMING"): ("sales_disqualified", {"reason": "bad_timing"}),
}
OPT_OUT = "hs_email_optout"  # of everything; with a number behind it, of one kind of mail


class HubSpotEvent(msgspec.Struct, rename="camel"):
    """An event of any subscription."""

    subscription_type: str
    occurred_at: int
    object_id: int | str | None = None
    object_type_id: str | None = None
    portal_id: int | str | None = None
    property_name: str | None = None
    property_value: Any = None
    primary_object_id: int | str | None = None
    merged_object_ids: list[int | str] | None = None
    new_object_id: int | str | None = None


NEEDED = frozenset({"/subscriptionType", "/occurredAt", "/objectId", "/propertyName"})


def source(own_fields: frozenset[str] = frozenset()) -> Source:
    """The source; `own_fields` are the properties that we write into the CRM, whose changes say
    nothing new.
    """

    def parse(request: InboundRequest) -> list[Parsed]:
        """Every event of a contact, in order."""
        words = request.words.consent
        found = (read(piece, own_fields, words) for piece in pieces(request.body))
        return [item for item in found if item is not None]

    return Source(
        "hubspot",
        parse,
        ("/v1/hooks/hubspot",),
        body=list[HubSpotEvent],
        example=[EXAMPLE],
        stop_status=200,
        setup=SETUP,
        verify=verify,
        sample=sample,
        sign=sign,
        new_secret=new_text,
    )


def read(
    piece: bytes, own_fields: frozenset[str], words: ConsentWords = KNOWN_WORDS
) -> Parsed | None:
    """One event; None where it says nothing of a person."""
    if is_deep(piece):
        return refused(piece, TOO_DEEP)
    try:
        event, remarks = lenient(piece, HubSpotEvent, NEEDED)
        kind, _, change = event.subscription_type.partition(".")
        about_contact = kind == "contact" or (
            kind == "object" and event.object_type_id == CONTACT_TYPE
        )
        if not about_contact or change not in CHANGES or (event.property_name or "") in own_fields:
            return None
        fields = CHANGES[change](event)
        if fields is None:
            return None
        item = Item(**(_common(event, change) | fields))
        found = _with_consent(item, event, words) if change == "propertyChange" else item
        return also_remarked(found, remarks)
    except (Reject, *UNREADABLE) as error:
        return refused(piece, error)


def _common(event: HubSpotEvent, change: str) -> dict[str, Any]:
    try:
        at = datetime_of(event.occurred_at)
    except ValueError:
        raise Reject(
            "a time out of range", where="/occurredAt", remedy="send milliseconds since 1970"
        ) from None
    contact = event.new_object_id or event.primary_object_id or event.object_id
    identity = [
        event.portal_id,
        change,
        contact,
        event.occurred_at,
        event.property_name,
        event.property_value,
        event.merged_object_ids,
    ]
    return {
        "id": hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:32],
        "occurred_at": at,
        "external_id": ExternalId(SYSTEM, str(contact)) if contact is not None else None,
    }


def _created(_: HubSpotEvent) -> dict[str, Any]:
    return {"type": "crm_contact_created"}


def _deleted(_: HubSpotEvent) -> dict[str, Any]:
    return {"type": "crm_contact_deleted"}


def _privacy_deleted(_: HubSpotEvent) -> dict[str, Any]:
    """Deleted because the person wanted it: at the least nobody writes to it any more."""
    return {
        "type": "consent_withdrawn",
        "consent": (Consent(state="withdrawn", basis="privacy deletion in HubSpot"),),
    }


def _merged(event: HubSpotEvent) -> dict[str, Any]:
    """The contact that remains; its own e-mail address, not this, says which leads are one
    person.
    """
    return {
        "type": "crm_contacts_merged",
        "properties": {"merged": [str(merged) for merged in event.merged_object_ids or ()]},
    }


def _changed(event: HubSpotEvent) -> dict[str, Any] | None:
    name, value = event.property_name or "", event.property_value
    if not name:
        raise Reject("a field is missing", where="/propertyName", remedy="add it")
    if value == "":
        value = None
    if name == "email":
        return {"type": "identified", "email": value} if isinstance(value, str) else None
    if name == "company":
        return {"type": "identified", "company": value} if isinstance(value, str) else None
    traits = {OUR_NAMES.get(name, name): value}
    type_, properties = OUTCOMES.get((name, str(value)), ("identified", {}))
    return {"type": type_, "traits": traits, "properties": properties}


def _with_consent(item: Item, event: HubSpotEvent, words: ConsentWords) -> Parsed:
    """The item with what a change of the opt-out, or of a property `consent`, says of consent."""
    name, value = event.property_name or "", event.property_value
    if name.startswith(OPT_OUT):
        reading = words.read(value)
        if reading.answer in (Answer.YES, Answer.REFUSED):
            withdrawn = (Consent(state="withdrawn", basis=name),)
            item = msgspec.structs.replace(item, type="unsubscribed", consent=withdrawn)
        return remarked(item, remarks_of(reading, name))
    return with_trait(item, words)


CHANGES = {
    "creation": _created,
    "deletion": _deleted,
    "privacyDeletion": _privacy_deleted,
    "merge": _merged,
    "propertyChange": _changed,
}


def verify(request: InboundRequest, secrets: Sequence[Secret]) -> Secret:
    """The client secret that fits. Raises Reject `not-connected`, `signature`, `stale`."""
    given, stamp = (
        request.headers.get(SIGNATURE.lower(), ""),
        request.headers.get(TIMESTAMP.lower(), ""),
    )
    signed = _signed(request.method, request.address, request.body, stamp)
    secret = fitting(secrets, lambda secret: same(given, _signature(secret, signed)), SIGNATURE)
    fresh(stamp, request.received_at, TIMESTAMP, unit=0.001)
    return secret


def _signed(method: str, address: str, body: bytes, stamp: str) -> bytes:
    """Method, public address, body and time; the address without the escapes that HubSpot does not
    sign.
    """
    plain = ESCAPED.sub(lambda escape: chr(int(escape[1], 16)), address)
    return f"{method}{plain}".encode() + body + stamp.encode()


def _signature(secret: str, signed: bytes) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), signed, hashlib.sha256)).decode()


def sign(sample: Sample, secret: str, address: str, now: datetime) -> Sample:
    """Signs as HubSpot does."""
    stamp = str(int(now.timestamp() * 1000))
    signature = _signature(secret, _signed("POST", address, sample.body, stamp))
    return sample._replace(headers={**sample.headers, SIGNATURE: signature, TIMESTAMP: stamp})


def sample(address: str, now: datetime) -> Sample:
    """A contact is created and becomes an opportunity."""
    contact, at = uuid.uuid4().int >> 80, int(now.timestamp() * 1000)
    common = {**EXAMPLE, "objectId": contact}
    events = [
        {**common, "subscriptionType": "contact.creation", "occurredAt": at, "eventId": contact}
    ]
    for number, (name, value) in enumerate(
        (("email", address), ("lifecyclestage", "opportunity")), 1
    ):
        changed = {
            "propertyName": name,
            "propertyValue": value,
            "occurredAt": at + number,
            "eventId": contact + number,
        }
        events.append(common | changed)
    return Sample(msgspec.json.encode(events), "application/json")


EXAMPLE = {
    "eventId": 714285774,
    "subscriptionId": 4849549,
    "portalId": 50687303,
    "appId": 25681700,
    "occurredAt": 1767323045000,
    "subscriptionType": "contact.propertyChange",
    "attemptNumber": 0,
    "objectId": 173595202426,
    "propertyName": "email",
    "propertyValue": "ann@example.com",
    "changeSource": "CRM_UI",
}
SETUP = SetupGuide(
    "HubSpot: contacts and what sales made of them",
    [
        "At HubSpot make a private app with the scope crm.objects.contacts.read; in its tab "
        "Webhooks enter {address}.",
        "Subscribe to contacts: created, deleted, merged, deleted for privacy; and to changes "
        "of the properties `email`, "
        "`lifecyclestage`, `hs_lead_status`, `hs_email_optout`, `jobtitle` and whatever your "
        "fit rules name.",
        "Copy the app's client secret and run `ripeline sources connect hubspot --secret "
        "CLIENT_SECRET`.",
        "RIPELINE_PUBLIC_URL must be the address that HubSpot calls, to the letter: it is part "
        "of what is signed.",
    ],
)
