"""The lift of nurturing on the live system: leads in the order in which they could first have been
nurtured, in their account's arm, whatever they were sent.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scorer.effects.lift import Plan
from services.scorer.effects.report import PSI, ArmTable, Report
from services.scorer.queries.journeys import sources_of
from services.scorer.queries.report_sources import OUTCOME_AFTER_ENTRY
from services.scorer.reports.journeys import UNKNOWN_SOURCE
from services.scorer.scoring import Scoring
from services.shared.clock import DAY, to_us
from services.shared.db import rows, without_limits

NURTURED, HELD_OUT = "nurtured", "hold-out"
AGES = ((0.0, 1.0), (1.0, 7.0), (7.0, 30.0), (30.0, float("inf")))  # days known at entry
MOST_SOURCES = 12
NOT_YET = "leads that entered less than the horizon ago: what comes of them is not known yet"
_ENTERED = f"""SELECT n.lead_id, n.entered_at, l.draw, l.account, a.likelihood, o.at AS reached,
        (SELECT min(e.occurred_at) FROM scorer.event e WHERE e.lead_id = n.lead_id) AS began
    FROM scorer.entry n
    JOIN scorer.lead l ON l.id = n.lead_id AND l.excluded = '' AND l.draw IS NOT NULL
    LEFT JOIN scorer.announcement a ON a.id = n.announcement_id
    LEFT JOIN ({OUTCOME_AFTER_ENTRY}) o ON o.lead_id = n.lead_id
    ORDER BY n.entered_at, n.lead_id"""


class LiveLift:
    """Leads of the system, read once; `horizon` in days."""

    def __init__(
        self, found: Sequence[Any], sources: dict[Any, str], share: float, horizon: float, now: int
    ) -> None:
        mature = [row for row in found if (now - to_us(row.entered_at)) / DAY >= horizon]
        self._horizon, self._outcome = horizon, ""
        self._entered = np.array([to_us(row.entered_at) / DAY for row in mature])
        began = [to_us(row.entered_at) if row.began is None else row.began for row in mature]
        self._age = np.maximum(self._entered - np.array(began, float) / DAY, 0.0)
        self._source = np.array([sources.get(row.lead_id, UNKNOWN_SOURCE) for row in mature])
        self._table = ArmTable(
            arms=[NURTURED, HELD_OUT],
            held_out={1},
            arm=np.array([row.draw < share for row in mature], np.int64),
            account=np.array([row.account for row in mature], np.int64),
            entered=self._entered,
            known=np.array([_number(row.likelihood) for row in mature]),
            outcome=np.array([_within(row, horizon) for row in mature], np.bool_),
            skipped=+Counter({NOT_YET: len(found) - len(mature)}),
        )
        self.report = Report(self._table, Plan())

    def whole(self, outcome: str) -> dict[str, Any]:
        """As of a table, with what is measured and the effects by source and by age at entry."""
        found = self.report.whole() if len(self._entered) else self._nobody()
        return found | {
            "outcome": outcome,
            "horizon_days": self._horizon,
            "counts": f"{outcome} within {self._horizon:g} days of the first moment at which a "
            "program could have touched the lead: possible in both arms. Clicks in our mails and "
            "what sales decides by them do not count.",
            "by_source": self._by(self._names(), self._source),
            "by_age_at_entry": {
                f"{low:g}–{high:g}" if np.isfinite(high) else f"{low:g}–": self.report.among(chosen)
                for low, high in AGES
                if (chosen := (self._age >= low) & (self._age < high)).any()
            },
        }

    def daily(self) -> list[dict[str, Any]]:
        """At the end of each day of entry."""
        return [*self.report.daily()] if len(self._entered) else []

    def _names(self) -> list[str]:
        return [name for name, _ in Counter(self._source.tolist()).most_common(MOST_SOURCES)]

    def _by(self, names: Sequence[str], of: np.ndarray) -> dict[str, Any]:
        return {name: self.report.among(of == name) for name in names}

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
    found = await rows(connection, _ENTERED, outcome=scoring.playbook.model.outcome)
    sources = await sources_of(connection, [row.lead_id for row in found])
    days = scoring.playbook.model.horizon_days if horizon is None else horizon
    share = scoring.playbook.holdout.share
    return LiveLift(found, sources, share, days, scoring.clock.now_us())


def _within(row: Any, horizon: float) -> bool:
    return row.reached is not None and (
        (to_us(row.reached) - to_us(row.entered_at)) / DAY <= horizon
    )


def _number(likelihood: float | None) -> float:
    return np.nan if likelihood is None else float(likelihood)
