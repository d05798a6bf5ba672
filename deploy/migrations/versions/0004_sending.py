"""Pauses and asserted stages apart; what a touch was decided on; channels that are stopped; when
what is known of a lead is published.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

UP = """
CREATE TABLE nurture.pause (
    lead_id uuid PRIMARY KEY,
    until timestamptz NOT NULL
);
CREATE TABLE nurture.asserted_stage (
    lead_id uuid PRIMARY KEY,
    stage text NOT NULL,
    until timestamptz NOT NULL
);
INSERT INTO nurture.pause SELECT lead_id, until FROM nurture.override WHERE paused;
INSERT INTO nurture.asserted_stage
    SELECT lead_id, stage, until FROM nurture.override WHERE stage <> '';
DROP TABLE nurture.override;
ALTER TABLE nurture.touch ADD COLUMN cause_at timestamptz;
ALTER TABLE nurture.touch ADD COLUMN imported text NOT NULL DEFAULT '';
ALTER TABLE nurture.touch ADD COLUMN requested boolean;
CREATE TABLE access.channel_stop (
    channel text PRIMARY KEY,
    why text NOT NULL,
    since timestamptz NOT NULL,
    retry_at timestamptz NOT NULL,
    attempts int NOT NULL
);
ALTER TABLE scorer.lead ADD COLUMN publish_at bigint;
UPDATE scorer.lead SET publish_at = 0 WHERE merged_into IS NULL;
CREATE INDEX lead_publish ON scorer.lead (publish_at) WHERE publish_at IS NOT NULL
"""
DOWN = """
DROP INDEX scorer.lead_publish;
ALTER TABLE scorer.lead DROP COLUMN publish_at;
DROP TABLE access.channel_stop;
ALTER TABLE nurture.touch DROP COLUMN cause_at, DROP COLUMN imported, DROP COLUMN requested;
CREATE TABLE nurture.override (
    lead_id uuid PRIMARY KEY,
    stage text NOT NULL DEFAULT '',
    paused boolean NOT NULL DEFAULT false,
    until timestamptz NOT NULL,
    CHECK (paused OR stage <> '')
);
INSERT INTO nurture.override
    SELECT lead_id, coalesce(stage, ''), p.until IS NOT NULL, greatest(p.until, s.until)
    FROM nurture.pause p FULL JOIN nurture.asserted_stage s USING (lead_id);
DROP TABLE nurture.pause, nurture.asserted_stage
"""


def upgrade() -> None:
    """Adds them. All that is known of leads is published anew: their identifiers are."""
    for statement in UP.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    """Takes them out."""
    for statement in DOWN.split(";\n"):
        op.execute(statement)
