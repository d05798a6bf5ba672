"""HubSpot: the signature over method, public address, body and time; contacts' changes as what they
mean.
"""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.sources.contract import InboundRequest, Item, Parsed, Refused, Secret, Source
from services.ingest.sources.hubspot import source
from services.ingest.sources.reading.signatures import new_text
from services.shared.contracts.events import Consent, ExternalId
from services.shared.errors import Reject

NOW = datetime(2026, 1, 2, 3, 5, tzinfo=UTC)
MS = int(NOW.timestamp() * 1000)
GOLDEN = (Path(__file__).parents[2] / "data" / "senders" / "hubspot.json").read_bytes()
ADDRESS = "https://leads.firm.example/v1/hooks/hubspot"
SECRETS = [Secret("default", "client-secret")]
HUBSPOT = source()


def post(body: bytes, address: str = ADDRESS, **headers: str) -> InboundRequest:
    return InboundRequest(
        "/v1/hooks/hubspot", body, NOW, "application/json", headers, address=address
    )


def signed(
    body: bytes, *, signed_address: str = ADDRESS, stamp: int = MS, address: str = ADDRESS
) -> InboundRequest:
    text = b"POST" + signed_address.encode() + body + str(stamp).encode()
    signature = base64.b64encode(hmac.new(b"client-secret", text, hashlib.sha256).digest()).decode()
    return post(
        body,
        address,
        **{"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": str(stamp)},
    )


def verified(given: InboundRequest) -> str:
    assert HUBSPOT.verify
    return HUBSPOT.verify(given, SECRETS).name


def read(*events: dict[str, Any], by: Source = HUBSPOT) -> list[Item | Refused]:
    return by.parse(post(msgspec.json.encode(events)))


def changed(name: str, value: Any, **more: Any) -> dict[str, Any]:
    fields = {
        "subscriptionType": "contact.propertyChange",
        "occurredAt": MS,
        "objectId": 123,
        "portalId": 33,
    }
    return fields | {"propertyName": name, "propertyValue": value} | more


def only(event: dict[str, Any]) -> Item:
    [item] = read(event)
    assert isinstance(item, Item), item
    return item


def test_a_request_tells_of_contacts_what_they_mean_here() -> None:
    """D6, I6: the object's id is an external id, its address links it, sales' stages are outcomes;
    deals name nobody.
    """
    items = [item for item in HUBSPOT.parse(post(GOLDEN)) if isinstance(item, Item)]
    assert [(item.type, item.external_id and item.external_id.id) for item in items] == [
        ("crm_contact_created", "123"), ("identified", "123"), ("identified", "123"),
        ("opportunity_opened", "123"),
        ("sales_disqualified", "123"), ("unsubscribed", "123"), ("crm_contacts_merged", "130"),
        ("crm_contact_deleted", "126"),
        ("consent_withdrawn", "127"),
    ]  # fmt: skip
    assert {item.external_id.system for item in items if item.external_id} == {"hubspot"}
    assert items[1].email == "zoe@plant.example"
    assert items[2].traits == {"title": "Plant manager"}
    assert items[3].traits == {"lifecyclestage": "opportunity"}
    assert items[4].properties == {"reason": "bad_timing"}
    assert items[5].consent == (Consent(state="withdrawn", basis="hs_email_optout"),)
    assert items[6].properties == {"merged": ["124", "125"]}
    assert items[8].consent == (Consent(state="withdrawn", basis="privacy deletion in HubSpot"),)
    assert items[0].occurred_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert len({item.id for item in items}) == len(items)


