"""Sales status, company and changes as filters of lists; what the scorer has published, and the last
refusal, so that none is overtaken by what it does not know yet.
"""

from alembic import op

revision = "0013"
down_revision = "0008"

# Filters of a list are keys of each order's index; those that few leads pass have one of their own.
LISTED = "WHERE listed AND last_event_at > -2305843009213693952"
ORDERS = {
    "likelihood": "(coalesce(likelihood, -1)), lead_id, engagement, fit",
    "engagement": "engagement, lead_id, (coalesce(likelihood, -1)), fit",
    "fit": "fit, lead_id, (coalesce(likelihood, -1)), engagement",
    "last_event": "last_event_at, lead_id, (coalesce(likelihood, -1)), engagement, fit",
}
SCRIPT = """
ALTER TABLE scorer.lead_state
    ADD COLUMN sales_rank smallint NOT NULL DEFAULT 0,
    ADD COLUMN company_key bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN scorer.lead_state.sales_rank IS 'of what sales reported last of the product';
CREATE INDEX lead_state_company ON scorer.lead_state (product, company_key, stage) {listed};
CREATE INDEX lead_state_updated ON scorer.lead_state (product, stage, as_of, sales_rank) {listed};
CREATE INDEX lead_state_sales ON scorer.lead_state (product, stage, sales_rank) {listed}
    AND sales_rank > 0;
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


def _index_orders(more: str) -> None:
    for name, keys in ORDERS.items():
        op.execute(f"DROP INDEX scorer.lead_state_{name}")
        op.execute(
            f"CREATE INDEX lead_state_{name} ON scorer.lead_state "
            f"(product, stage, {keys}{more}) {LISTED}"
        )


def upgrade() -> None:
    """Adds them."""
    for statement in SCRIPT.format(listed=LISTED).split(";\n"):
        op.execute(statement)
    _index_orders(", sales_rank, as_of, company_key")


def downgrade() -> None:
    """Takes them out."""
    op.execute("DROP TABLE nurture.last_refusal")
    op.execute("DROP TABLE access.published")
    _index_orders("")
    op.execute("ALTER TABLE scorer.lead_state DROP COLUMN sales_rank, DROP COLUMN company_key")
