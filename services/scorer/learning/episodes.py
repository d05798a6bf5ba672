"""What the live fold takes of leads' events, as episodes that a model is learned from: an episode
goes from a lead's first step, or from a restart, to the outcome, the next restart or the end of
what is known.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from services.scorer.learning.histories import F, History, I
from services.scorer.learning.moments import Moments
from services.scorer.model.activity import Activity
from services.scorer.model.estimate import values
from services.scorer.model.explanation import ENDING
from services.scorer.model.fold import Fold
from services.scorer.model.profile import add, tells_of_person
from services.scorer.model.stage_filter import RESTARTING, StageModel
from services.scorer.model.state import Step
from services.scorer.model.window import Known
from services.shared.clock import DAY

CELLS = 200_000  # of padded steps that are worked on at once
# what says who somebody is, and nothing of whether such people buy
PERSONAL = frozenset({
    "name", "first_name", "firstname", "firstName", "last_name", "lastname", "lastName", "email",
    "phone", "mobile", "address", "street", "company", "company_name", "website", "url", "avatar",
    "topics", "pace", "paused_until", "email_domain", "timezone", "birthday", "username",
})  # fmt: skip
Traits = Mapping[str, Any]


class Person(NamedTuple):
    """What is known of a person from `at` (µs) on."""

    at: int
    traits: Traits


class Episode(NamedTuple):
    """Steps of one lead and product that the stage filter takes: `at` (µs, ascending) and their
    signals' codes; `began` is the restart before them or their first; `account` is '' where none is
    known.
    """

    lead: int
    began: int
    at: I
    code: I
    end: int
    converted: bool
    persons: Sequence[Person]
    account: str = ""

    def until(self, moment: int) -> "Episode | None":
        """What was known of it at a moment (µs); None before its first step."""
        count = int(np.searchsorted(self.at, moment, side="right"))
        if not count:
            return None
        is_over = self.end <= moment
        return self._replace(
            at=self.at[:count],
            code=self.code[:count],
            end=min(self.end, moment),
            converted=self.converted and is_over,
            persons=[person for person in self.persons if person.at <= moment],
        )

    def known(self, moment: int) -> Traits:
        """What was known of the person at a moment (µs)."""
        return next(each.traits for each in reversed(self.persons) if each.at <= moment)


def episodes(fold: Fold, product: str, known: Known, lead: int, until: int) -> list[Episode]:
    """The episodes of one lead, as known at `until` (µs)."""
    steps: list[Step] = []
    fold.trace(product, known.events, until, lambda step, *_: steps.append(step))
    persons = _persons(fold, known)
    found: list[Episode] = []
    own: list[Step] = []
    began = 0

    def close(end: int, *, converted: bool) -> None:
        if own:
            at = np.array([step.at for step in own], np.int64)
            code = np.array([step.code for step in own], np.int64)
            found.append(Episode(lead, began or own[0].at, at, code, end, converted, persons))
            own.clear()

    for step in steps:
        if step.at > until:
            break
        signal = fold.model.signals[step.code % fold.model.shared_offset]
        if signal in ENDING:
            close(step.at, converted=True)
        elif signal in RESTARTING:
            close(step.at, converted=False)
            began = step.at
        else:
            own.append(step)
    close(until, converted=False)
    return found


def _persons(fold: Fold, known: Known) -> list[Person]:
    """What was known of a lead, from each event that told something new."""
    profile = known.before
    persons = [Person(-(1 << 62), profile.fit_traits())]
    for event in known.events:
        if tells_of_person(event.data):
            add(profile, event, fold.declared)
            if (traits := profile.fit_traits()) != persons[-1].traits:
                persons.append(Person(event.at, traits))
    return persons


def histories(found: Iterable[Episode]) -> list[History]:
    """The episodes in days since 1970; the marks are signals' codes."""
    return [History(each.at / DAY, each.code, each.end / DAY, each.converted) for each in found]


def traits_at(found: Sequence[Episode], when: Moments) -> list[Traits]:
    """What was known of the persons at moments of their episodes."""
    out: list[Traits] = []
    for place, at in zip(when.lead.tolist(), when.at.tolist(), strict=True):
        out.append(found[place].known(round(at * DAY)))
    return out


def state_values(model: StageModel, found: Sequence[Episode], when: Moments) -> F:
    """What the layer reads (N, P) at moments of episodes."""
    out = np.empty((len(when.lead), 0))
    lengths = np.array([len(each.at) for each in found], np.int64)
    rows = np.argsort(when.lead, kind="stable")
    leads = when.lead[rows]
    for some in _portions(lengths):
        if not some.size:
            continue
        place = np.full(len(found), -1, np.int64)
        place[some] = np.arange(some.size)
        mine = rows[place[leads] >= 0]
        part = _values(model, [found[i] for i in some.tolist()], place, when.only(mine))
        if not out.shape[1]:
            out = np.empty((len(when.lead), part.shape[1]))
        out[mine] = part
    return out


def _portions(lengths: I) -> Iterator[I]:
    """Places of episodes, the longest first, so many at once that they fill CELLS."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < order.size:
        count = max(1, CELLS // max(int(lengths[order[start]]), 1))
        yield order[start : start + count]
        start += count


def _values(model: StageModel, found: Sequence[Episode], place: I, when: Moments) -> F:
    """Of episodes that are sorted by their number of steps, the longest first."""
    size = len(found)
    lengths = np.array([len(each.at) for each in found], np.int64)
    at, code = (np.zeros((int(lengths[0]), size), np.int64) for _ in range(2))
    for column, each in enumerate(found):
        at[: len(each.at), column], code[: len(each.at), column] = each.at, each.code
    belief = np.repeat(model.start[:, None], size, axis=1)
    last = np.array([each.began for each in found], np.int64)
    activity = Activity.none(len(model.marks), size)
    lead, step = place[when.lead], when.events - 1
    at_step = np.argsort(step, kind="stable")
    bounds = np.searchsorted(step[at_step], np.arange(len(at) + 1))
    shown = np.empty((len(model.start), len(lead)))
    acts = Activity.none(len(model.marks), len(lead))
    since = np.empty(len(lead), np.int64)
    for j in range(len(at)):
        n = int(np.searchsorted(-lengths, -j, side="left"))
        who = np.arange(n)
        days = (at[j, :n] - last[:n]) / DAY
        moved = model.advance(np.ascontiguousarray(belief[:, :n]), days)
        belief[:, :n] = model.update(np.where(days > 0, moved, belief[:, :n]), code[j, :n])
        activity.step(who, at[j, :n], model.marks_of(code[j, :n]), np.zeros(n, np.bool_))
        last[:n] = at[j, :n]
        rows = at_step[bounds[j] : bounds[j + 1]]
        if rows.size:
            own = lead[rows]
            shown[:, rows], since[rows] = belief[:, own], last[own]
            for kept, now in zip(acts, activity.of(own), strict=True):
                kept[..., rows] = now
    until = np.maximum(np.rint(when.at * DAY).astype(np.int64), since)
    days = (until - since) / DAY
    belief = np.where(days > 0, model.advance(shown, days), shown)
    return values(model, belief, acts, until).T
