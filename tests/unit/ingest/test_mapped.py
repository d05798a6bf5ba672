"""Mapped senders: every recipe with a request as its sender's documentation has it, and what a
mapping does with odd ones.
"""

import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.registry import served
from services.ingest.sources.contract import (
    InboundRequest,
    Item,
    Parsed,
    Refused,
    Remark,
    Remarked,
    Reply,
    Secret,
    Source,
)
from services.ingest.sources.mapped import MAX_ITEMS, source
from services.ingest.sources.reading.xml import MAX_ELEMENTS
from services.shared.contracts.events import Consent, ExternalId
from services.shared.errors import Reject
from services.shared.playbook.loading import InvalidFile
from services.shared.playbook.sections import Playbook
from services.shared.playbook.senders import Sender, contradictions
from services.shared.settings import ROOT

NOW = datetime(2026, 2, 3, 16, tzinfo=UTC)
DATA = Path(__file__).parents[2] / "data" / "senders"
DOCUMENT = (ROOT / "docs" / "recipes.md").read_text()
GIVEN = {"title": "x", "steps": ["x"], "verify": "key", "sample": {}}


@pytest.fixture(scope="module")
def shipped(default_playbook: Playbook) -> dict[str, Source]:
    """The entries of the default playbook."""
    return {rule.id: source(rule) for rule in default_playbook.senders}


def post(body: bytes | Any, **more: Any) -> InboundRequest:
    encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return InboundRequest(
        "/v1/hooks/x",
        encoded,
        NOW,
        more.pop("media", "application/json"),
        more.pop("headers", {}),
        **more,
    )


def golden(shipped: dict[str, Source], name: str, file: str, **more: Any) -> Item:
    [item] = shipped[name].parse(post((DATA / file).read_bytes(), **more))
    assert isinstance(item, Item), item
    return item


def mapped(
    body: bytes | Any, fields: dict[str, Any], *, request: dict[str, Any] | None = None, **rule: Any
) -> list[Item | Refused]:
    built = source(
        Sender.model_validate(GIVEN | {"id": "x", "fields": {"type": "'x'"} | fields} | rule)
    )
    return built.parse(post(body, **(request or {})))


def one(body: Any, **fields: Any) -> Item:
    [item] = mapped(body, fields)
    assert isinstance(item, Item), item
    return item


# -- recipes --------------------------------------------------------------------------------------


def test_zoom_a_registration(shipped: dict[str, Source]) -> None:
    assert golden(shipped, "zoom", "zoom_registration.json") == Item(
        id="webinar.registration_created/99887766554/U0BBBBBBBBBBfrUz1Q/",
        type="webinar_registered",
        occurred_at=datetime(2026, 1, 2, 3, 4, 5, 123_000, tzinfo=UTC),
        email="zoe@plant.example",
        external_id=ExternalId("zoom", "U0BBBBBBBBBBfrUz1Q"),
        company="Plant Ltd",
        source="webinar",
        campaign="Planning without spreadsheets",
        traits={
            "how_many_machines": "60", "first_name": "Zoë", "last_name": "Miller",
            "title": "Plant manager",
            "phone": "+44 20 7183 8750", "country": "GB", "industry": "Food",
        },
        properties={"form": "99887766554", "topic": "Planning without spreadsheets",
        "starts_at": "2026-02-03T15:00:00Z"},
    )  # fmt: skip


def test_zoom_attendance_joins_the_registration_by_its_id_and_a_stranger_is_left_out(
    shipped: dict[str, Source],
) -> None:
    item = golden(shipped, "zoom", "zoom_joined.json")
    assert (item.type, item.email, item.external_id) == (
        "webinar_attended",
        "",
        ExternalId("zoom", "U0BBBBBBBBBBfrUz1Q"),
    )
    assert item.occurred_at == datetime(2026, 2, 3, 15, 2, 3, tzinfo=UTC)
    body = msgspec.json.decode((DATA / "zoom_joined.json").read_bytes())
    body["payload"]["object"]["participant"]["registrant_id"] = ""
    assert shipped["zoom"].parse(post(body)) == []
    assert (
        shipped["zoom"].parse(post({"event": "webinar.started", "payload": {"object": {}}})) == []
    )


