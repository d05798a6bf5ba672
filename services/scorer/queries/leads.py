"""Reading leads: lists by stored numbers, single leads at any moment, timelines; what the API and
the page show.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scorer.model.explanation import Ledger, explain
from services.scorer.model.fold import Fold
from services.scorer.model.profile import Profile, profile_of
from services.scorer.model.state import Event, View
from services.scorer.records import State, state_of, unpack_profile
from services.scorer.scoring import Scoring
from services.scorer.store import STATE_COLUMNS, Store
from services.shared.clock import from_us, rfc3339, to_us
from services.shared.contracts.events import TOUCH_SENT, decode_interaction
from services.shared.contracts.identity import OURS, Identifier, Kind
from services.shared.db import rows, value
from services.shared.errors import Reject
from services.shared.http.paging import Cursors, Position

ORDERS = {
    "likelihood": "coalesce(s.likelihood, -1)",
    "engagement": "s.engagement",
    "fit": "s.fit",
    "last_event_at": "s.last_event_at",
}
FIELD_OF_KIND = {
    Kind.USER: "user_id",
    Kind.EMAIL: "email",
    Kind.ROLE: "email",
    Kind.ANONYMOUS: "anonymous_id",
}


class Moved(Exception):
    """The lead lives on under another id."""

    def __init__(self, into: uuid.UUID) -> None:
        super().__init__(str(into))
        self.into = into


class Filter(msgspec.Struct, frozen=True):
    """What a list of leads is asked for."""

    product: str
    stage: str = ""
    min_likelihood: float | None = None
    min_fit: float | None = None
    min_engagement: float | None = None
    order: str = "likelihood"
    limit: int = 50
    cursor: str = ""


class Queries:
    """Read access; every answer names the moment that it speaks of."""

    def __init__(self, engine: AsyncEngine, scoring: Scoring, pepper: bytes) -> None:
        self._engine, self._scoring, self._cursors = engine, scoring, Cursors(pepper)

    @property
    def fold(self) -> Fold:
        return self._scoring.fold

    @property
    def products(self) -> Sequence[str]:
        return self._scoring.playbook.products

    def now(self) -> int:
        """The present (µs) of the system's clock."""
        return self._scoring.clock.now_us()

    # -- leads ------------------------------------------------------------------------------------

    async def leads(self, asked: Filter) -> dict[str, Any]:
        """A page of leads by stored numbers with their `as_of`, highest first; `next`
        continues it.
        """
        column = ORDERS[asked.order]
        after, conditions = (
            self._open_cursor(asked),
            ["s.listed", "s.product = :product", "s.last_event_at > :never"],
        )
        asks = {
            "stage": "s.stage =",
            "min_likelihood": "s.likelihood >=",
            "min_fit": "s.fit >=",
            "min_engagement": "s.engagement >=",
        }
        values: dict[str, Any] = {
            "product": asked.product,
            "limit": asked.limit + 1,
            "never": -(1 << 61),
        }
        for name, test in asks.items():
            if (wanted := getattr(asked, name)) not in (None, ""):
                conditions.append(f"{test} :{name}")
                values[name] = wanted
        if after:
            conditions.append(
                f"({column}, s.lead_id) < (CAST(:after AS "
                f"{'bigint' if asked.order == 'last_event_at' else 'float8'}), :after_id)"
            )
            values |= {"after": after.value, "after_id": uuid.UUID(after.id)}
        async with self._engine.connect() as connection:
            found = await rows(
                connection,
                f"SELECT {', '.join('s.' + c for c in STATE_COLUMNS.split(', '))}, l.profile, "
                f"l.version, {column} AS sorted "
                "FROM scorer.lead_state s JOIN scorer.lead l ON l.id = s.lead_id WHERE "
                f"{' AND '.join(conditions)} "
                f"ORDER BY {column} DESC, s.lead_id DESC LIMIT :limit",
                **values,
            )
            page, store = found[: asked.limit], Store(connection)
            identifiers = await store.identifiers(row.lead_id for row in page)
            states = [state_of(row) for row in page]
            await self._renew(store, [row.lead_id for row in page], states)
        profiles = [unpack_profile(row.profile) for row in page]
        views = self._views(states, profiles, [state.as_of for state in states])
        leads = [
            self._present(
                row.lead_id,
                row.version,
                identifiers.get(row.lead_id, []),
                state,
                profile,
                view,
                state.as_of,
            )
            for row, state, profile, view in zip(page, states, profiles, views, strict=True)
        ]
        last = page[-1] if len(found) > asked.limit else None
        return {
            "leads": leads,
            "next": self._cursor(asked, last.sorted, last.lead_id) if last else None,
        }

    async def lead(self, lead_id: uuid.UUID, product: str, at: int | None = None) -> dict[str, Any]:
        """One lead now, or as its events up to `at` (µs) make it. Raises Moved, or Reject
        `not-found`.
        """
        async with self._engine.connect() as connection:
            columns = ", ".join(f"s.{name}" for name in STATE_COLUMNS.split(", "))
            found = await rows(
                connection,
                f"SELECT l.merged_into, l.version, l.profile, {columns}, "
                "ARRAY(SELECT (kind, value) FROM scorer.identifier i WHERE i.lead_id = l.id "
                "ORDER BY kind, value) AS named "
                "FROM scorer.lead l LEFT JOIN scorer.lead_state s ON s.lead_id = l.id AND "
                "s.product = :product "
                "WHERE l.id = :lead",
                lead=lead_id,
                product=product,
            )
            row = found[0] if found else None
            if row and row.merged_into:
                raise Moved(row.merged_into)
            if row is None or row.record is None:
                raise _unknown(lead_id)
            identifiers = [Identifier.from_text(Kind(kind), value) for kind, value in row.named]
            state, store = state_of(row), Store(connection)
            if at is None and state.fold_hash == self._scoring.playbook.fold_hash:
                profile = unpack_profile(row.profile)
            else:
                events = (await store.events([lead_id], at)).get(lead_id, [])
                if not events:
                    raise Reject(
                        "nothing was known of the lead then",
                        where="at",
                        remedy="ask for a later time",
                        kind="not-found",
                    )
                profile = profile_of(events)
                state = State(
                    self.fold.refold(product, [events])[0], state.fold_hash, state.announced
                )
        moment = at if at is not None else max(self.now(), profile.last_at, state.fold.last_at)
        view = self._views([state], [profile], [moment])[0]
        return self._present(lead_id, row.version, identifiers, state, profile, view, moment)

    async def lookup(self, one: Identifier, where: str = "body") -> uuid.UUID:
        """The lead that an identifier belongs to. Raises Reject `not-found`."""
        async with self._engine.connect() as connection:
            found = await value(
                connection,
                "SELECT i.lead_id FROM scorer.identifier i JOIN scorer.lead l ON l.id = i.lead_id "
                "WHERE kind = :kind AND value = :value",
                kind=int(one.kind), value=one.text,
            )  # fmt: skip
        if found is None:
            raise Reject(
                "no lead has this identifier",
                where=where,
                remedy="it becomes known with its first event",
                kind="not-found",
            )
        return uuid.UUID(str(found))

    async def strongest(self, lead_id: uuid.UUID) -> Identifier:
        """The best name of a lead, or of the one that it was merged into. Raises Reject
        `not-found`.
        """
        async with self._engine.connect() as connection:
            living = await value(
                connection,
                "SELECT coalesce(merged_into, id) FROM scorer.lead WHERE id = :id",
                id=lead_id,
            )
            named = (await Store(connection).identifiers([living])).get(living) if living else None
        if not named:
            raise _unknown(lead_id)
        return named[0]

    async def explain(self, lead_id: uuid.UUID, product: str, at: int | None = None) -> Ledger:
        """The ledger of one lead's likelihood."""
        events = await self.events(lead_id, at)
        return explain(
            self.fold, product, events, at if at is not None else max(self.now(), events[-1].at)
        )

    async def events(self, lead_id: uuid.UUID, until: int | None = None) -> list[Event]:
        """All events of one lead in order. Raises Moved, or Reject `not-found`."""
        async with self._engine.connect() as connection:
            await self._row(connection, lead_id)
            events = (await Store(connection).events([lead_id], until)).get(lead_id, [])
        if not events:
            raise Reject(
                "nothing was known of the lead then",
                where="at",
                remedy="ask for a later time",
                kind="not-found",
            )
        return events

    async def timeline(self, lead_id: uuid.UUID, limit: int, cursor: str) -> dict[str, Any]:
        """What happened, in order of time: events, announcements, touches."""
        after = self._cursors.decode(str(lead_id), cursor) if cursor else None
        async with self._engine.connect() as connection:
            await self._row(connection, lead_id)
            found = await rows(
                connection,
                """
                SELECT * FROM (
                    SELECT to_timestamp(0) + occurred_at * interval '1 microsecond' AS at,
                        'event' AS kind, uid AS ref, source, flags, conflict, body
                    FROM scorer.event WHERE lead_id = :lead
                    UNION ALL
                    SELECT announced_at, 'announcement', id, cause, from_stage, false,
                        json_build_object('from', from_stage, 'stage', stage, 'cause', cause,
                        'cause_at', cause_at, 'cause_event', cause_event, 'seq', seq,
                        'product', product, 'likelihood', likelihood)::text
                    FROM scorer.announcement WHERE lead_id = :lead
                        OR lead_id IN (SELECT id FROM scorer.lead WHERE merged_into = :lead)
                    UNION ALL
                    SELECT at, 'touch', id, status, reason, false, body
                    FROM scorer.touch WHERE lead_id = :lead
                ) AS items
                WHERE CAST(:at AS timestamptz) IS NULL
                    OR (at, ref) > (CAST(:at AS timestamptz), CAST(:ref AS uuid))
                ORDER BY at, ref LIMIT :limit
                """,
                lead=lead_id, limit=limit + 1,
                at=datetime.fromisoformat(after.value) if after else None,
                ref=uuid.UUID(after.id) if after else None,
            )  # fmt: skip
        page = found[:limit]
        items = [item for row in page if (item := self._item(row))]
        last = page[-1] if len(found) > limit else None
        return {
            "items": items,
            "next": self._cursors.encode(str(lead_id), Position(last.at.isoformat(), str(last.ref)))
            if last
            else None,
        }

    def _item(self, row: Any) -> dict[str, Any] | None:
        at = rfc3339(row.at)
        if row.kind == "announcement":
            said = msgspec.json.decode(row.body)
            said["cause_at"] = rfc3339(datetime.fromisoformat(said["cause_at"]))
            return {"at": at, "kind": "announcement", "id": str(row.ref), **said}
        if row.kind == "touch":
            return {
                "at": at,
                "kind": "touch",
                "id": str(row.ref),
                **_without(msgspec.json.decode(row.body), "id", "html", "text", "recipient"),
            }
        data = decode_interaction(row.body)
        if data.type == TOUCH_SENT:
            return None
        reading = self.fold.interpreter.interpret(data)
        return {
            "at": at,
            "kind": "event",
            "id": data.id,
            "type": data.type,
            "read_as": reading.signal or reading.touch_part or None,
            "source": row.source,
            "content_id": reading.content or None,
            "url": data.url or None,
            "touch_id": data.touch_id or None,
            "machine": data.machine,
            "conflict": row.conflict,
            "flags": row.flags or None,
        }

    async def _renew(
        self, store: Store, leads: Sequence[uuid.UUID], states: Sequence[State]
    ) -> None:
        """States of another playbook are folded anew before they are shown."""
        current = self._scoring.playbook.fold_hash
        old = [
            (lead, state)
            for lead, state in zip(leads, states, strict=True)
            if state.fold_hash != current
        ]
        events = await store.events(lead for lead, _ in old) if old else {}
        for lead, state in old:
            state.fold = self.fold.refold(state.fold.product, [events.get(lead, [])])[0]

    # -- presenting -------------------------------------------------------------------------------

    def _views(
        self, states: Sequence[State], profiles: Sequence[Profile], moments: Sequence[int]
    ) -> list[View]:
        fits = [self.fold.fit.points(profile.fit_traits()) for profile in profiles]
        return self.fold.view([state.fold for state in states], moments, fits) if states else []

    def _present(
        self,
        lead_id: uuid.UUID,
        version: int,
        identifiers: list[Identifier],
        state: State,
        profile: Profile,
        view: View,
        as_of: int,
    ) -> dict[str, Any]:
        fit = self.fold.fit
        return {
            "id": str(lead_id),
            "identifiers": _shown(identifiers),
            "traits": profile.known_traits(),
            "product": state.fold.product,
            "stage": view.stage,
            "stage_since": _time(view.stage_since),
            "belief": view.belief,
            "confidence": view.confidence,
            "likelihood": view.likelihood,
            "calibrated": False,
            "fit": {"score": view.fit, "grade": fit.grade(view.fit)},
            "engagement": view.engagement,
            "qualified": fit.qualified(view.fit),
            "sales_status": profile.sales.status if profile.sales else None,
            "sales_reason": (profile.sales.reason or None) if profile.sales else None,
            "consent": _consents(profile),
            "source": profile.source.name if profile.source else None,
            "campaign": (profile.source.campaign or None) if profile.source else None,
            "events_counted": profile.events,
            "last_event_at": _time(profile.last_at) if profile.events else None,
            "next_review_at": _time(view.next_review_at),
            "version": version,
            "as_of": _time(as_of),
        }

    async def _row(self, connection: AsyncConnection, lead_id: uuid.UUID) -> Any:
        found = await rows(
            connection,
            "SELECT id, merged_into, version, profile FROM scorer.lead WHERE id = :id",
            id=lead_id,
        )
        if not found:
            raise _unknown(lead_id)
        if found[0].merged_into:
            raise Moved(found[0].merged_into)
        return found[0]

    # -- cursors ------------------------------------------------------------------------------

    def _cursor(self, asked: Filter, sorted_by: Any, lead_id: uuid.UUID) -> str:
        return self._cursors.encode(_scope(asked), Position(sorted_by, str(lead_id)))

    def _open_cursor(self, asked: Filter) -> Position | None:
        return self._cursors.decode(_scope(asked), asked.cursor) if asked.cursor else None


