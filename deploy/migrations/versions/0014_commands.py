"""What would have come of events that were marked as a test."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Adds the table."""
    op.execute(
        """CREATE TABLE scorer.trial (
            address text PRIMARY KEY,
            lead_id uuid NOT NULL,
            stage text NOT NULL,
            events integer NOT NULL,
            at timestamptz NOT NULL DEFAULT clock_timestamp()
        )"""
    )


def downgrade() -> None:
    """Takes it out."""
    op.execute("DROP TABLE scorer.trial")
