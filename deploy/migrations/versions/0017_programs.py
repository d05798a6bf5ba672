"""People in programs; what a lead has done, and what came of a touch."""

from alembic import op

revision = "0017"
down_revision = "0015"

UP = """
CREATE TABLE nurture.enrolment (
    lead_id uuid NOT NULL,
    program text NOT NULL,
    product text NOT NULL,
    state text NOT NULL CHECK (state IN ('active', 'left', 'completed', 'ended')),
    place int NOT NULL,
    last_touch uuid,
    next_at timestamptz,
    reason text NOT NULL DEFAULT '',
    why text NOT NULL DEFAULT '',
    entered_at timestamptz NOT NULL,
    left_at timestamptz,
    playbook text NOT NULL DEFAULT '',
    PRIMARY KEY (lead_id, program)
);
CREATE INDEX enrolment_next ON nurture.enrolment (next_at) WHERE next_at IS NOT NULL;
ALTER TABLE nurture.touch ADD COLUMN follows boolean NOT NULL DEFAULT false;
ALTER TABLE nurture.touch ADD COLUMN persona text NOT NULL DEFAULT '';
ALTER TABLE nurture.touch ADD COLUMN answered_at timestamptz;
ALTER TABLE nurture.touch ADD COLUMN progressed_at timestamptz;
ALTER TABLE nurture.touch ADD COLUMN refused_at timestamptz;
ALTER TABLE nurture.seen ADD COLUMN done_at timestamptz;
UPDATE nurture.seen s SET done_at = now() WHERE NOT EXISTS (
    SELECT 1 FROM nurture.touch t WHERE t.lead_id = s.lead_id AND t.content = s.content
    AND t.status IN ('sent', 'unknown'));
INSERT INTO nurture.enrolment (lead_id, program, product, state, place, last_touch, next_at, entered_at)
    SELECT DISTINCT ON (lead_id, program) lead_id, program, product, 'active',
        count(*) OVER of_one, id,
        now() + (abs(hashtext(lead_id::text)::bigint) % 1209600) * interval '1 second',
        min(decided_at) OVER of_one
    FROM nurture.touch WHERE program <> '' AND requested IS NOT TRUE
        AND reason NOT IN ('excluded', 'unknown_stage', 'history', 'holdout')
    WINDOW of_one AS (PARTITION BY lead_id, program)
    ORDER BY lead_id, program, decided_at DESC, id DESC
"""
DOWN = """
DELETE FROM nurture.touch WHERE follows AND status = 'due';
DROP TABLE nurture.enrolment;
ALTER TABLE nurture.seen DROP COLUMN done_at;
ALTER TABLE nurture.touch DROP COLUMN follows, DROP COLUMN persona, DROP COLUMN answered_at,
    DROP COLUMN progressed_at, DROP COLUMN refused_at
"""


def upgrade() -> None:
    """Adds them. Who has had a touch of a program is in it; what comes next is decided within two
    weeks, so that not everybody is written to at once.
    """
    for statement in UP.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    """Takes them out."""
    for statement in DOWN.split(";\n"):
        op.execute(statement)
