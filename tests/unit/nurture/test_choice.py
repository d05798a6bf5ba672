"""The choice of the next touch: every ground against one, in its order, and what is eligible
(N1-N6, N12-N14).
"""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from services.nurture.rules.choice import Chooser, Lead, Occasion, Send, Withhold, latest
from services.nurture.store import SENT_WITHIN
from services.shared.contracts.events import ConsentState, LeadRequest, Snapshot
from services.shared.contracts.preferences import GAPS
from services.shared.contracts.provenance import decode_provenance
from services.shared.playbook.sections import Content, Persona, Playbook, Program

NOW = datetime(2026, 5, 13, 12, 0, tzinfo=UTC)  # a Wednesday, noon in UTC
GIVEN = ConsentState("given", NOW - timedelta(days=30))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def item(id: str, **fields: Any) -> Content:
    plain: dict[str, Any] = {
        "title": id, "stages": ["awareness"], "format": "blog", "topic": "t", "distance": 0,
        "url": f"https://x.example/{id}",
        "call_to_action": "read", "subject": "s", "body": "b",
    }  # fmt: skip
    return Content(id=id, **(plain | fields))


def program(*items: str, **fields: Any) -> Program:
    plain: dict[str, Any] = {
        "id": "p",
        "name": "P",
        "goal": "g",
        "stages": ["awareness"],
        "items": list(items),
    }
    return Program(**(plain | fields))


def with_parts(playbook: Playbook, **parts: Any) -> Playbook:
    """The playbook with other parts."""
    return Playbook(**({name: getattr(playbook, name) for name in Playbook.model_fields} | parts))


@pytest.fixture
def make(default_playbook: Playbook) -> Any:
    """A chooser under the default playbook with other parts; nobody is held out unless
    asked for.
    """

    def build(*content: Content, sink: bool = True, share: float = 0.0, **parts: Any) -> Chooser:
        parts.setdefault("programs", [program(*(one.id for one in content))])
        cadence = default_playbook.cadence.model_copy(update=parts.pop("cadence", {}))
        holdout = default_playbook.holdout.model_copy(update={"share": share})
        company = default_playbook.company.model_copy(update={"timezone": "UTC"})
        update = {
            "content": list(content),
            "cadence": cadence,
            "holdout": holdout,
            "company": company,
            **parts,
        }
        return Chooser(with_parts(default_playbook, **update), sink=sink)

    return build


def lead(**fields: Any) -> Lead:
    own = {name: fields.pop(name) for name in ("id", "consent", "seen", "sent") if name in fields}
    return Lead(
        **({"id": "l", "consent": GIVEN} | own),
        snapshot=Snapshot(**({"stage": "awareness", "email": "a@b.example"} | fields)),
    )


def occasion(
    stage: str = "awareness", product: str = "default", cause_at: datetime = NOW
) -> Occasion:
    return Occasion(stage, product, cause_at)


def decide(
    chooser: Chooser, lead: Lead, occasion: Occasion, now: datetime = NOW
) -> Send | Withhold:
    programs = chooser.programs(lead, occasion)
    return chooser.decide(lead, occasion, programs[0] if programs else None, now)


def chosen(chooser: Chooser, one: Lead, stage: str = "awareness") -> str:
    said = decide(chooser, one, occasion(stage))
    return said.content.id if isinstance(said, Send) else said.reason


# -- grounds --------------------------------------------------------------------------------------


def test_with_no_ground_against_it_the_first_item_goes_out_at_once(make: Any) -> None:
    said = decide(make(item("a"), item("b")), lead(), occasion())
    assert isinstance(said, Send)
    assert (said.content.id, said.due_at, said.reason, said.propensity) == ("a", NOW, "", 1.0)
    assert "a" in said.why


