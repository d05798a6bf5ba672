"""From items to records: times, ids, identifiers, limits, consents."""

import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.limits import _leaves
from services.ingest.normalise import Normaliser, Receipt
from services.ingest.sources.contract import ForeignItem, Item, Refused, Remark
from services.shared.contracts.events import (
    CONSENTS,
    INTERACTIONS,
    NAMESPACE,
    Consent,
    ConsentChanged,
    ExternalId,
    Interaction,
    InteractionEvent,
    decode_consent,
    decode_envelope,
    decode_interaction,
    derived,
    encode_bytes,
    event_uid,
    keyed_hash,
)
from services.shared.contracts.identity import Cleaner, Kind
from services.shared.contracts.provenance import Provenance, decode_provenance
from services.shared.errors import Reject
from services.shared.playbook.sections import Identity

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
PEPPER = b"pepper"
WORDS = Identity(
    junk=["null", "guest"], role_mailboxes=["info"], free_mail_domains=["mail.example"]
)
NORMALISER = Normaliser(Cleaner(WORDS), PEPPER)


def take(
    *items: Item | Refused, at: datetime = NOW, source: str = "canonical:default", many: bool = True
) -> Receipt:
    return NORMALISER.take(items, Receipt(source, at, 1.0, many=many))


def wired(*items: Item, **how: Any) -> list[InteractionEvent]:
    receipt = take(*items, **how)
    assert not receipt.refused, receipt.refused[0].reject
    return [
        decode_envelope(record.value) for record in receipt.records if record.topic == INTERACTIONS
    ]


def refused(item: Item) -> Reject:
    receipt = take(item, many=False)
    assert not receipt.records
    return receipt.refused[0].reject


def item(**fields: Any) -> Item:
    return Item(**{"id": "1", "type": "x", "user_id": "u"} | fields)


def test_a_record_carries_who_said_it_when_and_what() -> None:
    """I7: nothing of the interaction is lost on the way."""
    at = datetime(2026, 10, 1, 9, tzinfo=timezone(timedelta(hours=2)))
    [event] = wired(item(occurred_at=at, traits={"a": "ä"}, cost=2.0))
    assert (event.source, event.id, event.flags) == (
        "canonical:default",
        event_uid("canonical:default", "1"),
        "",
    )
    assert (event.time, event.receivedat, event.postedat) == (at, NOW, 1.0)
    data = decode_interaction(event.data)
    assert data == Interaction(id="1", type="x", user_id="u", traits={"a": "ä"}, cost=2.0)
    assert b"occurred_at" not in bytes(event.data)


def test_the_same_item_again_has_the_same_identity_and_digest_whenever_it_comes() -> None:
    """Reliability: a repetition is known as one."""
    ahead = NOW + timedelta(days=3)
    for fields in (
        {},
        {"occurred_at": NOW},
        {"occurred_at": ahead},
        {"id": "", "occurred_at": NOW},
    ):
        [first], [later] = wired(item(**fields)), wired(item(**fields), at=NOW + timedelta(hours=1))
        assert (first.id, first.digest) == (later.id, later.digest)
    [one], [other] = wired(item(occurred_at=NOW)), wired(item(occurred_at=NOW - timedelta(1)))
    assert one.digest != other.digest


def test_a_corrected_time_does_not_make_a_repetition_another_event() -> None:
    """Segment's skew rule moves the time at each receipt; what the sender stated stays."""
    stated = NOW - timedelta(days=1)
    first, later = (
        ForeignItem(id="1", type="x", user_id="u", stated_at=stated, occurred_at=NOW - timedelta(s))
        for s in (1, 2)
    )
    [one], [other] = wired(first), wired(later)
    assert one.digest == other.digest
    assert one.time != other.time
    assert b"stated_at" not in bytes(one.data)