def test_zoom_asks_first_and_is_answered_only_when_it_signed(shipped: dict[str, Source]) -> None:
    """Else anybody could have an event of his own signed here, and send it back."""
    zoom, secrets = shipped["zoom"], [Secret("default", "token")]
    assert zoom.sign
    assert zoom.handshake
    asked = post(
        {
            "event": "endpoint.url_validation",
            "event_ts": 1,
            "payload": {"plainToken": "qgg8vlvZRS6UYooatFL8Aw"},
        }
    )
    signed = zoom.sign(zoom.sample("a@x.example", NOW)._replace(body=asked.body), "token", "", NOW)  # type: ignore[misc]
    reply = zoom.handshake(asked._replace(headers=signed.headers), secrets)
    assert reply is not None
    assert reply.media == "application/json"
    answer = msgspec.json.decode(reply.body)
    expected = hmac.new(b"token", b"qgg8vlvZRS6UYooatFL8Aw", hashlib.sha256).hexdigest()
    assert answer == {"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": expected}
    with pytest.raises(Reject) as unsigned:
        zoom.handshake(asked, secrets)
    assert unsigned.value.kind == "signature"
    event = post((DATA / "zoom_registration.json").read_bytes())
    signed = zoom.sign(zoom.sample("a@x.example", NOW)._replace(body=event.body), "token", "", NOW)  # type: ignore[misc]
    assert zoom.handshake(event._replace(headers=signed.headers), secrets) is None


def test_livestorm_attendance(shipped: dict[str, Source]) -> None:
    item = golden(shipped, "livestorm", "livestorm_attended.json")
    assert (item.type, item.email, item.company, item.source) == (
        "webinar_attended",
        "zoe@plant.example",
        "Plant Ltd",
        "partner",
    )
    assert item.traits == {"first_name": "Zoë", "last_name": "Miller", "title": "Plant manager"}
    assert item.properties["share_attended"] == 87.5
    assert item.occurred_at == datetime(2026, 2, 3, 15, 3, 20, tzinfo=UTC)
    body = msgspec.json.decode((DATA / "livestorm_attended.json").read_bytes())
    body["data"]["attributes"]["role"] = "team_member"
    assert shipped["livestorm"].parse(post(body)) == []


def test_calendly_a_demo_made_and_called_off(shipped: dict[str, Source]) -> None:
    made, off = (
        golden(shipped, "calendly", f"calendly_{what}.json") for what in ("created", "canceled")
    )
    assert (made.type, made.email, made.source, made.campaign) == (
        "demo_requested",
        "zoe@plant.example",
        "newsletter",
        "spring",
    )
    assert made.traits == {
        "company_size": "120", "what_shall_we_talk_about": "Spare parts", "first_name": "Zoë",
        "last_name": "van der Miller",
        "timezone": "Europe/Amsterdam", "phone": "+31 20 123 4567",
    }  # fmt: skip
    assert (off.type, off.properties["reason"]) == ("meeting_canceled", "No time this month")
    assert made.id != off.id


@pytest.mark.parametrize(
    ("changes", "type_"),
    [
        ({"scheduled_event": {"name": "Coffee"}}, "enquired"),
        ({"scheduled_event": None}, "enquired"),
        ({"old_invitee": "https://api.calendly.com/x"}, "meeting_rescheduled"),
    ],
)
def test_calendly_other_appointments(
    shipped: dict[str, Source], changes: dict[str, Any], type_: str
) -> None:
    body = msgspec.json.decode((DATA / "calendly_created.json").read_bytes())
    body["payload"] |= changes
    [item] = shipped["calendly"].parse(post(body))
    assert isinstance(item, Item)
    assert item.type == type_
    body |= {"event": "invitee.canceled"}
    body["payload"]["rescheduled"] = True
    assert shipped["calendly"].parse(post(body)) == []


