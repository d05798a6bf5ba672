"""Leads of very many events: which of them the fold weighs, in whatever order they come."""

import math
import random
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from services.ops.commands.verify import canonical
from services.scorer.model import profile as profiles
from services.scorer.model import window
from services.scorer.model.explanation import explain
from services.scorer.model.profile import Profile, profile_of
from services.scorer.model.state import Event
from services.scorer.model.trajectory import curve
from services.scorer.model.window import Known, known_of, place
from services.scorer.processing.batch import Batch
from services.scorer.processing.folding import fold
from services.scorer.records import IncomingEvent, LeadRow
from services.scorer.scoring import Scoring
from services.shared.clock import from_us
from services.shared.contracts.events import Interaction, event_uid
from services.shared.contracts.provenance import LIVE
from services.shared.playbook.sections import Playbook
from tests.support import histories, present
from tests.support.histories import BASE, DAY, MINUTE

LEAD = uuid.UUID(int=7)


@pytest.fixture(scope="module")
def scoring(default_playbook: Playbook) -> Scoring:
    return Scoring.of(default_playbook, present.CLOCK)


class Memory:
    """A stored history of one lead, as `History` reads it; counts what is read."""

    parts = None

    def __init__(self, declared: frozenset[str]) -> None:
        self.events: list[Event] = []
        self.declared, self.read, self.folds = declared, 0, 0

    async def known(
        self, leads: Mapping[uuid.UUID, Profile | None]
    ) -> AsyncIterator[dict[uuid.UUID, Known]]:
        for lead, profile in leads.items():
            profile = profile or profile_of(self.events, self.declared)
            newest = self.events[-window.count(profile.stored) :]
            marked = profile.milestones_before((1 << 62, ""))
            milestones = [event for event in self.events if place(event) in marked]
            self.read, self.folds = max(self.read, len(newest) + len(milestones)), self.folds + 1
            yield {lead: window.known(profile, newest, milestones)}


class Lead:
    """One lead whose events come in batches."""

    def __init__(self, scoring: Scoring) -> None:
        self.scoring, self.row = scoring, LeadRow(LEAD)
        self.memory = Memory(scoring.fold.declared)

    async def take(self, *events: Event) -> None:
        known = {event.uid for event in self.memory.events}
        new = {event.uid: event for event in events if event.uid not in known}
        self.memory.events = sorted((*self.memory.events, *new.values()), key=place)
        batch = Batch(leads={LEAD: self.row}, events={LEAD: list(map(incoming, new.values()))})
        await fold(self.scoring, self.memory, batch)  # type: ignore[arg-type]

    def check(self) -> None:
        """It is what the whole set makes it, bit for bit."""
        reference = known_of(self.memory.events, self.scoring.fold.declared)
        folded = self.scoring.fold.refold("default", [reference.events])[0]
        assert self.row.states["default"].fold == folded
        assert canonical(self.row.profile) == canonical(reference.profile)


def incoming(event: Event) -> IncomingEvent:
    return IncomingEvent(
        event.uid, event.at, "00", from_us(event.at), "test", LIVE, 0.0, event.data, "", []
    )


def event(n: int, type_: str, at: int, **more: Any) -> Event:
    data = Interaction(id=f"{n}", type=type_, user_id="u", **more)
    return Event(at, event_uid("x", data.id), data, at)


def busy(rng: random.Random, count: int) -> list[Event]:
    """A history with all that may occur, stretched to so many events."""
    types = (*histories.TYPES, "touch_sent")
    touches = [f"0000000{n}-0000-4000-8000-000000000000" for n in range(8)]
    found = []
    for n in range(count):
        type_ = rng.choice(types)
        about_mail = type_ in ("touch_sent", "email_opened", "email_clicked")
        found.append(
            event(
                n,
                type_,
                BASE + rng.randrange(90 * 24) * 60 * MINUTE,
                touch_id=rng.choice(touches) if about_mail else "",
                machine=rng.random() < 0.1,
                traits={rng.choice("abc"): n} if rng.random() < 0.1 else {},
                properties={"clicks_tracked": True, "opens_tracked": rng.random() < 0.5}
                if type_ == "touch_sent"
                else {},
            )
        )
    return sorted(found, key=place)