def test_preferences_are_stored_in_one_form_and_refused_where_they_cannot_be_read() -> None:
    """N9: never ignored."""
    asked = {
        "mail_topics": "cost; tools", "mail_pace": "Weekly", "mail_paused_until": "31.12.2026",
        "language": "de_AT", "Title": "CTO",
    }  # fmt: skip
    [event] = wired(item(traits=asked))
    assert decode_interaction(event.data).traits == {
        "mail_topics": ["cost", "tools"], "mail_pace": "weekly",
        "mail_paused_until": "2026-12-31", "language": "de-AT", "Title": "CTO",
    }  # fmt: skip
    [event] = wired(item(traits={"mail_topics": ""}))
    assert decode_interaction(event.data).traits == {"mail_topics": []}
    for name in asked.keys() - {"Title"}:
        reject = refused(item(traits={name: {"a": 1}}))
        assert (reject.kind, reject.where) == ("invalid", f"/traits/{name}")
        assert reject.remedy.startswith("write")


def test_far_future_is_clamped_and_far_past_is_flagged() -> None:
    """Bad input: far future, far past."""
    [ahead] = wired(item(occurred_at=NOW + timedelta(minutes=5, seconds=1)))
    assert (ahead.time, ahead.flags) == (NOW, "clamped")
    [nearly] = wired(item(occurred_at=NOW + timedelta(minutes=5)))
    assert (nearly.time, nearly.flags) == (NOW + timedelta(minutes=5), "")
    [old] = wired(item(occurred_at=NOW - timedelta(days=400, seconds=1)))
    assert (old.time, old.flags) == (NOW - timedelta(days=400, seconds=1), "old")
    [recent] = wired(item(occurred_at=NOW - timedelta(days=400)))
    assert recent.flags == ""


NO_ZONE = datetime(2026, 1, 1)  # noqa: DTZ001
NO_MOMENT = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=23)))


@pytest.mark.parametrize("at", [NO_ZONE, NO_MOMENT])
def test_a_time_that_is_no_moment_is_refused(at: datetime) -> None:
    assert refused(item(occurred_at=at)).where == "/occurred_at"


def test_an_item_without_id_gets_a_hash_with_a_time_and_chance_without() -> None:
    """Reliability: a hash serves only where the body itself carries a time."""
    timed = [take(item(id="", occurred_at=NOW)).ids[0] for _ in range(2)]
    untimed = [take(item(id="")).ids[0] for _ in range(2)]
    assert timed[0] == timed[1]
    assert untimed[0] != untimed[1]
    assert take(item(id="", occurred_at=NOW, traits={"a": 1})).ids[0] != timed[0]


@pytest.mark.parametrize(
    "fields", [{"user_id": ""}, {"user_id": " Null "}, {"user_id": "guest", "anonymous_id": "null"}]
)
def test_an_item_that_identifies_nobody_is_refused(fields: dict[str, str]) -> None:
    """D2: junk identifies nobody."""
    assert refused(item(**fields)).kind == "no-identifier"


BAD_ADDRESSES = [
    "nope",
    "a@b",
    "@b.de",
    "a b@c.de",
    "a@b.de\r\nBcc: x@y.de",
    "a@b.de,c@d.de",
    "x" * 260 + "@b.de",
]


@pytest.mark.parametrize("email", BAD_ADDRESSES)
def test_a_bad_address_is_refused_at_its_place(email: str) -> None:
    assert refused(item(email=email)).where == "/email"


def test_addresses_are_kept_clean_and_junk_ones_not_at_all() -> None:
    [event] = wired(item(email="  Ann@Example.COM "))
    assert decode_interaction(event.data).email == "ann@example.com"
    [event] = wired(item(email="null"))
    assert decode_interaction(event.data).email == ""


@pytest.mark.parametrize("type_", ["", "touch_sent"])
def test_types_of_our_own_and_empty_ones_are_refused(type_: str) -> None:
    assert refused(item(type=type_)).where == "/type"


