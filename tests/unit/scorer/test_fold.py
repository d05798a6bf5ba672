"""The fold: the same set gives the same state, whatever the order, doubling and batching; its
ledger sums to the number.
"""

import math
import random

import pytest

from services.scorer.model.explanation import explain
from services.scorer.model.fold import Fold
from services.scorer.model.profile import profile_of
from services.scorer.model.state import Event, FoldState
from services.scorer.model.window import known_of
from services.scorer.wording import line_in_words
from services.shared.contracts.event_types import TOUCH_SENT
from services.shared.contracts.events import Interaction, event_uid
from services.shared.playbook.sections import Playbook
from tests.support.histories import BASE, DAY, MINUTE, SECOND, history
from tests.support.learned import with_layer


@pytest.fixture(scope="module")
def fold(default_playbook: Playbook) -> Fold:
    return Fold(default_playbook)


@pytest.fixture(scope="module")
def several(default_playbook: Playbook) -> Fold:
    return Fold(default_playbook.model_copy(update={"products": ["default", "other"]}))


def person(rng: random.Random) -> list[Event]:
    """Events of one person, sends among them, in order; ids are distinct."""
    events: dict[str, Event] = {}
    for said in history(rng, people=1, length=rng.randrange(1, 22)):
        uid = event_uid("canonical:test", said.data.id)
        product = rng.choice(["", "", "default", "other", "unheard"])
        data = Interaction(
            **{name: getattr(said.data, name) for name in said.data.__struct_fields__}
            | {"product": product}
        )
        events.setdefault(uid, Event(said.at, uid, data))
    for n in range(rng.randrange(3)):
        touch = f"0000000{n}-0000-4000-8000-000000000000"
        tracked = {"opens_tracked": rng.random() < 0.7, "clicks_tracked": rng.random() < 0.8}
        sent = Interaction(
            id=touch, type=TOUCH_SENT, touch_id=touch, product="default", properties=tracked
        )
        uid = event_uid("nurture", touch)
        events[uid] = Event(BASE + rng.randrange(30) * DAY + rng.randrange(3) * MINUTE, uid, sent)
    return in_order(events.values())


def in_order(events: object) -> list[Event]:
    return sorted(events, key=lambda event: (event.at, event.uid))  # type: ignore[call-overload]


