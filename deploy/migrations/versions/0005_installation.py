"""Which secrets an installation's data were made with."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """One row: a keyed fingerprint of the pepper."""
    op.execute(
        "CREATE TABLE access.installation (only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row), "
        "pepper_fingerprint bytea NOT NULL)"
    )
