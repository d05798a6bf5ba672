"""Progress and dead letters belong to one incarnation of a topic; gaps; what cannot be sent."""

from alembic import op

revision = "0006"
down_revision = "0005"

# Progress of an unknown incarnation says only what is no gap: what the broker still has is read
# again, once.
SCRIPT = """
ALTER TABLE {schema}.progress
    ADD COLUMN topic_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    ADD COLUMN log_end bigint NOT NULL DEFAULT 0,
    ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY,
    DROP CONSTRAINT progress_pkey,
    ADD PRIMARY KEY (topic, topic_id, partition);
ALTER TABLE {schema}.progress ALTER COLUMN topic_id DROP DEFAULT;
ALTER TABLE {schema}.dead_letter
    ADD COLUMN topic_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';
ALTER TABLE {schema}.dead_letter
    ALTER COLUMN topic_id DROP DEFAULT,
    DROP CONSTRAINT dead_letter_pkey,
    ADD PRIMARY KEY (topic, topic_id, partition, "offset");
CREATE TABLE {schema}.gap (
    topic text NOT NULL,
    topic_id uuid NOT NULL,
    partition int NOT NULL,
    first bigint NOT NULL,
    log_end bigint NOT NULL,
    why text NOT NULL CHECK (why IN ('deleted', 'recreated', 'truncated')),
    noticed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    accepted_at timestamptz,
    PRIMARY KEY (topic, topic_id, partition, first, why)
);
CREATE TABLE {schema}.unsendable (
    id bigint PRIMARY KEY,
    topic text NOT NULL,
    key text NOT NULL,
    value bytea NOT NULL,
    created_at timestamptz NOT NULL,
    reason text NOT NULL,
    set_aside_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""


def upgrade() -> None:
    """Adds them, to both schemas."""
    for schema in ("scorer", "nurture"):
        for statement in SCRIPT.format(schema=schema).split(";\n"):
            op.execute(statement)


def downgrade() -> None:
    """Takes them out; all is read again."""
    for schema in ("scorer", "nurture"):
        op.execute(f"DROP TABLE {schema}.gap, {schema}.unsendable")
        op.execute(f"DELETE FROM {schema}.progress")
        op.execute(f"DELETE FROM {schema}.dead_letter")
        op.execute(
            f"ALTER TABLE {schema}.progress DROP COLUMN topic_id, DROP COLUMN log_end, "
            "DROP COLUMN number, ADD PRIMARY KEY (topic, partition)"
        )
        op.execute(
            f"ALTER TABLE {schema}.dead_letter DROP COLUMN topic_id, "
            'ADD PRIMARY KEY (topic, partition, "offset")'
        )
