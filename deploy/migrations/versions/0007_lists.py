"""Lists in every order and filter by index alone; leads that cannot be folded, set aside."""

from alembic import op

revision = "0007"
down_revision = "0006"

# Filters of a list are keys of its index behind the place in its order, so that a scan tests them
# without a look at the table.
SCRIPT = """
DROP INDEX scorer.lead_state_likelihood;
CREATE INDEX lead_state_likelihood ON scorer.lead_state (product, stage, (coalesce(likelihood, -1)), lead_id, engagement, fit) WHERE listed AND last_event_at > -2305843009213693952;
CREATE INDEX lead_state_engagement ON scorer.lead_state (product, stage, engagement, lead_id, (coalesce(likelihood, -1)), fit) WHERE listed AND last_event_at > -2305843009213693952;
CREATE INDEX lead_state_fit ON scorer.lead_state (product, stage, fit, lead_id, (coalesce(likelihood, -1)), engagement) WHERE listed AND last_event_at > -2305843009213693952;
CREATE INDEX lead_state_last_event ON scorer.lead_state (product, stage, last_event_at, lead_id, (coalesce(likelihood, -1)), engagement, fit) WHERE listed AND last_event_at > -2305843009213693952;
DROP INDEX scorer.touch_recent;
CREATE INDEX touch_recent ON scorer.touch (at, id);
CREATE INDEX touch_sent ON scorer.touch (at, id) WHERE status IN ('sent', 'unknown');
CREATE INDEX touch_status ON nurture.touch (status, decided_at, id);
CREATE TABLE scorer.failing_lead (
    lead_id uuid PRIMARY KEY,
    place text NOT NULL,
    reason text NOT NULL,
    attempts int NOT NULL DEFAULT 0,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_at timestamptz NOT NULL,
    waiting_since timestamptz
);
COMMENT ON COLUMN scorer.failing_lead.waiting_since IS 'received_at of the first event not folded';
CREATE INDEX failing_lead_next ON scorer.failing_lead (next_at)
"""


def upgrade() -> None:
    """Adds them."""
    for statement in SCRIPT.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    """Takes them out."""
    op.execute("DROP TABLE scorer.failing_lead")
    op.execute("DROP INDEX nurture.touch_status, scorer.touch_sent, scorer.touch_recent")
    op.execute("CREATE INDEX touch_recent ON scorer.touch (at DESC)")
    op.execute(
        "DROP INDEX scorer.lead_state_likelihood, scorer.lead_state_engagement, "
        "scorer.lead_state_fit, scorer.lead_state_last_event"
    )
    op.execute(
        "CREATE INDEX lead_state_likelihood ON scorer.lead_state "
        "(product, (coalesce(likelihood, -1)), lead_id) WHERE listed"
    )