def test_an_unknown_type_is_accepted() -> None:
    """I4: it is stored and weighs nothing."""
    assert take(item(type="warp_drive_started")).ids == ["1"]


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"traits": {"a": "x\0y"}}, "/traits/a"),
        ({"properties": {"b": [{"c": "\0"}]}}, "/properties/b/0/c"),
        ({"user_id": "u\0"}, "/user_id"),
        ({"properties": {"b": {"x" * 8193: 1}}}, "/properties/b"),
        ({"traits": {"a": 2**63}}, "/traits/a"),
        ({"properties": {"a": {"b": [-(2**63) - 1]}}}, "/properties/a/b/0"),
        ({"user_id": "u" * 513}, "/user_id"),
        ({"external_id": ExternalId("crm", "u" * 513)}, "/external_id/id"),
        ({"consent": (Consent(state="given", channel=""),)}, "/consent/0"),
        ({"consent": (Consent(state="given", at=datetime(2026, 1, 1)),)}, "/consent/0/at"),  # noqa: DTZ001
    ],
)
def test_what_no_store_can_keep_is_refused_at_its_place(fields: dict[str, Any], where: str) -> None:
    """Bad input: NUL, text over 8 KB, 2^63."""
    assert refused(item(**fields)).where == where


CONTROLS = ("\t", "\n", "\x1f", "\x7f", "\x85", "\u2028", "\0")


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize(
    ("where", "fields"),
    [
        ("/type", lambda word: {"type": word}),
        ("/user_id", lambda word: {"user_id": word}),
        ("/external_id/system", lambda word: {"external_id": ExternalId(word, "7")}),
        ("/product", lambda word: {"product": word}),
        ("/traits", lambda word: {"traits": {word: 1}}),
        ("/properties", lambda word: {"properties": {word: 1}}),
        ("/consent/0/channel", lambda word: {"consent": (Consent(state="given", channel=word),)}),
        ("/consent/0/purpose", lambda word: {"consent": (Consent(state="given", purpose=word),)}),
        ("/consent/0/basis", lambda word: {"consent": (Consent(state="given", basis=word),)}),
    ],
)
def test_a_control_character_in_a_name_is_refused_by_name(
    where: str, fields: Any, control: str
) -> None:
    """A tab in a consent's channel once parted it in two, and buried the lead's next events."""
    assert refused(item(email="a@b.de", **{"user_id": "u"} | fields(f"a{control}b"))).where == where


def test_a_control_character_in_a_value_or_around_an_identifier_is_none_of_a_name() -> None:
    texts = {"note": "two\nlines\tand a tab", "ä": "ß"}
    assert take(
        item(user_id=" u\n", traits=texts, properties=texts, url="x\ty", campaign="a\nb")
    ).ids == ["1"]


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"traits": {str(n): 1 for n in range(5001)}}, "/traits"),
        ({"properties": {str(n): 1 for n in range(5001)}}, "/properties"),
        ({"traits": {"n" * 513: 1}}, "/traits"),
        ({"properties": {"n" * 513: 1}}, "/properties"),
        ({"traits": {str(n): "x" * 8000 for n in range(9)}}, "/traits"),
        ({"traits": {"list": ["x" * 100] * 700}}, "/traits"),
        ({"consent": (Consent(state="given"),) * 21}, "/consent"),
    ],
)
def test_what_one_interaction_says_of_a_lead_is_bounded(fields: dict[str, Any], where: str) -> None:
    """Traits that come in many events once made a snapshot that no broker takes."""
    reject = refused(item(**fields))
    assert (reject.kind, reject.where) == ("too-large", where)
    assert reject.remedy.startswith(("send at most", "use at most"))


def test_the_largest_that_fits_is_accepted() -> None:
    assert take(
        item(traits={"a": "x" * 8192, "b": 2**63 - 1, "c": -(2**63)}, user_id="u" * 512)
    ).ids == ["1"]
    assert refused(item(properties={str(n): "x" * 8000 for n in range(70)})).kind == "too-large"


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"traits": {"a": "x" * 8193, "b": "kept"}}, "/traits/a"),
        ({"traits": {"a": {"b": ["x" * 9000, "y"]}}}, "/traits/a/b/0"),
        ({"properties": {"b": ["ä" * 4097]}}, "/properties/b/0"),
        ({"properties": {"b": "x" * 600_000}}, "/properties/b"),
        ({"traits": {str(n): "x" * 10_000 for n in range(20)}}, "/traits/0"),
        ({"url": "x" * 8193}, "/url"),
        ({"company": "x" * 8193}, "/company"),
        ({"consent": (Consent(state="given", text="x" * 9000),)}, "/consent"),
    ],
)
def test_a_long_text_is_cut_and_the_lead_is_kept(fields: dict[str, Any], where: str) -> None:
    receipt = take(item(**fields))
    assert (receipt.ids, receipt.refused) == (["1"], [])
    assert receipt.remarks[0].remark == Remark("cut", where)
    event = decode_envelope(receipt.records[0].value)
    assert event.flags == "cut"
    texts = [leaf for _, leaf in _leaves(msgspec.json.decode(event.data), "")]
    longest = max(len(text.encode()) for text in texts if isinstance(text, str))
    assert 4096 <= longest <= 8192 or where == "/traits/0"
    assert "kept" in texts or "b" not in fields.get("traits", {})


