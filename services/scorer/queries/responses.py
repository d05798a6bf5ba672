"""What the API answers with: internal views of leads as JSON, times as RFC 3339."""

from typing import Annotated, Any, Literal

import msgspec

from services.scorer.model.explanation import Ledger, Line, LineKind
from services.scorer.model.profile import LeftOut
from services.scorer.queries.lead_view import ConsentView, LeadPage, LeadView
from services.scorer.queries.lines import Words, texts, why_of
from services.scorer.wording import ledger_note
from services.shared.clock import from_us, rfc3339
from services.shared.contracts.events import ExternalId

Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]


class IdentifiersResponse(msgspec.Struct, frozen=True):
    """The lead's identifiers by kind, as they were given; of addresses and external ids those first
    that were linked last.
    """

    user_id: list[str]
    email: list[str]
    anonymous_id: list[str]
    external_id: list[ExternalId]

    @classmethod
    def of(cls, lead: LeadView) -> "IdentifiersResponse":
        """The identifiers as JSON."""
        return cls(lead.user_ids, lead.emails, lead.anonymous_ids, lead.external_ids)


class FitResponse(msgspec.Struct, frozen=True):
    """Who the lead is: 0 to 100 points, and their grade by the playbook."""

    score: float
    grade: str


class OverruledResponse(msgspec.Struct, frozen=True):
    """A permission without a date, against which a refusal stands."""

    state: Literal["given"]
    basis: str | None


class ConsentResponse(msgspec.Struct, frozen=True):
    """The latest permission for a channel and purpose; null as `address` means all of the
    person's addresses. `overruled` is what the same sender gave without a date beside a refusal.
    """

    address: str | None
    channel: str
    purpose: str
    state: Literal["given", "withdrawn"]
    basis: str | None
    at: Time
    text: str | None
    overruled: OverruledResponse | None

    @classmethod
    def of(cls, consent: ConsentView) -> "ConsentResponse":
        """The permission as JSON."""
        return cls(
            address=consent.address or None,
            channel=consent.channel,
            purpose=consent.purpose,
            state=consent.state,
            basis=consent.basis or None,
            at=_time(consent.at),
            text=consent.text or None,
            overruled=None
            if consent.overruled is None
            else OverruledResponse("given", consent.overruled or None),
        )


class LeadResponse(msgspec.Struct, frozen=True):
    """One lead for one product, as of a moment.

    `belief` holds the probability of each buying stage, `likelihood` that of an opportunity within
    the horizon: null once it has happened. While not `calibrated`, show people a band of it.
    `left_out` names what more was posted of than is kept of one lead: then the newest traits are
    kept beside those that the playbook names, and a permission that is not kept counts as refused
    where any of its kind was.
    """

    id: str
    identifiers: IdentifiersResponse
    traits: dict[str, Any]
    product: str
    stage: str
    stage_since: Time | None
    belief: dict[str, float]
    confidence: float
    likelihood: float | None
    calibrated: bool
    fit: FitResponse
    engagement: float
    qualified: bool
    sales_status: str | None
    sales_reason: str | None
    consent: list[ConsentResponse]
    source: str | None
    campaign: str | None
    left_out: list[LeftOut]
    events_counted: int
    last_event_at: Time | None
    next_review_at: Time | None
    version: int
    as_of: Time

    @classmethod
    def of(cls, lead: LeadView) -> "LeadResponse":
        """The lead as JSON."""
        return cls(
            id=str(lead.id),
            identifiers=IdentifiersResponse.of(lead),
            traits=lead.traits,
            product=lead.product,
            stage=lead.stage,
            stage_since=_time_or_null(lead.stage_since),
            belief=lead.belief,
            confidence=lead.confidence,
            likelihood=lead.likelihood,
            calibrated=lead.calibrated,
            fit=FitResponse(lead.fit.score, lead.fit.grade),
            engagement=lead.engagement,
            qualified=lead.qualified,
            sales_status=lead.sales_status or None,
            sales_reason=lead.sales_reason or None,
            consent=[ConsentResponse.of(consent) for consent in lead.consent],
            source=lead.source or None,
            campaign=lead.campaign or None,
            left_out=lead.left_out,
            events_counted=lead.events_counted,
            last_event_at=_time_or_null(lead.last_event_at),
            next_review_at=_time_or_null(lead.next_review_at),
            version=lead.version,
            as_of=_time(lead.as_of),
        )


class FailedLeadResponse(msgspec.Struct, frozen=True):
    """A lead of this page that cannot be read, or of whose events some cannot be folded, and why
    it has `failed`.
    """

    id: str
    failed: str


class LeadsResponse(msgspec.Struct, frozen=True):
    """A page of leads, highest first; those of it that fail stand in `failed`, and `next` is the
    cursor of the following page.
    """

    leads: list[LeadResponse]
    failed: list[FailedLeadResponse]
    next: str | None

    @classmethod
    def of(cls, page: LeadPage) -> "LeadsResponse":
        """The page as JSON."""
        return cls(
            [LeadResponse.of(lead) for lead in page.leads],
            [FailedLeadResponse(str(lead.id), lead.reason) for lead in page.failed],
            page.next,
        )


class LineResponse(msgspec.Struct, frozen=True):
    """One step of the logit in words: what it was and `why` it counts so. `delta` is the change of
    the log-odds, `points` what it did to the probability, times 100.
    """

    at: Time
    kind: LineKind
    event_id: str | None
    text: str
    why: str
    delta: float
    points: float
    content_id: str | None
    touch_id: str | None

    @classmethod
    def of(cls, line: Line, text: str, words: Words) -> "LineResponse":
        """The line as JSON."""
        return cls(
            at=_time(line.at),
            kind=line.kind,
            event_id=line.event_id,
            text=text,
            why=why_of(line, words.model),
            delta=line.delta,
            points=line.points,
            content_id=line.content or line.content_id or None,
            touch_id=line.touch_id or None,
        )


class LedgerResponse(msgspec.Struct, frozen=True):
    """`start` + Σ delta = logit(likelihood); `sum` is that sum. A lead whose outcome has happened
    has no likelihood. Of very many events the newest are weighed, with older ones that
    matter long; `unweighed` counts the others.
    """

    likelihood: float | None
    start: float
    lines: list[LineResponse]
    sum: float
    as_of: Time
    product: str
    model: str
    note: str
    unweighed: int

    @classmethod
    def of(cls, ledger: Ledger, words: Words) -> "LedgerResponse":
        """The ledger as JSON."""
        return cls(
            likelihood=ledger.likelihood,
            start=ledger.start,
            lines=[
                LineResponse.of(line, text, words)
                for line, text in zip(ledger.lines, texts(ledger, words), strict=True)
            ],
            sum=ledger.total,
            as_of=_time(ledger.as_of),
            product=ledger.product,
            model=ledger.model,
            note=ledger_note(ledger.ended_by),
            unweighed=ledger.unweighed,
        )


class PendingReportResponse(msgspec.Struct, frozen=True):
    """The report is safe under this id, and is applied soon."""

    id: str
    applied: bool


def _time(instant: int) -> str:
    return rfc3339(from_us(instant))


def _time_or_null(instant: int | None) -> str | None:
    return None if instant is None else _time(instant)
