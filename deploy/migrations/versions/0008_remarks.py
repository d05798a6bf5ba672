"""What each source sent that was accepted otherwise than as it was written."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds the table."""
    op.execute(
        """CREATE TABLE access.source_remark (
            source text NOT NULL,
            kind text NOT NULL,
            field text NOT NULL,
            text text NOT NULL,
            nearest text NOT NULL DEFAULT '',
            seen bigint NOT NULL,
            first_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            last_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            PRIMARY KEY (source, kind, field, text)
        )"""
    )


def downgrade() -> None:
    """Takes it out."""
    op.execute("DROP TABLE access.source_remark")
