"""Numbers of what leads did up to a moment, and who they are, each of a family of signals."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from services.scorer.learning.attributes import Column
from services.scorer.learning.families import CONTENT
from services.scorer.learning.histories import B, F, History, I
from services.scorer.learning.moments import Moments

HALF_LIVES = (7.0, 60.0)  # days, of counts of acts
RECENT_DAYS = 30.0  # within which somebody of the account acts at present
PACE, AGE = "pace", "age"


class Signals(NamedTuple):
    """Values (N, P) of N moments or rows, with `family` (P), or AGE, which every model knows.
    Columns of traits are apart, since a model says which of their words count. `group` (N) is held
    out together.
    """

    values: F
    family: list[str]
    traits: list[tuple[str, Column]]
    group: I
    outcome: B
    lead: I


def of_acts(
    histories: Sequence[History], families: Sequence[str], when: Moments
) -> tuple[F, list[str]]:
    """Counts of each mark that halve in HALF_LIVES, its number, and when its last was, with their
    families; `families` are of the marks, '' of what is no act. The pace is of acts that consume no
    content; the lead's AGE is of no family.
    """
    marks = len(families)
    others = np.array([name not in ("", *CONTENT) for name in families], np.bool_)
    kinds = len(HALF_LIVES) + 2
    out = np.zeros((len(when.lead), marks, kinds))
    age, pace = np.zeros(len(when.lead)), np.zeros((len(when.lead), len(HALF_LIVES) + 1))
    for row, (lead, at, seen) in enumerate(
        zip(when.lead.tolist(), when.at.tolist(), when.events.tolist(), strict=True)
    ):
        times, codes = histories[lead].times[:seen], histories[lead].marks[:seen]
        ages = at - times
        for place, half_life in enumerate(HALF_LIVES):
            out[row, :, place] = np.bincount(codes, np.exp2(-ages / half_life), marks)
        counts = np.bincount(codes, minlength=marks)
        out[row, :, -2] = np.log1p(counts)
        last = np.full(marks, np.inf)
        np.minimum.at(last, codes, ages)
        out[row, :, -1] = np.exp2(-last / RECENT_DAYS)
        age[row] = at - times[0]
        pace[row, 0] = np.log1p(counts[others].sum())
        pace[row, 1:] = out[row, others, : len(HALF_LIVES)].sum(0)
    family = [name for name in families for _ in range(kinds)]
    acts = out.reshape(len(when.lead), marks * kinds)
    values = np.column_stack([acts, pace, age, np.log1p(age)])
    return values, [*family, *[PACE] * pace.shape[1], AGE, AGE]


def breadth(histories: Sequence[History], accounts: Sequence[str], when: Moments) -> F:
    """How many others of the lead's account (N, 3) had acted by then, did so within RECENT_DAYS,
    and whether anybody had; 0 of leads without an account.
    """
    members: dict[str, list[int]] = {}
    for lead, account in enumerate(accounts):
        if account:
            members.setdefault(account, []).append(lead)
    acts = {
        account: _Acts.of(histories, leads) for account, leads in members.items() if len(leads) > 1
    }
    out = np.zeros((len(when.lead), 3))
    for row, (lead, at) in enumerate(zip(when.lead.tolist(), when.at.tolist(), strict=True)):
        if own := acts.get(accounts[lead]):
            ever, recent = own.others(lead, at)
            out[row] = np.log1p(ever), np.log1p(recent), ever > 0
    return out


class _Acts(NamedTuple):
    """All acts of one account in order, whose they are, and the first act of each lead in order."""

    at: F
    lead: I
    first: F

    @classmethod
    def of(cls, histories: Sequence[History], leads: Sequence[int]) -> "_Acts":
        at = np.concatenate([histories[lead].times for lead in leads])
        lead = np.repeat(leads, [len(histories[lead].times) for lead in leads])
        order = np.argsort(at, kind="stable")
        first = np.sort([histories[lead].times[0] for lead in leads])
        return cls(at[order], lead[order], first)

    def others(self, lead: int, at: float) -> tuple[int, int]:
        """How many other leads had acted by `at`, and how many of late; `lead` itself had."""
        begin = int(np.searchsorted(self.at, at - RECENT_DAYS, side="left"))
        end = int(np.searchsorted(self.at, at, side="right"))
        recent = np.unique(self.lead[begin:end])
        ever = int(np.searchsorted(self.first, at, side="right")) - 1
        return ever, len(recent) - int(lead in recent)
