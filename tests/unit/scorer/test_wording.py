"""The page's pure parts: plain words, the curve, what is new, a session's cookie."""

import asyncio
import random
import re
import time
from datetime import datetime, timedelta
from typing import get_args

import msgspec
import numpy as np
import pytest
from jinja2 import UndefinedError

from services.scorer import wording as words
from services.scorer.model.explanation import FitChange, Line, explain
from services.scorer.model.fold import Fold
from services.scorer.model.profile import profile_of
from services.scorer.model.state import Event
from services.scorer.model.trajectory import HEIGHT, WIDTH, areas, ceiling, curve, line
from services.scorer.model.window import known_of
from services.scorer.ui import contacts
from services.scorer.ui.activities import Activity
from services.scorer.ui.live import AWAY, Fragments, LiveUpdates, Watcher
from services.scorer.ui.rendering import Assets, Renderer, mail_document
from services.shared.clock import DAY, Clock, from_us
from services.shared.contracts.events import Cause, Interaction, Touch, event_uid
from services.shared.contracts.identity import Identifier, Kind
from services.shared.contracts.touch_reasons import REASON_SENTENCES, STATUS_SENTENCES
from services.shared.errors import Reject
from services.shared.http.keys import ApiKey, ApiKeys, hash_of
from services.shared.http.signin import TICKET_S, PageSessions, SignedOut
from services.shared.playbook.sections import Playbook
from tests.support.histories import BASE, history


@pytest.fixture(scope="module")
def fold(default_playbook: Playbook) -> Fold:
    return Fold(default_playbook)


@pytest.fixture(scope="module")
def render(default_playbook: Playbook) -> Renderer:
    return Renderer(default_playbook, Assets())


def person(seed: int) -> list[Event]:
    """Events of one person in order, without machines, whose later events may change what was
    believed.
    """
    events = {}
    for act in history(random.Random(seed), people=1, length=12):
        uid = event_uid("canonical:test", act.data.id)
        events.setdefault(uid, Event(act.at, uid, msgspec.structs.replace(act.data, machine=False)))
    return sorted(events.values(), key=lambda event: (event.at, event.uid))


# -- wording -------------------------------------------------------------------------------------


def test_a_likelihood_is_a_band_until_it_is_calibrated() -> None:
    assert [words.chance(p, calibrated=False) for p in (0.0, 0.0999, 0.1, 0.2499, 0.25, 1.0)] == [
        "low", "low", "some", "some", "high", "high",
    ]  # fmt: skip
    assert words.chance(0.123, calibrated=True) == "12 %"
    assert words.chance(None, calibrated=False) == "settled"


def test_points_have_a_true_minus_and_no_negative_nothing() -> None:
    assert [words.signed(points) for points in (1.25, -0.5, -0.04, 0.0)] == [
        "+1.2",
        "−0.5",
        "0.0",
        "0.0",
    ]


def test_a_lead_is_called_by_the_best_that_is_known() -> None:
    mail, user = Identifier(Kind.EMAIL, "jo@firm.example"), Identifier(Kind.USER, "u-1")
    anonymous, foreign = (
        Identifier(Kind.ANONYMOUS, "0123456789abc"),
        Identifier(Kind.EXTERNAL, "77", "crm"),
    )
    ours = Identifier(Kind.EXTERNAL, "5", "ripeline.touch")
    assert words.name_of({"name": "Jo Day", "company": "Firm"}, [user, mail]) == (
        "Jo Day",
        "jo@firm.example · Firm",
    )
    assert words.name_of({"first_name": "Jo", "last_name": "Day"}, []) == ("Jo Day", "")
    assert words.name_of({}, [user, mail]) == ("jo@firm.example", "")
    assert words.name_of({}, [user]) == ("u-1", "")
    assert words.name_of({}, [foreign, anonymous]) == ("crm 77", "")
    assert re.fullmatch(r"Visitor [0-9a-f]{6}", words.name_of({}, [ours, anonymous]).name)
    assert words.name_of({}, [ours]) == ("Nameless lead", "")


