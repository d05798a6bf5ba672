"""When visitors whom several people share were seen with whom, by time."""

from alembic import op

revision = "0027"
down_revision = "0024"


def upgrade() -> None:
    """Adds the table; it is filled where a visitor's events are divided next."""
    op.execute(
        """CREATE TABLE scorer.timed_link (
            weak bigint NOT NULL,
            at bigint NOT NULL,
            uid uuid NOT NULL,
            strong bigint NOT NULL,
            PRIMARY KEY (weak, at, uid)
        )"""
    )
    op.execute(
        "COMMENT ON TABLE scorer.timed_link IS 'events that link an anonymous id whose own events "
        "are divided by time: all of each such id, or none'"
    )


def downgrade() -> None:
    """Takes it out."""
    op.execute("DROP TABLE scorer.timed_link")
