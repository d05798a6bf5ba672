"""How callers name a lead, and what names nobody (D6, U3)."""

import uuid

import pytest

from services.scorer.queries.lookup import (
    ExternalIdBody,
    LookupBody,
    identifier_of,
    lead_reference,
)
from services.shared.contracts.identity import Cleaner, Identifier, Kind
from services.shared.errors import Reject
from services.shared.playbook.sections import Playbook


@pytest.fixture
def cleaner(default_playbook: Playbook) -> Cleaner:
    return Cleaner(default_playbook.identity)


@pytest.mark.parametrize(
    "body",
    [
        LookupBody(user_id="a\0b"),
        LookupBody(anonymous_id="\0"),
        LookupBody(external_id=ExternalIdBody(system="crm", id="7\0")),
        LookupBody(external_id=ExternalIdBody(system="a\0", id="7")),
    ],
)
def test_a_nul_in_any_part_identifies_nobody(cleaner: Cleaner, body: LookupBody) -> None:
    """No database keeps it, so none is asked."""
    with pytest.raises(Reject, match="identifies nobody") as refused:
        identifier_of(cleaner, body)
    assert refused.value.kind == "not-found"


def test_a_path_names_a_lead_by_its_id_or_by_another_systems(cleaner: Cleaner) -> None:
    own = uuid.uuid4()
    assert lead_reference(cleaner, str(own)) == own
    named = Identifier(Kind.EXTERNAL, "701", "hubspot")
    assert lead_reference(cleaner, "HubSpot:701") == named
    with pytest.raises(Reject, match="identifies nobody"):
        lead_reference(cleaner, "a\0:b")
