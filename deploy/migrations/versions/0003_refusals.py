"""Consents under every identifier, permissions and refusals apart; touches and leads by address; the
leases of ingest.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

UP = """
ALTER TABLE nurture.consent RENAME COLUMN address TO identifier;
ALTER TABLE nurture.consent ADD COLUMN general boolean NOT NULL DEFAULT false;
ALTER TABLE nurture.consent DROP CONSTRAINT consent_pkey;
ALTER TABLE nurture.consent ADD PRIMARY KEY (identifier, channel, purpose, refused, general);
ALTER TABLE nurture.touch ADD COLUMN address text NOT NULL DEFAULT '';
CREATE INDEX touch_address ON nurture.touch (address) WHERE address <> '';
CREATE TABLE nurture.address_lead (
    address text NOT NULL,
    lead_id uuid NOT NULL,
    PRIMARY KEY (address, lead_id)
);
CREATE INDEX address_lead_lead ON nurture.address_lead (lead_id);
CREATE TABLE access.ingest_lease (
    instance text PRIMARY KEY,
    spooled boolean NOT NULL,
    revision bigint NOT NULL,
    renewed_at timestamptz NOT NULL
);
UPDATE scorer.lead_state SET fold_hash = ''
"""
DOWN = """
DROP TABLE access.ingest_lease;
DROP TABLE nurture.address_lead;
ALTER TABLE nurture.touch DROP COLUMN address;
DELETE FROM nurture.consent c WHERE general OR EXISTS (
    SELECT 1 FROM nurture.consent d WHERE d.identifier = c.identifier AND d.channel = c.channel
    AND d.purpose = c.purpose AND NOT d.general
    AND (d.said_at, d.refused) > (c.said_at, c.refused));
ALTER TABLE nurture.consent DROP CONSTRAINT consent_pkey;
ALTER TABLE nurture.consent DROP COLUMN general;
ALTER TABLE nurture.consent RENAME COLUMN identifier TO address;
ALTER TABLE nurture.consent ADD PRIMARY KEY (address, channel, purpose)
"""


def upgrade() -> None:
    """Adds them; leads are folded again, for their profiles keep refusals apart."""
    for statement in UP.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    """Takes them out."""
    for statement in DOWN.split(";\n"):
        op.execute(statement)
