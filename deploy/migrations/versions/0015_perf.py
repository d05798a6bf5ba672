"""When anonymous ids that several people share were seen with whom, by time."""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Adds the table; it is filled where an id's events are divided next."""
    op.execute(
        """CREATE TABLE scorer.timed_link (
            weak bigint NOT NULL,
            at bigint NOT NULL,
            uid uuid NOT NULL,
            PRIMARY KEY (weak, at, uid)
        )"""
    )
    op.execute(
        "COMMENT ON TABLE scorer.timed_link IS 'links of anonymous ids whose events are divided'"
    )


def downgrade() -> None:
    """Takes it out."""
    op.execute("DROP TABLE scorer.timed_link")
