"""Senders who sign: their secrets, when each source last spoke, tokens used once; keys with
origins; mailboxes; writing back.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

SCRIPT = """
ALTER TABLE access.api_key ADD COLUMN origins text[];
ALTER TABLE access.api_key ADD COLUMN last_used_at timestamptz;
CREATE TABLE access.sender_secret (
    id text PRIMARY KEY,
    source text NOT NULL,
    name text NOT NULL,
    sealed bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
CREATE TABLE access.source (
    name text PRIMARY KEY,
    about jsonb NOT NULL,
    served boolean NOT NULL DEFAULT true,
    first_heard_at timestamptz,
    last_heard_at timestamptz,
    accepted bigint NOT NULL DEFAULT 0,
    refused bigint NOT NULL DEFAULT 0,
    last_refusal text NOT NULL DEFAULT ''
);
CREATE TABLE access.used_token (
    source text NOT NULL,
    token bytea NOT NULL,
    body bytea NOT NULL,
    used_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (source, token)
);
CREATE INDEX used_token_age ON access.used_token (used_at);
CREATE TABLE access.mailbox (
    name text PRIMARY KEY,
    validity bigint NOT NULL,
    next_uid bigint NOT NULL
);
CREATE TABLE nurture.undated_word (id uuid PRIMARY KEY);
CREATE TABLE scorer.writeback (
    lead_id uuid PRIMARY KEY,
    due_at timestamptz,
    attempts int NOT NULL DEFAULT 0,
    sequence bigint NOT NULL DEFAULT 1,
    told bytea,
    problem text NOT NULL DEFAULT ''
);
CREATE INDEX writeback_due ON scorer.writeback (due_at) WHERE due_at IS NOT NULL
"""


def upgrade() -> None:
    """Adds them."""
    for statement in SCRIPT.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    """Takes them out."""
    op.execute(
        "DROP TABLE scorer.writeback, access.mailbox, access.used_token, access.source, "
        "access.sender_secret"
    )
    op.execute("DROP TABLE nurture.undated_word")
    op.execute("ALTER TABLE access.api_key DROP COLUMN origins, DROP COLUMN last_used_at")
