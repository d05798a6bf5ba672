"""Names that an interaction may hold: of fields, types and content; and remarks on those that
nobody knows, with the nearest known one.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec

from services.ingest.sources.contract import Item, Remark
from services.shared.contracts.event_types import EventType
from services.shared.contracts.events import Consent, ExternalId
from services.shared.nearest import MAX_LENGTH, Names
from services.shared.nearest import plain as plain_name
from services.shared.playbook.sections import Playbook

MAX_UNKNOWN = 5  # fields of an item that are looked at
FIELDS, CONSENT_FIELDS, EXTERNAL_FIELDS = (
    Names(field.encode_name for field in msgspec.structs.fields(each))
    for each in (Item, Consent, ExternalId)
)
TRAITS = frozenset(
    {"name", "firstname", "lastname", "phone", "mobile", "title", "jobtitle", "role", "department",
     "country", "city", "industry", "employees", "language", "locale", "timezone", "website"}
)  # fmt: skip
# Fields under the names that other formats have for them, without signs and case.
ELSEWHERE = {
    other: name
    for name, others in {
        "id": "messageid eventid uuid uid key",
        "type": "event eventtype eventname action kind",
        "occurred_at": "time timestamp date datetime at ts when eventtime createdat sentat "
        "originaltimestamp happenedat",
        "user_id": "user userid customerid contactid",
        "email": "mail emailaddress mailaddress",
        "anonymous_id": "cookie cookieid visitorid clientid deviceid sessionid",
        "content_id": "content asset assetid contentname",
        "url": "page pageurl link href uri location",
        "company": "organization organisation account companyname firm",
        "source": "utmsource referrer referer channel",
        "campaign": "utmcampaign",
        "consent": "consents optin permission gdpr",
        "cost": "price spend",
        "traits": "attributes person profile contact userproperties",
        "properties": "data context props params parameters payload",
    }.items()
    for other in others.split()
}

OF_CONSENTS = {
    "time": "at", "date": "at", "timestamp": "at", "givenat": "at", "status": "state",
    "value": "state", "given": "state", "granted": "state", "topic": "purpose", "wording": "text",
}  # fmt: skip


class StrictConsent(Consent, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A consent of known fields alone."""


class StrictExternalId(ExternalId, frozen=True, forbid_unknown_fields=True):
    """An external id of known fields alone."""


def unknown_fields(given: dict[str, Any], inside: str = "") -> Iterator[Remark]:
    """A remark for each field of an interaction that is none, of the first few; `inside` is the
    pointer to the interaction.
    """
    yield from islice(_unknown(given, inside), MAX_UNKNOWN)


def _unknown(given: dict[str, Any], inside: str) -> Iterator[Remark]:
    yield from _not_among(FIELDS, given, inside)
    if isinstance(external := given.get("external_id"), dict):
        yield from _not_among(EXTERNAL_FIELDS, external, f"{inside}/external_id")
    consents = given.get("consent")
    consents = consents if isinstance(consents, list) else [consents]
    for number, consent in enumerate(consents):
        if isinstance(consent, dict):
            yield from _not_among(CONSENT_FIELDS, consent, f"{inside}/consent/{number}")


def _not_among(known: Names, given: dict[str, Any], inside: str) -> Iterator[Remark]:
    for name in given:
        if name not in known:
            shown = "" if "@" in name else name.replace("~", "~0").replace("/", "~1")
            nearest = _by_meaning(known, name) or known.nearest(name)
            yield Remark("unknown-field", f"{inside}/{shown}", nearest=nearest)


def _by_meaning(known: Names, name: str) -> str:
    """The field, or the trait, of which this is another name."""
    plain = plain_name(name[:MAX_LENGTH])
    if known is FIELDS:
        return f"traits.{name}" if plain in TRAITS else ELSEWHERE.get(plain, "")
    return OF_CONSENTS.get(plain, "") if known is CONSENT_FIELDS else ""


class Vocabulary:
    """The types and the content of an installation."""

    def __init__(self, types: Iterable[str] = (), content: Iterable[str] = ()) -> None:
        self._types, self._content = Names({*EventType, *types}), Names(content)
        self.types, self.content = self._types.known, self._content.known

    @classmethod
    def of(cls, playbook: Playbook) -> "Vocabulary":
        """That of a playbook."""
        types = {*playbook.model.mark_of_type, *playbook.engagement.acts}
        types |= {type_ for program in playbook.programs for type_ in program.answers}
        return cls(types, playbook.content_by_id)

    def remarks(self, item: Item) -> Iterator[Remark]:
        """A remark for a type, and for content, that nobody knows and that resemble a known one."""
        if item.type not in self.types and (nearest := self._types.nearest(item.type)):
            yield Remark("unknown-type", "/type", item.type, nearest)
        content = item.content_id
        if content and content not in self.content and (nearest := self._content.nearest(content)):
            yield Remark("unknown-content", "/content_id", content, nearest)
