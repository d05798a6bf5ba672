"""The SQL of reading leads; runs inside the caller's connection."""

import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scorer.failing import FailingLeads, is_of_one_lead, reason_of
from services.scorer.list_keys import NO_STATUS, SALES_RANKS, company_key
from services.scorer.model.profile import Profile
from services.scorer.queries.filters import LeadFilter, Order
from services.scorer.queries.lead_view import FailedLead
from services.scorer.records import State, UnreadableLead, state_of, unpack_profile
from services.scorer.store import STATE_COLUMNS, Store
from services.shared.clock import to_us
from services.shared.contracts.identity import Identifier
from services.shared.db import rows, value
from services.shared.errors import Reject

COLUMNS = ", ".join(f"s.{column}" for column in STATE_COLUMNS.split(", "))
NO_EVENT = -(1 << 61)  # µs; the last event of a lead without events is said to be before this
# which states are in lists; the condition of the lists' indexes
LISTED = f"s.listed AND s.last_event_at > {NO_EVENT}"
FEW = 150  # of a stage: so many that pass a filter are all read before they are sorted
LIKELIHOOD = "coalesce(s.likelihood, -1)"  # those without one are last
# the stages that lists of a product have, each found by one look into an index
_STAGES = f"""
    (SELECT s.stage FROM scorer.lead_state s WHERE s.product = :product AND {LISTED}
        ORDER BY s.stage LIMIT 1)
    UNION ALL
    SELECT (SELECT s.stage FROM scorer.lead_state s WHERE s.product = :product AND {LISTED}
        AND s.stage > stages.stage ORDER BY s.stage LIMIT 1)
    FROM stages WHERE stages.stage IS NOT NULL
"""


class SortColumn(NamedTuple):
    """What a list is sorted by: an expression over `scorer.lead_state s`, and its type."""

    expression: str
    type: str


SORT_COLUMNS: dict[Order, SortColumn] = {
    "likelihood": SortColumn(LIKELIHOOD, "float8"),
    "engagement": SortColumn("s.engagement", "float8"),
    "fit": SortColumn("s.fit", "float8"),
    "last_event_at": SortColumn("s.last_event_at", "bigint"),
}


class Condition(NamedTuple):
    """A filter of a list: a test over `scorer.lead_state s`, the value that it names if any, and
    the expression that sorts an index of its own; '' where none does.
    """

    test: str
    name: str = ""
    value: Any = None
    sorted_by: str = ""


# Each part reads no more than a page of its own.
TIMELINE = """
SELECT at, kind, ref, source, flags, conflict, body FROM (
    (SELECT to_timestamp(0) + occurred_at * interval '1 microsecond' AS at,
        'event' AS kind, uid AS ref, source, flags, conflict, body
    FROM scorer.event WHERE lead_id = :lead {event_after}
    ORDER BY occurred_at, uid LIMIT :limit)
    UNION ALL
    (SELECT announced_at, 'announcement', id, '', '', false,
        json_build_object('from', from_stage, 'stage', stage, 'cause', cause,
        'cause_at', cause_at, 'cause_event', cause_event, 'seq', seq,
        'product', product, 'likelihood', likelihood)::text
    FROM scorer.announcement WHERE (lead_id = :lead
        OR lead_id IN (SELECT id FROM scorer.lead WHERE merged_into = :lead)) {change_after}
    ORDER BY announced_at, id LIMIT :limit)
    UNION ALL
    (SELECT at, 'touch', id, '', '', false, body
    FROM scorer.touch WHERE lead_id = :lead {touch_after}
    ORDER BY at, id LIMIT :limit)
) AS items
ORDER BY at, ref LIMIT :limit
"""


class MergedAway(Exception):
    """The lead was merged into another, under whose id it is found."""

    def __init__(self, into: uuid.UUID) -> None:
        super().__init__(str(into))
        self.into = into


class StoredLead(msgspec.Struct):
    """A lead's row with its state for one product."""

    id: uuid.UUID
    version: int
    profile: Profile
    state: State
    identifiers: list[Identifier]


class Place(NamedTuple):
    """Where a page of a list of leads ended: what it is sorted by, and the lead."""

    sorted_by: float
    lead: uuid.UUID


class Totals(NamedTuple):
    """Of leads: their number, the sum of their likelihoods p, and that of p·(1 − p)."""

    leads: int
    expected: float
    spread: float


class StoredPage(NamedTuple):
    """A page of stored leads, those that fail apart; `end` is None on the last one."""

    leads: list[StoredLead]
    failed: list[FailedLead]
    end: Place | None