@pytest.mark.parametrize(
    ("name", "value", "type_", "properties"),
    [
        ("lifecyclestage", "salesqualifiedlead", "sales_accepted", {}),
        ("lifecyclestage", "customer", "won", {}),
        ("lifecyclestage", "lead", "identified", {}),
        ("hs_lead_status", "IN_PROGRESS", "sales_accepted", {}),
        ("hs_lead_status", "OPEN_DEAL", "opportunity_opened", {}),
        ("hs_lead_status", "UNQUALIFIED", "sales_disqualified", {"reason": "other"}),
        ("hs_lead_status", "NEW", "identified", {}),
        ("hs_email_optout_4711", "true", "unsubscribed", {}),
        ("hs_email_optout", "false", "identified", {}),
    ],
)
def test_stages_of_sales_are_outcomes_and_every_change_is_a_trait(
    name: str, value: str, type_: str, properties: dict[str, Any]
) -> None:
    """I6."""
    item = only(changed(name, value))
    assert (item.type, item.properties, item.traits) == (type_, properties, {name: value})


def test_names_are_translated_and_an_emptied_property_erases_the_trait() -> None:
    assert only(changed("numberofemployees", "120")).traits == {"company_size": "120"}
    assert only(changed("industry", "")).traits == {"industry": None}
    assert only(changed("company", "Plant Ltd")).company == "Plant Ltd"
    assert read(changed("email", ""), changed("company", None)) == []


def test_a_change_is_the_same_whichever_subscription_or_attempt_tells_it() -> None:
    """HubSpot's eventId is not unique, and it repeats for a day."""
    first = only(changed("industry", "Food", eventId=1, subscriptionId=2, attemptNumber=0))
    again = only(changed("industry", "Food", eventId=1, subscriptionId=2, attemptNumber=3))
    general = {
        "subscriptionType": "object.propertyChange",
        "objectTypeId": "0-1",
        "eventId": 9,
        "subscriptionId": 4,
    }
    assert first == again == only(changed("industry", "Food") | general)
    others = [
        changed("industry", "Steel"),
        changed("industry", "Food", objectId=124),
        changed("industry", "Food", portalId=34),
    ]
    assert first.id not in {only(other).id for other in others}
    assert first.id != only(changed("industry", "Food", occurredAt=MS + 1)).id


def test_what_we_wrote_ourselves_does_not_come_back_as_news() -> None:
    """The loop: our fields, by name, whoever changed them."""
    ours = source(frozenset({"ripeline_stage", "ripeline_score"}))
    events = [
        changed("ripeline_stage", "decision"),
        changed("industry", "Food"),
        changed("ripeline_score", "80"),
    ]
    [item] = read(*events, by=ours)
    assert isinstance(item, Item)
    assert item.traits == {"industry": "Food"}
    assert len(read(*events)) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"subscriptionType": "deal.creation"}, {"subscriptionType": "company.propertyChange"},
        {"subscriptionType": "contact.associationChange"}, {"subscriptionType": "contact.restore"},
        {"subscriptionType": "object.creation", "objectTypeId": "0-3"},
        {"subscriptionType": "something"},
    ],
)  # fmt: skip
def test_what_names_no_person_is_left_out(fields: dict[str, Any]) -> None:
    assert read({"occurredAt": MS, "objectId": 1, **fields}) == []


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"objectId": 1, "subscriptionType": "contact.creation"}, "/occurredAt"),
        (
            {"objectId": 1, "subscriptionType": "contact.creation", "occurredAt": "now"},
            "/occurredAt",
        ),
        (
            {"objectId": 1, "subscriptionType": "contact.creation", "occurredAt": 10**18},
            "/occurredAt",
        ),
        (
            {"objectId": 1, "subscriptionType": "contact.propertyChange", "occurredAt": MS},
            "/propertyName",
        ),
    ],
)
def test_a_broken_event_is_refused_and_harms_no_other(fields: dict[str, Any], where: str) -> None:
    broken, sound = read(fields, changed("industry", "Food"))
    assert isinstance(broken, Refused)
    assert broken.reject.where == where
    assert broken.reject.remedy
    assert isinstance(sound, Item)