def test_a_refused_item_takes_no_neighbour_with_it_and_tells_its_place() -> None:
    receipt = take(
        item(id="a"),
        item(id="b", type=""),
        Refused(None, Reject("broken", where="/x")),
        item(id="c"),
    )
    assert receipt.ids == ["a", "c"]
    assert [(index, name, reject.where) for index, name, reject in receipt.refused] == [
        (1, "b", "/1/type"),
        (2, None, "/2/x"),
    ]


def test_records_are_keyed_by_the_strongest_identifier_and_hold_no_personal_data_in_keys() -> None:
    """D1; keys are keyed hashes."""
    keys = [
        record.key
        for record in take(
            item(email="a@b.de"), item(user_id="", email="A@b.de", anonymous_id="v")
        ).records
    ]
    assert keys == [keyed_hash(PEPPER, "user:u"), keyed_hash(PEPPER, "email:a@b.de")]


NAMES = st.sampled_from(["", " ", "null", "Guest", "u-1", "v-2"])
ADDRESSES = st.sampled_from(["", "nope", "null", "info@x.de", "Ann@x.de"])
EXTERNALS = st.sampled_from(
    [None, ExternalId("crm", "7"), ExternalId("", "7"), ExternalId("CRM ", "null")]
)
PREFIXES = {
    Kind.USER: "user",
    Kind.EMAIL: "email",
    Kind.ROLE: "email",
    Kind.EXTERNAL: "external",
    Kind.ANONYMOUS: "anonymous",
}


@given(NAMES, ADDRESSES, NAMES, EXTERNALS, st.sampled_from(["", "t-1"]))
def test_the_strongest_identifier_is_the_first_of_all(
    user: str, email: str, anonymous: str, external: ExternalId | None, touch: str
) -> None:
    event = Interaction(
        id="1",
        type="x",
        user_id=user,
        email=email,
        anonymous_id=anonymous,
        external_id=external,
        touch_id=touch,
    )
    cleaner = Cleaner(WORDS)
    found = cleaner.identifiers(event)
    assert cleaner.strongest(event) == (
        f"{PREFIXES[found[0].kind]}:{found[0].text}" if found else ""
    )


def consents(receipt: Receipt) -> list[ConsentChanged]:
    """The consents that go out beside the interactions."""
    return [decode_consent(r.value).data for r in receipt.records if r.topic == CONSENTS]


def test_a_permission_goes_out_under_the_hash_of_the_address_that_it_names() -> None:
    """I7."""
    given_at = NOW - timedelta(days=2)
    receipt = take(item(email="Ann@b.de", consent=(Consent(state="given", at=given_at),)))
    address = keyed_hash(PEPPER, "email:ann@b.de")
    (sent,) = consents(receipt)
    assert (sent.address, sent.identifier, sent.state) == (address, "", "given")
    assert (sent.at, sent.undated) == (given_at, False)
    assert [record.key for record in receipt.records if record.topic == CONSENTS] == [address]