def test_each_ground_comes_before_the_next_one(make: Any) -> None:
    """All grounds hold at first; they are taken away one by one, in the order in which they are
    named.
    """
    chooser = make(item("a", sample=True), sink=False, share=0.9)
    unit = next(
        f"x@{n}.example" for n in range(100) if chooser.held_out(lead(email=f"x@{n}.example"))
    )
    spared = next(
        f"x@{n}.example" for n in range(100) if not chooser.held_out(lead(email=f"x@{n}.example"))
    )
    old, moved = NOW - timedelta(days=8), "consideration"
    bad: dict[str, Any] = {
        "stage": moved, "email": unit, "sales_status": "accepted", "consent": None,
        "sent": (NOW - timedelta(hours=1),),
        "seen": frozenset({"a"}),
    }  # fmt: skip
    found = [decide(chooser, lead(**bad), occasion("unknown", cause_at=old))]
    found.append(decide(chooser, lead(**bad), occasion(cause_at=old)))
    found.append(decide(chooser, lead(**bad), occasion()))
    bad["stage"] = "awareness"
    found.append(decide(chooser, lead(**bad), occasion()))
    bad["email"] = spared
    found.append(chooser.decide(lead(**bad), occasion(), None, NOW))
    found.append(decide(chooser, lead(**bad), occasion()))
    bad["sales_status"] = ""
    found.append(decide(chooser, lead(**bad), occasion()))
    bad["consent"] = GIVEN
    found.append(decide(chooser, lead(**bad), occasion()))
    bad["sent"] = ()
    found.append(decide(chooser, lead(**bad), occasion()))
    bad["seen"] = frozenset()
    found.append(decide(chooser, lead(**bad), occasion()))
    assert all(isinstance(one, Withhold) and one.why for one in found)
    assert [one.reason for one in found] == [
        "unknown_stage", "history", "superseded", "holdout", "nothing_suitable", "superseded",
        "no_consent", "capped",
        "nothing_suitable", "sample",
    ]  # fmt: skip


def test_a_change_of_seven_days_ago_is_no_history_yet(make: Any) -> None:
    week = timedelta(days=7)
    assert isinstance(decide(make(item("a")), lead(), occasion(cause_at=NOW - week)), Send)
    later = decide(
        make(item("a")), lead(), occasion(cause_at=NOW - week - timedelta(microseconds=1))
    )
    assert later == Withhold("history", "the change itself is more than seven days old")


@pytest.mark.parametrize(
    ("sales", "sent"),
    [
        ("accepted", False),
        ("opportunity", False),
        ("rejected", True),
        ("disqualified", True),
        ("lost", True),
    ],
)
def test_sales_work_pauses_nurture_and_its_refusal_does_not(
    make: Any, sales: str, sent: bool
) -> None:
    """N8."""
    assert isinstance(decide(make(item("a")), lead(sales_status=sales), occasion()), Send) is sent


def test_unknown_permission_is_none(make: Any) -> None:
    """N6: nor is there any without an address."""
    chooser = make(item("a"))
    for one in (lead(consent=None), lead(email=""), lead(consent=ConsentState("withdrawn", NOW))):
        assert decide(chooser, one, occasion()).reason == "no_consent"  # type: ignore[union-attr]
    assert (
        "2026-05-13"
        in decide(chooser, lead(consent=ConsentState("withdrawn", NOW)), occasion()).why
    )


def test_with_double_opt_in_only_a_confirmed_permission_counts(
    make: Any, default_playbook: Playbook
) -> None:
    chooser = make(
        item("a"), consent=default_playbook.consent.model_copy(update={"double_opt_in": True})
    )
    assert decide(chooser, lead(), occasion()).reason == "no_consent"  # type: ignore[union-attr]
    confirmed = ConsentState("given", NOW, "double_opt_in")
    assert isinstance(decide(chooser, lead(consent=confirmed), occasion()), Send)


def test_of_several_words_the_last_counts_and_at_equal_times_the_refusal() -> None:
    early, late = NOW - timedelta(days=1), NOW
    assert latest([None, None]) is None
    assert latest(
        [ConsentState("withdrawn", early), None, ConsentState("given", late)]
    ) == ConsentState("given", late)
    assert latest([ConsentState("withdrawn", late), ConsentState("given", late)]) == ConsentState(
        "withdrawn", late
    )
    assert latest([ConsentState("given", late), ConsentState("withdrawn", late)]) == ConsentState(
        "withdrawn", late
    )