def test_visitors_are_told_apart_though_their_ids_begin_alike() -> None:
    ids = [f"visitor-7-{n}" for n in range(300)]
    names = [words.name_of({}, [Identifier(Kind.ANONYMOUS, each)]).name for each in ids]
    assert len(set(names)) == len(ids)
    assert names == [words.visitor_name(each) for each in ids]


def test_things_are_counted_in_words() -> None:
    assert [words.count_of(n, "event") for n in (0, 1, 2, 1234)] == [
        "0 events", "1 event", "2 events", "1234 events",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "just now"), (-59, "just now"), (-60, "1 min ago"), (-7199, "1 h ago"),
        (-7200, "2 h ago"), (-86_400, "1 day ago"), (-29.9 * 86_400, "29 days ago"),
        (-30 * 86_400, ""), (30, "in a moment"), (3 * 3600, "in 3 h"), (40 * 86_400, ""),
    ],
)  # fmt: skip
def test_a_time_is_said_by_how_long_ago_it_is(seconds: float, said: str) -> None:
    now = from_us(BASE)
    assert words.ago(now + timedelta(seconds=seconds), now) == said


def test_one_reason_is_said_of_a_touch_the_one_that_says_most() -> None:
    def touch(**fields: str) -> str:
        return words.why_in_words(Touch(id="t", lead="l", **fields))  # type: ignore[arg-type]

    assert touch(status="withheld", reason="excluded", why="it is a competitor") == (
        "it is a competitor"
    )
    assert touch(status="withheld", reason="holdout") == REASON_SENTENCES["holdout"]
    assert (
        touch(status="due", reason="quiet_hours", why="the next of p for s: Title")
        == (REASON_SENTENCES["quiet_hours"])
    )
    assert touch(status="sent", why="the next of p for s: Title") == ""


# -- what people wrote ----------------------------------------------------------------------------


def test_an_enquiry_has_its_message_and_other_acts_have_none() -> None:
    enquiry = Interaction(id="1", type="enquired", properties={"message": " Call me \n please "})
    assert contacts.message_of(enquiry) == "Call me \n please"
    form = Interaction(id="1", type="form_submitted", traits={"comments": "x" * 9000})
    assert len(contacts.message_of(form)) == contacts.MAX_MESSAGE
    for other in (
        Interaction(id="1", type="page_viewed", properties={"message": "no"}),
        Interaction(id="1", type="enquired", properties={"message": ["no"], "text": "  "}),
    ):
        assert contacts.message_of(other) == ""


def test_only_what_is_dialled_stands_in_an_address() -> None:
    for written, address in {
        "+49 (0)151 234-5678": "tel:+491512345678",
        "0151/2345678 ext. 3": "tel:01512345678",
        "javascript:alert(12345)": "tel:12345",
        "call me": "",
        "": "",
        "1" * 30: "",
    }.items():
        assert contacts.dial_address(written) == address
    assert contacts.phones_of({"mobile_phone": "0151 2345678", "note": "0151 2345679"}) == [
        "0151 2345678"
    ]
    assert contacts.mail_address("a&b+c@firm.example") == "mailto:a%26b+c@firm.example"


def test_long_and_odd_traits_become_one_short_line() -> None:
    assert words.short({"a": [1]}) == "{'a': [1]}"
    assert words.short(" two\n lines ") == "two lines"
    assert len(words.short("x" * 5000)) == words.LONGEST


def test_every_reason_and_status_of_a_touch_has_words(default_playbook: Playbook) -> None:
    library = default_playbook.content_by_id
    for reason in ("no_consent", "capped", "quiet_hours", "on_site", "nothing_suitable", "holdout",
    "unknown_stage", "history",
                   "superseded", "sample", "preference"):  # fmt: skip
        touch = Touch(id="t", lead="l", status="withheld", reason=reason)
        assert words.touch_in_words(touch, library) == f"No touch: {REASON_SENTENCES[reason]}"
    item = default_playbook.content[0]
    for status in ("due", "sending", "sent", "unknown", "failed"):
        touch = Touch(id="t", lead="l", status=status, content=item.id)
        assert words.touch_in_words(touch, library) == f"“{item.title}” {STATUS_SENTENCES[status]}"
    assert words.touch_in_words(
        Touch(id="t", lead="l", status="failed", content="gone", reason="mailbox_full"), library
    ) == ("“gone” failed: mailbox full")


