"""Keys, and the schemas of scorer and nurture."""

from alembic import op

revision = "0001"
down_revision = None

QUEUE = """
CREATE TABLE {schema}.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    key text NOT NULL,
    value bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE {schema}.dead_letter (
    topic text NOT NULL,
    partition int NOT NULL,
    "offset" bigint NOT NULL,
    key bytea,
    value bytea,
    reason text NOT NULL,
    buried_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, partition, "offset")
);
CREATE TABLE {schema}.progress (
    topic text NOT NULL,
    partition int NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);
"""

ACCESS = """
CREATE SCHEMA access;
CREATE TABLE access.api_key (
    id text PRIMARY KEY,
    name text NOT NULL,
    scope text NOT NULL CHECK (scope IN ('secret', 'public', 'query')),
    hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
"""

SCORER = """
CREATE SCHEMA scorer;
CREATE TABLE scorer.lead (
    id uuid PRIMARY KEY,
    merged_into uuid,
    version bigint NOT NULL DEFAULT 0,
    profile bytea NOT NULL,
    provisional boolean NOT NULL DEFAULT false,
    excluded text NOT NULL DEFAULT '',
    engaged_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 70);
CREATE INDEX lead_merged_into ON scorer.lead (merged_into) WHERE merged_into IS NOT NULL;
CREATE TABLE scorer.identifier (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind smallint NOT NULL,
    value text NOT NULL,
    lead_id uuid,
    home uuid,
    UNIQUE (kind, value)
);
CREATE INDEX identifier_lead ON scorer.identifier (lead_id);
CREATE TABLE scorer.link (
    weak bigint NOT NULL,
    strong bigint NOT NULL,
    PRIMARY KEY (weak, strong)
);
CREATE INDEX link_strong ON scorer.link (strong);
CREATE TABLE scorer.verdict (
    low bigint NOT NULL,
    high bigint NOT NULL,
    said_at bigint NOT NULL,
    uid uuid PRIMARY KEY,
    same boolean NOT NULL
);
CREATE INDEX verdict_low ON scorer.verdict (low);
CREATE INDEX verdict_high ON scorer.verdict (high);
CREATE TABLE scorer.event (
    uid uuid PRIMARY KEY,
    lead_id uuid NOT NULL,
    anchor bigint NOT NULL,
    weaker bigint[] NOT NULL,
    occurred_at bigint NOT NULL,
    received_at timestamptz NOT NULL,
    source text NOT NULL,
    digest bytea NOT NULL,
    conflict boolean NOT NULL DEFAULT false,
    flags text NOT NULL DEFAULT '',
    body text NOT NULL
);
CREATE INDEX event_lead ON scorer.event (lead_id, occurred_at, uid);
COMMENT ON COLUMN scorer.event.occurred_at IS 'microseconds since 1970';
CREATE TABLE scorer.lead_state (
    lead_id uuid NOT NULL,
    product text NOT NULL,
    fold_hash text NOT NULL,
    record bytea NOT NULL,
    pending bytea NOT NULL,
    last_at bigint NOT NULL,
    last_uid text NOT NULL,
    stage text NOT NULL,
    likelihood float8,
    fit float8 NOT NULL,
    engagement float8 NOT NULL,
    qualified boolean NOT NULL,
    listed boolean NOT NULL,
    last_event_at bigint NOT NULL,
    as_of bigint NOT NULL,
    next_review_at bigint,
    announced_stage text NOT NULL DEFAULT 'unknown',
    announced_seq int NOT NULL DEFAULT 0,
    announced_at timestamptz,
    PRIMARY KEY (lead_id, product)
) WITH (fillfactor = 70);
CREATE INDEX lead_state_likelihood ON scorer.lead_state (product, (coalesce(likelihood, -1)), lead_id) WHERE listed;
CREATE INDEX lead_state_review ON scorer.lead_state (next_review_at) WHERE next_review_at IS NOT NULL;
CREATE TABLE scorer.announcement (
    id uuid PRIMARY KEY,
    lead_id uuid NOT NULL,
    product text NOT NULL,
    seq int NOT NULL,
    from_stage text NOT NULL,
    stage text NOT NULL,
    cause text NOT NULL,
    cause_at timestamptz NOT NULL,
    cause_event text NOT NULL DEFAULT '',
    likelihood float8,
    fold_hash text NOT NULL,
    announced_at timestamptz NOT NULL,
    UNIQUE (lead_id, product, seq)
);
CREATE INDEX announcement_recent ON scorer.announcement (announced_at DESC);
CREATE TABLE scorer.touch (
    id uuid PRIMARY KEY,
    lead_id uuid NOT NULL,
    status text NOT NULL,
    reason text NOT NULL DEFAULT '',
    content text NOT NULL DEFAULT '',
    at timestamptz NOT NULL,
    body text NOT NULL
);
CREATE INDEX touch_lead ON scorer.touch (lead_id, at);
CREATE INDEX touch_recent ON scorer.touch (at DESC);
"""

