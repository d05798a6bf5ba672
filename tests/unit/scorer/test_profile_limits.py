"""A profile stays small whatever is posted, is the same in every order, and loses no refusal."""

import random
import uuid
from typing import Any

import msgspec
import pytest

from services.ops.commands.verify import canonical
from services.scorer.model import profile as profiles
from services.scorer.model.profile import Latest, Profile, add, join, profile_of
from services.scorer.model.state import Event, FoldState, View
from services.scorer.processing.announcements import (
    MERGED_AT_ONCE,
    Evidence,
    announcements_due,
)
from services.scorer.processing.snapshots import snapshot_of
from services.scorer.records import LastAnnounced, LeadRow, State
from services.scorer.scoring import Scoring
from services.shared.clock import Clock, from_us
from services.shared.contracts.consent import ConsentKey
from services.shared.contracts.events import (
    ChangeEvent,
    Consent,
    ExternalId,
    Interaction,
    decode_change,
    encode_bytes,
)
from services.shared.contracts.traits import KNOWN_TRAITS
from services.shared.playbook.sections import Playbook

CASES = 300
DECLARED = frozenset({"title", "seats"})
ADDRESSES = ("", "a@x.example", "b@x.example", "c@x.example", "d@x.example")
TYPES = ("page_viewed", "won", "enquired", "touch_sent", "email_sent", "email_delivered")
PURPOSES = ("marketing", "marketing", "news", "surveys")
MAX_MESSAGE = 1_000_000  # bytes that a broker takes


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a few events reach."""
    monkeypatch.setattr(profiles, "MOST_TRAITS", 3)
    monkeypatch.setattr(profiles, "MOST_CONSENTS", 2)
    monkeypatch.setattr(profiles, "MOST_MILESTONES", 2)
    monkeypatch.setattr(profiles, "MOST_LINKED", 2)
    monkeypatch.setattr(profiles, "MOST_MAILED", 2)
    monkeypatch.setattr(profiles, "MOST_PRODUCTS", 2)


def value_of(rng: random.Random) -> Any:
    return rng.choice([None, "x", 7, True, 1.5, "y" * 3000, "\x01" * 400, ["z"] * 900, {"k": [1]}])


def history(rng: random.Random) -> list[Event]:
    events = []
    for n in range(rng.randrange(1, 40)):
        at = rng.randrange(20)
        traits = {
            rng.choice(["title", "seats", *"abcdefgh", "l" * 200]): value_of(rng)
            for _ in range(rng.randrange(4))
        }
        consents = tuple(
            Consent(
                channel=rng.choice(["email", "email", "sms", "c" * 100]),
                purpose=rng.choice(PURPOSES),
                state=rng.choice(["given", "given", "withdrawn"]),
            )
            for _ in range(rng.randrange(3))
        )
        data = Interaction(
            id=f"{n}", type=rng.choice(TYPES), touch_id=rng.choice(["", "", "t"]),
            email=rng.choice(ADDRESSES), traits=traits, consent=consents,
            company=rng.choice(["", "Firm"]), source=rng.choice(["", "ads"]),
            machine=rng.random() < 0.1, user_id=rng.choice(["", "u"]),
            external_id=rng.choice([None, *map(ExternalId, ("crm", "crm", "shop"), "121")]),
            product=rng.choice(["", *"pqr"]),
        )  # fmt: skip
        events.append(Event(at, f"{rng.getrandbits(128):032x}", data))
    return events


def joined(events: list[Event], rng: random.Random) -> Profile:
    """Of a set divided at random, its parts joined in any order."""
    if len(events) < 2 or rng.random() < 0.1:
        return profile_of(rng.sample(events, len(events)), DECLARED)
    cut = rng.randrange(len(events) + 1)
    mixed = rng.sample(events, len(events))
    return join(joined(mixed[:cut], rng), joined(mixed[cut:], rng), DECLARED)


@pytest.mark.usefixtures("narrow")
def test_every_order_and_every_merge_of_parts_gives_the_same_profile() -> None:
    for seed in range(CASES):
        rng = random.Random(seed)
        events = history(rng)
        whole = canonical(profile_of(events, DECLARED))
        assert canonical(profile_of(rng.sample(events, len(events)), DECLARED)) == whole
        assert canonical(joined(events, rng)) == whole


@pytest.mark.usefixtures("narrow")
def test_the_newest_traits_stay_and_those_that_the_playbook_names() -> None:
    """Against every name's latest value, of all events."""
    for seed in range(CASES):
        events = history(random.Random(seed))
        latest: dict[str, tuple[int, str]] = {}
        for event in sorted(events, key=lambda event: (event.at, event.uid)):
            latest |= dict.fromkeys(event.data.traits, (event.at, event.uid))
        others = [name for name in latest if name not in DECLARED and len(name) < 200]
        newest = sorted(others, key=lambda name: (latest[name], name))[-3:]
        kept = profile_of(events, DECLARED)
        assert kept.traits.keys() == {*newest, *DECLARED & latest.keys()}
        assert {name: value[:2] for name, value in kept.traits.items()} == {
            name: latest[name] for name in kept.traits
        }
        if len(newest) < len(others) or "l" * 200 in latest:
            assert "traits" in kept.left_out