def test_caps_hold_over_all_programs(make: Any) -> None:
    """N5: three in seven days, and twenty hours between two."""
    chooser = make(item("a"))
    days = [NOW - timedelta(days=n) for n in (2, 4, 6, 8)]
    assert isinstance(decide(chooser, lead(sent=(days[0], days[1], days[3])), occasion()), Send)
    assert decide(chooser, lead(sent=tuple(days[:3])), occasion()).reason == "capped"  # type: ignore[union-attr]
    near, far = NOW - timedelta(hours=19, minutes=59), NOW - timedelta(hours=20)
    assert decide(chooser, lead(sent=(near,)), occasion()).reason == "capped"  # type: ignore[union-attr]
    assert isinstance(decide(chooser, lead(sent=(far,)), occasion()), Send)


# -- what the lead has asked for ------------------------------------------------------------------


def asking(days_ago: float = 100, **traits: Any) -> Lead:
    """A lead with such traits whose last mail went out so long ago."""
    return lead(traits={"timezone": "UTC"} | traits, sent=(NOW - timedelta(days=days_ago),))


@pytest.mark.parametrize(
    ("until", "now", "sent"),
    [
        ("2026-05-14", NOW, False),
        ("2026-05-13", NOW, True),
        ("2026-05-14", utc("2026-05-13T23:59+00:00"), False),
        ("2026-05-14", utc("2026-05-14T00:00+00:00"), True),
        ("2026-05-14T18:00:00Z", NOW, False),
        (None, NOW, True),
        ("soon", NOW, True),
        (["2030-01-01"], NOW, True),
        (20300101, NOW, False),
    ],
)
def test_a_pause_holds_until_its_day_begins(
    make: Any, until: object, now: datetime, sent: bool
) -> None:
    """N9: in the lead's own time zone; a trait that is no day says nothing."""
    chooser = make(item("a"))
    said = chooser.against(asking(mail_paused_until=until), now)
    assert (said is None) is sent
    assert said is None or (said.reason == "preference" and "no mail before" in said.why)
    late = lead(traits={"timezone": "America/Los_Angeles", "mail_paused_until": "2026-05-13"})
    assert chooser.against(late, utc("2026-05-13T06:59+00:00")).reason == "preference"
    assert chooser.against(late, utc("2026-05-13T07:00+00:00")) is None


@pytest.mark.parametrize(
    ("pace", "days_ago", "sent"),
    [
        ("weekly", 6.9, False), ("weekly", 7, True), ("monthly", 29.9, False), ("monthly", 30,
        True), (None, 1, True),
        ("usual", 1, True), ("hourly", 1, True), (["weekly"], 1, True),
    ],
)  # fmt: skip
def test_a_slower_pace_is_a_longer_gap(
    make: Any, pace: object, days_ago: float, sent: bool
) -> None:
    """N9, N5."""
    said = make(item("a")).against(asking(days_ago, mail_pace=pace), NOW)
    assert (said is None) is sent
    assert said is None or said.reason == "preference"


def test_the_past_that_is_looked_at_covers_the_slowest_pace() -> None:
    assert max(GAPS.values()) < SENT_WITHIN


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        (["cost"], "b"), (["cost", "t"], "a"), (["t"], "a"), (None, "a"), ("cost", "b"), ([],
        "nothing_suitable"),
        (["else"], "nothing_suitable"),
    ],
)  # fmt: skip
def test_only_chosen_topics_are_offered(make: Any, topics: object, expected: str) -> None:
    """N9."""
    assert chosen(make(item("a"), item("b", topic="cost")), asking(mail_topics=topics)) == expected