def test_what_weighs_nothing_says_so(fold: Fold) -> None:
    def act(**fields: object) -> tuple[str, str]:
        data = Interaction(id="1", **fields)  # type: ignore[arg-type]
        return words.act_in_words(
            data, fold.interpreter.interpret(data), fold.playbook.content_by_id
        )

    assert act(type="page_viewed", url="https://x.example/a?email=jo@x.example") == (
        "viewed a page: https://x.example/a",
        "",
    )
    assert act(type="coffee_drunk") == ("coffee drunk", "weighs nothing")
    assert act(type="page_viewed", machine=True)[1] == "a machine did it, so it weighs nothing"
    item = fold.playbook.content[0]
    assert act(type="content_downloaded", content_id=item.id) == (f"downloaded: “{item.title}”", "")


def test_a_ledger_line_names_the_content_by_its_title(default_playbook: Playbook) -> None:
    item = default_playbook.content[0]
    library = default_playbook.content_by_id
    click = Line(
        at=0, kind="event", signal="click", content_id=item.id, content=item.id, touch_id="12"
    )
    assert words.line_in_words(click, library) == f"clicked in our mail: “{item.title}”"
    assert words.act_of_line(click) == "clicked in our mail"
    download = msgspec.structs.replace(click, signal="content_decision", type="content_downloaded")
    assert words.line_in_words(download, library) == f"downloaded: “{item.title}”"
    silence = Line(at=0, kind="silence", silence=3 * DAY)
    assert words.line_in_words(silence, library) == "3.0 days without a sign"
    fit = FitChange(50, 65.5, ("a plant manager",))
    attributes = Line(at=0, kind="attributes", fit=fit)
    assert words.line_in_words(attributes, library) == "fit 50 → 65.5: a plant manager"


def test_what_strangers_write_into_an_address_is_never_taken_for_a_touch() -> None:
    visit = Line(at=0, kind="event", signal="visit", url="https://x.example/ [touch 7] (b)")
    assert words.line_in_words(visit, {}) == ("visited the site (https://x.example/ [touch 7] (b))")


def test_a_move_says_from_where_and_why() -> None:
    assert (
        words.stage_change_in_words("unknown", "status_quo", "event")
        == "seen in Status quo, after an act of its own"
    )
    assert (
        words.stage_change_in_words("decision", "awareness", "silence")
        == "Decision → Awareness, after silence"
    )


def test_every_cause_of_a_stage_change_has_words() -> None:
    assert set(words.CAUSES) == set(get_args(Cause))


# -- the curve ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_the_curve_is_what_was_believed_at_every_moment(fold: Fold, seed: int) -> None:
    events = person(seed)
    now = events[-1].at + 20 * DAY
    seen = curve(fold, "default", known_of(events), now, instants=25)
    assert seen.at[-1] == now
    assert (np.diff(seen.at) > 0).all()
    for i, at in enumerate(seen.at):
        past = [event for event in events if event.at <= at]
        fit = fold.fit.points(profile_of(past).fit_traits())
        view = fold.view(fold.refold("default", [past]), [int(at)], [fit])[0]
        assert seen.belief[:, i] == pytest.approx(list(view.belief.values()), abs=1e-9)
        assert seen.known(i) == (
            None if view.likelihood is None else pytest.approx(view.likelihood, abs=1e-9)
        )


def test_the_curve_ends_where_the_ledger_does(fold: Fold) -> None:
    events = person(3)
    now = events[-1].at + 3 * DAY
    assert curve(fold, "default", known_of(events), now).known(-1) == pytest.approx(
        explain(fold, "default", known_of(events), now).likelihood
    )