def test_what_does_not_fit_is_cut_or_left_out_and_it_is_said() -> None:
    traits = {"essay": "é" * 4000, "bell": "\a" * 4000, "list": ["x"] * 4000, "seats": 12}
    kept = profile_of([Event(1, "u", Interaction(id="1", type="identified", traits=traits))])
    known = kept.known_traits()
    assert known.keys() == {"essay", "bell", "seats"}
    assert known["essay"].startswith("é" * 900)
    assert all(len(encode_bytes(value)) <= profiles.MAX_TRAIT for value in known.values())
    assert kept.left_out == ["traits"]
    assert (
        profile_of([Event(1, "u", Interaction(id="1", type="x", traits={"a": "b"}))]).left_out == []
    )


@pytest.mark.usefixtures("narrow")
def test_the_newest_links_and_words_of_sales_stay() -> None:
    """Against all of them."""
    for seed in range(CASES):
        events = history(random.Random(seed))
        addresses: dict[str, tuple[int, str]] = {}
        words: dict[str, tuple[int, str]] = {}
        for event in sorted(events, key=lambda event: (event.at, event.uid)):
            data, at = event.data, (event.at, event.uid)
            if data.type == "touch_sent":
                continue
            if data.email and (data.user_id or data.external_id) and not data.machine:
                addresses[data.email] = at
            if data.type == "won":
                words[data.product] = at
        kept = profile_of(events)
        assert kept.addresses == dict(sorted(addresses.items(), key=lambda item: item[1])[-2:])
        general = words.pop("", None)
        newest = dict(sorted(words.items(), key=lambda item: item[1])[-2:])
        assert {name: word[:2] for name, word in kept.product_sales.items()} == newest
        assert (kept.sales and kept.sales[:2]) == general
        for product in "pqr":
            named = [newest.get(product), general, newest.get("r")]
            word = kept.sales_of(product, ["p", "q"])
            assert (word and word[:2]) == max(filter(None, named), default=None)


def without_limits(events: list[Event], monkeypatch: pytest.MonkeyPatch) -> Profile:
    with monkeypatch.context() as lifted:
        for name in ("MOST_CONSENTS", "MAX_CONSENT_NAME"):
            lifted.setattr(profiles, name, 1 << 30)
        return profile_of(events)


@pytest.mark.usefixtures("narrow")
def test_nothing_that_was_refused_is_permitted_because_consents_were_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """N6: for every address, channel and purpose."""
    for seed in range(CASES):
        events = history(random.Random(seed))
        kept, whole = profile_of(events), without_limits(events, monkeypatch)
        for key in (*whole.consent, *whole.refusals):
            for address in ADDRESSES[1:]:
                asked = key._replace(address=address)
                true, shown = whole.consent_for(asked), kept.consent_for(asked)
                if true and true.state == "withdrawn":
                    assert shown
                    assert shown.state == "withdrawn"
                if shown and shown.state == "given":
                    assert true
                    assert true.state == "given"


def test_a_flood_of_permissions_overtakes_no_refusal() -> None:
    """N6: a stranger gives hundreds of permissions under other names and addresses."""
    refusal = Interaction(id="r", type="unsubscribed", email="ann@x.example")
    flood = [
        Interaction(
            id=f"f{n}", type="consent_given", email=f"s{n}@x.example",
            consent=(Consent(state="given"), Consent(state="given", channel=f"c{n}")),
        )
        for n in range(500)
    ]  # fmt: skip
    profile = Profile()
    add(profile, Event(5, "r", refusal))
    for n, data in enumerate(flood):
        add(profile, Event(10 + n, f"{n:032x}", data))
    assert len(profile.consent) == 2 * profiles.MOST_CONSENTS
    for address in ("ann@x.example", "s0@x.example"):
        consent = profile.consent_for(ConsentKey(address))
        assert consent
        assert consent.state == "withdrawn"
        assert consent.at == from_us(5)
    named_since = profile.consent_for(ConsentKey("s499@x.example"))
    assert named_since
    assert named_since.state == "given"