def test_a_requested_thing_comes_whatever_was_asked_for_but_not_to_who_left_since(
    make: Any,
) -> None:
    """N12: pace, topics and pauses are about what nobody asked for; a request after the refusal is
    a new word.
    """
    asked = program("a", id="asked", trigger="request", stages=[], answers={"demo_requested": "a"})
    chooser = make(item("a"), programs=[asked])
    request = LeadRequest("1", "demo_requested", NOW - timedelta(minutes=5))
    content = chooser.playbook.content_by_id["a"]

    def answer(one: Lead) -> Send | Withhold:
        said: Send | Withhold = chooser.answer(one, request, asked, content, NOW)
        return said

    slow = asking(1, mail_pace="monthly", mail_topics=["else"], mail_paused_until="2030-01-01")
    assert isinstance(answer(slow), Send)
    before, after = request.at - timedelta(days=1), request.at + timedelta(minutes=1)
    assert isinstance(answer(lead(consent=ConsentState("withdrawn", before))), Send)
    assert answer(lead(consent=ConsentState("withdrawn", after))).reason == "no_consent"  # type: ignore[union-attr]
    assert isinstance(answer(lead(consent=ConsentState("given", after))), Send)


# -- eligibility ----------------------------------------------------------------------------------


def test_what_was_seen_is_not_repeated_and_the_next_item_follows(make: Any) -> None:
    """N3: content that the lead found by itself counts like what we sent."""
    chooser = make(item("a"), item("b"), item("c"))
    assert chosen(chooser, lead(seen=frozenset({"a"}))) == "b"
    assert chosen(chooser, lead(seen=frozenset({"b"}))) == "a"
    assert chosen(chooser, lead(seen=frozenset("abc"))) == "nothing_suitable"


def test_prerequisites_come_first(make: Any) -> None:
    """N2."""
    chooser = make(item("c", prerequisites=["a", "b"]), item("a"), item("b"))
    assert chosen(chooser, lead()) == "a"
    assert chosen(chooser, lead(seen=frozenset({"a"}))) == "b"
    assert chosen(chooser, lead(seen=frozenset({"a", "b"}))) == "c"


@pytest.mark.parametrize(
    ("stage", "reach"),
    [("status_quo", 0), ("awareness", 1), ("consideration", 2), ("decision", 3), ("customer", 3)],
)
def test_commercial_distance_shrinks_with_the_stage(make: Any, stage: str, reach: int) -> None:
    """N1, N2: nobody unaware gets an offer."""
    every = ["status_quo", "awareness", "consideration", "decision", "customer"]
    for distance in range(4):
        chooser = make(
            item("a", stages=every, distance=distance), programs=[program("a", stages=every)]
        )
        assert chosen(chooser, lead(stage=stage), stage) == (
            "a" if distance <= reach else "nothing_suitable"
        )


def test_an_item_for_another_stage_is_not_offered(make: Any) -> None:
    """N1."""
    chooser = make(item("a", stages=["decision"]), item("b", stages=["consideration", "awareness"]))
    assert chosen(chooser, lead()) == "b"


@pytest.mark.parametrize(
    ("fields", "traits", "fits"),
    [
        ({"language": "de"}, {}, False),
        ({"language": "de-AT"}, {"language": "DE"}, True),
        ({"language": "en"}, {"language": "en-GB"}, True),
        ({"countries": ["GB", "ie"]}, {"country": "gb"}, True),
        ({"countries": ["GB"]}, {"country": "FR"}, False),
        ({"countries": ["GB"]}, {}, False),
        ({"valid_until": date(2026, 5, 13)}, {}, True),
        ({"valid_until": date(2026, 5, 12)}, {}, False),
        ({"products": ["default"]}, {}, True),
        ({"products": ["other"]}, {}, False),
        ({"personas": ["buyer"]}, {"title": "CFO"}, True),
        ({"personas": ["buyer"]}, {"title": "Fitter"}, False),
        ({"service": True}, {}, False),
    ],
)
def test_language_country_date_product_and_persona_must_match(
    make: Any, fields: dict[str, Any], traits: dict[str, Any], fits: bool
) -> None:
    """N13."""
    assert chosen(make(item("a", **fields)), lead(traits=traits)) == (
        "a" if fits else "nothing_suitable"
    )


