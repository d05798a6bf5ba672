"""What is reported of a lift: as JSON, whole or day by day."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from math import isnan
from typing import Any, NamedTuple

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
    are leads that do not count, by reason. `calendar` are the arms that got the same content by the
    calendar.
    """

    arms: list[str]
    held_out: set[int]
    arm: I
    account: I
    entered: F
    known: F
    outcome: B
    skipped: Counter[str]
    calendar: set[int] = field(default_factory=set)


class Versus(NamedTuple):
    """Arms that are compared with others, and what both are called; `places` are all of them."""

    treated: frozenset[int]
    against: frozenset[int]
    name: str = "the treated arm"
    name_against: str = "the hold-out"

    @property
    def places(self) -> list[int]:
        return [*sorted(self.treated), *sorted(self.against)]


def comparisons(table: ArmTable) -> dict[str, Versus]:
    """What is compared: '' is nurturing against nothing. Where there is a calendar, `choosing` is
    nurturing against it, and `calendar` that against nothing.
    """
    calendar, held_out = frozenset(table.calendar), frozenset(table.held_out)
    treated = frozenset(range(len(table.arms))) - calendar - held_out
    found = {"": Versus(treated, held_out)}
    if calendar:
        name = "the calendar's arm"
        found["choosing"] = Versus(treated, calendar, name_against=name)
        found["calendar"] = Versus(calendar, held_out, name)
    return found


class Report:
    """The lift of leads in their arms, by what was planned before the first look."""

    def __init__(self, table: ArmTable, plan: Plan) -> None:
        self._table, self._plan = table, plan
        self._compared = comparisons(table)
        self._main = self._compared[""]

    def whole(self) -> dict[str, Any]:
        """Of all rows together, with what can be seen at this size, and arm by arm where several
        were treated.
        """
        table = self._table
        everybody = np.ones(len(table.arm), np.bool_)
        [found] = self._at(self._main, everybody)
        if len(self._main.treated) > 1:
            found["arms"] = {}
            for place in sorted(self._main.treated):
                [one] = self._at(self._main._replace(treated=frozenset({place})), everybody)
                kept = ("effect", "interval", "why_no_interval")
                found["arms"][table.arms[place]] = {key: one[key] for key in kept}
        found |= {name: self.among(everybody, name) for name in self._compared if name}
        found["power"] = self.power()
        found["psi"] = PSI
        found["skipped_rows"] = dict(table.skipped)
        return found

    def among(self, chosen: B, comparison: str = "") -> dict[str, Any]:
        """Of the chosen rows (N) alone, and no more than what is there to be compared."""
        [found] = self._at(self._compared[comparison], chosen)
        return _brief(found)

    def daily(self) -> Iterator[dict[str, Any]]:
        """Of what had entered at the end of each day of entry (UTC)."""
        days = np.floor(self._table.entered).astype(np.int64)
        ends = np.flatnonzero(np.r_[np.diff(days) != 0, True]) + 1
        everybody = np.ones(len(days), np.bool_)
        found = {name: self._at(of, everybody, ends) for name, of in self._compared.items()}
        for place, end in enumerate(ends):
            day = EPOCH + timedelta(days=int(days[end - 1]))
            others = {name: _brief(each[place]) for name, each in found.items() if name}
            yield {"day": day.date().isoformat()} | found[""][place] | others

    def _at(self, versus: Versus, chosen: B, ends: I | None = None) -> list[dict[str, Any]]:
        """The report of a comparison among the chosen rows: of those before each of the rows
        `ends`, or once, of all.
        """
        table = self._table
        chosen = chosen & np.isin(table.arm, versus.places)
        looks = np.array([len(chosen)]) if ends is None else ends
        looks = np.r_[0, np.cumsum(chosen)][looks]
        arms = sums_at(self._entered(chosen, versus), looks)
        found = lift(arms.treated, arms.held_out, self._plan)
        arm, outcome = table.arm[chosen], table.outcome[chosen]
        number = {place: np.r_[0, np.cumsum(arm == place)][looks] for place in versus.places}
        reached = {
            place: np.r_[0, np.cumsum((arm == place) & outcome)][looks] for place in versus.places
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
                    float(found.effect[look]),
                    float(found.half_width[look]),
                    _lack(arms, look, versus),
                ),
                "valid": "always",
                "alpha": self._plan.alpha,
            }
            for look in range(len(looks))
        ]

    def _entered(self, chosen: B, versus: Versus) -> Entered:
        known = self._table.known[chosen]
        has = ~np.isnan(known)
        filled = np.where(has, known, known[has].mean() if has.any() else 0.0)
        return Entered(
            np.isin(self._table.arm[chosen], list(versus.treated)),
            self._table.account[chosen],
            filled - (filled.mean() if filled.size else 0.0),
            self._table.outcome[chosen],
        )

    def power(self) -> dict[str, Any]:
        """What this company can hope to see of nurturing, looking once and looking every day."""
        table, held = self._table, np.isin(self._table.arm, list(self._main.against))
        compared = np.isin(table.arm, self._main.places)
        units = len(np.unique(table.account[compared]))
        if not units:
            return {"base": None, "units": 0, "units_a_quarter": None, "advice": NOBODY}
        held_out = len(np.unique(table.account[held])) / units
        outcome = table.outcome[compared]
        if not 0 < held_out < 1:
            return {"base": None, "units": units, "units_a_quarter": None, "advice": ONE_ARM}
        base = float(table.outcome[held].mean()) or float(outcome.mean())
        span = float(np.ptp(table.entered[compared]))
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


def _brief(found: dict[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in ("n", "outcomes", "effect", "interval", "why_no_interval")}


def _lack(arms: Arms, look: int, versus: Versus) -> str:
    """Why there is no interval, '' where there is one."""
    least = min(arms.treated_outcomes[look], arms.held_out_outcomes[look])
    name = versus.name_against if least == arms.held_out_outcomes[look] else versus.name
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
