"""When visitors whom several people share were seen with whom, by time; profiles of the parts of
long histories.
"""

from alembic import op

revision = "0027"
down_revision = "0024"


def upgrade() -> None:
    """Adds the tables; they are filled where a visitor's events are divided next, and with the next
    events of a long lead.
    """
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
    op.execute(
        """CREATE TABLE scorer.profile_part (
            lead_id uuid NOT NULL,
            at bigint NOT NULL,
            uid uuid NOT NULL,
            events int NOT NULL,
            profile bytea NOT NULL,
            PRIMARY KEY (lead_id, at, uid)
        )"""
    )
    op.execute(
        "COMMENT ON TABLE scorer.profile_part IS 'of a long lead, the profile of so many events "
        "after the part before it, up to the one of this time and id'"
    )


def downgrade() -> None:
    """Takes them out."""
    op.execute("DROP TABLE scorer.profile_part")
    op.execute("DROP TABLE scorer.timed_link")
