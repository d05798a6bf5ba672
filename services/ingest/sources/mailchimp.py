"""Mailchimp's audience webhooks: a urlencoded form, known by a secret in the address (`?secret=…`).

Mailchimp first asks by GET whether somebody is there, and posts again for about an hour whatever is
not answered with 2xx, so a body that is of no use is answered with 200. Events have no ids: one is
known again by its raw body, which holds its time in UTC.

Two addresses are one person only by a user id, which Mailchimp does not send. So of a changed
address the old one gets no more mails, and the new one none before it agrees: Mailchimp does not
say that its subscription is in force.
"""

import hashlib
import re
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from urllib.parse import urlencode

import msgspec

from services.ingest.sources import forms, mails
from services.ingest.sources.contract import (
    InboundRequest,
    Item,
    Refused,
    Reply,
    Sample,
    Secret,
    SetupGuide,
    Source,
)
from services.ingest.sources.reading.signatures import fitting, new_text, same
from services.shared.contracts.events import Consent, ExternalId
from services.shared.errors import Reject

SYSTEM = "mailchimp"
MERGE = re.compile(r"data\[merges\]\[(\w+)\]")
# of Mailchimp's own fields; a company's own keep their names
TRAITS = {"fname": "first_name", "lname": "last_name"}
SUBSCRIBED, PROFILE, CHANGED = (
    mails.MailEventType("consent_given"),
    mails.MailEventType("identified"),
    mails.MailEventType("email_changed"),
)


class MailchimpForm(msgspec.Struct, omit_defaults=True):
    """The fields of a form that say what happened."""

    type: str
    fired_at: str = ""
    email: str = msgspec.field(default="", name="data[email]")
    list_id: str = msgspec.field(default="", name="data[list_id]")
    id: str = msgspec.field(default="", name="data[id]")
    reason: str = msgspec.field(default="", name="data[reason]")
    action: str = msgspec.field(default="", name="data[action]")
    old_email: str = msgspec.field(default="", name="data[old_email]")
    new_email: str = msgspec.field(default="", name="data[new_email]")


def parse(request: InboundRequest) -> list[Item | Refused]:
    """The events of a person; of a changed address the old and the new one; of a campaign none."""
    found, by_body = forms.fields(request), hashlib.sha256(request.body).hexdigest()[:32]
    kind = forms.text(found, "type")
    if kind == "campaign":
        return []
    try:
        at = _time(forms.text(found, "fired_at"))
        return (
            [*_changed(found, by_body, at)]
            if kind == "upemail"
            else [_read(kind, found, by_body, at)]
        )
    except Reject as reject:
        return [Refused(None, reject)]


def _read(kind: str, found: forms.Fields, by_body: str, at: datetime | None) -> Item:
    event = mails.MailEvent(
        _type(kind, found),
        id=by_body if at else "",
        email=_data(found, "email"),
        at=at,
        campaign=_data(found, "campaign_id"),
        reason=_data(found, "reason"),
    )
    traits = _traits(found) if kind in ("subscribe", "profile") else {}
    given = Consent(state="given", basis=f"Mailchimp audience {_data(found, 'list_id')}")
    return msgspec.structs.replace(
        event.interaction(),
        external_id=_external(_data(found, "id")),
        company=str(traits.get("company", "")),
        traits=traits,
        consent=(given,) if kind == "subscribe" else (),
    )


def _type(kind: str, found: forms.Fields) -> mails.MailEventType:
    """The event's type. Raises Reject for one that we do not know."""
    if kind in ("unsubscribe", "cleaned") and _data(found, "reason") == "abuse":
        return mails.COMPLAINED
    if kind == "unsubscribe":
        return mails.SUPPRESSED if _data(found, "action") == "delete" else mails.UNSUBSCRIBED
    known = {"subscribe": SUBSCRIBED, "profile": PROFILE, "cleaned": mails.HARD_BOUNCE}
    if kind not in known:
        raise mails.unknown(kind, "/type")
    return known[kind]