def test_a_sample_reaches_a_local_sink_only(make: Any) -> None:
    """N14; a webhook is no mailbox of anybody."""
    assert chosen(make(item("a", sample=True), sink=True), lead()) == "a"
    assert chosen(make(item("a", sample=True), sink=False), lead()) == "sample"
    by_webhook = make(
        item("a", sample=True), sink=False, programs=[program("a", channel="webhook")]
    )
    assert chosen(by_webhook, lead()) == "a"


def test_only_live_programs_of_the_stage_product_and_persona_answer(make: Any) -> None:
    """N4."""
    every = [
        program("a", id="draft", state="draft"), program("a", id="test", state="test"),
        program("a", id="one"),
        program("a", id="stage", stages=["decision"]), program("a", id="product", product="other"),
        program("a", id="persona", personas=["buyer"]), program("a", id="two"),
    ]  # fmt: skip
    chooser = make(item("a"), programs=every)
    assert [one.id for one in chooser.programs(lead(), occasion())] == ["one", "two"]
    assert [one.id for one in chooser.programs(lead(traits={"title": "CEO"}), occasion())] == [
        "one",
        "persona",
        "two",
    ]
    assert chooser.programs(lead(), occasion("status_quo")) == []


def test_the_first_persona_that_matches_wins_and_the_last_takes_the_rest(make: Any) -> None:
    personas = [
        Persona(id="chief", name="c", trait="title", matches="chief"),
        Persona(id="any", name="a", trait="title", matches="."),
        Persona(id="rest", name="r"),
    ]
    chooser = make(item("a"), personas=personas)
    found = [
        chooser.persona(traits).id
        for traits in ({"title": "Chief cook"}, {"title": "Cook"}, {"title": ""}, {})
    ]
    assert found == ["chief", "any", "rest", "rest"]


# -- hold-out -------------------------------------------------------------------------------------


def test_the_hold_out_has_its_share_of_companies_for_good(make: Any) -> None:
    """N10, M2: drawn by account: colleagues share their lot, and private mailboxes have one
    each.
    """
    chooser = make(item("a"), share=0.1)
    companies = [chooser.held_out(lead(email=f"a@firm{n}.example")) for n in range(4000)]
    assert 0.08 < sum(companies) / 4000 < 0.12
    assert companies == [
        chooser.held_out(lead(id=str(n), email=f"zed@firm{n}.example")) for n in range(4000)
    ]
    private = [chooser.held_out(lead(email=f"a{n}@gmail.com")) for n in range(4000)]
    assert 0.08 < sum(private) / 4000 < 0.12
    more = make(item("a"), share=0.3)
    assert all(
        more.held_out(lead(email=f"a@firm{n}.example")) for n, held in enumerate(companies) if held
    )
    assert not any(
        make(item("a"), share=0).held_out(lead(email=f"a@firm{n}.example")) for n in range(100)
    )


def test_another_salt_draws_anew_and_without_an_address_the_user_counts(make: Any) -> None:
    one = make(item("a"), share=0.5)
    other = Chooser(
        with_parts(one.playbook, holdout=one.playbook.holdout.model_copy(update={"salt": "oak"})),
        sink=True,
    )
    emails = [f"a@firm{n}.example" for n in range(200)]
    assert [one.held_out(lead(email=e)) for e in emails] != [
        other.held_out(lead(email=e)) for e in emails
    ]
    users = [one.held_out(lead(id=str(n), email="", user_id=f"u{n}")) for n in range(200)]
    assert users == [one.held_out(lead(id="same", email="", user_id=f"u{n}")) for n in range(200)]
    assert 0.3 < sum(users) / 200 < 0.7


# -- when -----------------------------------------------------------------------------------------


def due(
    chooser: Chooser, now: datetime, zone: str = "", act: datetime | None = None
) -> tuple[datetime, str]:
    return chooser.due(
        Snapshot(stage="awareness", traits={"timezone": zone} if zone else {}, last_act_at=act), now
    )