@pytest.mark.parametrize("seed", range(60))
async def test_any_order_gives_the_same_state_with_a_window_of_a_few_events(
    seed: int, scoring: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order, late before and inside the window, doubled, in batches of any size."""
    rng = random.Random(seed)
    kept, block = rng.choice([(3, 2), (5, 1), (8, 5), (2, 7)])
    for name, limit in (("KEPT", kept), ("BLOCK", block), ("WHOLE", kept + block)):
        monkeypatch.setattr(window, name, limit)
    monkeypatch.setattr(profiles, "MOST_MILESTONES", rng.choice([1, 2]))
    lead, coming = Lead(scoring), busy(rng, rng.randrange(20, 60))
    late = rng.sample(coming, len(coming) // rng.choice([2, 4, 100]))
    coming = [each for each in coming if each not in late]
    for each in late:
        coming.insert(rng.randrange(len(coming) + 1), each)
    while coming:
        size = rng.choice([1, 1, 2, 5])
        await lead.take(*coming[:size], *rng.choices(coming[:size], k=1))
        coming = coming[size:]
        lead.check()


async def test_a_lead_of_2_000_events_seldom_reads_any_in_order_and_never_many_for_a_late_one(
    scoring: Scoring,
) -> None:
    rng = random.Random(3)
    lead, coming = Lead(scoring), busy(rng, 2000)
    late = [coming.pop(n) for n in (3, 400, 1100, 1700, 1900, 1985)]
    for n in range(0, len(coming), 10):
        await lead.take(*coming[n : n + 10])
    in_order = lead.memory.folds
    lead.check()
    assert in_order < 2000 / 10 / 3  # a machine's answers undo what was folded
    for each in late:
        await lead.take(each)
        lead.check()
    most = window.WHOLE + len(lead.row.profile.milestones) * profiles.MOST_MILESTONES
    assert lead.memory.read <= most


@pytest.mark.parametrize("count", [1, 100, window.WHOLE - 1])
def test_of_fewer_events_all_are_weighed(count: int) -> None:
    events = busy(random.Random(count), count)
    assert known_of(events).events == events


@pytest.mark.parametrize("count", [window.WHOLE, 1000, 1023, 1024, 5000])
def test_of_more_the_newest_are(count: int) -> None:
    events = [event(n, "page_viewed", BASE + n) for n in range(count)]
    known = known_of(events)
    assert known.events == events[-len(known.events) :]
    assert window.KEPT <= len(known.events) < window.WHOLE
    assert known.unweighed == count - len(known.events)


def views(count: int, first: int) -> list[Event]:
    return [event(n, "page_viewed", first + n * 31 * MINUTE) for n in range(count)]


@pytest.mark.parametrize(
    ("said", "is_settled"),
    [("opportunity_opened", True), ("won", True), ("purchased", True), ("lost", False)],
)
def test_an_outcome_is_not_forgotten_behind_hundreds_of_page_views(
    scoring: Scoring, said: str, *, is_settled: bool
) -> None:
    """G2, I6."""
    opened = event(-2, "opportunity_opened", BASE - 2 * DAY)
    events = [opened, event(-1, said, BASE - DAY), *views(900, BASE)]
    known = known_of(events)
    assert [each.data.type for each in known.events[:2]] == ["opportunity_opened", said]
    state = scoring.fold.refold("default", [known.events])[0]
    view = scoring.fold.view([state], [events[-1].at], [50.0])[0]
    assert (view.likelihood is None) is is_settled
    assert bool(explain(scoring.fold, "default", known, events[-1].at).ended_by) is is_settled


def test_the_ledger_of_very_many_events_sums_up_to_the_number_that_is_shown(
    scoring: Scoring,
) -> None:
    """S5: fit by what was said long before the newest events is a line of its own."""
    told = event(-1, "identified", BASE - DAY, traits={"title": "Head of maintenance"})
    events = [told, *views(900, BASE)]
    known, now = known_of(events, scoring.fold.declared), events[-1].at + DAY
    assert told not in known.events
    fit = scoring.fold.fit.points(known.profile.fit_traits())
    state = scoring.fold.refold("default", [known.events])[0]
    shown = scoring.fold.view([state], [now], [fit])[0].likelihood
    ledger = explain(scoring.fold, "default", known, now)
    assert shown == pytest.approx(ledger.likelihood, abs=1e-12)
    assert shown is not None
    logit = math.log(shown / (1 - shown))
    assert ledger.start + math.fsum(line.delta for line in ledger.lines) == pytest.approx(logit)
    assert ledger.lines[0].fit
    assert ledger.lines[0].fit.after == fit
    assert ledger.unweighed == 901 - len(known.events)
    assert curve(scoring.fold, "default", known, now).known(-1) == pytest.approx(shown)


def test_what_lies_hundreds_of_events_back_hardly_counts(scoring: Scoring) -> None:
    """The window against the fold of all 2,000 events of a year in which nothing starts anew."""
    fold_, most = scoring.fold, 0.0
    anew = ("purchased", "opportunity_opened", "lost", "sales_rejected")
    types = [type_ for type_ in histories.TYPES if type_ not in anew]
    for seed in range(10):
        rng = random.Random(seed)
        events = [
            event(n, rng.choice(types), BASE + rng.randrange(365 * 24) * 60 * MINUTE)
            for n in range(2000)
        ]
        events.sort(key=place)
        known, now = known_of(events), events[-1].at + DAY
        whole, newest = fold_.view(
            fold_.refold("default", [events, known.events]), [now] * 2, [50.0] * 2
        )
        assert whole.stage == newest.stage
        apart = sum(abs(whole.belief[stage] - newest.belief[stage]) for stage in whole.belief)
        most = max(most, apart / 2)
    assert most < 1e-6
