"""The kill switch where all services read it, what holds up sending, and the words and the short
names of visitors by which people find a lead.
"""

from alembic import op

revision = "0015"
down_revision = "0014"

UP = """
CREATE TABLE access.brake (
    held boolean PRIMARY KEY DEFAULT true CHECK (held),
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    set_by text NOT NULL DEFAULT ''
);
INSERT INTO access.brake (held, since) SELECT held, since FROM nurture.brake;
DROP TABLE nurture.brake;
CREATE TABLE access.sending (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seen_at timestamptz NOT NULL,
    waits_for text NOT NULL DEFAULT '',
    waits_since timestamptz
);
ALTER TABLE scorer.lead ADD COLUMN search text;
CREATE INDEX lead_search ON scorer.lead USING gin (array_to_tsvector(string_to_array(search, ' '))) WITH (gin_pending_list_limit = 512) WHERE search IS NOT NULL AND merged_into IS NULL;
CREATE FUNCTION scorer.visitor_code(id text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN left(encode(sha256(convert_to(id, 'UTF8')), 'hex'), 6);
CREATE INDEX identifier_visitor ON scorer.identifier (scorer.visitor_code(value)) WHERE kind = 3;
UPDATE scorer.lead_state SET next_review_at = 0 WHERE listed
"""
DOWN = """
DROP INDEX scorer.identifier_visitor;
DROP FUNCTION scorer.visitor_code;
ALTER TABLE scorer.lead DROP COLUMN search;
DROP TABLE access.sending;
CREATE TABLE nurture.brake (
    held boolean PRIMARY KEY CHECK (held),
    since timestamptz NOT NULL DEFAULT now()
);
INSERT INTO nurture.brake (held, since) SELECT held, since FROM access.brake;
DROP TABLE access.brake
"""


def upgrade() -> None:
    """Adds them. Every lead is reviewed once, which writes the words by which it is found."""
    for statement in UP.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    """Takes them out."""
    for statement in DOWN.split(";\n"):
        op.execute(statement)