@pytest.mark.parametrize(
    ("now", "zone", "expected"),
    [
        ("2026-05-13T12:00+00:00", "UTC", "2026-05-13T12:00+00:00"),
        ("2026-05-13T21:59:59+00:00", "UTC", "2026-05-13T21:59:59+00:00"),
        ("2026-05-13T22:00+00:00", "UTC", "2026-05-14T06:00+00:00"),
        ("2026-05-13T05:59+00:00", "UTC", "2026-05-13T06:00+00:00"),
        ("2026-05-13T06:00+00:00", "UTC", "2026-05-13T06:00+00:00"),
        ("2026-05-13T12:00+00:00", "Asia/Tokyo", "2026-05-13T12:00+00:00"),  # 21 o'clock
        ("2026-05-13T13:30+00:00", "Asia/Tokyo", "2026-05-14T06:00+09:00"),  # 22:30 there
        # 5 in the morning
        ("2026-05-13T12:00+00:00", "America/Los_Angeles", "2026-05-13T06:00-07:00"),
        ("2026-05-13T18:40+00:00", "Asia/Kathmandu", "2026-05-14T06:00+05:45"),  # 00:25 there
        # already tomorrow, 2 o'clock
        ("2026-05-13T12:00+00:00", "Pacific/Kiritimati", "2026-05-14T06:00+14:00"),
        ("2026-12-31T23:30+00:00", "UTC", "2027-01-01T06:00+00:00"),
        # Europe/Berlin leaves standard time in the night to 2026-03-29, and returns to it in that
        # to 2026-10-25
        ("2026-03-28T22:30+01:00", "Europe/Berlin", "2026-03-29T06:00+02:00"),
        ("2026-10-24T22:30+02:00", "Europe/Berlin", "2026-10-25T06:00+01:00"),
        ("2026-10-25T02:30+02:00", "Europe/Berlin", "2026-10-25T06:00+01:00"),
    ],
)
def test_nothing_goes_out_in_the_leads_own_night(
    make: Any, now: str, zone: str, expected: str
) -> None:
    """N5."""
    at, reason = due(make(item("a")), utc(now), zone)
    assert at == utc(expected)
    assert reason == ("quiet_hours" if utc(now) != utc(expected) else "")


def test_a_zone_that_nobody_knows_is_the_companys(make: Any) -> None:
    plain = make(item("a")).playbook
    company = plain.company.model_copy(update={"timezone": "Asia/Tokyo"})
    chooser = Chooser(with_parts(plain, company=company), sink=True)
    night_there = utc("2026-05-13T14:00+00:00")
    for zone in ("", "Mars/Olympus", "../etc/passwd", "\0"):
        assert due(chooser, night_there, zone) == (utc("2026-05-14T06:00+09:00"), "quiet_hours")
    assert due(chooser, night_there, "UTC") == (night_there, "")


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-05-15T21:00+00:00", "2026-05-15T21:00+00:00"),  # Friday evening
        ("2026-05-15T22:00+00:00", "2026-05-18T06:00+00:00"),  # Friday night waits for Monday
        ("2026-05-16T12:00+00:00", "2026-05-18T06:00+00:00"),
        ("2026-05-17T03:00+00:00", "2026-05-18T06:00+00:00"),
        ("2026-05-17T23:00+00:00", "2026-05-18T06:00+00:00"),
        ("2026-05-18T05:00+00:00", "2026-05-18T06:00+00:00"),
    ],
)
def test_only_working_days_count(make: Any, now: str, expected: str) -> None:
    """N5."""
    at, _ = due(make(item("a"), cadence={"working_days": [0, 1, 2, 3, 4]}), utc(now))
    assert at == utc(expected)