def _scope(asked: Filter) -> str:
    return msgspec.json.encode(msgspec.structs.replace(asked, cursor="", limit=0)).decode()


def _unknown(lead_id: uuid.UUID) -> Reject:
    return Reject(
        f"no lead {lead_id}",
        where="id",
        remedy="look it up with POST /v1/leads/lookup",
        kind="not-found",
    )


def _time(instant: int | None) -> str | None:
    return rfc3339(from_us(instant)) if instant is not None else None


def _shown(identifiers: list[Identifier]) -> dict[str, Any]:
    shown: dict[str, Any] = {"user_id": [], "email": [], "anonymous_id": [], "external_id": []}
    for one in identifiers:
        if one.kind is Kind.EXTERNAL:
            if not one.system.startswith(OURS):
                shown["external_id"].append({"system": one.system, "id": one.value})
        else:
            shown[FIELD_OF_KIND[one.kind]].append(one.value)
    return shown


def _consents(profile: Profile) -> list[dict[str, Any]]:
    found = []
    for (address, channel, purpose), said in sorted(profile.consent.items()):
        found.append({
            "address": address or None, "channel": channel, "purpose": purpose,
            "state": "withdrawn" if said.refused else "given",
            "basis": said.basis or None, "at": _time(said.at), "text": said.text or None,
        })  # fmt: skip
    return found


def _without(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: field for name, field in body.items() if name not in names}


def parse_time(text: str) -> int:
    """An RFC 3339 time as µs. Raises Reject."""
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not 1900 <= moment.year < 2200:
        raise Reject(
            "not a time with a zone between 1900 and 2200",
            where="at",
            remedy="write it like 2026-01-31T12:00:00Z",
        )
    return to_us(moment)