def test_linkedin_by_an_automation_tool(shipped: dict[str, Source]) -> None:
    """I7, M4: what the lead cost, and the words under which it agreed."""
    item = golden(shipped, "linkedin", "linkedin.json")
    assert (item.type, item.source, item.cost) == ("form_submitted", "linkedin", 41.5)
    assert item.consent == (
        Consent(
            state="given", basis="lead form", text="Millwarden may write to me about maintenance."
        ),
    )
    assert item.traits == {
        "first_name": "Zoë",
        "last_name": "Miller",
        "country": "GB",
        "title": "Plant manager",
    }
    assert item.properties == {"form": "Maintenance checklist"}


def test_linkedins_own_webhook_holds_nobody(shipped: dict[str, Source]) -> None:
    item = golden(shipped, "linkedin", "linkedin_lead_action.json")
    assert (item.email, item.user_id, item.external_id) == ("", "", None)


def test_salesforce_notifications_and_their_acknowledgement(shipped: dict[str, Source]) -> None:
    """D6, I6, N6."""
    salesforce = shipped["salesforce"]
    lead, contact = salesforce.parse(post((DATA / "salesforce.xml").read_bytes(), media="text/xml"))
    assert isinstance(lead, Item)
    assert isinstance(contact, Item)
    assert (lead.id, lead.type, lead.properties) == (
        "04l80000000nrC5BAAU",
        "sales_disqualified",
        {"reason": "other"},
    )
    assert (lead.external_id, lead.company) == (
        ExternalId("salesforce", "00Q8000000ABCDEEA4"),
        "Plant & Sons",
    )
    assert lead.traits == {
        "Status": "Closed - Not Converted", "first_name": "Zoë", "last_name": "Miller",
        "title": "Plant manager",
        "company_size": "120",
    }  # fmt: skip
    assert (contact.type, contact.traits, contact.email) == ("identified", {}, "bo@plant.example")
    assert contact.consent == (Consent(state="withdrawn", basis="HasOptedOutOfEmail"),)
    answer = salesforce.answer([], [])
    assert isinstance(answer, Reply)
    assert answer.media == "text/xml"
    assert b"<Ack>true</Ack>" in answer.body
    assert salesforce.stop_status == 200


def test_zapier_takes_whatever_a_flow_says(shipped: dict[str, Source]) -> None:
    """I8: a badge scanned at a fair."""
    item = golden(shipped, "zapier", "zapier.json")
    assert (item.id, item.type, item.source, item.cost) == ("4711", "event_attended", "fair", 12.5)
    assert item.occurred_at == datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)
    assert item.traits == {"title": "Plant manager", "machines": 60}
    assert item.consent == (Consent(state="given", basis="zapier", text="You may write to me."),)
    [plain] = shipped["zapier"].parse(post({"email": "a@x.example"}))
    assert isinstance(plain, Item)
    assert (plain.id, plain.type, plain.consent) == ("", "form_submitted", ())


def test_standard_webhooks_and_svix(shipped: dict[str, Source]) -> None:
    for name, header in (("standard-webhooks", "webhook-id"), ("svix", "svix-id")):
        item = golden(shipped, name, "standard_webhooks.json", headers={header: "msg_1"})
        assert (item.id, item.type, item.user_id, item.company) == (
            "msg_1",
            "trial_started",
            "u-77",
            "Plant Ltd",
        )
        assert (item.traits, item.properties) == ({"title": "Plant manager"}, {"plan": "team"})