def test_external_ids_may_be_texts() -> None:
    assert only(changed("industry", "Food", objectId="abc")).external_id == ExternalId(
        "hubspot", "abc"
    )


def test_a_signed_request_fits_behind_a_proxy() -> None:
    """What counts is the public address, with its query, as HubSpot knows it."""
    assert verified(signed(GOLDEN)) == "default"
    with_query = f"{ADDRESS}?region=eu"
    assert verified(signed(GOLDEN, signed_address=with_query, address=with_query)) == "default"
    for wrong in ("http://10.0.0.5:8080/v1/hooks/hubspot", ADDRESS + "/", with_query):
        with pytest.raises(Reject, match="does not fit"):
            verified(signed(GOLDEN, address=wrong))


def test_the_escapes_that_hubspot_does_not_sign_are_decoded_and_no_other() -> None:
    given = f"{ADDRESS}?a=%3a%2F%3F%40%21%24%27%28%29%2A%2C%3b&b=%20%26%3D%25&c=+"
    fields = f"{ADDRESS}?a=:/?@!$'()*,;&b=%20%26%3D%25&c=+"
    assert verified(signed(GOLDEN, signed_address=fields, address=given)) == "default"


@pytest.mark.parametrize("change", [b"10", b" ", b""])
def test_a_changed_byte_or_the_same_json_written_anew_does_not_fit(change: bytes) -> None:
    body = GOLDEN.replace(b"100", change, 1) if change else json.dumps(json.loads(GOLDEN)).encode()
    good = signed(GOLDEN)
    with pytest.raises(Reject, match="does not fit"):
        verified(good._replace(body=body))


@pytest.mark.parametrize("away", [-301_000, 301_000])
def test_a_request_of_other_minutes_is_refused(away: int) -> None:
    with pytest.raises(Reject) as stale:
        verified(signed(GOLDEN, stamp=MS + away))
    assert stale.value.kind == "stale"
    assert verified(signed(GOLDEN, stamp=MS + away // 301_000 * 299_000)) == "default"


def test_a_time_that_was_not_signed_does_not_fit() -> None:
    good = signed(GOLDEN)
    with pytest.raises(Reject, match="does not fit"):
        verified(
            good._replace(headers={**good.headers, "x-hubspot-request-timestamp": str(MS + 1)})
        )
    with pytest.raises(Reject):
        verified(good._replace(headers={}))


def test_a_sample_fits_and_is_a_lead() -> None:
    assert HUBSPOT.sample
    assert HUBSPOT.sign
    signer, _ = new_text()
    made = HUBSPOT.sign(HUBSPOT.sample("ann@x.example", NOW), signer, ADDRESS, NOW)
    given = post(made.body, **{name.lower(): value for name, value in made.headers.items()})
    assert HUBSPOT.verify
    assert HUBSPOT.verify(given, [Secret("default", signer)]).name == "default"
    items = [item for item in HUBSPOT.parse(given) if isinstance(item, Item)]
    assert [item.type for item in items] == [
        "crm_contact_created",
        "identified",
        "opportunity_opened",
    ]
    assert items[1].email == "ann@x.example"
    assert len({item.external_id for item in items}) == 1


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)
EVENTS = st.lists(st.fixed_dictionaries(
    {"subscriptionType": st.sampled_from([f"contact.{one}" for one in ("creation",
    "propertyChange", "merge")])},
    optional={"occurredAt": st.integers() | JSON, "objectId": JSON,
    "propertyName": st.text() | st.sampled_from(["email"]),
              "propertyValue": JSON, "mergedObjectIds": JSON},
), min_size=1)  # fmt: skip


@given(st.binary() | (JSON | EVENTS).map(msgspec.json.encode))
def test_whatever_comes_ends_in_items_or_a_refusal(body: bytes) -> None:
    try:
        found = HUBSPOT.parse(post(body))
    except Reject:
        return
    assert all(isinstance(one, Parsed) for one in found)
