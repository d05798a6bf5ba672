"""The lift of nurturing on the live system: leads in the order in which they could first have been
nurtured, in their account's arm, whatever they were sent.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.effects.lift import Plan
from services.scorer.effects.report import PSI, ArmTable, Report
from services.scorer.queries.journeys import sources_of_entered
from services.scorer.queries.report_sources import OUTCOME_AFTER_ENTRY
from services.scorer.reports.journeys import UNKNOWN_SOURCE
from services.scorer.scoring import Scoring
from services.shared.clock import DAY
from services.shared.db import rows, without_limits
from services.shared.playbook.sections import Playbook

NURTURED, HELD_OUT, CALENDAR = "nurtured", "hold-out", "calendar"  # as _ENTERED numbers them
AGES = ((0.0, 1.0), (1.0, 7.0), (7.0, 30.0), (30.0, float("inf")))  # days known at entry
MOST_SOURCES = 12
NOT_YET = "leads that entered less than the horizon ago: what comes of them is not known yet"
_ENTERED = f"""SELECT n.lead_id, extract(epoch FROM n.entered_at)::float8 / 86400 AS entered,
        CASE WHEN l.draw < :share THEN 1 WHEN l.draw >= :calendar_from THEN 2 ELSE 0 END AS arm,
        l.account,
        coalesce(a.likelihood, 'NaN') AS likelihood,
        coalesce(extract(epoch FROM o.at)::float8 / 86400, 'NaN') AS reached,
        coalesce((SELECT min(e.occurred_at) FROM scorer.event e WHERE e.lead_id = n.lead_id)
            / 86400000000.0::float8, 'NaN') AS began
    FROM scorer.entry n
    JOIN scorer.lead l ON l.id = n.lead_id AND l.excluded = '' AND l.draw IS NOT NULL
    LEFT JOIN scorer.announcement a ON a.id = n.announcement_id
    LEFT JOIN ({OUTCOME_AFTER_ENTRY}) o ON o.lead_id = n.lead_id
    ORDER BY n.entered_at, n.lead_id"""


class LiveLift:
    """Leads of the system, read once: rows of _ENTERED, and first sources by lead; `horizon` and
    `now` in days.
    """

    def __init__(
        self,
        found: Sequence[Any],
        sources: Mapping[Any, str],
        horizon: float,
        now: float,
        *,
        has_calendar: bool = False,
    ) -> None:
        mature = [row for row in found if now - row.entered >= horizon]
        columns = [*zip(*mature, strict=True)] if mature else [()] * 7
        lead, entered, arm, account, likelihood, reached, began = columns
        self._horizon = horizon
        self._entered = np.array(entered, np.float64)
        after = np.array(reached, np.float64) - self._entered
        age = self._entered - np.array(began, np.float64)
        self._age = np.maximum(np.where(np.isnan(age), 0.0, age), 0.0)
        self._source = np.array([sources.get(each, UNKNOWN_SOURCE) for each in lead])
        self._table = ArmTable(
            arms=[NURTURED, HELD_OUT, CALENDAR] if has_calendar else [NURTURED, HELD_OUT],
            held_out={1},
            calendar={2} if has_calendar else set(),
            arm=np.array(arm, np.int64),
            account=np.array(account, np.int64),
            entered=self._entered,
            known=np.array(likelihood, np.float64),
            outcome=after <= horizon,
            skipped=+Counter({NOT_YET: len(found) - len(mature)}),
        )
        self.report = Report(self._table, Plan())

    def whole(self, outcome: str) -> dict[str, Any]:
        """As of a table, with what is measured and the effects by source and by age at entry."""
        found = self.report.whole() if len(self._entered) else self._nobody()
        for name in {"choosing", "calendar"} & found.keys():
            found[name] |= self._effects(name)
        return found | {
            "outcome": outcome,
            "horizon_days": self._horizon,
            "counts": f"{outcome} within {self._horizon:g} days of the first moment at which a "
            "program could have touched the lead: possible in both arms. Clicks in our mails and "
            "what sales decides by them do not count.",
            **self._effects(""),
        }

    def _effects(self, comparison: str) -> dict[str, Any]:
        """Of a comparison, by source and by age at entry."""
        return {
            "by_source": {
                name: self.report.among(self._source == name, comparison) for name in self._names()
            },
            "by_age_at_entry": {
                f"{low:g}–{high:g}" if np.isfinite(high) else f"{low:g}–": self.report.among(
                    chosen, comparison
                )
                for low, high in AGES
                if (chosen := (self._age >= low) & (self._age < high)).any()
            },
        }

    def daily(self) -> list[dict[str, Any]]:
        """At the end of each day of entry."""
        return [*self.report.daily()] if len(self._entered) else []

    def _names(self) -> list[str]:
        return [name for name, _ in Counter(self._source.tolist()).most_common(MOST_SOURCES)]

    def _nobody(self) -> dict[str, Any]:
        nothing = {NURTURED: 0, HELD_OUT: 0}
        return {
            "n": nothing, "outcomes": nothing, "units": 0, "effect": None, "interval": None,
            "why_no_interval": "no lead has been known for the whole horizon since it could be "
            "nurtured", "valid": "always", "alpha": Plan().alpha,
            "power": self.report.power(), "psi": PSI, "skipped_rows": dict(self._table.skipped),
        }  # fmt: skip


async def read_lift(
    connection: AsyncConnection, scoring: Scoring, horizon: float | None = None
) -> LiveLift:
    """All leads that could have been nurtured, with the first outcome since; a lead counts once its
    `horizon` is over, the model's unless another is given.
    """
    await without_limits(connection)
    await connection.execute(text("SET LOCAL work_mem = '64MB'"))
    found = await rows(
        connection, _ENTERED, outcome=scoring.playbook.model.outcome,
        **shares_of(scoring.playbook),
    )  # fmt: skip
    sources = await sources_of_entered(connection)
    days = scoring.playbook.model.horizon_days if horizon is None else horizon
    return await asyncio.to_thread(
        LiveLift, found, sources, days, scoring.clock.now_us() / DAY,
        has_calendar=scoring.playbook.holdout.calendar.share > 0,
    )  # fmt: skip


def shares_of(playbook: Playbook) -> dict[str, float]:
    """What draws are compared with: below `share` is the hold-out, from `calendar_from` on the
    calendar's arm.
    """
    holdout = playbook.holdout
    by_calendar = holdout.calendar.share
    return {"share": holdout.share, "calendar_from": 1 - by_calendar if by_calendar else 2.0}
