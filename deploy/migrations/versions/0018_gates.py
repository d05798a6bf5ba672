"""Companies with which sales works; how much each receiver takes, and what it says of our mails."""

from alembic import op

revision = "0018"
down_revision = "0017"

UP = """
ALTER TABLE nurture.lead ADD COLUMN account text NOT NULL DEFAULT '';
ALTER TABLE nurture.lead ADD COLUMN with_sales boolean NOT NULL DEFAULT false;
CREATE INDEX lead_with_sales ON nurture.lead (account) WHERE with_sales;
ALTER TABLE nurture.touch ADD COLUMN receiver text NOT NULL DEFAULT '';
ALTER TABLE nurture.touch ADD COLUMN complained_at timestamptz;
ALTER TABLE nurture.touch ADD COLUMN bounced_at timestamptz;
CREATE INDEX touch_receiver ON nurture.touch (receiver, sent_at) WHERE receiver <> '';
CREATE INDEX touch_mailed ON nurture.touch (sent_at) WHERE receiver <> '';
CREATE INDEX touch_reported ON nurture.touch (receiver)
    WHERE complained_at IS NOT NULL OR bounced_at IS NOT NULL;
CREATE TABLE nurture.sender (
    domain text PRIMARY KEY,
    since timestamptz NOT NULL
);
CREATE TABLE nurture.receiver_refusal (
    receiver text PRIMARY KEY,
    why text NOT NULL,
    until timestamptz NOT NULL
);
CREATE TABLE nurture.receiver_release (
    receiver text PRIMARY KEY,
    at timestamptz NOT NULL
);
CREATE TABLE access.receiver (
    receiver text PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('ok', 'warning', 'stopped')),
    why text NOT NULL,
    sent bigint NOT NULL,
    complained bigint NOT NULL,
    bounced bigint NOT NULL,
    since timestamptz NOT NULL
);
CREATE TABLE access.held (
    channel text NOT NULL,
    program text NOT NULL,
    held bigint NOT NULL,
    PRIMARY KEY (channel, program)
);
UPDATE scorer.lead SET publish_at = 0 WHERE merged_into IS NULL
"""
DOWN = """
DROP TABLE access.held, access.receiver, nurture.receiver_release, nurture.receiver_refusal, nurture.sender;
ALTER TABLE nurture.touch DROP COLUMN receiver, DROP COLUMN complained_at, DROP COLUMN bounced_at;
ALTER TABLE nurture.lead DROP COLUMN account, DROP COLUMN with_sales
"""


def upgrade() -> None:
    """Adds them. All that is known of leads is published anew: their companies are kept then."""
    for statement in UP.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    """Takes them out."""
    for statement in DOWN.split(";\n"):
        op.execute(statement)