NURTURE = """
CREATE SCHEMA nurture;
CREATE TABLE nurture.lead (
    lead_id uuid NOT NULL,
    product text NOT NULL,
    version bigint NOT NULL,
    snapshot bytea NOT NULL,
    PRIMARY KEY (lead_id, product)
);
CREATE TABLE nurture.merged (
    lead_id uuid PRIMARY KEY,
    into_lead uuid NOT NULL
);
CREATE TABLE nurture.seen (
    lead_id uuid NOT NULL,
    content text NOT NULL,
    PRIMARY KEY (lead_id, content)
);
CREATE TABLE nurture.consent (
    address text NOT NULL,
    channel text NOT NULL,
    purpose text NOT NULL,
    refused boolean NOT NULL,
    basis text NOT NULL DEFAULT '',
    said_at timestamptz NOT NULL,
    PRIMARY KEY (address, channel, purpose)
);
CREATE TABLE nurture.touch (
    id uuid PRIMARY KEY,
    announcement_id uuid NOT NULL,
    program text NOT NULL,
    lead_id uuid NOT NULL,
    product text NOT NULL,
    stage text NOT NULL,
    content text NOT NULL DEFAULT '',
    channel text NOT NULL DEFAULT '',
    status text NOT NULL CHECK (status IN ('due', 'sending', 'sent', 'unknown', 'failed', 'withheld')),
    reason text NOT NULL DEFAULT '',
    why text NOT NULL DEFAULT '',
    propensity float8,
    decided_at timestamptz NOT NULL,
    decision_ms float8,
    due_at timestamptz,
    sending_since timestamptz,
    sent_at timestamptz,
    attempts int NOT NULL DEFAULT 0,
    UNIQUE (announcement_id, program)
);
CREATE INDEX touch_lead ON nurture.touch (lead_id, decided_at);
CREATE INDEX touch_due ON nurture.touch (due_at) WHERE status = 'due';
CREATE INDEX touch_sending ON nurture.touch (sending_since) WHERE status = 'sending';
CREATE INDEX touch_listed ON nurture.touch (decided_at, id);
CREATE TABLE nurture.override (
    lead_id uuid PRIMARY KEY,
    stage text NOT NULL DEFAULT '',
    paused boolean NOT NULL DEFAULT false,
    until timestamptz NOT NULL,
    CHECK (paused OR stage <> '')
);
CREATE TABLE nurture.brake (
    held boolean PRIMARY KEY CHECK (held),
    since timestamptz NOT NULL DEFAULT now()
);
"""


def upgrade() -> None:
    """Creates everything."""
    for script in (
        ACCESS,
        SCORER,
        QUEUE.format(schema="scorer"),
        NURTURE,
        QUEUE.format(schema="nurture"),
    ):
        for statement in filter(str.strip, script.split(";\n")):
            op.execute(statement)


def downgrade() -> None:
    """Drops everything."""
    op.execute("DROP SCHEMA nurture, scorer, access CASCADE")
