"""What reports read: each touch with what came of it, outcomes and requests by type, each lead's
draw for the hold-out, and how much is asked of the API.
"""

from alembic import op

revision = "0025"
down_revision = "0027"

UP = """
CREATE TABLE scorer.touch_result (
    id uuid PRIMARY KEY,
    lead_id uuid NOT NULL,
    announcement_id uuid,
    product text NOT NULL,
    program text NOT NULL,
    stage text NOT NULL,
    content text NOT NULL,
    channel text NOT NULL,
    reason text NOT NULL,
    requested boolean NOT NULL,
    decided_at timestamptz NOT NULL,
    sent_at timestamptz,
    delivered_at timestamptz,
    bounced_at timestamptz,
    clicked_at timestamptz,
    replied_at timestamptz,
    moved_at timestamptz,
    left_at timestamptz
);
COMMENT ON COLUMN scorer.touch_result.moved_at IS 'the first step forward within 14 days after it was sent';
CREATE INDEX touch_result_lead ON scorer.touch_result (lead_id, sent_at);
CREATE TABLE scorer.entry (
    lead_id uuid PRIMARY KEY,
    entered_at timestamptz NOT NULL,
    announcement_id uuid
);
COMMENT ON TABLE scorer.entry IS 'when a program could first have touched a lead, whichever its arm';
CREATE TABLE scorer.touch_answer (
    touch_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('delivered', 'bounced', 'clicked', 'replied', 'left')),
    machine boolean NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (touch_id, kind, machine, at)
);
CREATE TABLE scorer.milestone (
    uid uuid PRIMARY KEY,
    type text NOT NULL
);
CREATE INDEX milestone_type ON scorer.milestone (type);
CREATE TABLE scorer.query_use (
    day date NOT NULL,
    key_id text NOT NULL,
    queries bigint NOT NULL,
    PRIMARY KEY (day, key_id)
);
ALTER TABLE scorer.announcement ADD COLUMN previous_at timestamptz;
UPDATE scorer.announcement a SET previous_at = p.announced_at FROM scorer.announcement p
    WHERE p.lead_id = a.lead_id AND p.product = a.product AND p.seq = a.seq - 1;
ALTER TABLE scorer.lead ADD COLUMN account bigint NOT NULL DEFAULT 0;
ALTER TABLE scorer.lead ADD COLUMN draw float8;
CREATE INDEX lead_draw ON scorer.lead (draw, account) WHERE merged_into IS NULL AND NOT provisional AND excluded = '';
COMMENT ON COLUMN scorer.lead.draw IS 'of its account, 0 to 1: below the hold-out''s share no program touches it';
INSERT INTO scorer.milestone (uid, type)
    SELECT uid, body::json ->> 'type' FROM scorer.event WHERE body::json ->> 'type' = ANY(ARRAY[{types}]);
INSERT INTO scorer.touch_answer (touch_id, kind, machine, at)
    SELECT DISTINCT CAST(body::json ->> 'touch_id' AS uuid), {kind},
        coalesce(CAST(body::json ->> 'machine' AS boolean), false),
        to_timestamp(0) + occurred_at * interval '1 microsecond'
    FROM scorer.event WHERE body LIKE '%"touch_id":%' AND {kind} IS NOT NULL
    AND body::json ->> 'touch_id' ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$';
INSERT INTO scorer.touch_result
    SELECT t.id, t.lead_id, CAST(nullif(t.body::json ->> 'announcement', '') AS uuid),
        coalesce(t.body::json ->> 'product', 'default'), coalesce(t.body::json ->> 'program', ''),
        coalesce(t.body::json ->> 'stage', ''), coalesce(t.body::json ->> 'content', ''),
        coalesce(t.body::json ->> 'channel', ''), t.reason,
        coalesce(CAST(t.body::json ->> 'requested' AS boolean), false),
        coalesce(CAST(t.body::json ->> 'decided_at' AS timestamptz), t.at),
        CAST(t.body::json ->> 'sent_at' AS timestamptz),
        min(a.at) FILTER (WHERE a.kind = 'delivered'), min(a.at) FILTER (WHERE a.kind = 'bounced'),
        min(a.at) FILTER (WHERE a.kind = 'clicked' AND NOT a.machine AND NOT EXISTS (
            SELECT 1 FROM scorer.touch_answer m WHERE m.touch_id = a.touch_id
            AND m.kind = 'clicked' AND m.machine
            AND m.at BETWEEN a.at - interval '10 seconds' AND a.at + interval '10 seconds')),
        min(a.at) FILTER (WHERE a.kind = 'replied'),
        NULL, min(a.at) FILTER (WHERE a.kind = 'left')
    FROM scorer.touch t LEFT JOIN scorer.touch_answer a ON a.touch_id = t.id GROUP BY t.id;
UPDATE scorer.touch_result r SET moved_at = m.at FROM (
    SELECT s.id, min(n.cause_at) AS at FROM scorer.touch_result s
    JOIN scorer.lead l ON l.id = s.lead_id OR l.merged_into = s.lead_id
    JOIN scorer.announcement n ON n.lead_id = l.id AND n.product = s.product
        AND n.cause IN ('event', 'late_evidence') AND n.cause_at > s.sent_at
        AND n.cause_at < s.sent_at + interval '14 days'
        AND array_position({stages}, n.stage) > array_position({stages}, n.from_stage)
    GROUP BY s.id) m WHERE m.id = r.id;
INSERT INTO scorer.entry SELECT DISTINCT ON (lead_id) lead_id, decided_at, announcement_id
    FROM scorer.touch_result WHERE NOT requested
    AND reason NOT IN ('excluded', 'history', 'unknown_stage') ORDER BY lead_id, decided_at, id;
UPDATE scorer.lead_state SET next_review_at = 0 WHERE listed
"""
TYPES = (
    "demo_requested", "enquired", "trial_started", "form_submitted", "webinar_registered",
    "webinar_attended", "event_attended", "survey_answered", "email_replied", "not_now",
    "unsubscribed", "email_complained", "call_held", "meeting_held", "sales_accepted",
    "sales_rejected", "sales_disqualified", "opportunity_opened", "won", "lost", "refunded",
    "churned", "purchased",
)  # fmt: skip
KIND = """CASE body::json ->> 'type' WHEN 'email_delivered' THEN 'delivered'
    WHEN 'email_bounced' THEN 'bounced' WHEN 'email_clicked' THEN 'clicked'
    WHEN 'email_replied' THEN 'replied' WHEN 'unsubscribed' THEN 'left'
    WHEN 'email_complained' THEN 'left' WHEN 'consent_withdrawn' THEN 'left' END"""
STAGES = "ARRAY['status_quo', 'awareness', 'consideration', 'decision', 'customer']"


def upgrade() -> None:
    """Adds them, filled with what is known; steps forward are those between the default stages.
    Every lead is reviewed once, which writes its draw.
    """
    types = ", ".join(f"'{name}'" for name in TYPES)
    for statement in UP.format(types=types, kind=KIND, stages=STAGES).split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    """Takes them out."""
    op.execute("ALTER TABLE scorer.announcement DROP COLUMN previous_at")
    op.execute("ALTER TABLE scorer.lead DROP COLUMN account, DROP COLUMN draw")
    for table in ("query_use", "milestone", "touch_answer", "entry", "touch_result"):
        op.execute(f"DROP TABLE scorer.{table}")
