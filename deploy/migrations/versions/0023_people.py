"""People who sign in, their sessions and links, and the audit log, which nothing rewrites."""

from alembic import op

revision = "0023"
down_revision = "0022"

UP = """
CREATE TABLE access.person (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    mail text NOT NULL UNIQUE,
    role text NOT NULL CHECK (role IN ('marketing', 'sales', 'admin')),
    password text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    signed_in_at timestamptz,
    disabled_at timestamptz
);
CREATE TABLE access.session (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    person_id uuid NOT NULL REFERENCES access.person,
    way text NOT NULL CHECK (way IN ('link', 'password')),
    client text NOT NULL DEFAULT '',
    began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ends_at timestamptz NOT NULL
);
CREATE INDEX session_person ON access.session (person_id, ends_at);
CREATE TABLE access.sign_in_link (
    hash bytea PRIMARY KEY,
    person_id uuid NOT NULL REFERENCES access.person,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX sign_in_link_person ON access.sign_in_link (person_id);
CREATE TABLE access.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor_kind text NOT NULL,
    actor_id text NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    details jsonb NOT NULL
);
CREATE INDEX audit_action ON access.audit (action, id);
CREATE INDEX audit_actor ON access.audit (actor);
CREATE INDEX audit_actor_id ON access.audit (actor_id);
CREATE INDEX audit_subject ON access.audit (subject text_pattern_ops);
CREATE INDEX audit_at ON access.audit (at);
CREATE FUNCTION access.refuse_rewriting() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'access.audit takes new lines only' USING ERRCODE = 'restrict_violation'; END $$;
CREATE TRIGGER appended_only BEFORE UPDATE OR DELETE OR TRUNCATE ON access.audit
    FOR EACH STATEMENT EXECUTE FUNCTION access.refuse_rewriting();
ALTER TABLE access.audit ENABLE ALWAYS TRIGGER appended_only
"""
DOWN = """
DROP TABLE access.audit, access.sign_in_link, access.session, access.person;
DROP FUNCTION access.refuse_rewriting
"""


def upgrade() -> None:
    """Adds them."""
    for statement in UP.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    """Takes them out."""
    for statement in DOWN.split(";\n"):
        op.execute(statement)