class TimelinePlace(NamedTuple):
    """Where a page of a timeline ended."""

    at: datetime
    ref: uuid.UUID


class TimelineRow(NamedTuple):
    """Something that happened: `ref` is its id, `body` JSON as its kind has it."""

    at: datetime
    kind: Literal["event", "announcement", "touch"]
    ref: uuid.UUID
    source: str
    flags: str
    conflict: bool
    body: str


class UnknownLead(Reject):
    """There is no such lead, or none yet: `is_behind` says whether events wait that may make it,
    None where nobody has asked.
    """

    def __init__(
        self, title: str, where: str, remedy: str, *, is_behind: bool | None = None
    ) -> None:
        super().__init__(title, where=where, remedy=remedy, kind="not-found")
        self.is_behind = is_behind


def unknown_lead(lead_id: uuid.UUID) -> Reject:
    """The refusal of an id that no lead has."""
    return UnknownLead(f"no lead {lead_id}", "id", "look it up with POST /v1/leads/lookup")


@asynccontextmanager
async def readable(engine: AsyncEngine, lead_id: uuid.UUID) -> AsyncIterator[None]:
    """Makes of what fails by one lead's own data the refusal `lead-unreadable`, and marks the
    lead.
    """
    try:
        yield
    except MergedAway:
        raise
    except Exception as error:
        if not is_of_one_lead(error):
            raise
        async with engine.begin() as connection:
            await FailingLeads(connection).note({lead_id: reason_of(error)}, "query")
        raise Reject(
            f"the lead {lead_id} cannot be read",
            where="id",
            remedy=f"look for lead_failed in the log, then `ripeline lead rebuild {lead_id}`",
            kind="lead-unreadable",
        ) from error