def test_a_refusal_goes_out_under_every_identifier_so_that_it_waits_for_no_scorer() -> None:
    """N6, I7: nurture may know the lead by any of them."""
    unsubscribed = item(
        type="unsubscribed", user_id="u", anonymous_id="v", email="Ann@b.de", touch_id="t",
        external_id=ExternalId("CRM", "7"),
    )  # fmt: skip
    receipt = take(unsubscribed)
    names = ["user:u", "external:crm\t7", "anonymous:v", "external:ripeline.touch\tt"]
    address = keyed_hash(PEPPER, "email:ann@b.de")
    hashes = [keyed_hash(PEPPER, name) for name in names]
    sent = consents(receipt)
    assert [consent.identifier for consent in sent] == ["", *hashes]
    assert {consent.address for consent in sent} == {address}
    assert [consent.touch for consent in sent] == ["", "", "", "", "t"]
    records = [record for record in receipt.records if record.topic == CONSENTS]
    assert [record.key for record in records] == [address, *hashes]
    assert len({decode_consent(record.value).id for record in records}) == 5


@pytest.mark.parametrize(
    ("who", "name"),
    [
        ({"user_id": "u"}, "user:u"),
        ({"anonymous_id": "v"}, "anonymous:v"),
        ({"external_id": ExternalId("crm", "7")}, "external:crm\t7"),
    ],
)
def test_a_refusal_that_names_an_id_alone_goes_out_under_that(who: Any, name: str) -> None:
    """N6."""
    (sent,) = consents(take(item(**{"user_id": "", "type": "unsubscribed"} | who)))
    assert (sent.address, sent.identifier) == ("", keyed_hash(PEPPER, name))


def test_a_permission_counts_from_its_receipt_at_the_latest() -> None:
    """N6: a clock that is ahead does not let it outlast what is refused afterwards."""
    ahead = item(
        type="consent_given", email="a@b.de", occurred_at=NOW + timedelta(minutes=4), user_id=""
    )
    said = item(
        email="a@b.de", user_id="", id="2",
        consent=(Consent(state="given", at=NOW + timedelta(minutes=3)),),
    )  # fmt: skip
    assert [consent.at for consent in consents(take(ahead, said))] == [NOW, NOW]


def test_a_refusals_clock_may_be_behind() -> None:
    """N6: it counts from its receipt, or five minutes after its own time."""
    late = [NOW - timedelta(minutes=1), NOW - timedelta(days=3)]
    items = [
        item(type="unsubscribed", id=str(at), email="a@b.de", user_id="", occurred_at=at)
        for at in late
    ]
    assert [consent.at for consent in consents(take(*items))] == [
        NOW,
        NOW - timedelta(days=3) + timedelta(minutes=5),
    ]


@pytest.mark.parametrize(
    ("fields", "states"),
    [
        ({"type": "unsubscribed"}, ["withdrawn"]),
        ({"type": "email_complained"}, ["withdrawn"]),
        ({"type": "consent_given"}, ["given"]),
        ({"type": "email_bounced", "properties": {"type": "Hard"}}, ["withdrawn"]),
        ({"type": "email_bounced", "properties": {"type": "soft"}}, []),
        ({"type": "unsubscribed", "machine": True}, []),
        ({"type": "page_viewed"}, []),
    ],
)
def test_some_types_imply_a_consent(fields: dict[str, Any], states: list[str]) -> None:
    """I5: a scanner never unsubscribes anyone."""
    found = consents(take(item(**{"email": "a@b.de", "user_id": ""} | fields)))
    assert [consent.state for consent in found] == states


@pytest.mark.parametrize(
    ("properties", "basis"),
    [
        ({"type": "soft", "status": "4.2.2"}, "email_bounced 4.2.2"),
        ({"type": "soft", "reason": "550 5.7.26 not authenticated"}, "email_bounced 5.7.26"),
        ({"type": "soft", "status": 5, "reason": ["x"]}, "email_bounced"),
        ({}, "email_bounced"),
    ],
)
def test_a_mail_of_ours_that_came_back_for_a_while_is_told_and_is_no_refusal(
    properties: dict[str, Any], basis: str
) -> None:
    """N15: once, under its touch; nothing of mails that others sent."""
    touch = "5b0c6a52-3f0e-5c1b-9c55-0d1f6f6a2a01"
    came_back = {"type": "email_bounced", "email": "a@b.de", "properties": properties}
    (told,) = consents(take(item(**came_back, touch_id=touch)))
    assert (told.purpose, told.basis, told.touch, told.address) == ("delivery", basis, touch, "")
    assert consents(take(item(**came_back))) == []
    assert consents(take(item(**came_back, touch_id=touch, machine=True))) == []


