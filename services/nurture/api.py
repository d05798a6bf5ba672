"""Nurture's HTTP: the decisions, with what became of them."""

import uuid
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Depends, FastAPI, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncEngine

from services.nurture.store import TOUCH_COLUMNS
from services.shared.clock import rfc3339, to_us
from services.shared.db import rows
from services.shared.http import web
from services.shared.http.keys import ApiKeys, bearer
from services.shared.http.paging import MAX_CURSOR, Cursors, Position
from services.shared.http.rates import RateLimits
from services.shared.settings import Settings


def create_app(
    settings: Settings, engine: AsyncEngine, keys: ApiKeys, readiness: web.Readiness
) -> FastAPI:
    """The application; opens nothing."""
    rates = RateLimits(settings)
    app = web.create("Ripeline nurture", readiness, rates, max_body=web.SMALL_BODY)
    cursors = Cursors(settings.pepper.get_secret_value().encode())

    async def may_query(request: Request) -> None:
        rates.count_key(keys.authorize(bearer(request.headers.get("authorization")), "query").id)

    @app.get(
        "/v1/touches", dependencies=[Depends(may_query)], response_model=None, tags=["touches"]
    )
    async def touches(
        lead: uuid.UUID | None = None,
        status: Literal["due", "sending", "sent", "unknown", "failed", "withheld", ""] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str, Query(max_length=MAX_CURSOR)] = "",
    ) -> Response:
        """Decisions, oldest first; pass `next` as `cursor` for the following page."""
        scope = f"touches {lead} {status}"
        conditions: list[str] = ["true"]
        values: dict[str, Any] = {"limit": limit + 1}
        if lead:
            conditions.append(
                "lead_id = coalesce((SELECT into_lead FROM nurture.merged WHERE "
                "lead_id = :lead), :lead)"
            )
            values["lead"] = lead
        if status:
            conditions.append("status = :status")
            values["status"] = status
        if cursor:
            at, last = cursors.decode(scope, cursor)
            conditions.append(
                "(decided_at, id) > (to_timestamp(0) + :at * interval '1 "
                "microsecond', CAST(:last AS uuid))"
            )
            values |= {"at": int(at), "last": uuid.UUID(last)}
        async with engine.connect() as connection:
            found = await rows(
                connection,
                f"SELECT {TOUCH_COLUMNS} FROM nurture.touch WHERE {' AND '.join(conditions)} "
                "ORDER BY decided_at, id LIMIT :limit",
                **values,
            )
        page = found[:limit]
        more = (
            cursors.encode(scope, Position(to_us(page[-1].decided_at), str(page[-1].id)))
            if len(found) > limit
            else None
        )
        return Response(
            msgspec.json.encode({"touches": [_shown(row) for row in page], "next": more}),
            media_type="application/json",
        )

    return app


def _shown(row: Any) -> dict[str, Any]:
    times = {
        name: rfc3339(at) if (at := getattr(row, name)) else None
        for name in ("decided_at", "due_at", "sent_at")
    }
    return {
        "id": str(row.id),
        "lead": str(row.lead_id),
        "announcement": str(row.announcement_id),
        "program": row.program or None,
        "product": row.product,
        "stage": row.stage,
        "content": row.content or None,
        "channel": row.channel or None,
        "status": row.status,
        "reason": row.reason or None,
        "why": row.why or None,
        "propensity": row.propensity,
        "decision_ms": row.decision_ms,
        **times,
    }