class LeadRepository:
    """Leads, their timelines, and whom identifiers belong to."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def page(self, asked: LeadFilter, after: Place | None) -> StoredPage:
        """Listed leads by their stored numbers, highest first; those that cannot be read, or whose
        events cannot be folded, apart.
        """
        statement, values = list_of(asked, after, await self.narrowest(asked))
        found = await rows(self._connection, statement, **values)
        page = found[: asked.limit]
        more = len(found) > asked.limit
        end = Place(page[-1].sorted, page[-1].lead_id) if more else None
        return await self._page(page, end)

    async def chosen(self, leads: Sequence[uuid.UUID], product: str) -> StoredPage:
        """These leads in their order, listed or not; those that fail apart."""
        found = await rows(
            self._connection,
            f"SELECT {COLUMNS}, l.profile, l.version, f.reason AS failing "
            "FROM unnest(CAST(:leads AS uuid[])) WITH ORDINALITY AS page (lead_id, place) "
            "JOIN scorer.lead_state s ON s.lead_id = page.lead_id AND s.product = :product "
            "JOIN scorer.lead l ON l.id = page.lead_id "
            "LEFT JOIN scorer.failing_lead f ON f.lead_id = page.lead_id ORDER BY page.place",
            leads=list(leads),
            product=product,
        )
        return await self._page(found, None)

    async def _page(self, page: Sequence[Any], end: Place | None) -> StoredPage:
        identifiers = await Store(self._connection).identifiers(row.lead_id for row in page)
        leads, failed = [], []
        for row in page:
            try:
                leads.append(_stored(row.lead_id, row, identifiers.get(row.lead_id, [])))
            except UnreadableLead as error:
                failed.append(FailedLead(row.lead_id, reason_of(error)))
        return StoredPage(leads, failed, end)

    async def totals(self, asked: LeadFilter) -> Totals:
        """Of all listed leads of a list: how many have a likelihood, its sum, and that of p·(1 −
        p).
        """
        tests = "".join(f" AND {condition.test}" for condition in _conditions(asked))
        tests += " AND s.stage = :stage" if asked.stage else ""
        of_stage = {"stage": asked.stage} if asked.stage else {}
        (found,) = await rows(
            self._connection,
            "SELECT count(s.likelihood) AS leads, coalesce(sum(s.likelihood), 0) AS expected, "
            "coalesce(sum(s.likelihood * (1 - s.likelihood)), 0) AS spread "
            f"FROM scorer.lead_state s WHERE s.product = :product AND {LISTED}{tests}",
            **_values(_conditions(asked)) | of_stage | {"product": asked.product},
        )
        return Totals(*found)

    async def narrowest(self, asked: LeadFilter) -> Condition | None:
        """The filter that lets the fewest pass, as PostgreSQL estimates it: each by itself."""
        conditions = [condition for condition in _conditions(asked) if condition.sorted_by]
        if len(conditions) < 2:
            return next(iter(conditions), None)
        each_alone = " UNION ALL ".join(
            f"SELECT 1 FROM scorer.lead_state s WHERE s.product = :product AND {LISTED} "
            f"AND {condition.test}"
            for condition in conditions
        )
        values = _values(conditions)
        statement = f"EXPLAIN (FORMAT JSON) {each_alone}"
        plan = await value(self._connection, statement, **values | {"product": asked.product})
        estimates = [part["Plan Rows"] for part in plan[0]["Plan"]["Plans"]]
        return min(zip(estimates, conditions, strict=True))[1]

    async def lead(self, lead_id: uuid.UUID, product: str) -> StoredLead:
        """One lead. Raises MergedAway, Reject `not-found`, or UnreadableLead."""
        found = await rows(
            self._connection,
            f"SELECT l.merged_into, l.version, l.profile, {COLUMNS}, "
            "f.reason AS failing "
            "FROM scorer.lead l LEFT JOIN scorer.lead_state s ON s.lead_id = l.id AND "
            "s.product = :product LEFT JOIN scorer.failing_lead f ON f.lead_id = l.id "
            "WHERE l.id = :lead",
            lead=lead_id,
            product=product,
        )
        row = found[0] if found else None
        if row and row.merged_into:
            raise MergedAway(row.merged_into)
        if row is None or (row.record is None and row.failing is None):
            raise unknown_lead(lead_id)
        identifiers = await Store(self._connection).identifiers([lead_id])
        return _stored(lead_id, row, identifiers.get(lead_id, []))

    async def check(self, lead_id: uuid.UUID) -> None:
        """Raises MergedAway, or Reject `not-found`, where no lead has this id."""
        found = await rows(
            self._connection, "SELECT merged_into FROM scorer.lead WHERE id = :id", id=lead_id
        )
        if not found:
            raise unknown_lead(lead_id)
        if found[0].merged_into:
            raise MergedAway(found[0].merged_into)

    async def look_up(self, identifier: Identifier) -> uuid.UUID | None:
        """The lead that an identifier belongs to."""
        return await self._id(
            "SELECT i.lead_id FROM scorer.identifier i JOIN scorer.lead l ON l.id = i.lead_id "
            "WHERE kind = :kind AND value = :value",
            kind=int(identifier.kind),
            value=identifier.text,
        )

    async def strongest_identifier(self, lead_id: uuid.UUID) -> Identifier:
        """That of a lead, or of the one into which it was merged. Raises Reject `not-found`."""
        lead = await self.merged_or_same(lead_id)
        found = await Store(self._connection).identifiers([lead]) if lead else {}
        if lead is None or not found.get(lead):
            raise unknown_lead(lead_id)
        return found[lead][0]

    async def merged_or_same(self, lead_id: uuid.UUID) -> uuid.UUID | None:
        """The lead into which this one was merged, else itself; None where there is none."""
        return await self._id(
            "SELECT coalesce(merged_into, id) FROM scorer.lead WHERE id = :id", id=lead_id
        )

    async def lead_of_event(self, uid: uuid.UUID) -> uuid.UUID | None:
        """The lead to which a stored event belongs; None before it is stored."""
        return await self._id("SELECT lead_id FROM scorer.event WHERE uid = :uid", uid=uid)

    async def timeline(
        self, lead_id: uuid.UUID, limit: int, after: TimelinePlace | None
    ) -> list[TimelineRow]:
        """Events, announcements and touches of a lead and of those merged into it, oldest first."""
        found = await rows(
            self._connection,
            TIMELINE.format(
                event_after="AND (occurred_at, uid) > (:at_us, :ref)" if after else "",
                change_after="AND (announced_at, id) > (:at, :ref)" if after else "",
                touch_after="AND (at, id) > (:at, :ref)" if after else "",
            ),
            lead=lead_id,
            limit=limit,
            **({"at": after.at, "at_us": to_us(after.at), "ref": after.ref} if after else {}),
        )
        return [TimelineRow(*row) for row in found]

    async def _id(self, statement: str, **values: Any) -> uuid.UUID | None:
        found = await value(self._connection, statement, **values)
        return None if found is None else uuid.UUID(str(found))


def _conditions(asked: LeadFilter) -> list[Condition]:
    """The filters of a list; the stage apart, which every index begins with. Ranks stand in the
    test, so that PostgreSQL sees which indexes hold them.
    """
    conditions = [
        Condition(f"{expression} >= :{name}", name, least, expression)
        for name, expression, least in (
            ("min_likelihood", SORT_COLUMNS["likelihood"].expression, asked.min_likelihood),
            ("min_fit", SORT_COLUMNS["fit"].expression, asked.min_fit),
            ("min_engagement", SORT_COLUMNS["engagement"].expression, asked.min_engagement),
            ("updated_since", "s.as_of", asked.updated_since),
        )
        if least is not None
    ]
    if asked.company:
        key = company_key(asked.company)
        conditions.append(
            Condition("s.company_key = :company_key", "company_key", key, "s.company_key")
        )
    status = asked.sales_status
    if status == "":
        first = min(SALES_RANKS[status] for status in asked.leaves_out)
        conditions.append(Condition(f"s.sales_rank < {first}"))
    elif status == "none":
        conditions.append(Condition(f"s.sales_rank = {NO_STATUS}"))
    elif status != "any":
        rank = SALES_RANKS[status]
        conditions.append(Condition(f"s.sales_rank = {rank}"))
    return conditions


def _values(conditions: Iterable[Condition]) -> dict[str, Any]:
    return {condition.name: condition.value for condition in conditions if condition.name}


def list_of(
    asked: LeadFilter, after: Place | None, narrowest: Condition | None = None
) -> tuple[str, dict[str, Any]]:
    """The statement of a list's page, and its values; `narrowest` is the filter that lets the
    fewest pass.
    """
    stages, limit = _STAGES, asked.limit + 1  # as a number: for any limit PostgreSQL plans for many
    values = _values(_conditions(asked)) | {"product": asked.product}
    if asked.stage:
        stages, values["stage"] = "SELECT CAST(:stage AS text) AS stage", asked.stage
    if after:
        values |= {"after": after.sorted_by, "after_id": after.lead}
    return (
        f"WITH RECURSIVE stages AS ({stages}), page AS (SELECT found.* FROM stages "
        f"CROSS JOIN LATERAL ({_first_of_stage(asked, narrowest, limit, behind=bool(after))}) "
        f"AS found ORDER BY sorted DESC, lead_id DESC LIMIT {limit:d}) "
        f"SELECT {COLUMNS}, l.profile, l.version, page.sorted, f.reason AS failing FROM page "
        "JOIN scorer.lead_state s ON s.lead_id = page.lead_id AND s.product = :product "
        "JOIN scorer.lead l ON l.id = page.lead_id "
        "LEFT JOIN scorer.failing_lead f ON f.lead_id = page.lead_id "
        "ORDER BY page.sorted DESC, page.lead_id DESC",
        values,
    )


def _first_of_stage(
    asked: LeadFilter, narrowest: Condition | None, limit: int, *, behind: bool
) -> str:
    """The statement of the first leads of `stages.stage` by the list's order.

    They come from one scan of the order's index, which tests all of the conditions itself. Where
    few of the stage pass, all of these are found in the index of the narrowest filter instead.
    """
    column = SORT_COLUMNS[asked.order]
    passing = (
        f"SELECT s.lead_id, {column.expression} AS sorted FROM scorer.lead_state s WHERE "
        f"s.product = :product AND {LISTED} AND s.stage = stages.stage"
    )
    for condition in _conditions(asked):
        passing += f" AND {condition.test}"
    place = f"AND ({{}}, s.lead_id) < (CAST(:after AS {column.type}), :after_id)" if behind else ""
    in_order = f"ORDER BY {column.expression} DESC, s.lead_id DESC LIMIT {limit:d}"
    scan = f"{passing} {place.format(column.expression)}"
    if narrowest is None or narrowest.sorted_by == column.expression:
        return f"{scan} {in_order}"
    return (
        f"WITH few AS MATERIALIZED ({passing} ORDER BY {narrowest.sorted_by} DESC "
        f"LIMIT {FEW + 1:d}) SELECT s.lead_id, s.sorted FROM few s WHERE "
        f"(SELECT count(*) FROM few) <= {FEW:d} {place.format('s.sorted')} "
        f"UNION ALL ({scan} AND (SELECT count(*) FROM few) > {FEW:d} {in_order})"
    )


def _stored(lead_id: uuid.UUID, row: Any, identifiers: Sequence[Identifier]) -> StoredLead:
    """The lead of a row. Raises UnreadableLead, also where the row is not of all its events."""
    if row.failing is not None:
        raise UnreadableLead(row.failing)
    profile = unpack_profile(row.profile)
    return StoredLead(lead_id, row.version, profile, state_of(row), list(identifiers))
