"""Learned models and which of them is in use, and what the nightly check found."""

from alembic import op

revision = "0021"
down_revision = "0019"

SCRIPT = """
CREATE TABLE scorer.model (
    version text PRIMARY KEY,
    body text NOT NULL,
    learned_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE scorer.model_use (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    why text NOT NULL DEFAULT ''
);
COMMENT ON TABLE scorer.model_use IS 'the last row is in use; an empty version is the playbook''s own';
CREATE TABLE scorer.model_check (
    day date PRIMARY KEY,
    version text NOT NULL,
    checked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    body text NOT NULL
)
"""


def upgrade() -> None:
    """Adds the tables."""
    for statement in SCRIPT.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    """Takes them out."""
    for table in ("model_check", "model_use", "model"):
        op.execute(f"DROP TABLE scorer.{table}")
