"""Hand-offs to sales: each with its clock and answer, its history, what is to be told of it, and the
leads that are to be examined.
"""

from alembic import op

revision = "0022"
down_revision = "0021"

SCRIPT = """
CREATE TABLE scorer.handoff (
    id uuid PRIMARY KEY,
    lead_id uuid NOT NULL,
    product text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('raised_hand', 'ready', 'reawakened')),
    status text NOT NULL CHECK (status IN ('next', 'open', 'accepted', 'rejected', 'disqualified',
        'returned', 'expired', 'superseded', 'withdrawn')),
    owner text NOT NULL DEFAULT '',
    why_owner text NOT NULL DEFAULT '',
    opener uuid NOT NULL,
    opener_at timestamptz NOT NULL,
    reasons text[] NOT NULL DEFAULT '{{}}',
    said text NOT NULL DEFAULT '',
    stage text NOT NULL DEFAULT '',
    likelihood float8,
    detected_at timestamptz NOT NULL,
    opened_at timestamptz,
    routed_at timestamptz,
    told_at timestamptz,
    respond_by timestamptz,
    remind_at timestamptz,
    reminded_at timestamptz,
    expires_at timestamptz,
    responded_at timestamptz,
    owners_tried text[] NOT NULL DEFAULT '{{}}',
    missed int NOT NULL DEFAULT 0,
    answer text NOT NULL DEFAULT '',
    answered_at timestamptz,
    answered_by text NOT NULL DEFAULT '',
    answer_event uuid,
    before_answer text NOT NULL DEFAULT '',
    undo_until timestamptz,
    reason text NOT NULL DEFAULT '',
    until date,
    again_on date,
    meeting_on date,
    note text NOT NULL DEFAULT '',
    converted_to text NOT NULL DEFAULT '',
    converted_at timestamptz,
    superseded_by uuid,
    next_at timestamptz,
    steps int NOT NULL DEFAULT 0,
    unpublished int NOT NULL DEFAULT 0
);
COMMENT ON COLUMN scorer.handoff.opener IS 'the event for which it was opened: it goes with that event''s lead';
COMMENT ON COLUMN scorer.handoff.next_at IS 'when its clock is looked at again; null where nothing is to come';
COMMENT ON COLUMN scorer.handoff.unpublished IS 'how many of its last steps are to go out with the next examination';
CREATE INDEX handoff_lead ON scorer.handoff (lead_id);
CREATE INDEX handoff_opener ON scorer.handoff (opener);
CREATE INDEX handoff_list ON scorer.handoff (coalesce(opened_at, detected_at), id);
CREATE INDEX handoff_status ON scorer.handoff (status, coalesce(opened_at, detected_at), id);
CREATE INDEX handoff_owner ON scorer.handoff (owner, coalesce(opened_at, detected_at), id);
CREATE INDEX handoff_opened ON scorer.handoff (opened_at) WHERE opened_at IS NOT NULL;
CREATE INDEX handoff_next ON scorer.handoff (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX handoff_meeting ON scorer.handoff (meeting_on) WHERE meeting_on IS NOT NULL;
CREATE INDEX handoff_waiting ON scorer.handoff (status) WHERE status = 'next';
CREATE TABLE scorer.handoff_step (
    handoff_id uuid NOT NULL,
    step int NOT NULL,
    at timestamptz NOT NULL,
    what text NOT NULL,
    by text NOT NULL DEFAULT '',
    reason text NOT NULL DEFAULT '',
    until date,
    note text NOT NULL DEFAULT '',
    PRIMARY KEY (handoff_id, step)
);
COMMENT ON TABLE scorer.handoff_step IS 'all that happened to a hand-off; nothing rewrites it';
CREATE INDEX handoff_step_at ON scorer.handoff_step (at);
CREATE TABLE scorer.handoff_due (
    lead_id uuid PRIMARY KEY,
    due_at timestamptz NOT NULL
);
CREATE INDEX handoff_due_at ON scorer.handoff_due (due_at);
CREATE TABLE scorer.handoff_notice (
    id uuid PRIMARY KEY,
    handoff_id uuid NOT NULL,
    what text NOT NULL,
    channel text NOT NULL CHECK (channel IN ('mail', 'webhook')),
    recipient text NOT NULL DEFAULT '',
    body text NOT NULL,
    due_at timestamptz DEFAULT clock_timestamp(),
    attempts int NOT NULL DEFAULT 0,
    sent_at timestamptz,
    problem text NOT NULL DEFAULT ''
);
CREATE INDEX handoff_notice_due ON scorer.handoff_notice (due_at) WHERE due_at IS NOT NULL;
ALTER TABLE scorer.lead ADD COLUMN handoff text NOT NULL DEFAULT ''
"""


def upgrade() -> None:
    """Adds the tables."""
    for statement in SCRIPT.format().split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    """Takes them out."""
    op.execute("ALTER TABLE scorer.lead DROP COLUMN handoff")
    for table in ("handoff_notice", "handoff_due", "handoff_step", "handoff"):
        op.execute(f"DROP TABLE scorer.{table}")
