"""Calls that a person is asked to make, and what came of them."""

from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Adds the table."""
    op.execute(
        """CREATE TABLE nurture.call_task (
            touch_id uuid PRIMARY KEY,
            recipient text NOT NULL,
            phone text NOT NULL,
            assignee text NOT NULL,
            reasons text[] NOT NULL,
            opening text NOT NULL,
            created_at timestamptz NOT NULL,
            due_at timestamptz NOT NULL,
            expires_at timestamptz NOT NULL,
            outcome text NOT NULL DEFAULT '',
            note text NOT NULL DEFAULT '',
            answered_at timestamptz
        )"""
    )
    op.execute("CREATE INDEX call_open ON nurture.call_task (expires_at) WHERE outcome = ''")
    op.execute("CREATE INDEX call_created ON nurture.call_task (created_at, touch_id)")


def downgrade() -> None:
    """Takes it out."""
    op.execute("DROP TABLE nurture.call_task")