def arriving(fold: Fold, product: str, events: list[Event], rng: random.Random) -> FoldState:
    """The state after the events came in any order, doubled, in batches: folded on where possible,
    else from the start.
    """
    lane, known = fold.initial(product), {}
    coming = events + rng.choices(events, k=len(events) // 4)
    rng.shuffle(coming) if rng.random() < 0.7 else coming.sort(key=lambda e: (e.at, e.uid))
    while coming:
        size = rng.choice([1, 1, 2, 7])
        batch = {e.uid: e for e in coming[:size] if e.uid not in known}
        coming = coming[size:]
        known |= batch
        fresh = in_order(batch.values())
        back = any(
            fold.weighs(e.data) and ((e.at, e.uid) <= lane.position or fold.undoes(lane, e))
            for e in fresh
        )
        lane = (
            fold.refold(product, [in_order(known.values())])[0]
            if back
            else fold.extend([lane], [fresh])[0]
        )
    return lane


def check(fold: Fold, seed: int) -> None:
    rng = random.Random(seed)
    people = [person(rng) for _ in range(2)]
    product = rng.choice(list(fold.playbook.products))
    together = fold.refold(product, people)
    for events, whole in zip(people, together, strict=True):
        assert fold.refold(product, [events])[0] == whole
        assert arriving(fold, product, events, rng) == whole
        now = events[-1].at + rng.randrange(100) * DAY
        sums_up(fold, product, events, whole, now)
        nothing_scanned_counts(fold, product, events, whole, now)


def sums_up(fold: Fold, product: str, events: list[Event], lane: FoldState, now: int) -> None:
    """start + Σ delta = logit(likelihood), and it is the likelihood that is shown (S5)."""
    ledger = explain(fold, product, known_of(events), now)
    fits, effects = fold.persons([profile_of(events).fit_traits()])
    shown = fold.view([lane], [now], fits, effects)[0]
    if shown.likelihood is None:
        assert ledger.likelihood is None
        assert ledger.ended_by
        return
    assert ledger.likelihood == pytest.approx(shown.likelihood, abs=1e-12)
    logit = math.log(ledger.likelihood / (1 - ledger.likelihood))
    assert ledger.start + math.fsum(line.delta for line in ledger.lines) == pytest.approx(
        logit, abs=1e-9
    )
    started = 100 / (1 + math.exp(-ledger.start))
    assert started + math.fsum(line.points for line in ledger.lines) == pytest.approx(
        100 * ledger.likelihood, abs=1e-7
    )


def nothing_scanned_counts(
    fold: Fold, product: str, events: list[Event], lane: FoldState, now: int
) -> None:
    """Without the clicks that lie within ten seconds of a machine's on the same mail, the lead
    looks the same (I5).
    """
    others = set(fold.playbook.products) - {product}
    clicks = [
        e
        for e in events
        if e.data.type == "email_clicked" and e.data.touch_id and e.data.product not in others
    ]
    machines = [(event.data.touch_id, event.at) for event in clicks if event.data.machine]
    scanned = {
        event.uid
        for event in clicks
        if not event.data.machine
        and any(
            touch == event.data.touch_id and abs(at - event.at) <= 10 * SECOND
            for touch, at in machines
        )
    }
    assert fold.scanned(product, events) == scanned
    without = fold.refold(product, [[event for event in events if event.uid not in scanned]])[0]
    assert fold.view([without], [now], [50.0]) == fold.view([lane], [now], [50.0])


def test_any_order_doubling_and_batching_gives_the_same_state_in_1000_cases(
    fold: Fold, several: Fold
) -> None:
    for seed in range(1000):
        check(several if seed % 5 == 0 else fold, seed)


def test_the_same_holds_under_a_learned_model_in_300_cases(
    default_playbook: Playbook, several: Fold
) -> None:
    """Its layer reads decayed counts and times, which are part of the state (S5)."""
    one = Fold(with_layer(default_playbook))
    two = Fold(with_layer(several.playbook, seed=1))
    for seed in range(300):
        check(two if seed % 5 == 0 else one, seed)


@pytest.mark.long
def test_the_same_holds_under_a_learned_model_in_10000_cases(default_playbook: Playbook) -> None:
    fold = Fold(with_layer(default_playbook, seed=2))
    for seed in range(10_000):
        check(fold, seed)


@pytest.mark.long
def test_any_order_doubling_and_batching_gives_the_same_state_in_10000_cases(
    fold: Fold, several: Fold
) -> None:
    for seed in range(1000, 11_000):
        check(several if seed % 5 == 0 else fold, seed)


def act(type_: str, day: float, **more: object) -> Event:
    data = Interaction(id=f"{type_}{day}", type=type_, email="ada@acme.example", **more)  # type: ignore[arg-type]
    return Event(BASE + int(day * DAY), event_uid("x", data.id), data)


def stage_after(fold: Fold, *events: Event, days: float = 0) -> str:
    lane = fold.refold("default", [list(events)])[0]
    return fold.view([lane], [events[-1].at + int(days * DAY)], [50.0])[0].stage


def test_a_demo_request_publishes_decision_and_a_purchase_customer_at_once(
    fold: Fold,
) -> None:
    assert stage_after(fold, act("page_viewed", 0), act("demo_requested", 1)) == "decision"
    assert stage_after(fold, act("page_viewed", 0), act("purchased", 1)) == "customer"


def test_silence_takes_a_lead_back(fold: Fold) -> None:
    """No high-water mark (G2), by inaction alone (S4)."""
    assert stage_after(fold, act("demo_requested", 0), days=90) in ("status_quo", "awareness")


def test_an_unsubscribe_publishes_nothing_by_itself(fold: Fold) -> None:
    assert stage_after(fold, act("demo_requested", 0), act("unsubscribed", 3)) == "decision"


def test_what_weighs_nothing_changes_no_bit(fold: Fold) -> None:
    """Unknown types and machine opens make no instant and break no silence (I5)."""
    plain = [act("page_viewed", 0), act("enquired", 9)]
    noise = [
        act("moon_landed", 3),
        act("page_viewed", 5, machine=True),
        act("email_delivered", 6),
        act("email_opened", 7),
    ]
    quiet, noisy = fold.refold("default", [plain, in_order([*plain, *noise])])
    assert quiet == noisy


def test_ten_page_views_in_ten_minutes_are_one_visit(fold: Fold) -> None:
    views = [act("page_viewed", minute / 1440) for minute in range(10)]
    one, many = fold.refold("default", [views[:1], views])
    assert one.record == many.record


def test_our_own_sending_never_raises_a_score(fold: Fold) -> None:
    base = [
        act("page_viewed", 0),
        act("content_downloaded", 1, content_id=fold.playbook.content[3].id),
    ]
    touch = "00000001-0000-4000-8000-000000000000"
    sent = act(
        TOUCH_SENT, 2, touch_id=touch, properties={"clicks_tracked": True, "opens_tracked": True}
    )
    without, sending = fold.refold("default", [base, [*base, sent]])
    for day in (2.5, 4, 8, 30):
        now = BASE + int(day * DAY)
        plain, sent_to = (
            fold.view([lane], [now], [50.0])[0].likelihood for lane in (without, sending)
        )
        assert plain is not None
        assert sent_to is not None
        assert sent_to <= plain


def test_an_open_counts_given_its_send_and_a_machine_open_cancels_it(fold: Fold) -> None:
    touch = "00000001-0000-4000-8000-000000000000"
    sent = act(TOUCH_SENT, 2, touch_id=touch, properties={"opens_tracked": True})
    base, opened = act("page_viewed", 0), act("email_opened", 3, touch_id=touch)
    machine = act("email_opened", 3.5, touch_id=touch, machine=True)

    def chance(*events: Event) -> float | None:
        lane = fold.refold("default", [in_order(events)])[0]
        return fold.view([lane], [BASE + 9 * DAY], [50.0])[0].likelihood

    silent, counted = chance(base, sent), chance(base, sent, opened)
    assert silent is not None
    assert counted is not None
    assert counted > silent
    assert chance(base, sent, opened, machine) == chance(base)


TOUCH = "00000001-0000-4000-8000-000000000000"


def mailed(fold: Fold, *clicks: tuple[float, bool]) -> tuple[float, float]:
    """(likelihood, what `explain` sums to) nine days after a mail with these clicks: seconds after
    its day, by a machine?
    """
    events = [
        act("page_viewed", 0),
        act(TOUCH_SENT, 2, touch_id=TOUCH, properties={"clicks_tracked": True}),
    ]
    for seconds, machine in clicks:
        events.append(act("email_clicked", 3 + seconds / 86_400, touch_id=TOUCH, machine=machine))
    events = in_order(events)
    lane, now = fold.refold("default", [events])[0], BASE + 11 * DAY
    likelihood = fold.view([lane], [now], [50.0])[0].likelihood
    assert likelihood is not None
    return likelihood, explain(fold, "default", known_of(events), now).likelihood or 0.0


@pytest.mark.parametrize("seconds", [-10, -1, 0, 10])
def test_a_click_beside_a_machines_is_the_machines(fold: Fold, seconds: float) -> None:
    """I5: whichever came first; the mail stays unanswered."""
    unanswered, answered = mailed(fold), mailed(fold, (0, False))
    assert answered[0] > unanswered[0]
    assert (
        mailed(fold, (0, False), (seconds, True))
        == unanswered
        == (unanswered[0], pytest.approx(unanswered[0]))
    )
    assert mailed(fold, (0, True)) == unanswered
    assert mailed(fold, (0, False), (11, True)) == answered


def test_a_person_who_clicks_after_the_scanner_counts(fold: Fold) -> None:
    """I5."""
    later = mailed(fold, (0, True), (1, False), (3600, False))[0]
    assert later == pytest.approx(mailed(fold, (3600, False))[0], abs=1e-12)
    assert later > mailed(fold)[0]


def test_the_ledger_names_the_click_that_a_machine_made(fold: Fold) -> None:
    """S5, I5: with nothing beside it."""
    sent = act(TOUCH_SENT, 2, touch_id=TOUCH, properties={"clicks_tracked": True})
    click, machine = (
        act("email_clicked", 3 + n / 86_400, touch_id=TOUCH, machine=bool(n)) for n in range(2)
    )
    ledger = explain(
        fold, "default", known_of([act("page_viewed", 0), sent, click, machine]), BASE + 4 * DAY
    )
    told = [line for line in ledger.lines if line.event_id == click.data.id]
    assert [(line.kind, line.delta, line.points) for line in told] == [("machine", 0.0, 0.0)]
    assert "a machine clicked in it within seconds" in line_in_words(told[0], {})
    assert not [line for line in ledger.lines if line.event_id == machine.data.id]


@pytest.mark.parametrize(
    "word", ["lost", "sales_rejected", "opportunity_opened", "purchased", "won"]
)
def test_the_same_word_of_sales_twice_is_one_fact(fold: Fold, word: str) -> None:
    """I6: by an event and by a call of the API, say; another word between them makes it a
    new one.
    """
    before, said = act("demo_requested", 0), act(word, 3)
    again, later = act(word, 3 + 20 / 1440), act(word, 3 + 31 / 1440)
    once, twice, anew = fold.refold(
        "default", [[before, said], [before, said, again], [before, said, later]]
    )
    assert once.record == twice.record
    if word != "opportunity_opened":  # after which the filter rests
        assert anew.record != once.record
    other = act(
        "lost" if word in ("opportunity_opened", "purchased", "won") else "opportunity_opened",
        3 + 10 / 1440,
    )
    between = fold.refold("default", [[before, said, other, again]])[0]
    now = BASE + 4 * DAY
    settled = fold.view([between], [now], [50.0])[0].likelihood is None
    assert settled is (word in ("opportunity_opened", "purchased", "won"))


@pytest.mark.parametrize("word", ["sales_rejected", "lost", "won", "opportunity_opened"])
def test_what_sales_takes_back_leaves_no_trace_in_the_state(fold: Fold, word: str) -> None:
    """G1, H2: bit for bit, in the number and in its ledger."""
    before = [act("pricing_viewed", day) for day in (0, 1, 2)] + [act("demo_requested", 3)]
    said = act(word, 4)
    undo = act("sales_undone", 4.001, properties={"event": said.uid})
    after = [act("content_downloaded", 6, content_id="whitepaper-four-kinds")]
    plain, taken_back = [*before, *after], [*before, said, undo, *after]
    [expected] = fold.refold("default", [plain])
    assert fold.refold("default", [taken_back]) == [expected]
    assert fold.refold("default", [[*before, said, *after]]) != [expected]
    other = act("sales_undone", 4.001, properties={"event": before[0].uid})
    assert fold.refold("default", [[*before, other, *after]]) == [expected]
    now = BASE + 9 * DAY
    one, two = (explain(fold, "default", known_of(each), now) for each in (plain, taken_back))
    assert (one.likelihood, one.lines) == (two.likelihood, two.lines)


def test_an_opportunity_leaves_nothing_to_predict_and_a_loss_starts_anew(fold: Fold) -> None:
    events = [act("demo_requested", 0), act("opportunity_opened", 3), act("page_viewed", 5)]
    lane = fold.refold("default", [events])[0]
    assert fold.view([lane], [events[-1].at], [50.0])[0].likelihood is None
    again = fold.refold("default", [[*events, act("lost", 9)]])[0]
    view = fold.view([again], [BASE + 9 * DAY], [50.0])[0]
    assert view.likelihood is not None
    assert list(view.belief.values()) == pytest.approx(fold.model.start.tolist())


# what sales says, a day apart; after which of the words (from 0) the lead is a customer no more,
# CUSTOMER where it is one at the end, None where it never was
CUSTOMER = -1
SALES = {
    "won": CUSTOMER,
    "purchased": CUSTOMER,
    "won lost": 1,
    "won refunded": 1,
    "purchased refunded": 1,
    "purchased lost": 1,
    "opportunity_opened won lost": 2,
    "won lost won": CUSTOMER,
    "won refunded lost": 1,
    "won sales_rejected": CUSTOMER,  # sent back as a lead, a customer all the same
    "won sales_accepted": CUSTOMER,
    "won opportunity_opened lost": CUSTOMER,  # a further opportunity
    "won opportunity_opened refunded": 2,
    "won opportunity_opened won lost": 3,
    "lost": None,
    "refunded": None,
}


@pytest.mark.parametrize(("words", "ended"), SALES.items())
def test_a_purchase_that_is_taken_back_makes_no_customer(
    fold: Fold, words: str, ended: int | None
) -> None:
    """I6: the stage is the filter's then, from a new start."""
    said = [act(word, 3 + n) for n, word in enumerate(words.split())]
    events = [act("demo_requested", 0), *said]
    state = fold.refold("default", [events])[0]
    view = fold.view([state], [events[-1].at], [50.0])[0]
    assert (view.stage == "customer") is (view.likelihood is None) is (ended == CUSTOMER)
    ledger = explain(fold, "default", known_of(events), events[-1].at)
    assert ledger.likelihood == pytest.approx(view.likelihood)
    if ended != CUSTOMER:
        assert list(view.belief.values()) == pytest.approx(fold.model.start.tolist())
    if ended is not None and ended >= 0:
        first = fold.model.candidate(fold.model.start[:, None])[0]
        assert view.stage == [*fold.playbook.stages, "unknown"][first]
        assert view.stage_since == said[ended].at


def test_a_customer_of_one_product_is_a_lead_for_the_next(several: Fold) -> None:
    """D5."""
    events = [act("demo_requested", 0), act("won", 3, product="default")]
    bought, other = several.refold("default", [events])[0], several.refold("other", [events])[0]
    views = several.view([bought, other], [events[-1].at] * 2, [50.0] * 2)
    assert [view.stage for view in views] == ["customer", "decision"]
    assert views[0].likelihood is None
    assert views[1].likelihood


def test_engagement_is_capped_and_decays(fold: Fold) -> None:
    """S3."""
    busy = [act("pricing_viewed", day / 10) for day in range(200)]
    lane = fold.refold("default", [busy])[0]
    now, later = (
        fold.view([lane], [busy[-1].at + days * DAY], [50.0])[0].engagement for days in (0, 200)
    )
    cap = max(group.cap for group in fold.playbook.engagement.groups.values())
    assert 0 < now <= cap
    assert later < now / 4