def test_quiet_hours_may_lie_within_one_day_or_be_none(make: Any) -> None:
    siesta = make(item("a"), cadence={"quiet_from": 12, "quiet_until": 15})
    assert due(siesta, utc("2026-05-13T12:30+00:00")) == (
        utc("2026-05-13T15:00+00:00"),
        "quiet_hours",
    )
    assert due(siesta, utc("2026-05-13T23:30+00:00")) == (utc("2026-05-13T23:30+00:00"), "")
    never = make(item("a"), cadence={"quiet_from": 0, "quiet_until": 0})
    assert due(never, utc("2026-05-13T00:00+00:00")) == (utc("2026-05-13T00:00+00:00"), "")


def test_nobody_is_written_to_while_still_on_the_site(make: Any) -> None:
    """N12: half an hour after the last act, or later where that is night."""
    chooser = make(item("a"))
    assert due(chooser, NOW, "UTC", NOW - timedelta(minutes=10)) == (
        NOW + timedelta(minutes=20),
        "on_site",
    )
    assert due(chooser, NOW, "UTC", NOW - timedelta(minutes=30)) == (NOW, "")
    evening = utc("2026-05-13T21:50+00:00")
    assert due(chooser, evening, "UTC", evening) == (utc("2026-05-14T06:00+00:00"), "quiet_hours")
    said = decide(chooser, lead(last_act_at=NOW), occasion())
    assert isinstance(said, Send)
    assert (said.due_at, said.reason) == (NOW + timedelta(minutes=30), "on_site")


# -- imports --------------------------------------------------------------------------------------


def imported(word: str, cause_at: datetime = NOW) -> Occasion:
    return Occasion("awareness", "default", cause_at, decode_provenance(word))


def test_what_was_imported_as_history_sends_nothing_however_recent_it_is(make: Any) -> None:
    """I3: history moves the score alone."""
    said = decide(make(item("a")), lead(), imported("history"))
    assert isinstance(said, Withhold)
    assert said.reason == "history"


def test_an_imported_new_lead_is_new_whenever_it_happened(make: Any) -> None:
    said = decide(make(item("a")), lead(), imported("new_leads:0", NOW - timedelta(days=300)))
    assert isinstance(said, Send)
    assert (said.due_at, said.reason) == (NOW, "")


def test_imported_new_leads_are_spread_evenly_over_their_days_and_always_alike(make: Any) -> None:
    chooser = make(item("a"), cadence={"quiet_from": 0, "quiet_until": 0})
    due = []
    for n in range(400):
        first, again = (
            decide(chooser, lead(id=str(n)), imported("new_leads:10")) for _ in range(2)
        )
        assert first == again
        assert isinstance(first, Send)
        assert first.reason == "ramp"
        due.append((first.due_at - NOW) / timedelta(days=1))
    assert 0 <= min(due) < 1 < 9 < max(due) <= 10
    assert sum(day < 5 for day in due) in range(150, 250)


def test_the_turn_of_a_new_lead_waits_for_the_morning_too(make: Any) -> None:
    chooser = make(item("a"), cadence={"quiet_from": 1, "quiet_until": 0})
    said = decide(chooser, lead(), imported("new_leads:3"))
    assert isinstance(said, Send)
    assert (said.due_at.hour, said.reason) == (0, "quiet_hours")


def test_an_imported_request_is_answered_only_where_it_is_of_a_new_lead(make: Any) -> None:
    """N12: nobody gets today what they asked for in an old export."""
    asked = NOW - timedelta(days=30)
    chooser, thing = make(item("a", service=True)), item("a", service=True)
    answers = program("a", trigger="request")

    def answer(word: str, at: datetime = asked) -> Send | Withhold:
        return chooser.answer(
            lead(), LeadRequest("u", "demo_requested", at, "a", word), answers, thing, NOW
        )

    assert [answer("history", NOW).reason, answer("", asked).reason] == ["history", "history"]
    now, later = answer("new_leads:0"), answer("new_leads:5")
    assert isinstance(now, Send)
    assert isinstance(later, Send)
    assert (now.due_at, later.reason) == (NOW, "ramp")
    assert NOW < later.due_at <= NOW + timedelta(days=5)
