"""What people decide about planned touches: held, sent now, skipped."""

from alembic import op

revision = "0024"
down_revision = "0023"

UP = """
ALTER TABLE nurture.touch ADD COLUMN held_at timestamptz, ADD COLUMN urged_at timestamptz,
    ADD COLUMN arm text NOT NULL DEFAULT '';
CREATE INDEX touch_held ON nurture.touch (lead_id) WHERE status = 'due' AND held_at IS NOT NULL;
CREATE INDEX touch_skipped ON nurture.touch (due_at, id) WHERE reason = 'skipped';
CREATE INDEX touch_without_program ON nurture.touch (lead_id)
    WHERE program = '' AND reason = 'nothing_suitable';
ALTER TABLE nurture.enrolment ADD COLUMN next_touch uuid;
CREATE INDEX enrolment_next_touch ON nurture.enrolment (next_touch) WHERE next_touch IS NOT NULL;
UPDATE nurture.enrolment SET playbook = '' WHERE state IN ('active', 'left');
CREATE TABLE nurture.planned_act (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    touch_id uuid NOT NULL,
    action text NOT NULL CHECK (action IN ('hold', 'release', 'send-now', 'skip')),
    by text NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX planned_act_touch ON nurture.planned_act (touch_id);
CREATE TABLE access.untracked (touch_id uuid PRIMARY KEY);
COMMENT ON TABLE access.untracked IS 'touches of people who refused to be measured since'
"""
DOWN = """
DROP TABLE access.untracked;
DROP TABLE nurture.planned_act;
DROP INDEX nurture.touch_skipped, nurture.touch_without_program;
ALTER TABLE nurture.enrolment DROP COLUMN next_touch;
ALTER TABLE nurture.touch DROP COLUMN held_at, DROP COLUMN urged_at, DROP COLUMN arm
"""


def upgrade() -> None:
    """Adds them. What comes next for people in programs is decided again, so that the touch has its
    id before it is one.
    """
    for statement in UP.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    """Takes them out."""
    for statement in DOWN.split(";\n"):
        op.execute(statement)
