"""What is reported of a lift: as JSON, whole or day by day."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from math import isnan
from typing import Any

import numpy as np

from services.scorer.effects.lift import LEAST_OUTCOMES, F, Plan, lift
from services.scorer.effects.power import Experiment, detectable, needed
from services.scorer.effects.units import Arms, B, Entered, I, sums_at
from services.shared.clock import EPOCH

PSI = (
    "(A/e - (1 - A)/(1 - e)) * (Y - m(X)): A treated or not, e the share of treated units, Y the "
    "outcome, m a regression of Y on the baseline at entry over both arms"
)
QUARTER = 365.25 / 4  # days
LEAST_DAYS = 7.0  # of entries, for a rate
LIFTS = (0.2, 0.5, 1.0)  # of the base
ONE_ARM = "All units are in one arm: there is nothing to compare them with."
NOBODY = "No lead counts yet: this says nothing."
TOO_LARGE = 1.0  # of the base: a lift that nobody should plan with


@dataclass
class ArmTable:
    """Leads in the order of their entry, all (N): `arm` counts through `arms`, `entered` is in days
    since 1970 (0 where no time is known), `known` is NaN where a lead has no baseline; `skipped`
    are leads that do not count, by reason.
    """

    arms: list[str]
    held_out: set[int]
    arm: I
    account: I
    entered: F
    known: F
    outcome: B
    skipped: Counter[str]


class Report:
    """The lift of leads in their arms, by what was planned before the first look."""

    def __init__(self, table: ArmTable, plan: Plan) -> None:
        self._table, self._plan = table, plan
        self._is_held_out = np.isin(table.arm, list(table.held_out))

    def whole(self) -> dict[str, Any]:
        """Of all rows together, with what can be seen at this size, and arm by arm where several
        were treated.
        """
        table = self._table
        [found] = self._at(np.array([len(table.arm)]), np.ones(len(table.arm), np.bool_))
        treated = [place for place in range(len(table.arms)) if place not in table.held_out]
        if len(treated) > 1:
            found["arms"] = {}
            for place in treated:
                chosen = self._is_held_out | (table.arm == place)
                [one] = self._at(np.array([int(chosen.sum())]), chosen)
                kept = ("effect", "interval", "why_no_interval")
                found["arms"][table.arms[place]] = {key: one[key] for key in kept}
        found["power"] = self.power()
        found["psi"] = PSI
        found["skipped_rows"] = dict(table.skipped)
        return found

    def among(self, chosen: B) -> dict[str, Any]:
        """Of the chosen rows (N) alone, and no more than what is there to be compared."""
        [found] = self._at(np.array([int(chosen.sum())]), chosen)
        return {
            key: found[key] for key in ("n", "outcomes", "effect", "interval", "why_no_interval")
        }

    def daily(self) -> Iterator[dict[str, Any]]:
        """Of what had entered at the end of each day of entry (UTC)."""
        days = np.floor(self._table.entered).astype(np.int64)
        ends = np.flatnonzero(np.r_[np.diff(days) != 0, True]) + 1
        everybody = np.ones(len(days), np.bool_)
        for end, found in zip(ends, self._at(ends, everybody), strict=True):
            day = EPOCH + timedelta(days=int(days[end - 1]))
            yield {"day": day.date().isoformat()} | found

    def _at(self, looks: I, chosen: B) -> list[dict[str, Any]]:
        """The report after each number of the chosen rows."""
        table = self._table
        arms = sums_at(self._entered(chosen), looks)
        found = lift(arms.treated, arms.held_out, self._plan)
        arm, outcome = table.arm[chosen], table.outcome[chosen]
        number = {
            place: np.r_[0, np.cumsum(arm == place)][looks] for place in range(len(table.arms))
        }
        reached = {
            place: np.r_[0, np.cumsum((arm == place) & outcome)][looks]
            for place in range(len(table.arms))
        }
        return [
            {
                "n": {table.arms[place]: int(counts[look]) for place, counts in number.items()},
                "outcomes": {
                    table.arms[place]: int(counts[look]) for place, counts in reached.items()
                },
                "units": int(arms.treated.n[look] + arms.held_out.n[look]),
                "effect": None if isnan(found.effect[look]) else float(found.effect[look]),
                **_interval(
                    float(found.effect[look]), float(found.half_width[look]), _lack(arms, look)
                ),
                "valid": "always",
                "alpha": self._plan.alpha,
            }
            for look in range(len(looks))
        ]

    def _entered(self, chosen: B) -> Entered:
        known = self._table.known[chosen]
        has = ~np.isnan(known)
        filled = np.where(has, known, known[has].mean() if has.any() else 0.0)
        return Entered(
            ~self._is_held_out[chosen],
            self._table.account[chosen],
            filled - filled.mean(),
            self._table.outcome[chosen],
        )

    def power(self) -> dict[str, Any]:
        """What this company can hope to see, looking once and looking every day."""
        units = len(np.unique(self._table.account))
        if not units:
            return {"base": None, "units": 0, "units_a_quarter": None, "advice": NOBODY}
        held_out = len(np.unique(self._table.account[self._is_held_out])) / units
        outcome = self._table.outcome
        if not 0 < held_out < 1:
            return {"base": None, "units": units, "units_a_quarter": None, "advice": ONE_ARM}
        base = float(outcome[self._is_held_out].mean()) or float(outcome.mean())
        span = float(np.ptp(self._table.entered))
        quarter = round(units * QUARTER / span) if span >= LEAST_DAYS else None
        if not 0 < base < 1:
            advice = "No lead has the outcome." if base == 0 else "Every lead has the outcome."
            return {"base": base, "share_holdout": held_out, "units": units,
                    "units_a_quarter": quarter, "advice": advice}  # fmt: skip
        experiment = Experiment(base, held_out, self._plan.alpha)
        return {
            "base": base,
            "share_holdout": held_out,
            "units": units,
            "units_a_quarter": quarter,
            "detectable": detectable(experiment, units, daily=True),
            "detectable_in_a_quarter": quarter and detectable(experiment, quarter, daily=True),
            "needed": {f"+{by:.0%}": needed(experiment, by) for by in LIFTS},
            "needed_looking_daily": {
                f"+{by:.0%}": needed(experiment, by, daily=True) for by in LIFTS
            },
            "advice": _advice(experiment, quarter or units, of_quarter=quarter is not None),
        }


def _lack(arms: Arms, look: int) -> str:
    """Why there is no interval, '' where there is one."""
    least = min(arms.treated_outcomes[look], arms.held_out_outcomes[look])
    name = "the hold-out" if least == arms.held_out_outcomes[look] else "the treated arm"
    return (
        ""
        if least >= LEAST_OUTCOMES
        else f"{int(least)} units with the outcome in {name}; an interval needs {LEAST_OUTCOMES} "
        "in each arm"
    )


def _interval(effect: float, half: float, lack: str) -> dict[str, Any]:
    interval = None if lack else [effect - half, effect + half]
    return {"interval": interval, "why_no_interval": lack or None}


def _advice(of: Experiment, units: int, *, of_quarter: bool) -> str:
    """In words, what so many units can show, and what to do where that is too little."""
    seen = detectable(of, units, daily=True)
    size = f"{units} accounts {'a quarter' if of_quarter else 'in all'}"
    if seen is not None and seen <= TOO_LARGE:
        return f"With {size}, a lift of {seen:.0%} of the base or more can be seen."
    larger = detectable(of._replace(held_out=0.5), units, daily=True)
    hope = f"; half held out would show {larger:.0%} or more" if larger and larger < 5 else ""
    first = f"With {size} only a lift of {seen:.0%} or more" if seen else f"With {size} no lift"
    return (
        f"{first} can be seen. Measure progression to the next stage, which more leads reach, or "
        f"hold out more{hope}."
    )
