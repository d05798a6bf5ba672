"""Sales status, company and changes as filters of lists; what the scorer has published, and the last
refusal, so that none is overtaken by what it does not know yet.
"""

from alembic import op

revision = "0013"
down_revision = "0008"

SCRIPT = """
CREATE TABLE access.published (
    service text NOT NULL,
    topic text NOT NULL,
    topic_id uuid NOT NULL,
    partition int NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (service, topic, topic_id, partition)
);
CREATE TABLE nurture.last_refusal (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    mark uuid NOT NULL
)
"""


def upgrade() -> None:
    """Adds them."""
    for statement in SCRIPT.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    """Takes them out."""
    op.execute("DROP TABLE nurture.last_refusal")
    op.execute("DROP TABLE access.published")
