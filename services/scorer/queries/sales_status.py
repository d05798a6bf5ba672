"""What sales reports of a lead by the API or the page: checked, published like any interaction, and
awaited until it counts.
"""

import asyncio
import time
import uuid
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Any, NamedTuple

import msgspec
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.config import JsonDict
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.queries.leads import LeadQueries
from services.scorer.queries.repository import LeadRepository
from services.scorer.scoring import Scoring
from services.shared.contracts import sales
from services.shared.contracts.events import (
    CLOCK_TOLERANCE,
    INTERACTIONS,
    TOO_OLD,
    TOUCH_SYSTEM,
    ExternalId,
    Interaction,
    envelope,
    keyed_hash,
)
from services.shared.contracts.identity import Identifier, Kind
from services.shared.contracts.preferences import read_day
from services.shared.contracts.provenance import Provenance
from services.shared.errors import Reject
from services.shared.messaging.kafka import Outgoing, Publisher
from services.shared.people.audit import Actor, record

WAIT_S, POLL_EVERY_S = 2.0, 0.03
SOURCE = "sales:status"
LEAST, MOST = -(1 << 63), (1 << 63) - 1
EXAMPLE: JsonDict = {
    "status": "won",
    "id": "deal-77-won",
    "at": "2026-03-02T09:00:00Z",
    "value": 12500,
}


