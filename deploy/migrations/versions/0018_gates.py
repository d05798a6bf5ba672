"""Companies with which sales works; how much each receiver takes, and what it says of our mails."""

from alembic import op

revision = "0018"
down_revision = "0017"

UP = """
ALTER TABLE nurture.lead ADD COLUMN account text NOT NULL DEFAULT '';
ALTER TABLE nurture.lead ADD COLUMN with_sales boolean NOT NULL DEFAULT false;
CREATE INDEX lead_with_sales ON nurture.lead (account) WHERE with_sales;
UPDATE scorer.lead SET publish_at = 0 WHERE merged_into IS NULL
"""
DOWN = """
ALTER TABLE nurture.lead DROP COLUMN account, DROP COLUMN with_sales
"""


def upgrade() -> None:
    """Adds them. All that is known of leads is published anew: their companies are kept then."""
    for statement in UP.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    """Takes them out."""
    for statement in DOWN.split(";\n"):
        op.execute(statement)