def block(after: str, kind: str) -> str:
    found = re.search(rf"{re.escape(after)}.*?```{kind}\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found
    return found[1]


def test_the_walk_through_of_the_document_works_as_it_stands() -> None:
    [entry] = yaml.safe_load(block("**2. Write the entry**", "yaml"))
    rule = Sender.model_validate(entry)
    assert list(contradictions([rule])) == []
    [item] = source(rule).parse(post(block("**1. Look at what it sends.**", "json").encode()))
    assert item == Item(
        id="b7b2a0f0",
        type="enquired",
        occurred_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        email="zoe@plant.example",
        company="Plant Ltd",
        source="fair",
        consent=(Consent(state="given", basis="badge scan"),),
        traits={"first_name": "Zoë", "last_name": "Miller"},
        properties={"hall": "4"},
    )


def test_the_documents_signatures_are_sound_and_its_first_call_by_get_is_answered() -> None:
    for line in block("### Signatures", "yaml").splitlines():
        verify = yaml.safe_load(line)["verify"]
        rule = Sender.model_validate(
            GIVEN | {"id": "x", "fields": {"type": "'x'"}, "verify": verify}
        )
        assert list(contradictions([rule])) == []
    hello = yaml.safe_load(block("## Senders with a first call by GET", "yaml"))["challenge"]
    given = GIVEN | {
        "id": "x",
        "fields": {"type": "'x'"},
        "verify": {"header": "X-LI-Signature"},
        "challenge": hello,
    }
    handshake = source(Sender.model_validate(given)).handshake
    assert handshake
    asked = post(b"", method="GET", query={"challengeCode": "890e4665-4dfe-4ab1-b689-ed553bceeed0"})
    reply = handshake(asked, [Secret("default", "client")])
    assert reply
    assert len(msgspec.json.decode(reply.body)["challengeResponse"]) == 64
    assert handshake(post(b"", method="GET"), [Secret("default", "client")]) is None
    with pytest.raises(Reject) as nobody:
        handshake(asked, [])
    assert nobody.value.kind == "not-connected"
    forged = asked._replace(query={"challengeCode": 'hmacsha256={"type":"LEAD_ACTION"}'})
    with pytest.raises(Reject, match="plain token"):
        handshake(forged, [Secret("default", "client")])


def test_every_entry_tells_its_steps_and_its_sample_is_a_lead(default_playbook: Playbook) -> None:
    """U4: what `ripeline sources test` does, without the servers."""
    names = {"typeform", "hubspot"} | {rule.id for rule in default_playbook.senders}
    found = [one_ for one_ in served(default_playbook) if one_.name in names]
    assert len(found) == len(names)
    for one_ in found:
        assert one_.setup
        assert one_.sample
        made, known = one_.sample("ann@x.example", NOW), []
        address = f"https://leads.firm.example{one_.paths[0]}"
        if one_.sign and one_.new_secret:
            signer, verifier = one_.new_secret()
            made, known = one_.sign(made, signer, address, NOW), [Secret("default", verifier)]
        headers = {name.lower(): value for name, value in made.headers.items()}
        sent = InboundRequest(
            one_.paths[0], made.body, NOW, made.media, headers, made.query, "POST", address
        )
        if one_.verify:
            assert one_.verify(sent, known).name == "default", one_.name
        items = [item for item in one_.parse(sent) if isinstance(item, Item)]
        assert any(item.email == "ann@x.example" for item in items), one_.name
        assert all(
            item.occurred_at is None or abs(item.occurred_at - NOW) < timedelta(minutes=1)
            for item in items
        ), one_.name
        assert one_.setup.title
        assert any("{address}" in step for step in one_.setup.steps), one_.name
        assert any("ripeline " in step for step in one_.setup.steps), one_.name


# -- mapping --------------------------------------------------------------------------------------


def test_what_finds_nothing_leaves_its_field_out() -> None:
    """A sender that is silent about a trait does not take it back."""
    item = one(
        {"a": None, "b": "", "n": 0},
        email="a",
        user_id="missing && 'x'",
        traits={"a": "a", "b": "b", "n": "n"},
        cost="a",
    )
    assert item == Item(type="x", traits={"n": 0})
    whole = one(
        {"a": {"x": 1, "y": None, "z": 2}, "z": None},
        traits={"*": "a", "z": "z"},
        properties={"*": "missing"},
    )
    assert (whole.traits, whole.properties) == ({"x": 1, "z": 2}, {})


def test_numbers_stand_for_texts_and_texts_for_numbers_and_times() -> None:
    item = one(
        {"n": 99887766554, "t": "1767323045", "c": "12.50"},
        id="n",
        occurred_at="t",
        cost="c",
        user_id="n",
        machine="n",
    )
    assert (item.id, item.user_id, item.cost, item.machine) == (
        "99887766554",
        "99887766554",
        12.5,
        True,
    )
    assert item.occurred_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"email": "@"}, "/email"),
        ({"email": "a.b"}, "/email"),
        ({"occurred_at": "a"}, "/occurred_at"),
        ({"occurred_at": "'tomorrow'"}, "/occurred_at"),
        ({"occurred_at": "`true`"}, "/occurred_at"),
        ({"external_id": {"system": "'s'", "id": "a"}}, "/external_id/id"),
        ({"consent": {"state": "'given'", "at": "a"}}, "/consent/at"),
        ({"type": "a"}, "/type"),
    ],
)
def test_a_field_that_cannot_be_read_is_refused_with_its_name(
    fields: dict[str, Any], where: str
) -> None:
    [broken] = mapped({"id": "1", "a": {"b": True}}, {"id": "id"} | fields)
    assert isinstance(broken, Refused)
    assert broken.reject.where == where
    assert broken.reject.remedy
    assert broken.id == (None if where == "/type" else "1")


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"cost": "'much'"}, "cost"),
        ({"cost": "'inf'"}, "cost"),
        ({"company": "a"}, "company"),
        ({"url": "`true`"}, "url"),
        ({"traits": {"*": "id"}}, "traits/*"),
        ({"traits": {"x": "lower(a)"}}, "traits/x"),
        ({"properties": {"x": "first_word(a)"}}, "properties/x"),
    ],
)
def test_an_incidental_field_that_cannot_be_read_is_left_out_and_remarked(
    fields: dict[str, Any], where: str
) -> None:
    """A lead is never lost for it; the rest of the item is taken."""
    given = {"id": "id", "email": "'a@x.example'", "campaign": "'spring'"}
    [found] = mapped({"id": 12.0, "a": {"b": True}}, given | fields)
    assert isinstance(found, Remarked)
    assert found.remarks == (Remark("left-out", where),)
    assert found.item == Item(id="12", type="x", email="a@x.example", campaign="spring")


