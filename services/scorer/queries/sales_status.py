"""What sales says of a lead by the API or the page: checked, published like any interaction, and
awaited until it counts.
"""

import asyncio
import time
import uuid
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scorer.queries.leads import Queries
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
from services.shared.contracts.provenance import Provenance
from services.shared.db import value
from services.shared.errors import Reject
from services.shared.messaging.kafka import Outgoing, Publisher

WAIT_S, LOOK_EVERY_S = 2.0, 0.03
SOURCE = "sales:status"
LEAST, MOST = -(1 << 63), (1 << 63) - 1


def _in_range(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time out of range") from None


def _number(given: Any) -> Any:
    whole = isinstance(given, int) and not isinstance(given, bool) and LEAST <= given <= MOST
    if given is None or whole or (isinstance(given, float) and isfinite(given)):
        return given
    raise ValueError("not a number of at most 64 bits")


Text = Annotated[str, StringConstraints(strip_whitespace=True)]
Moment = Annotated[AwareDatetime, AfterValidator(_in_range)]
# 5 and 5.0 stay what they are
Number = Annotated[Any, AfterValidator(_number), WithJsonSchema({"type": "number"})]


class Said(BaseModel):
    """What sales says. With an `id` of its own a fact may be said any number of times, here and at
    ingest, and counts once.
    """

    model_config = ConfigDict(extra="forbid")
    status: Literal["accepted", "rejected", "disqualified", "opportunity", "won", "lost"]
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

    def properties(self) -> dict[str, Any]:
        """As an event at ingest carries the same."""
        given = {"reason": self.reason, "value": self.value, "note": self.note}
        return {name: said for name, said in given.items() if said not in ("", None)}


class Taken(NamedTuple):
    """The fact's id, and the lead to which it is applied; None while it waits."""

    id: str
    lead: uuid.UUID | None


class Outcomes:
    """Takes sales' word from whoever may ask about leads."""

    def __init__(
        self,
        engine: AsyncEngine,
        scoring: Scoring,
        queries: Queries,
        publisher: Publisher,
        pepper: bytes,
    ) -> None:
        self._engine, self._scoring, self._queries = engine, scoring, queries
        self._publisher, self._pepper = publisher, pepper

    async def report(self, lead: uuid.UUID | Identifier, said: Said) -> Taken:
        """Returns once the word is safe at the broker and applied, or two seconds later if it is
        not applied by then.

        A lead that was merged into another is followed. An identifier that nobody has yet makes a
        lead that waits for its link. Raises Reject `not-found` or `invalid`, Retry while the broker
        is away.
        """
        now, playbook = self._scoring.clock.now(), self._scoring.playbook
        at, type_ = said.at or now, sales.TYPE_OF[said.status]
        if at > now + CLOCK_TOLERANCE:
            raise Reject(
                "this has not happened yet",
                where="body.at",
                remedy="send the time at which it did, or leave it out",
            )
        if said.product and said.product not in playbook.products:
            remedy = f"use one of {', '.join(playbook.products)}"
            raise Reject(f"no product {said.product!r}", where="body.product", remedy=remedy)
        properties = sales.shaped(
            type_, said.properties(), playbook.sales.disqualify_reasons, "body.reason"
        )
        named = _named(
            lead if isinstance(lead, Identifier) else await self._queries.strongest(lead)
        )
        fact = Interaction(
            id=said.id, type=type_, product=said.product, properties=properties, **named
        )
        who = self._scoring.cleaner.strongest(fact)
        if not fact.id:
            fact = msgspec.structs.replace(fact, id=sales.made_id(at, who, said.product))
        uid, record = envelope(
            fact,
            source=SOURCE,
            occurred_at=at,
            received_at=now,
            posted_at=time.time(),
            provenance=Provenance(too_old=at < now - TOO_OLD),
            scope=sales.scope_of(type_),
        )
        if rb"\u0000" in record:
            raise Reject(
                r"a NUL character (\u0000)",
                where="body",
                remedy="take it out; no database keeps it",
            )
        await self._publisher.publish(
            [Outgoing(INTERACTIONS, keyed_hash(self._pepper, who), record)]
        )
        return Taken(fact.id, await self._applied(uuid.UUID(uid)))

    async def _applied(self, uid: uuid.UUID) -> uuid.UUID | None:
        give_up = time.monotonic() + WAIT_S
        while time.monotonic() < give_up:
            async with self._engine.connect() as connection:
                if lead := await value(
                    connection, "SELECT lead_id FROM scorer.event WHERE uid = :uid", uid=uid
                ):
                    return uuid.UUID(str(lead))
            await asyncio.sleep(LOOK_EVERY_S)
        return None


def _named(one: Identifier) -> dict[str, Any]:
    """The fields by which an interaction names this identifier."""
    if one.kind is Kind.EXTERNAL:
        if one.system == TOUCH_SYSTEM:
            return {"touch_id": one.value}
        return {"external_id": ExternalId(one.system, one.value)}
    return {
        {Kind.USER: "user_id", Kind.ANONYMOUS: "anonymous_id"}.get(one.kind, "email"): one.value
    }
