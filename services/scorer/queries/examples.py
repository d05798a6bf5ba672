"""One example of each answer, for the OpenAPI document."""

from services.scorer.queries.responses import (
    ConsentResponse,
    FitResponse,
    IdentifiersResponse,
    LeadResponse,
    LeadsResponse,
    LedgerResponse,
    LineResponse,
    PendingReportResponse,
)
from services.scorer.queries.summary_response import (
    AlikeResponse,
    FragilityResponse,
    GroundResponse,
    LeadInFullResponse,
    SummaryResponse,
)
from services.scorer.queries.timeline import (
    AnnouncementItem,
    EventItem,
    TimelineResponse,
    TouchItem,
)
from services.shared.contracts.events import ExternalId

LEAD_ID = "6c1c1f3e-0000-4000-8000-000000000001"
TOUCH_ID = "0f3d1b52-0000-4000-8000-000000000002"
ANNOUNCEMENT_ID = "b2a6c0de-0000-4000-8000-000000000003"
AT, CURSOR = "2026-11-02T09:30:00Z", "q83vEjRWeJCrze8SWzAuMjMsIjZjMWMiXQ"

LEAD = LeadResponse(
    id=LEAD_ID,
    identifiers=IdentifiersResponse(
        user_id=[],
        email=["ann@firm.example"],
        anonymous_id=["0b9f6c2e"],
        external_id=[ExternalId("hubspot", "701")],
    ),
    traits={"name": "Ann Day", "title": "Plant manager"},
    product="default",
    stage="decision",
    stage_since="2026-11-01T08:00:00Z",
    belief={"status_quo": 0.02, "awareness": 0.05, "consideration": 0.12, "decision": 0.81},
    confidence=0.81,
    likelihood=0.234,
    calibrated=False,
    fit=FitResponse(62.5, "B"),
    engagement=31.2,
    qualified=True,
    sales_status="accepted",
    sales_reason=None,
    consent=[
        ConsentResponse(
            address="ann@firm.example",
            channel="email",
            purpose="marketing",
            state="given",
            basis="form",
            at="2026-11-01T08:00:00Z",
            text="Yes, write to me about pumps.",
            overruled=None,
        )
    ],
    source="google",
    campaign="autumn",
    left_out=[],
    events_counted=7,
    last_event_at=AT,
    next_review_at="2026-11-09T09:30:00Z",
    version=7,
    as_of=AT,
)
GROUND = GroundResponse(
    text="asked for a demo on 2 November",
    why="a step usually taken near a decision",
    at=AT,
    acts=1,
    content=None,
    delta=1.814,
    points=18.7,
)
LEAD_IN_FULL = LeadInFullResponse(
    **{name: getattr(LEAD, name) for name in LEAD.__struct_fields__},
    summary=SummaryResponse(
        sentence="Ann Day asked for a demo on 2 November.",
        grounds_for=[GROUND],
        ground_against=None,
        best_before="2026-11-20",
        best_before_threshold=0.1,
        best_before_why="silence alone takes it below 0.1 by 20 November",
        fragility=FragilityResponse(0.061, "form-77", "asked for a demo", AT),
        fragility_why="",
        alike=AlikeResponse(180, 23, 0.2, 0.25, "180 leads like this one, 23 became opportunities"),
        alike_why="",
    ),
)
LEADS = LeadsResponse([LEAD], [], CURSOR)
LEDGER = LedgerResponse(
    likelihood=0.234,
    start=-3.0,
    lines=[
        LineResponse(
            at=AT,
            kind="event",
            event_id="form-77",
            text="asked for a demo",
            why="a step usually taken near a decision",
            delta=1.814,
            points=18.7,
            content_id=None,
            touch_id=None,
        )
    ],
    sum=-1.186,
    as_of=AT,
    product="default",
    model="3f1c0a9be2d4",
    note="",
    unweighed=0,
)
TIMELINE = TimelineResponse(
    [
        EventItem(
            at=AT,
            id="form-77",
            type="demo_requested",
            read_as="demo",
            source="canonical:crm",
            content_id=None,
            url="https://www.firm.example/demo",
            touch_id=None,
            machine=False,
            conflict=False,
            flags=None,
        ),
        AnnouncementItem(
            at="2026-11-02T09:30:01Z",
            id=ANNOUNCEMENT_ID,
            from_stage="consideration",
            stage="decision",
            cause="event",
            cause_at=AT,
            cause_event="1f0e9d8c7b6a5f4e3d2c1b0a99887766",
            seq=3,
            product="default",
            likelihood=0.234,
        ),
        TouchItem(
            at="2026-11-02T10:00:00Z",
            id=TOUCH_ID,
            lead=LEAD_ID,
            announcement=ANNOUNCEMENT_ID,
            program="main",
            stage="decision",
            content="case-study-bottling",
            channel="email",
            status="withheld",
            reason="holdout",
        ),
    ],
    None,
)
PENDING = PendingReportResponse("deal-77-won", applied=False)