def _changed(found: forms.Fields, by_body: str, at: datetime | None) -> Iterator[Item]:
    for name, consent in (
        ("old", (Consent(state="withdrawn", basis="the address has changed"),)),
        ("new", ()),
    ):
        event = mails.MailEvent(
            CHANGED,
            id=f"{by_body}:{name}" if at else "",
            email=_data(found, f"{name}_email"),
            at=at,
        )
        yield msgspec.structs.replace(
            event.interaction(), external_id=_external(_data(found, f"{name}_id")), consent=consent
        )


def _data(found: forms.Fields, name: str) -> str:
    return forms.text(found, f"data[{name}]")


def _external(id: str) -> ExternalId | None:
    return ExternalId(SYSTEM, id) if id else None


def _traits(found: forms.Fields) -> dict[str, str]:
    """The merge fields that are filled in, by their tags in lower case; what lies deeper is left
    out.
    """
    named = {
        match[1].lower(): forms.text(found, name)
        for name in found
        if (match := MERGE.fullmatch(name))
    }
    return {
        TRAITS.get(name, name): value for name, value in named.items() if value and name != "email"
    }


def _time(fired_at: str) -> datetime | None:
    """`2009-03-26 21:35:57` in UTC; None where it is missing. Raises Reject."""
    try:
        return (
            datetime.strptime(fired_at, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
            if fired_at
            else None
        )
    except ValueError:
        remedy = "write it as 2026-01-02 03:04:05, in UTC"
        raise Reject(
            "not a time as Mailchimp writes it", where="/fired_at", remedy=remedy
        ) from None


def verify(request: InboundRequest, secrets: Sequence[Secret]) -> Secret:
    """The secret in the address. Raises Reject `not-connected`, `signature`."""
    given = request.query.get("secret", "")
    return fitting(secrets, lambda secret: same(given, secret), "secret")


def handshake(request: InboundRequest, secrets: Sequence[Secret]) -> Reply | None:
    """Answers Mailchimp's GET; raises Reject under a wrong secret, so that the mistake shows while
    setting up.
    """
    if request.method == "POST":
        return None
    if "secret" in request.query:
        verify(request, secrets)
    return Reply(b"ready for Mailchimp")


def sign(sample: Sample, secret: str, address: str, now: datetime) -> Sample:
    """Adds the secret to the address."""
    return sample._replace(query={**sample.query, "secret": secret})


def sample(address: str, now: datetime) -> Sample:
    """Somebody fills in their profile."""
    fields = {
        "type": "profile",
        "fired_at": f"{now.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
        "data[id]": uuid.uuid4().hex[:10],
        "data[list_id]": "a6b5da1054",
        "data[email]": address,
        "data[email_type]": "html",
        "data[merges][EMAIL]": address,
        "data[merges][FNAME]": "A",
        "data[merges][LNAME]": "Sample",
    }
    return Sample(urlencode(fields).encode(), forms.URLENCODED)


SOURCE = Source(
    "mailchimp",
    parse,
    ("/v1/hooks/mailchimp",),
    frozenset({"", forms.URLENCODED}),
    stop_status=200,
    body=MailchimpForm,
    example={
        "type": "unsubscribe",
        "fired_at": "2026-01-02 03:04:05",
        "data[email]": "ann@example.com",
        "data[action]": "unsub",
    },
    setup=SetupGuide(
        "Mailchimp: who joins and leaves an audience",
        [
            "Run `ripeline sources connect mailchimp`: it shows a new secret, once.",
            "At Mailchimp open Audience, More options, Audience settings, Webhooks, and create "
            "one with the address "
            "{address}?secret=SECRET.",
            "Choose Subscribes, Unsubscribes, Profile updates, Cleaned emails and Email changes.",
            "Choose changes by a subscriber and by an account admin; those by the API only if "
            "whom you add there has agreed.",
        ],
    ),
    verify=verify,
    handshake=handshake,
    sample=sample,
    sign=sign,
    new_secret=new_text,
)