def _in_range(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time out of range") from None


def _written(given: Any) -> Any:
    """A time that is written as one: pydantic reads any number as seconds since 1970."""
    if given is None or (isinstance(given, str) and given[4:5] == "-"):
        return given
    raise ValueError("not RFC 3339: write it like 2026-01-02T03:04:05Z")


def _number(given: Any) -> Any:
    whole = isinstance(given, int) and not isinstance(given, bool) and LEAST <= given <= MOST
    if given is None or whole or (isinstance(given, float) and isfinite(given)):
        return given
    raise ValueError("not a number of at most 64 bits")


Text = Annotated[str, StringConstraints(strip_whitespace=True)]
Moment = Annotated[AwareDatetime, BeforeValidator(_written), AfterValidator(_in_range)]
# 5 and 5.0 stay what they are
_NUMBER = {"anyOf": [{"type": "number"}, {"type": "null"}]}
Number = Annotated[Any, AfterValidator(_number), WithJsonSchema(_NUMBER)]


class SalesReport(BaseModel):
    """What sales reports of a lead. A report with an `id` of its own may be sent any number of
    times, here and at ingest, and counts once.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})
    status: sales.SalesStatus
    reason: Text = Field(
        "",
        max_length=500,
        description="for disqualified one of the playbook's `sales.disqualify_reasons`",
    )
    at: Moment | None = Field(None, description="RFC 3339; default now")
    id: Text = Field(
        "",
        max_length=500,
        description="the caller's own id of this fact; a deal's serves for each status once",
    )
    product: str = Field("", max_length=200)
    value: Number = None
    note: Text = Field("", max_length=2_000)
    until: Text = Field(
        "",
        max_length=100,
        description="the day from which the lead may be written to again, where it named one",
    )

    def properties(self) -> dict[str, Any]:
        """As an event at ingest carries the same."""
        given = {
            "reason": self.reason, "value": self.value, "note": self.note, "until": self.until,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value not in ("", None)}


class SafeReport(NamedTuple):
    """A report that the broker has: its id, and the lead to which it is applied; None while it
    waits.
    """

    id: str
    lead: uuid.UUID | None


class SalesReports:
    """Takes reports of sales from whoever may ask about leads."""

    def __init__(
        self,
        engine: AsyncEngine,
        scoring: Scoring,
        leads: LeadQueries,
        publisher: Publisher,
        pepper: bytes,
    ) -> None:
        self._engine, self._scoring, self._leads = engine, scoring, leads
        self._publisher, self._pepper = publisher, pepper

    async def submit(
        self, lead: uuid.UUID | Identifier, report: SalesReport, actor: Actor
    ) -> SafeReport:
        """Returns once the report is safe at the broker and applied, or two seconds later if it is
        not applied by then.

        A lead that was merged into another is followed. An identifier that nobody has yet makes a
        lead that waits for its link. Raises Reject `not-found` or `invalid`, Retry while the broker
        is away.
        """
        now = self._scoring.clock.now()
        at = report.at or now
        self._check(report, at, now)
        fact = await self._interaction(lead, report)
        strongest = self._scoring.cleaner.strongest(fact)
        if not fact.id:
            fact = msgspec.structs.replace(fact, id=sales.derived_id(at, strongest, report.product))
        uid, record = record_of(fact, at, now)
        key = keyed_hash(self._pepper, strongest)
        await self._publisher.publish([Outgoing(INTERACTIONS, key, record)])
        applied = await self._applied(uuid.UUID(uid))
        await self._record(actor, f"lead {applied or _named(lead)}", report, fact.id)
        return SafeReport(fact.id, applied)

    async def _record(self, actor: Actor, subject: str, report: SalesReport, fact: str) -> None:
        """Says in the audit log who reported it; a reason of one's own words stays out."""
        known = self._scoring.playbook.sales.disqualify_reasons
        details = {
            "status": report.status, "product": report.product, "id": fact,
            "reason": report.reason if report.reason in known else "",
        }  # fmt: skip
        chosen = {name: value for name, value in details.items() if value}
        async with self._engine.begin() as connection:
            await record(connection, actor, "answer", subject, chosen)

    def _check(self, report: SalesReport, at: datetime, now: datetime) -> None:
        products = self._scoring.playbook.products
        if at > now + CLOCK_TOLERANCE:
            raise Reject(
                "this has not happened yet",
                where="body.at",
                remedy="send the time at which it did, or leave it out",
            )
        if report.product and report.product not in products:
            raise Reject(
                f"no product {report.product!r}",
                where="body.product",
                remedy=f"use one of {', '.join(products)}",
            )
        try:
            read_day(report.until)
        except Reject as error:
            raise Reject(error.title, where="body.until", remedy=error.remedy) from error

    async def _interaction(self, lead: uuid.UUID | Identifier, report: SalesReport) -> Interaction:
        """The report as the event that it is."""
        type_ = sales.TYPE_OF[report.status]
        properties = sales.checked_properties(
            type_,
            report.properties(),
            self._scoring.playbook.sales.disqualify_reasons,
            "body.reason",
        )
        if not isinstance(lead, Identifier):
            lead = await self._leads.strongest_identifier(lead)
        fact = Interaction(id=report.id, type=type_, product=report.product, properties=properties)
        return with_identifier(fact, lead)

    async def _applied(self, uid: uuid.UUID) -> uuid.UUID | None:
        """The lead to which the event was applied; None if it is not applied in time."""
        give_up = time.monotonic() + WAIT_S
        while time.monotonic() < give_up:
            async with self._engine.connect() as connection:
                if lead := await LeadRepository(connection).lead_of_event(uid):
                    return lead
            await asyncio.sleep(POLL_EVERY_S)
        return None


def _named(lead: uuid.UUID | Identifier) -> str:
    return f"{lead.system}:{lead.value}" if isinstance(lead, Identifier) else str(lead)


def record_of(fact: Interaction, at: datetime, now: datetime) -> tuple[str, bytes]:
    """(uid, encoded `interaction.v1`). Raises Reject for what no database keeps."""
    uid, record = envelope(
        fact,
        source=SOURCE,
        occurred_at=at,
        received_at=now,
        posted_at=time.time(),
        provenance=Provenance(too_old=at < now - TOO_OLD),
        scope=sales.scope_of(fact.type),
    )
    if rb"\u0000" in record:
        raise Reject(
            r"a NUL character (\u0000)",
            where="body",
            remedy="take it out; no database keeps it",
        )
    return uid, record


def with_identifier(fact: Interaction, identifier: Identifier) -> Interaction:
    """The interaction with the field that this identifier stands in."""
    value, replace = identifier.value, msgspec.structs.replace
    match identifier.kind:
        case Kind.USER:
            return replace(fact, user_id=value)
        case Kind.EMAIL | Kind.ROLE:
            return replace(fact, email=value)
        case Kind.ANONYMOUS:
            return replace(fact, anonymous_id=value)
        case Kind.EXTERNAL:
            if identifier.system == TOUCH_SYSTEM:
                return replace(fact, touch_id=value)
            return replace(fact, external_id=ExternalId(identifier.system, value))