def test_refusals_of_one_event_or_of_two_addresses_under_one_id_are_told_apart() -> None:
    """N6: nurture counts each id once."""
    said = tuple(Consent(state="withdrawn", at=NOW - timedelta(days=days)) for days in (900, 30))
    receipts = [take(item(email=email, user_id="", consent=said)) for email in ("a@b.de", "c@b.de")]
    ids = [
        decode_consent(record.value).id
        for receipt in receipts
        for record in receipt.records
        if record.topic == CONSENTS
    ]
    assert len(ids) == len(set(ids)) == 4


def test_a_consent_from_the_future_counts_from_its_event() -> None:
    ahead = (Consent(state="given", at=NOW + timedelta(days=9)),)
    receipt = take(item(email="a@b.de", occurred_at=NOW - timedelta(1), consent=ahead))
    event, consent = (
        decode_envelope(receipt.records[0].value),
        decode_consent(receipt.records[1].value),
    )
    assert (event.flags, consent.data.at) == ("clamped", NOW - timedelta(1))


def test_ids_are_unique_within_a_foreign_events_origin() -> None:
    one, other = (
        ForeignItem(id="1", type="x", user_id="u", origin=origin) for origin in ("/a", "/b")
    )
    [first], [second] = wired(one), wired(other)
    assert first.source == "canonical:default:/a"
    assert first.id != second.id
    assert uuid.UUID(first.id)


def test_a_record_is_a_cloud_event() -> None:
    record = msgspec.json.decode(take(item()).records[0].value)
    assert (record["specversion"], record["type"], record["datacontenttype"]) == (
        "1.0",
        "interaction.v1",
        "application/json",
    )


# -- imports --------------------------------------------------------------------------------------


def test_what_an_import_says_that_it_is_stands_beside_what_was_mended_and_outside_the_digest() -> (
    None
):
    """I3: the same file under another word is the same set of events."""
    events = []
    for flags in ("history", "new_leads:7", ""):
        receipt = NORMALISER.take(
            [item(occurred_at=NOW - timedelta(days=500))],
            Receipt("import:default", NOW, 1.0, provenance=decode_provenance(flags)),
        )
        events.append(decode_envelope(receipt.records[0].value))
    assert [event.flags for event in events] == ["old history", "old new_leads:7", "old"]
    assert len({(event.id, event.digest) for event in events}) == 1
    assert [decode_provenance(event.flags).import_only for event in events] == [
        Provenance("history"), Provenance("history"), Provenance(),
    ]  # fmt: skip
    texts = ("clamped new_leads:7", "clamped", "")
    assert [decode_provenance(text).import_only for text in texts] == [
        Provenance("new_leads", 7), Provenance(), Provenance(),
    ]  # fmt: skip


def test_a_word_on_a_permission_tells_whether_it_bears_a_date() -> None:
    def undated(**fields: Any) -> list[bool]:
        given = item(
            email="a@b.example",
            consent=(Consent(state="given", **fields.pop("consent", {})),),
            **fields,
        )
        return [
            decode_consent(r.value).data.undated for r in take(given).records if r.topic == CONSENTS
        ]

    assert undated() == [True]
    assert undated(occurred_at=NOW) == [False]
    assert undated(consent={"at": NOW - timedelta(1)}) == [False]


@given(st.lists(st.text()))
def test_derived_ids_are_those_of_rfc_9562(parts: list[str]) -> None:
    assert derived(*parts) == str(uuid.uuid5(NAMESPACE, "\0".join(parts)))


def test_an_id_made_from_an_item_is_the_same_in_every_release() -> None:
    """A repetition that arrives after an upgrade counts once."""
    foreign = ForeignItem(type="page_viewed", user_id="u", stated_at=NOW - timedelta(hours=1))
    assert encode_bytes(foreign) == (
        b'{"type":"page_viewed","user_id":"u","said_at":"%s"}'
        % (NOW - timedelta(hours=1)).isoformat().replace("+00:00", "Z").encode()
    )
