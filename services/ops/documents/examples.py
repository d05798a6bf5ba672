"""An example of each message of the topics, encoded as the services encode them."""

from datetime import UTC, datetime
from typing import Literal

from services.shared.contracts.events import (
    Change,
    ChangeEvent,
    Consent,
    ConsentChanged,
    ConsentEvent,
    ConsentState,
    HandedOver,
    HandoffEvent,
    HandoffStep,
    Interaction,
    LeadRequest,
    Snapshot,
    Touch,
    TouchEvent,
    derived,
    encode,
    envelope,
    event_uid,
    keyed_hash,
)

AT = datetime(2026, 3, 2, 10, 15, tzinfo=UTC)
RECEIVED = datetime(2026, 3, 2, 10, 15, 1, tzinfo=UTC)
POSTED = RECEIVED.timestamp()
SOURCE, EVENT, EMAIL = "events:default", "e-1042", "ada@acme.example"
ADDRESS = keyed_hash(b"an example's pepper", f"email:{EMAIL}")
LEAD = derived("an example's lead")
ANNOUNCEMENT = derived(LEAD, "default", 2)

_, INTERACTION = envelope(
    Interaction(
        id=EVENT,
        type="content_downloaded",
        email=EMAIL,
        content_id="guide-roadmap",
        consent=(Consent(state="given", basis="form", text="Send me articles by e-mail."),),
        traits={"first_name": "Ada", "title": "Maintenance manager"},
    ),
    source=SOURCE,
    occurred_at=AT,
    received_at=RECEIVED,
    posted_at=POSTED,
)
CONSENT = encode(
    ConsentEvent(
        id=derived(event_uid(SOURCE, EVENT), "email", "marketing", "given"),
        time=AT,
        data=ConsentChanged(
            address=ADDRESS,
            channel="email",
            purpose="marketing",
            state="given",
            at=AT,
            basis="form",
        ),
    )
)
_SNAPSHOT = Snapshot(
    stage="consideration",
    belief={"awareness": 0.31, "consideration": 0.58, "decision": 0.11},
    likelihood=0.042,
    fit=62.0,
    qualified=True,
    email=EMAIL,
    traits={"first_name": "Ada", "title": "Maintenance manager"},
    consents={"email:marketing": ConsentState("given", AT, "form")},
    last_act_at=AT,
)


def _change(type_: str, change: Change) -> bytes:
    name = derived(type_, change.lead, change.version)
    return encode(ChangeEvent(id=name, type=type_, time=RECEIVED, data=change, postedat=POSTED))


def _touch(
    type_: str, status: Literal["due", "sent", "failed"], reason: str = "", outcome: str = ""
) -> bytes:
    left = status == "sent"
    touch = Touch(
        id=derived(ANNOUNCEMENT, "education"),
        lead=LEAD,
        announcement=ANNOUNCEMENT,
        program="education",
        stage="consideration",
        content="whitepaper-four-kinds",
        channel="call" if outcome else "email",
        status=status,
        outcome=outcome,
        reason=reason,
        propensity=0.4,
        decided_at=RECEIVED,
        due_at=RECEIVED,
        sent_at=RECEIVED if left else None,
        recipient=EMAIL if left else "",
    )
    name = derived(touch.id, type_, outcome or status)
    return encode(TouchEvent(id=name, type=type_, time=RECEIVED, data=touch, postedat=POSTED))


_HANDOFF = HandoffStep(
    id=derived("an example's hand-off"),
    what="opened",
    kind="ready",
    status="open",
    at=RECEIVED,
    owner="ana@millwarden.example",
    why_owner="it is Ana's turn",
    reasons=("qualified, and in the stage consideration", "looked at prices", "fit B, 62 of 100"),
    opened_at=RECEIVED,
    respond_by=datetime(2026, 3, 4, 10, 15, 1, tzinfo=UTC),
    expires_at=datetime(2026, 3, 11, 10, 15, 1, tzinfo=UTC),
)
BY_TYPE: dict[str, bytes] = {
    "lead.handoff_changed.v1": _change(
        "lead.handoff_changed.v1",
        Change(lead=LEAD, version=8, stage="consideration", snapshot=_SNAPSHOT, handoff=_HANDOFF),
    ),
    "handoff.changed.v1": encode(
        HandoffEvent(
            id=derived("an example's step"),
            time=RECEIVED,
            data=HandedOver(lead=LEAD, handoff=_HANDOFF),
        )
    ),
    "interaction.v1": INTERACTION,
    "consent_changed.v1": CONSENT,
    "lead.stage_changed.v1": _change(
        "lead.stage_changed.v1",
        Change(
            lead=LEAD,
            version=7,
            seq=2,
            from_stage="awareness",
            stage="consideration",
            cause="event",
            cause_at=AT,
            cause_event=EVENT,
            announced_at=RECEIVED,
            snapshot=_SNAPSHOT,
        ),
    ),
    "lead.engaged.v1": _change(
        "lead.engaged.v1",
        Change(
            lead=LEAD,
            version=7,
            stage="consideration",
            snapshot=_SNAPSHOT,
            content=("guide-roadmap",),
            requests=(
                LeadRequest(event_uid(SOURCE, EVENT), "content_downloaded", AT, "guide-roadmap"),
            ),
        ),
    ),
    "lead.qualified.v1": _change(
        "lead.qualified.v1",
        Change(lead=LEAD, version=5, stage="awareness", snapshot=_SNAPSHOT),
    ),
    "lead.sales_changed.v1": _change(
        "lead.sales_changed.v1",
        Change(lead=LEAD, version=9, stage="consideration", snapshot=_SNAPSHOT),
    ),
    "lead.merged.v1": _change(
        "lead.merged.v1",
        Change(
            lead=LEAD,
            version=8,
            stage="consideration",
            snapshot=_SNAPSHOT,
            merged=(derived("an example's anonymous lead"),),
        ),
    ),
    "touch.decided.v1": _touch("touch.decided.v1", "due"),
    "touch.sent.v1": _touch("touch.sent.v1", "sent"),
    "touch.answered.v1": _touch("touch.answered.v1", "sent", outcome="reached"),
    "touch.exported.v1": _touch("touch.exported.v1", "sent"),
    "touch.failed.v1": _touch("touch.failed.v1", "failed", "refused"),
}
