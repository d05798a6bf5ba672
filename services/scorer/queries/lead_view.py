"""A lead as it looks from a moment: the one form in which the API, the page and the CRM get it."""

import uuid
from typing import Any, Literal, NamedTuple

import msgspec

from services.scorer.model.profile import LeftOut, Profile
from services.shared.contracts.consent import ConsentKey
from services.shared.contracts.events import ExternalId
from services.shared.contracts.identity import OURS, Identifier, Kind


class FitView(msgspec.Struct, frozen=True):
    """Points of fit, 0 to 100, and their grade by the playbook."""

    score: float
    grade: str


class ConsentView(msgspec.Struct, frozen=True):
    """What is known of a permission since `at` (µs, 0 without a date); the empty address means all
    of the person's. `overruled` is the basis of a permission without a date that a refusal stands
    against, None where there is none.
    """

    address: str
    channel: str
    purpose: str
    state: Literal["given", "withdrawn"]
    basis: str
    at: int
    text: str
    overruled: str | None = None


class LeadView(msgspec.Struct, frozen=True, kw_only=True):
    """One lead for one product, as of a moment. All times are µs.

    `likelihood` is None once the outcome has happened, `last_event_at` before the first event;
    sales' status, source and campaign are '' where none is known. `left_out` names what more was
    posted of than is kept: `traits`, `consents`.
    """

    id: uuid.UUID
    version: int
    identifiers: list[Identifier]
    traits: dict[str, Any]
    product: str
    stage: str
    stage_since: int | None
    belief: dict[str, float]
    confidence: float
    likelihood: float | None
    calibrated: bool = False
    fit: FitView
    engagement: float
    qualified: bool
    sales_status: str
    sales_reason: str
    consent: list[ConsentView]
    source: str
    campaign: str
    left_out: list[LeftOut]
    events_counted: int
    last_event_at: int | None
    next_review_at: int | None
    as_of: int

    @property
    def emails(self) -> list[str]:
        """Addresses, personal ones before those of a role."""
        return self._values(Kind.EMAIL, Kind.ROLE)

    @property
    def user_ids(self) -> list[str]:
        """Ids that the company's own products give to people."""
        return self._values(Kind.USER)

    @property
    def anonymous_ids(self) -> list[str]:
        """Ids of visitors' browsers."""
        return self._values(Kind.ANONYMOUS)

    @property
    def external_ids(self) -> list[ExternalId]:
        """Ids in other systems; those under our own names are left out."""
        return [
            ExternalId(identifier.system, identifier.value)
            for identifier in self.identifiers
            if identifier.kind is Kind.EXTERNAL and not identifier.system.startswith(OURS)
        ]

    def _values(self, *kinds: Kind) -> list[str]:
        return [identifier.value for identifier in self.identifiers if identifier.kind in kinds]


class FailedLead(NamedTuple):
    """A lead that cannot be read, or of whose events some cannot be folded, and why."""

    id: uuid.UUID
    reason: str


class LeadPage(NamedTuple):
    """A page of leads, those that fail apart, and the cursor of the following one or None."""

    leads: list[LeadView]
    failed: list[FailedLead]
    next: str | None


def consents_of(profile: Profile) -> list[ConsentView]:
    """Permissions in the order of address, channel and purpose."""
    return [
        ConsentView(
            address=key.address,
            channel=key.channel,
            purpose=key.purpose,
            state="withdrawn" if record.refused else "given",
            basis=record.basis,
            at=record.at,
            text=record.text,
            overruled=_overruled(profile, key) if record.refused else None,
        )
        for key, record in sorted(profile.latest_consents().items())
    ]


def _overruled(profile: Profile, key: ConsentKey) -> str | None:
    given = profile.consent.get(key)
    return given.basis if given and not given.at else None