def hostile(rng: random.Random) -> Event:
    """As much of everything as the doors let through."""
    long = rng.choice(["\x01", "€", '"', "x"]) * 2700
    traits = {f"{rng.getrandbits(60)}{long[:2000]}"[: rng.choice([20, 120, 2000])]: long
              for _ in range(40)}  # fmt: skip
    traits |= dict.fromkeys(KNOWN_TRAITS, long) | {"nested": {long: [long] * 20}}
    consents = tuple(
        Consent(
            channel=f"{n}{long}"[: rng.choice([5, 60, 2700])], purpose=long[:64], text=long,
            basis=long, state=rng.choice(["given", "withdrawn"]),
        )
        for n in range(10)
    )  # fmt: skip
    data = Interaction(
        id="x", type=rng.choice(["identified", "won", "enquired"]), company=long, source=long,
        campaign=long, email=f"{rng.getrandbits(40)}@x.example", traits=traits, consent=consents,
        properties={"reason": long},
    )  # fmt: skip
    assert len(encode_bytes(data)) > 200_000
    return Event(rng.randrange(1000), f"{rng.getrandbits(128):032x}", data)


def test_a_snapshot_fits_into_a_message_whatever_was_posted() -> None:
    rng = random.Random(1)
    declared = KNOWN_TRAITS | {f"fit{n}" for n in range(30)}
    profile = profile_of((hostile(rng) for _ in range(60)), declared)
    lead = LeadRow(id=uuid.UUID(int=1), profile=profile)
    state = State(FoldState("default", b""), "", LastAnnounced())
    view = View("unknown", None, {}, 0.5, 0.1, 50.0, 10.0, None)
    assert len(encode_bytes(snapshot_of(lead, state, view, b"pepper"))) < MAX_MESSAGE / 2
    assert len(msgspec.msgpack.encode(profile)) < MAX_MESSAGE
    assert profile.left_out == ["traits", "consents"]


def test_what_older_events_said_is_told_apart_from_what_newer_ones_say() -> None:
    said = [
        Event(n, f"{n:032x}", Interaction(id=f"{n}", type="identified", traits=traits))
        for n, traits in enumerate([{"a": 1, "b": 1}, {"b": 2}])
    ]
    earlier = profile_of(said).before((1, f"{1:032x}"))
    assert earlier.traits == {"a": Latest(0, f"{0:032x}", 1)}


def test_a_merge_of_very_many_leads_is_told_in_messages_that_fit(
    default_playbook: Playbook,
) -> None:
    """In the same ones, whatever the order in which the leads were found."""
    scoring = Scoring.of(default_playbook, Clock(), b"pepper")
    others = [uuid.uuid4() for _ in range(2 * MERGED_AT_ONCE + 5)]

    def told(merged: list[uuid.UUID]) -> list[ChangeEvent]:
        lead = LeadRow(id=uuid.UUID(int=1), states={"default": scoring.initial("default")})
        evidence = {lead.id: Evidence(merged=merged)}
        due = announcements_due(scoring, [lead], scoring.clock.now_us(), evidence).merged
        assert max(len(record.value) for record in due) < MAX_MESSAGE / 4
        return [decode_change(record.value) for record in due]

    events = told(others)
    assert [len(event.data.merged) for event in events] == [MERGED_AT_ONCE, MERGED_AT_ONCE, 5]
    assert sorted(lead for event in events for lead in event.data.merged) == sorted(
        map(str, others)
    )
    again = told(others[::-1])
    assert [(event.id, event.data.merged) for event in again] == [
        (event.id, event.data.merged) for event in events
    ]
    assert len({event.id for event in events}) == 3


def test_mails_of_other_tools_are_told_once_each_and_our_own_are_none() -> None:
    """N5: of one mail a tool may tell that it went and that it came; the newest are kept."""
    hour = 3_600_000_000
    told = [
        ("email_sent", 10 * hour, ""), ("email_delivered", 10 * hour + 60_000_000, ""),
        ("email_sent", 20 * hour, ""),
        ("email_delivered", 30 * hour, ""),
        ("email_delivered", 40 * hour, "t"), ("email_processed", 50 * hour, ""),
    ]  # fmt: skip
    events = [
        Event(at, f"{n:032x}", Interaction(id=f"{n}", type=type_, touch_id=touch))
        for n, (type_, at, touch) in enumerate(told)
    ]
    state = State(FoldState("default", b""), "", LastAnnounced())
    lead = LeadRow(id=uuid.UUID(int=1), profile=profile_of(events))
    snapshot = snapshot_of(lead, state, View("unknown", None, {}, 0.5, 0.1, 50.0, 10.0, None), b"")
    assert [at.timestamp() / 3600 for at in snapshot.mailed] == [10 + 60 / 3600, 20, 30]
    many = [
        Event(n * 25 * hour, f"{n:032x}", Interaction(id=f"{n}", type="email_sent"))
        for n in range(40)
    ]
    kept = profile_of(random.Random(1).sample(many, 40)).mailed["email_sent"]
    assert [at for at, _ in kept] == [n * 25 * hour for n in range(24, 40)]