@pytest.mark.parametrize(
    ("given", "machine"), [("'no'", False), ("'false'", False), ("''", False), ("'yes'", True)]
)
def test_a_word_says_whether_a_machine_did_it(given: str, machine: bool) -> None:
    """I5."""
    assert one({}, machine=given).machine is machine


def test_a_broken_item_harms_no_other() -> None:
    broken, sound = mapped(
        [{"id": "1", "mail": []}, {"id": "2", "mail": "a@x.example"}], {"id": "id", "email": "mail"}
    )
    assert isinstance(broken, Refused)
    assert sound == Item(id="2", type="x", email="a@x.example")


def test_items_are_found_in_the_body_filtered_and_their_types_translated() -> None:
    body = {
        "batch": [
            {"k": "signup", "ok": True},
            {"k": "ping", "ok": True},
            {"k": "signup"},
            {"k": "buy", "ok": True},
        ],
        "by": "m",
    }
    fields = {"type": "k", "user_id": "body().by"}
    items = mapped(
        body,
        fields,
        items="batch",
        when="ok",
        types={"signup": "trial_started", "buy": "purchased"},
    )
    assert [(item.type, item.user_id) for item in items if isinstance(item, Item)] == [
        ("trial_started", "m"),
        ("purchased", "m"),
    ]
    assert mapped(body, fields, items="nothing") == []
    assert len(mapped({"batch": {"k": "x"}}, fields, items="batch")) == 1
    assert len(mapped([{"k": "x"}, {"k": "y"}], fields)) == 2