def test_the_picture_stays_inside_its_box_and_is_broken_where_nothing_is_left_to_predict(
    fold: Fold,
) -> None:
    bought = Interaction(id="b", type="purchased")
    lost = Interaction(id="l", type="lost")
    events = [
        Event(BASE, "a" * 32, Interaction(id="v", type="page_viewed")),
        Event(BASE + 5 * DAY, "b" * 32, bought),
        Event(BASE + 9 * DAY, "c" * 32, lost),
    ]
    seen = curve(fold, "default", known_of(events), BASE + 20 * DAY)
    path = line(seen, ceiling(seen))
    assert path.count("M") == 2
    for shape in [*areas(seen), path]:
        for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", shape):
            assert 0 <= float(x) <= WIDTH
            assert 0 <= float(y) <= HEIGHT


def test_a_lead_of_this_instant_and_one_of_very_many_events_have_a_curve(fold: Fold) -> None:
    first = Event(BASE, "a" * 32, Interaction(id="v", type="page_viewed"))
    assert curve(fold, "default", known_of([first]), BASE).x(BASE) == 1.0
    many = [Event(BASE + n * DAY // 20, f"{n:032x}", first.data) for n in range(1000)]
    assert curve(fold, "default", known_of(many), many[-1].at).at.size <= 110


# -- what is new ----------------------------------------------------------------------------------


def test_a_watcher_gets_all_at_first_and_then_only_what_changed() -> None:
    watcher = Watcher()
    assert watcher.updates(Fragments({"p": "1"}, {"b": "B", "a": "A"})) == [
        ("p", "1"),
        ("items", "BA"),
    ]
    assert watcher.updates(Fragments({"p": "1"}, {"b": "B", "a": "A"})) == []
    assert watcher.updates(Fragments({"p": "2"}, {"c": "C", "b": "B"})) == [
        ("p", "2"),
        ("items", "C"),
    ]


async def test_one_poller_serves_all_says_when_it_fails_and_rests_without_watchers() -> None:
    renderings = 0

    async def render() -> Fragments:
        nonlocal renderings
        renderings += 1
        if renderings == 2:
            raise ConnectionError
        return Fragments({"n": str(renderings)}, {})

    live = LiveUpdates(render, interval_s=0.01)
    first_watcher, other = live.watch(), live.watch()
    first = [dict(await anext(first_watcher)), dict(await anext(other))]
    assert first[0]["n"] == first[1]["n"] == "1"
    assert dict(await anext(first_watcher)) == {"state": AWAY}
    later = dict(await anext(first_watcher))
    assert later["state"] == ""
    assert int(later["n"]) >= 3
    await first_watcher.aclose()
    await other.aclose()
    rested = renderings
    await asyncio.sleep(0.05)
    assert renderings == rested


# -- signing in -----------------------------------------------------------------------------------


class Ring(ApiKeys):
    """Keys that need no database."""

    def __init__(self, **scopes: str) -> None:
        self.loaded, self._used = True, set()
        self._keys = {
            name: ApiKey(name, name, scope, hash_of("s" * 43), None)
            for name, scope in scopes.items()
        }  # type: ignore[arg-type]


def test_a_session_holds_the_key_it_was_opened_with_and_nothing_else() -> None:
    ring = Ring(reader="query", other="query", writer="secret")
    sessions = PageSessions(ring, b"pepper")
    cookie = sessions.sign_in("rl_reader_" + "s" * 43)
    assert "s" * 43 not in cookie
    assert sessions.key_of(cookie).id == "reader"
    for forged in (
        "",
        "reader",
        "reader.",
        cookie[:-1],
        cookie.replace("reader", "other"),
        "reader.é",
        "writer.0",
    ):
        with pytest.raises(SignedOut):
            sessions.key_of(forged)
    with pytest.raises(SignedOut):
        PageSessions(ring, b"another pepper").key_of(cookie)
    for key in ("", "rl_reader_" + "x" * 43, "rl_writer_" + "s" * 43):
        with pytest.raises(Reject):
            sessions.sign_in(key)


def test_a_session_ends_with_its_key() -> None:
    ring = Ring(reader="query")
    sessions = PageSessions(ring, b"pepper")
    cookie = sessions.sign_in("rl_reader_" + "s" * 43)
    ring._keys["reader"] = reissued(ring._keys["reader"])
    with pytest.raises(SignedOut):
        sessions.key_of(cookie)
    ring._keys.clear()
    with pytest.raises(SignedOut):
        sessions.key_of(cookie)


def test_a_ticket_takes_a_session_to_another_host_for_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ring = Ring(reader="query", writer="secret", page="public")
    people, imports = (
        PageSessions(ring, b"pepper"),
        PageSessions(ring, b"pepper", "secret", admits=["query"]),
    )
    cookie = people.sign_in("rl_reader_" + "s" * 43)
    assert imports.key_of(cookie).id == "reader"
    ticket = people.ticket(people.key_of(cookie))
    assert imports.redeem(ticket) == cookie
    with pytest.raises(Reject):  # the form there wants its own scope
        imports.sign_in("rl_reader_" + "s" * 43)
    key_id, ends, mac = ticket.split(".")
    for forged in (
        "", cookie, f"writer.{ends}.{mac}", f"{key_id}.{int(ends) + 1}.{mac}", f"{key_id}.é.{mac}",
        f"{key_id}.{'9' * 5000}.{mac}", f"{key_id}..{mac}", ticket[:-1], f"page.{ends}.{mac}",
    ):  # fmt: skip
        with pytest.raises(SignedOut):
            imports.redeem(forged)
    with pytest.raises(SignedOut):
        people.key_of(ticket)
    later = time.time() + TICKET_S + 1
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(SignedOut):
        imports.redeem(ticket)


def reissued(key: ApiKey) -> ApiKey:
    """The same id with another secret."""
    return ApiKey(key.id, key.name, key.scope, hash_of("t" * 43), None)


# -- rendering ------------------------------------------------------------------------------------


def test_what_people_typed_is_shown_and_never_run(render: Renderer) -> None:
    activity = Activity(
        key="k",
        at=from_us(BASE),
        kind="announcement",
        text='"><img src=x onerror=alert(1)>',
        tone="decision",
        lead_name="<script>alert(1)</script>",
    )
    html = render.fragment("_item.html", item=activity)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script" not in html
    assert "<img" not in html


def test_times_name_their_zone(render: Renderer) -> None:
    summer = datetime.fromisoformat("2020-07-01T12:00:00Z")
    assert render.when(summer) == (
        '<time datetime="2020-07-01T12:00:00Z" title="1 Jul 2020, 13:00 BST">1 Jul 2020</time>'
    )
    assert render.exact(datetime.fromisoformat("2026-12-01T12:00:00Z")) == (
        '<time datetime="2026-12-01T12:00:00Z">1 Dec 2026, 12:00 GMT</time>'
    )
    two_hours_ago = Clock().now() - timedelta(hours=2, minutes=5)
    assert render.when(two_hours_ago).endswith(">2 h ago</time>")


def test_a_template_that_asks_for_what_is_not_there_fails(render: Renderer) -> None:
    with pytest.raises(UndefinedError):
        render.fragment("_item.html")


def test_a_mail_is_shown_in_a_sandbox() -> None:
    answer = mail_document(
        Touch(id="t", lead="l", status="sent", html="<p onclick='x()'>Hello</p>")
    )
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'")
    assert "script-src" not in policy
    assert "frame-ancestors 'self'" in policy


async def test_assets_are_named_by_content_and_nothing_else_is_served() -> None:
    assets = Assets()
    assert re.fullmatch(r"/static/page\.css\?v=[0-9a-f]{12}", assets.address("page.css"))
    assert "immutable" in (await assets.respond("page.js")).headers["cache-control"]
    assert (await assets.respond("../page.py")).status_code == 404