def test_a_request_of_too_many_items_is_refused_whole() -> None:
    assert len(mapped([{}] * MAX_ITEMS, {})) == MAX_ITEMS
    with pytest.raises(Reject) as refused:
        mapped([{}] * (MAX_ITEMS + 1), {})
    assert refused.value.kind == "too-large"


def test_forms_are_mapped_as_well() -> None:
    body = b"email=a%40b.de&topic=x&topic=y"
    request = {"media": "application/x-www-form-urlencoded"}
    [item] = mapped(
        body, {"email": "email", "traits": {"topics": "topic"}}, format="form", request=request
    )
    assert isinstance(item, Item)
    assert (item.email, item.traits) == ("a@b.de", {"topics": ["x", "y"]})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<a>",
        b"<a/><b/>",
        b"not xml",
        b'<?xml version="1.0" encoding="nonsense"?><a/>',
        b"<a>\xff</a>",
        b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;">]><a>&c;</a>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        b"<a>&undeclared;</a>",
        b"<a>" * 100_000,
        b"<a>" + b"<b/>" * (MAX_ELEMENTS + 1) + b"</a>",
    ],
    ids=range(12),
)
def test_xml_that_is_broken_or_made_to_swell_is_refused(body: bytes) -> None:
    with pytest.raises(Reject) as refused:
        mapped(body, {}, format="xml", sample="<a/>")
    assert refused.value.remedy


def test_xml_is_read_without_prefixes_and_nil_is_nothing() -> None:
    body = (
        b'<s:a xmlns:s="u" xmlns:i="v"><s:b i:nil="true"/><s:c '
        b'i:type="t">1</s:c><s:d>x</s:d><s:d>y</s:d></s:a>'
    )
    [item] = mapped(body, {"properties": {"*": "a"}}, format="xml", sample="<a/>")
    assert isinstance(item, Item)
    assert item.properties == {"c": {"@type": "t", "#text": "1"}, "d": ["x", "y"]}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"a":1e400}',
        b'"\\ud800"',
        b"[" * 100_000,
        b'{"a":' * 100 + b"1" + b"}" * 100,
    ],
)
def test_json_that_is_broken_is_refused(body: bytes) -> None:
    with pytest.raises(Reject) as refused:
        mapped(body, {})
    assert refused.value.remedy


def test_an_id_that_everybody_has_may_not_be_mapped(default_playbook: Playbook) -> None:
    for taken in ("typeform", "hubspot", "segment", "forms", "links"):
        again = default_playbook.senders[0].model_copy(update={"id": taken})
        with pytest.raises(InvalidFile, match=taken):
            served(default_playbook.model_copy(update={"senders": [again]}))


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["given", "1767323045", "true"])
)
KEYS = st.sampled_from([
    "event", "payload", "object", "registrant", "participant", "email", "id", "data", "attributes",
    "role", "meta", "type",
    "questions_and_answers", "scheduled_event", "name", "timestamp", "traits", "consent",
    "occurred_at",
])  # fmt: skip
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=12
)


@given(
    st.binary()
    | JSON.map(msgspec.json.encode)
    | st.text().map(lambda text: f"<a><b>{text}</b></a>".encode())
)
def test_whatever_comes_ends_in_items_or_a_refusal(shipped: dict[str, Source], body: bytes) -> None:
    for one_ in shipped.values():
        try:
            found = one_.parse(post(body, headers={"webhook-id": "m"}))
        except Reject:
            continue
        assert all(isinstance(item, Parsed) for item in found)
